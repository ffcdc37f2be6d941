{{/* What the schema can't say: values that must fit each other, and the cluster. Everything that is wrong is told at once. */}}
{{- define "lameduck.validate" -}}
{{- $wrong := list -}}
{{- $webhook := .Values.webhook -}}
{{- $certs := $webhook.certs -}}
{{- $certManager := default dict $certs.certManager -}}
{{- $injector := .Values.injector -}}
{{- $autoscaling := default dict $injector.autoscaling -}}
{{- $proxy := .Values.proxy -}}
{{- $version := include "lameduck.kubeVersion" . -}}
{{- if $webhook.enabled -}}
{{- $least := default false $autoscaling.enabled | ternary $autoscaling.minReplicas $injector.replicas | int -}}
{{- if and (eq $webhook.failurePolicy "Fail") (lt $least 2) -}}
{{- $wrong = append $wrong "webhook.failurePolicy=Fail: expected injector.replicas (or injector.autoscaling.minReplicas) to be 2 or more, because no pod could start in labelled namespaces while the only injector is away" -}}
{{- end -}}
{{- if and $autoscaling.enabled (gt (int $autoscaling.minReplicas) (int $autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong (printf "injector.autoscaling.minReplicas=%d: expected at most injector.autoscaling.maxReplicas=%d" (int $autoscaling.minReplicas) (int $autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if eq (int $injector.port) (int $injector.healthPort) -}}
{{- $wrong = append $wrong (printf "injector.healthPort=%d: expected another port than injector.port" (int $injector.healthPort)) -}}
{{- end -}}
{{- if and $injector.hostNetwork (eq (int $injector.port) 10250) -}}
{{- $wrong = append $wrong "injector.port=10250: expected another port with injector.hostNetwork=true, because every node's kubelet has this one" -}}
{{- end -}}
{{- if eq $certs.mode "existingSecret" -}}
{{- if not $certs.existingSecret -}}
{{- $wrong = append $wrong "webhook.certs.existingSecret: expected the name of a Secret with webhook.certs.mode=existingSecret" -}}
{{- end -}}
{{- $injected := false -}}
{{- range $key, $_ := $webhook.annotations -}}
{{- if hasPrefix "cert-manager.io/inject-" $key -}}{{- $injected = true -}}{{- end -}}
{{- end -}}
{{- if not (or $certs.caBundle $injected) -}}
{{- $wrong = append $wrong "webhook.certs.caBundle: expected the CA of the certificate with webhook.certs.mode=existingSecret, or an annotation cert-manager.io/inject-… in webhook.annotations" -}}
{{- end -}}
{{- else -}}
{{- if $certs.existingSecret -}}
{{- $wrong = append $wrong (printf "webhook.certs.existingSecret=%s: expected webhook.certs.mode=existingSecret with it, not %s" $certs.existingSecret $certs.mode) -}}
{{- end -}}
{{- if $certs.caBundle -}}
{{- $wrong = append $wrong (printf "webhook.certs.caBundle: expected webhook.certs.mode=existingSecret with it, not %s" $certs.mode) -}}
{{- end -}}
{{- end -}}
{{- if and $certManager.issuerRef (ne $certs.mode "certManager") -}}
{{- $wrong = append $wrong (printf "webhook.certs.certManager.issuerRef: expected webhook.certs.mode=certManager with it, not %s" $certs.mode) -}}
{{- end -}}
{{- if and $webhook.matchConditions (not (include "lameduck.kubeIsAtLeast" (dict "context" . "version" "1.30.0"))) -}}
{{- $wrong = append $wrong (printf "webhook.matchConditions: expected Kubernetes 1.30 or later, not %s; kubeVersionOverride says so where Helm can't ask the cluster" $version) -}}
{{- end -}}
{{- if and (eq (toString $proxy.nativeSidecar) "true") (not (include "lameduck.kubeIsAtLeast" (dict "context" . "version" "1.29.0"))) -}}
{{- $wrong = append $wrong (printf "proxy.nativeSidecar=true: expected Kubernetes 1.29 or later, not %s; kubeVersionOverride says so where Helm can't ask the cluster" $version) -}}
{{- end -}}
{{- if and (eq (include "lameduck.orOff" $proxy.prestop.mode) "sleep") (not (include "lameduck.kubeIsAtLeast" (dict "context" . "version" "1.30.0"))) -}}
{{- $wrong = append $wrong (printf "proxy.prestop.mode=sleep: expected Kubernetes 1.30 or later, not %s; kubeVersionOverride says so where Helm can't ask the cluster" $version) -}}
{{- end -}}
{{- if contains "." (include "lameduck.fullname" .) -}}
{{- $wrong = append $wrong (printf "the release's name, %s: expected none with a dot, which the name of a Service may not have; fullnameOverride gives another one" .Release.Name) -}}
{{- end -}}
{{- $wrong = concat $wrong (include "lameduck.validate.times" . | fromJsonArray) (include "lameduck.validate.shape" . | fromJsonArray) -}}
{{- if eq (int $proxy.adminPort) (int $proxy.portBase) -}}
{{- $wrong = append $wrong (printf "proxy.portBase=%d: expected another port than proxy.adminPort" (int $proxy.portBase)) -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n%s" (join "\n" $wrong)) -}}
{{- end -}}
{{- end -}}

{{/* What is wrong with the times of a drain, as JSON: the rules by which the sidecar starts. */}}
{{- define "lameduck.validate.times" -}}
{{- $wrong := list -}}
{{- $year := include "lameduck.year" . | int64 -}}
{{- $drain := .Values.proxy.drain -}}
{{- range $name := list "timeout" "min" "quiet" "containerTimeout" -}}
{{- if gt (include "lameduck.milliseconds" (get $drain $name) | int64) $year -}}
{{- $wrong = append $wrong (printf "proxy.drain.%s=%s: expected no more than a year" $name (get $drain $name)) -}}
{{- end -}}
{{- end -}}
{{- $timeout := include "lameduck.milliseconds" $drain.timeout | int64 -}}
{{- if gt (include "lameduck.milliseconds" $drain.min | int64) $timeout -}}
{{- $wrong = append $wrong (printf "proxy.drain.min=%s: expected at most proxy.drain.timeout=%s" $drain.min $drain.timeout) -}}
{{- end -}}
{{- $grace := include "lameduck.whole" .Values.proxy.terminationGracePeriod -}}
{{- if eq $grace "extend" -}}
{{- /* A pod's own 30 s and what its app needs after the drain. */ -}}
{{- if and (le $timeout $year) (gt (add $timeout 35000) $year) -}}
{{- $wrong = append $wrong (printf "proxy.drain.timeout=%s: expected a grace period, which is 35s longer, of no more than a year" $drain.timeout) -}}
{{- end -}}
{{- else if ne $grace "keep" -}}
{{- $seconds := $grace -}}
{{- if regexMatch "^[0-9]*\\.?[0-9]+s?$" $grace -}}
{{- $seconds = printf "%ss%s" (regexFind "^[0-9]+" $grace | default "0") (regexMatch "\\.0*[1-9]" $grace | ternary "1ms" "") -}}
{{- end -}}
{{- if gt (include "lameduck.milliseconds" $seconds | int64) $year -}}
{{- $wrong = append $wrong (printf "proxy.terminationGracePeriod=%s: expected no more than a year" $grace) -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{/* What is wrong with the sidecar's security context and variables, as JSON. */}}
{{- define "lameduck.validate.shape" -}}
{{- $wrong := list -}}
{{- $proxy := .Values.proxy -}}
{{- if eq (toString (default dict $proxy.securityContext).privileged) "true" -}}
{{- $wrong = append $wrong "proxy.securityContext.privileged=true: expected no privileged: the sidecar needs no privilege" -}}
{{- end -}}
{{- if eq (get (default dict $proxy.securityContext) "runAsUser" | toString) "0" -}}
{{- $wrong = append $wrong "proxy.securityContext.runAsUser=0: expected no runAsUser of 0: the sidecar never runs as root" -}}
{{- end -}}
{{- $known := include "lameduck.variables" . | fromYaml -}}
{{- $computed := include "lameduck.variables.computed" . | fromYamlArray -}}
{{- $env := default dict $proxy.extraEnv -}}
{{- range $name, $value := $env -}}
{{- $text := include "lameduck.text" $value -}}
{{- if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*$" $name) -}}
{{- $wrong = append $wrong (printf "proxy.extraEnv: %s: expected the name of a variable such as MY_NAME" $name) -}}
{{- else if has $name $computed -}}
{{- $wrong = append $wrong (printf "proxy.extraEnv.%s: expected no %s: the injector computes it from other values, or the pod's" $name $name) -}}
{{- else if hasKey $known $name -}}
{{- with include "lameduck.variables.expected" (dict "value" $text "kind" (get $known $name)) -}}
{{- $wrong = append $wrong (printf "proxy.extraEnv.%s=%s: expected %s" $name $text .) -}}
{{- end -}}
{{- else if hasPrefix "LAMEDUCK_" $name -}}
{{- $wrong = append $wrong (printf "proxy.extraEnv.%s: expected a variable that there is; `lameduck env` lists them" $name) -}}
{{- end -}}
{{- end -}}
{{- range list
    (list "LAMEDUCK_TLS_CERT_FILE" "LAMEDUCK_TLS_KEY_FILE") (list "LAMEDUCK_TLS_KEY_FILE" "LAMEDUCK_TLS_CERT_FILE")
    (list "LAMEDUCK_TLS_CLIENT_CA_FILE" "LAMEDUCK_TLS_CERT_FILE") (list "LAMEDUCK_TLS_CLIENT_AUTH" "LAMEDUCK_TLS_CLIENT_CA_FILE") -}}
{{- if and (include "lameduck.text" (get $env (first .)) | trim) (not (include "lameduck.text" (get $env (last .)) | trim)) -}}
{{- $wrong = append $wrong (printf "proxy.extraEnv.%s: expected %s with it" (first .) (last .)) -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
