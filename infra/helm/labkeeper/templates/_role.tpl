{{- /* What single roles have beside what all have. */ -}}
{{- define "labkeeper.roleArgs" -}}
{{- if eq .role "facade" -}}
- --host=0.0.0.0
- --port=8000
- --tokens=/etc/labkeeper/tokens/{{ .root.Values.tokens.key }}
{{- else if and (eq .role "watchdog") .values.healPolicy -}}
- --heal-policy=/etc/labkeeper/healing/policy.json5
{{- else if eq .role "notifier" -}}
- --config=/etc/labkeeper/notifier/{{ .values.config.key }}
{{- else if eq .role "swarming-poller" -}}
{{- range .values.bots }}
- {{ printf "--bots=%s" . | quote }}
{{- end }}
{{- if .values.token.existingSecret }}
- --token-file=/etc/labkeeper/swarming/{{ .values.token.key }}
{{- end }}
{{- else if eq .role "powercycle-agent" -}}
- --name={{ .values.name }}
- --config=/etc/labkeeper/powercycle/{{ .values.config.key }}
{{- end }}
{{- end -}}

{{- /* A folder in /etc/labkeeper of one role: a dictionary of `name`, and `secret` or `configMap`. */ -}}
{{- define "labkeeper.roleFolder" -}}
{{- if eq .role "facade" -}}
{name: tokens, secret: {{ .root.Values.tokens.existingSecret }}}
{{- else if and (eq .role "watchdog") .values.healPolicy -}}
{name: healing, configMap: {{ include "labkeeper.name" .root }}-heal-policy}
{{- else if eq .role "notifier" -}}
{name: notifier, secret: {{ .values.config.existingSecret }}}
{{- else if and (eq .role "swarming-poller") .values.token.existingSecret -}}
{name: swarming, secret: {{ .values.token.existingSecret }}}
{{- else if eq .role "powercycle-agent" -}}
{name: powercycle, secret: {{ .values.config.existingSecret }}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- /* The pod of a role. Takes a dictionary of `root`, `role` and `values`. */ -}}
{{- define "labkeeper.rolePod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := .values -}}
{{- $isFacade := eq $role "facade" -}}
{{- $isAgent := eq $role "powercycle-agent" -}}
{{- $folder := include "labkeeper.roleFolder" . | fromYaml -}}
metadata:
  labels:
    {{- include "labkeeper.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $role }}
  {{- with $root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "labkeeper.name" $root }}
  {{- include "labkeeper.podSecurity" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ ternary 90 45 $isAgent }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector | default $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "labkeeper.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $role }}
    {{- end }}
  containers:
    - name: {{ $role }}
      {{- include "labkeeper.containerBasics" $root | nindent 6 }}
      args:
        - {{ $role }}
        - --metrics-host=0.0.0.0
        - --metrics-port=9100
        {{- with include "labkeeper.roleArgs" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- include "labkeeper.environment" $root | nindent 8 }}
        {{- if $isAgent }}
        - name: LABKEEPER_POWERCYCLE_KNOWN_HOSTS
          value: /etc/labkeeper/powercycle/known_hosts
        {{- end }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: metrics, containerPort: 9100}
        {{- if $isFacade }}
        - {name: http, containerPort: 8000}
        {{- end }}
      {{- if $isFacade }}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      # a minute of patience: when database or broker are away, every façade is, and each still shows what it knows
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          exec: {command: [sleep, "5"]}  # until the balancer has heard of it
      {{- else }}
      # its event loop turns; whether it gets on with its work is what the alerts watch
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      readinessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        {{- include "labkeeper.mounts" $root | nindent 8 }}
        {{- with $folder.name }}
        - name: {{ . }}
          mountPath: /etc/labkeeper/{{ . }}
          readOnly: true
        {{- end }}
  volumes:
    {{- include "labkeeper.volumes" $root | nindent 4 }}
    {{- if not $isAgent }}
    {{- include "labkeeper.shortLivedData" $root | nindent 4 }}
    {{- end }}
    {{- with $folder.secret }}
    - name: {{ $folder.name }}
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with $folder.configMap }}
    - name: {{ $folder.name }}
      configMap:
        name: {{ . }}
    {{- end }}
{{- end -}}
