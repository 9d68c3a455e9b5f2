{{- define "podwire.labels" -}}
app.kubernetes.io/name: podwire
app.kubernetes.io/part-of: podwire
{{- end }}

{{- define "podwire.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* HOST:PORT as the agent reads it; empty where it is the agent's default. */}}
{{- define "podwire.metrics" -}}
{{- $host := .Values.metrics.host }}
{{- if contains ":" $host }}{{ $host = printf "[%s]" $host }}{{ end }}
{{- $place := printf "%s:%d" $host (int .Values.metrics.port) }}
{{- if ne $place "127.0.0.1:9750" }}{{ $place }}{{ end }}
{{- end }}

{{- /* How the kubelet, on the node itself, gets a page. */}}
{{- define "podwire.page" -}}
{{- $any := dict "0.0.0.0" "127.0.0.1" "::" "::1" }}
httpGet:
  host: {{ get $any .Values.metrics.host | default .Values.metrics.host | quote }}
  port: {{ .Values.metrics.port }}
{{- end }}
