{{- /* Ways out: names, the database, for all but the watchdog the broker, and what a role speaks to by trade. Takes a dictionary of `root` and `role`. */ -}}
{{- define "labkeeper.egress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $kind := .root.Values.broker.kind -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    - {port: {{ $policy.database.port }}, protocol: TCP}
  {{- with $policy.database.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if and (ne .role "watchdog") (ne $kind "embedded") }}
{{- $broker := get $policy $kind }}
- ports:
    {{- range $broker.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with $broker.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if and (eq $kind "pubsub") (ne $broker.metadataServer "none") }}
{{- $calico := eq $broker.metadataServer "calico" }}
- ports:
    {{- range ternary (list 987 988) (list 80 8080) $calico }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  to:
    - ipBlock: {cidr: {{ ternary "169.254.169.252/32" "169.254.169.254/32" $calico }}}
{{- end }}
{{- end }}
{{- $trade := get (dict "notifier" $policy.notifier "swarming-poller" $policy.swarmingPoller "powercycle-agent" $policy.powercycleAgent) .role -}}
{{- with $trade }}
{{- if or .ports .to }}
-
  {{- with .ports }}
  ports:
    {{- range . }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else }}
- {}
{{- end }}
{{- end }}
{{- end -}}
