{{/* The chart's name, for labels. */}}
{{- define "lameduck.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* How the names of all objects begin: the release's name, and the chart's unless it is in there already. */}}
{{- define "lameduck.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "lameduck.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A name with an ending that survives when the whole is cut to the 63 characters that a Service may have.
     Takes the context as `context` and the ending as `suffix`. */}}
{{- define "lameduck.suffixed" -}}
{{- $room := sub 62 (len .suffix) | int -}}
{{- printf "%s-%s" (include "lameduck.fullname" .context | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{- define "lameduck.injector.name" -}}
{{- include "lameduck.suffixed" (dict "context" . "suffix" "injector") -}}
{{- end -}}

{{/* Names of what belongs to the cluster: two releases of one name in two namespaces must not meet. The plain name is that
     of the namespace that the documentation installs to; every other one is a part of the name. What gets too long
     ends in a digest of the whole instead. */}}
{{- define "lameduck.injector.clusterName" -}}
{{- $name := include "lameduck.injector.name" . -}}
{{- $whole := printf "%s-%s" $name .Release.Namespace -}}
{{- if eq .Release.Namespace "lameduck-system" -}}
{{- $name -}}
{{- else if le (len $whole) 63 -}}
{{- $whole -}}
{{- else -}}
{{- printf "%s-%s" ($whole | trunc 54 | trimSuffix "-") (printf "%s/%s" .Release.Namespace $name | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The name of the MutatingWebhookConfiguration, the one object of the cluster that may not be called like the others: the
     API server calls webhooks in the order of these names, and Istio's (`istio-…`) and Linkerd's (`linkerd-…`) must find
     the pod as we leave it, because they redirect our probes and hooks past mutual TLS, and Istio's is not called
     again. Hence what sorts before every letter. What gets too long ends in a digest of the whole. */}}
{{- define "lameduck.injector.webhookConfiguration" -}}
{{- $name := include "lameduck.injector.clusterName" . -}}
{{- if le (len $name) 60 -}}
{{- printf "00-%s" $name -}}
{{- else -}}
{{- printf "00-%s-%s" ($name | trunc 51 | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the CA that the injector keeps itself. */}}
{{- define "lameduck.injector.caSecret" -}}
{{- include "lameduck.suffixed" (dict "context" . "suffix" "ca") -}}
{{- end -}}

{{/* The Secret with the certificate that somebody else keeps. */}}
{{- define "lameduck.injector.tlsSecret" -}}
{{- if eq .Values.webhook.certs.mode "certManager" -}}
{{- include "lameduck.suffixed" (dict "context" . "suffix" "injector-tls") -}}
{{- else -}}
{{- .Values.webhook.certs.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "lameduck.injector.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lameduck.injector.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The version of the cluster, without a `v`. */}}
{{- define "lameduck.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersionOverride | trimPrefix "v" -}}
{{- end -}}

{{/* `true` if the cluster is at least of the version `version`; takes the context as `context`. Pre-releases, and the
     suffixes of cloud providers, count as the version they stand before. */}}
{{- define "lameduck.kubeIsAtLeast" -}}
{{- if semverCompare (printf ">=%s-0" .version) (include "lameduck.kubeVersion" .context) -}}true{{- end -}}
{{- end -}}

{{- define "lameduck.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lameduck.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "lameduck.injector.selectorLabels" -}}
{{ include "lameduck.selectorLabels" . }}
app.kubernetes.io/component: injector
{{- end -}}

{{/* Labels of an object. Takes the context as `context`, the component as `component`, and further labels as `extra`,
     which win. */}}
{{- define "lameduck.labels" -}}
{{- $labels := fromYaml (include "lameduck.selectorLabels" .context) -}}
{{- $_ := set $labels "app.kubernetes.io/component" .component -}}
{{- $_ := set $labels "app.kubernetes.io/part-of" "lameduck" -}}
{{- $_ := set $labels "app.kubernetes.io/version" (.context.Chart.AppVersion | replace "+" "_") -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .context.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (mergeOverwrite (deepCopy (default dict .context.Values.commonLabels)) $labels (deepCopy (default dict .extra))) -}}
{{- end -}}

{{/* The `annotations:` of an object, or nothing. Takes the context as `context` and further annotations as `extra`, which win. */}}
{{- define "lameduck.annotations" -}}
{{- with mergeOverwrite (deepCopy (default dict .context.Values.commonAnnotations)) (deepCopy (default dict .extra)) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* An image's reference. Takes registry, repository, tag and digest. */}}
{{- define "lameduck.reference" -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{- .repository }}:{{ .tag -}}
{{- with .digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "lameduck.image" -}}
{{- $image := .Values.image -}}
{{- include "lameduck.reference" (dict
    "registry" (default $image.registry (default dict .Values.global).imageRegistry)
    "repository" $image.repository
    "tag" (default .Chart.AppVersion $image.tag)
    "digest" $image.digest) -}}
{{- end -}}

{{/* The sidecar's. A digest is that of one image: whoever names another one does not get it. */}}
{{- define "lameduck.proxy.image" -}}
{{- $image := .Values.image -}}
{{- $own := default dict .Values.proxy.image -}}
{{- $inherited := ternary "" $image.digest (not (empty (or $own.repository $own.tag))) -}}
{{- include "lameduck.reference" (dict
    "registry" (default (default $image.registry $own.registry) (default dict .Values.global).imageRegistry)
    "repository" (default $image.repository $own.repository)
    "tag" (default (default .Chart.AppVersion $image.tag) $own.tag)
    "digest" (default $inherited $own.digest)) -}}
{{- end -}}

{{/* The names in a list of names and of `{name: …}`, as JSON. */}}
{{- define "lameduck.names" -}}
{{- $names := list -}}
{{- range . -}}
{{- if kindIs "map" . -}}{{- $names = append $names .name -}}{{- else -}}{{- $names = append $names . -}}{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* `true` if the injector talks to the API server. */}}
{{- define "lameduck.injector.asksTheCluster" -}}
{{- if or (eq .Values.webhook.certs.mode "selfManaged") (eq (toString .Values.proxy.nativeSidecar) "auto") -}}true{{- end -}}
{{- end -}}

{{/* Namespaces whose pods are left alone, as JSON. */}}
{{- define "lameduck.excludedNamespaces" -}}
{{- toJson (append (default list .Values.webhook.excludedNamespaces) .Release.Namespace | uniq) -}}
{{- end -}}

{{/* The CA that the API server trusts, as base64 of PEM: `webhook.certs.caBundle` may be either. */}}
{{- define "lameduck.caBundle" -}}
{{- $bundle := default "" .Values.webhook.certs.caBundle | trim -}}
{{- if hasPrefix "-----BEGIN " $bundle -}}
{{- printf "%s\n" $bundle | b64enc -}}
{{- else -}}
{{- $bundle | nospace -}}
{{- end -}}
{{- end -}}

{{/* What YAML takes for a boolean: `off` is false there. */}}
{{- define "lameduck.orOff" -}}
{{- ternary "off" (toString .) (eq (toString .) "false") -}}
{{- end -}}

{{/* A whole number as Helm may have read it: a text, an integer or a float. */}}
{{- define "lameduck.whole" -}}
{{- if kindIs "string" . -}}{{- . -}}{{- else -}}{{- int64 . -}}{{- end -}}
{{- end -}}

{{/* The injector's configuration. Every option is an annotation `lameduck.dev/…` without its prefix, and a text. */}}
{{- define "lameduck.injector.config" -}}
options:
  {{- include "lameduck.options" . | nindent 2 }}
excludedNamespaces:
  {{- include "lameduck.excludedNamespaces" . | fromJsonArray | toYaml | nindent 2 }}
invalidConfig: {{ .Values.webhook.invalidConfig }}
{{- end -}}

{{- define "lameduck.options" -}}
{{- $proxy := .Values.proxy -}}
{{- $options := dict
    "image" (include "lameduck.proxy.image" .)
    "image-pull-policy" (default .Values.image.pullPolicy (default dict $proxy.image).pullPolicy)
    "native-sidecar" (toString $proxy.nativeSidecar)
    "capture" $proxy.capture
    "unprivileged-ports" (toString $proxy.unprivilegedPorts)
    "admin-port" (include "lameduck.whole" $proxy.adminPort)
    "proxy-port-base" (include "lameduck.whole" $proxy.portBase)
    "upstream-host" $proxy.upstreamHost
    "drain-timeout" $proxy.drain.timeout
    "drain-min" $proxy.drain.min
    "drain-quiet" $proxy.drain.quiet
    "container-drain-timeout" $proxy.drain.containerTimeout
    "termination-grace-period" (include "lameduck.whole" $proxy.terminationGracePeriod)
    "readiness" (include "lameduck.orOff" $proxy.readiness.mode)
    "readiness-on-termination" $proxy.readiness.onTermination
    "upstream-check" $proxy.readiness.upstreamCheck
    "prestop" (include "lameduck.orOff" $proxy.prestop.mode)
    "wrap-volume" $proxy.prestop.wrapVolume
    "prestop-exclude-containers" (join "," (default list $proxy.prestop.excludeContainers))
    "prestop-containers" (kindIs "string" $proxy.prestop.containers | ternary $proxy.prestop.containers (join "," $proxy.prestop.containers))
-}}
{{- range $key, $value := dict
    "cpu-request" (dig "requests" "cpu" "" $proxy.resources)
    "memory-request" (dig "requests" "memory" "" $proxy.resources)
    "cpu-limit" (dig "limits" "cpu" "" $proxy.resources)
    "memory-limit" (dig "limits" "memory" "" $proxy.resources)
    "image-pull-secrets" (include "lameduck.names" $proxy.imagePullSecrets | fromJsonArray | join ",")
    "log-level" (default "" $proxy.logLevel)
-}}
{{- if ne (toString $value) "" -}}
{{- $_ := set $options $key (toString $value) -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" $proxy.runAsUser) -}}
{{- $_ := set $options "run-as-user" (include "lameduck.whole" $proxy.runAsUser) -}}
{{- end -}}
{{- with $proxy.securityContext -}}
{{- $_ := set $options "security-context" (toJson .) -}}
{{- end -}}
{{- if $proxy.maskServiceAccountToken -}}
{{- $_ := set $options "mask-service-account-token" "true" -}}
{{- end -}}
{{- with $proxy.extraEnv -}}
{{- $env := dict -}}
{{- range $name, $value := . -}}
{{- $_ := set $env $name (include "lameduck.text" $value) -}}
{{- end -}}
{{- $_ := set $options "env" (toJson $env) -}}
{{- end -}}
{{- toYaml $options -}}
{{- end -}}

{{/* A variable's value as a text: a whole number without an exponent. */}}
{{- define "lameduck.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{- int64 . -}}{{- else if not (kindIs "invalid" .) -}}{{- toString . -}}{{- end -}}
{{- end -}}
