{{- define "labkeeper.name" -}}
{{- if contains "labkeeper" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-labkeeper" (.Release.Name | trunc 30 | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{- define "labkeeper.selector" -}}
app.kubernetes.io/name: labkeeper
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "labkeeper.labels" -}}
{{ include "labkeeper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: labkeeper
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "labkeeper.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The roles that run, each with its values: a dictionary of name to values. */ -}}
{{- define "labkeeper.roles" -}}
{{- $roles := dict "facade" .Values.facade "writer" .Values.writer "relay" .Values.relay "watchdog" .Values.watchdog -}}
{{- if .Values.fleetStats.enabled -}}
{{- $_ := set $roles "fleet-stats" .Values.fleetStats -}}
{{- end -}}
{{- range $role, $key := dict "notifier" "notifier" "swarming-poller" "swarmingPoller" "powercycle-agent" "powercycleAgent" -}}
{{- $values := get $.Values $key -}}
{{- if $values.enabled -}}
{{- $_ := set $roles $role $values -}}
{{- end -}}
{{- end -}}
{{ toYaml $roles }}
{{- end -}}
