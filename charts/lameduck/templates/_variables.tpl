{{/* The sidecar's variables that `proxy.extraEnv` may set, and what the sidecar can read in them; the injector does not start
     with others. `lameduck env` says what they do. Tests hold both against the code.
     `duration` and `size` from `from` to `to`, in milliseconds and bytes; `number`; `word`, one of `words`; `text` that matches `pattern`;
     `file`. `or` is a further word; of durations it is `0s`, in any unit. */}}
{{- define "lameduck.variables" -}}
LAMEDUCK_UPSTREAM_PROTOCOL: {is: word, words: [auto, http1, h2c]}
LAMEDUCK_TLS_CERT_FILE: {is: file}
LAMEDUCK_TLS_KEY_FILE: {is: file}
LAMEDUCK_TLS_CLIENT_CA_FILE: {is: file}
LAMEDUCK_TLS_CLIENT_AUTH: {is: word, words: [required, optional]}
LAMEDUCK_PROXY_PROTOCOL: {is: word, words: ["off", "on"]}
LAMEDUCK_TRUSTED_HOPS: {is: number, from: 0, to: 255}
LAMEDUCK_KEEP_ALIVE: {is: word, words: [strip, rewrite, pass, close]}
LAMEDUCK_IDLE_TIMEOUT: {is: duration, from: 1}
LAMEDUCK_MAX_CONNECTION_AGE: {is: duration, from: 0}
LAMEDUCK_MAX_REQUESTS_PER_CONNECTION: {is: number, from: 0, to: 999999999999}
LAMEDUCK_APP_CONTAINERS: {is: text, pattern: "^[a-z0-9-]{1,63}( *, *[a-z0-9-]{1,63})*$", such: "names of containers such as web,api"}
LAMEDUCK_READINESS_POLL: {is: duration, from: 10, or: 0s}
LAMEDUCK_READINESS_ON_TERMINATION: {is: word, words: [fail, keep]}
LAMEDUCK_APP_DRAIN_URL: {is: text, pattern: '^http://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?(/[A-Za-z0-9/._~!$&()*+,;=:@%-]*)?([?][A-Za-z0-9/._~!$&()*+,;=:@%?-]*)?$', such: "a URL such as http://127.0.0.1:8080/leave, without credentials"}
LAMEDUCK_CLOSE_SPREAD: {is: duration, from: 0}
LAMEDUCK_LINGER: {is: duration, from: 0}
LAMEDUCK_RELEASE: {is: text, pattern: '^{{ include "lameduck.rule" . }}( *, *{{ include "lameduck.rule" . }})*$', such: "rules such as GET /poll*=204@0s, separated by commas"}
LAMEDUCK_WEBSOCKET_CLOSE_CODE: {is: word, words: ["1001", "1012"]}
LAMEDUCK_SSE_RETRY: {is: duration, from: 0}
LAMEDUCK_PARKED_AFTER: {is: duration, from: 0}
LAMEDUCK_UPSTREAM_CONNECT_TIMEOUT: {is: duration, from: 1}
LAMEDUCK_UPSTREAM_CONNECT_BUDGET: {is: duration, from: 1}
LAMEDUCK_UPSTREAM_IDLE_TIMEOUT: {is: duration, from: 0}
LAMEDUCK_RESPONSE_TIMEOUT: {is: duration, from: 0}
LAMEDUCK_HEADER_TIMEOUT: {is: duration, from: 1}
LAMEDUCK_BODY_TIMEOUT: {is: duration, from: 1}
LAMEDUCK_MAX_CONNECTIONS: {is: number, from: 1, to: 1048576, or: auto}
LAMEDUCK_MAX_HEADER_SIZE: {is: size, from: 1024, to: 1048576}
LAMEDUCK_MAX_HEADERS: {is: number, from: 1, to: 1000}
LAMEDUCK_MAX_CONCURRENT_STREAMS: {is: number, from: 1, to: 1000}
LAMEDUCK_WORKERS: {is: number, from: 1, to: 256, or: auto}
LAMEDUCK_LOG: {is: text, pattern: "^({{ include "lameduck.directive" . }})( *, *({{ include "lameduck.directive" . }}))*$", such: "a level, or a filter such as info,lameduck::proxy=debug"}
LAMEDUCK_LOG_FORMAT: {is: word, words: [json, text]}
LAMEDUCK_ACCESS_LOG: {is: word, words: ["off", all, errors]}
{{- end -}}

{{/* One part of a log filter. */}}
{{- define "lameduck.directive" -}}
{{- $level := "(?i:trace|debug|info|warn|error|off)|[0-5]" -}}
{{- $target := "([A-Za-z0-9_-]+(::[A-Za-z0-9_-]+)*)?(\\\\[[A-Za-z0-9_-]+\\\\])?" -}}
{{ $level }}|[A-Za-z0-9_-]+(::[A-Za-z0-9_-]+)+|{{ $target }}=({{ $level }})
{{- end -}}

