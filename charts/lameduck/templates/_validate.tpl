{{/* What the schema can't say: values that must fit each other, and the cluster. Everything that is wrong is told at once. */}}
{{- define "lameduck.validate" -}}
{{- $wrong := list -}}
{{- $webhook := .Values.webhook -}}
{{- $certs := $webhook.certs -}}
{{- $injector := .Values.injector -}}
{{- $proxy := .Values.proxy -}}
{{- $version := include "lameduck.kubeVersion" . -}}
{{- if $webhook.enabled -}}
{{- $least := $injector.autoscaling.enabled | ternary $injector.autoscaling.minReplicas $injector.replicas | int -}}
{{- if and (eq $webhook.failurePolicy "Fail") (lt $least 2) -}}
{{- $wrong = append $wrong "webhook.failurePolicy=Fail: expected injector.replicas (or injector.autoscaling.minReplicas) to be 2 or more, because no pod could start in labelled namespaces while the only injector is away" -}}
{{- end -}}
{{- if and $injector.autoscaling.enabled (gt (int $injector.autoscaling.minReplicas) (int $injector.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong (printf "injector.autoscaling.minReplicas=%d: expected at most injector.autoscaling.maxReplicas=%d" (int $injector.autoscaling.minReplicas) (int $injector.autoscaling.maxReplicas)) -}}
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
{{- if and $certs.certManager.issuerRef (ne $certs.mode "certManager") -}}
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
{{- if eq (int $proxy.adminPort) (int $proxy.portBase) -}}
{{- $wrong = append $wrong (printf "proxy.portBase=%d: expected another port than proxy.adminPort" (int $proxy.portBase)) -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n%s" (join "\n" $wrong)) -}}
{{- end -}}
{{- end -}}