{{/* One rule of LAMEDUCK_RELEASE. */}}
{{- define "lameduck.rule" -}}
{{- $delay := "[0-9]{1,4}h([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?|[0-9]{1,6}m([0-9]{1,7}s)?([0-9]{1,9}ms)?|[0-9]{1,7}s([0-9]{1,9}ms)?|[0-9]{1,9}ms" -}}
[A-Z_-]+ +/[!"$-)+\x2d->@-~]*[*]? *= *[2-5][0-9]{2}(@({{ $delay }}))?
{{- end -}}

{{/* The variables that the injector computes, or sets from other values. */}}
{{- define "lameduck.variables.computed" -}}
[LAMEDUCK_ROUTES, LAMEDUCK_UPSTREAM_HOST, LAMEDUCK_ADMIN_ADDR, LAMEDUCK_HOOK_TOKEN, LAMEDUCK_HOOK_TOKEN_FILE, LAMEDUCK_APP_PROBES,
 LAMEDUCK_UPSTREAM_CHECK, LAMEDUCK_USER_PRESTOP, LAMEDUCK_DRAIN_TIMEOUT, LAMEDUCK_DRAIN_MIN, LAMEDUCK_DRAIN_QUIET,
 LAMEDUCK_CONTAINER_DRAIN_TIMEOUT, LAMEDUCK_TERMINATION_GRACE_PERIOD, POD_IP, POD_NAME, POD_NAMESPACE]
{{- end -}}

{{/* Digits without zeros before them, which would make them an octal number. */}}
{{- define "lameduck.digits" -}}
{{- regexReplaceAll "^0+([0-9])" . "${1}" -}}
{{- end -}}

{{/* A duration such as `1m30s` in milliseconds; the schema has seen to its form. */}}
{{- define "lameduck.milliseconds" -}}
{{- $rest := toString . -}}
{{- $sum := 0 -}}
{{- range list (list "h" 3600000) (list "m" 60000) (list "s" 1000) (list "ms" 1) -}}
{{- $part := regexFind (printf "^[0-9]+%s([0-9]|$)" (first .)) $rest -}}
{{- if $part -}}
{{- $digits := regexFind "^[0-9]+" $part -}}
{{- $sum = add $sum (mul (include "lameduck.digits" $digits | int64) (last .)) -}}
{{- $rest = substr (int (add (len $digits) (len (first .)))) (len $rest) $rest -}}
{{- end -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* What is expected of a variable, if its value is something else. Takes the value, a text, as `value` and the variable's entry as `kind`. */}}
{{- define "lameduck.variables.expected" -}}
{{- $value := .value | trim -}}
{{- $kind := .kind -}}
{{- $or := default "" $kind.or -}}
{{- if or (eq $value "") (eq $value $or) -}}
{{- else if eq $kind.is "word" -}}
{{- if not (has $value $kind.words) -}}one of {{ join ", " $kind.words }}{{- end -}}
{{- else if eq $kind.is "text" -}}
{{- if not (regexMatch $kind.pattern $value) -}}{{ $kind.such }}{{- end -}}
{{- else if eq $kind.is "number" -}}
{{- $fits := regexMatch "^[0-9]{1,12}$" $value -}}
{{- if $fits -}}{{- $number := include "lameduck.digits" $value | int64 -}}{{- $fits = and (ge $number (int64 $kind.from)) (le $number (int64 $kind.to)) -}}{{- end -}}
{{- if not $fits -}}{{ with $kind.or }}{{ . }} or {{ end }}a whole number from {{ int64 $kind.from }} to {{ int64 $kind.to }}{{- end -}}
{{- else if eq $kind.is "size" -}}
{{- $units := dict "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 -}}
{{- $fits := regexMatch "^[0-9]{1,9}(B|KiB|MiB|GiB)$" $value -}}
{{- if $fits -}}{{- $bytes := mul (include "lameduck.digits" (regexFind "^[0-9]+" $value) | int64) (get $units (regexFind "[A-Za-z]+$" $value)) -}}{{- $fits = and (ge $bytes (int64 $kind.from)) (le $bytes (int64 $kind.to)) -}}{{- end -}}
{{- if not $fits -}}a size from 1KiB to 1MiB{{- end -}}
{{- else if eq $kind.is "duration" -}}
{{- $fits := and (ne $value "") (regexMatch "^([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$" $value) -}}
{{- if $fits -}}{{- $time := include "lameduck.milliseconds" $value | int64 -}}{{- $fits = or (and (ne $or "") (eq $time (int64 0))) (and (ge $time (int64 $kind.from)) (le $time (include "lameduck.year" . | int64))) -}}{{- end -}}
{{- if not $fits -}}{{ with $kind.or }}{{ . }}, or {{ end }}a duration such as 500ms, 30s or 2m{{ if $kind.from }}, of at least {{ int64 $kind.from }}ms{{ end }}, and no more than a year{{- end -}}
{{- end -}}
{{- end -}}

{{/* A year in milliseconds: the longest time limit that the sidecar takes. */}}
{{- define "lameduck.year" -}}31536000000{{- end -}}
