{{- /* What every pod has. */ -}}
{{- define "labkeeper.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "labkeeper.containerBasics" -}}
image: {{ include "labkeeper.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "labkeeper.environment" -}}
- name: LABKEEPER_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.urlKey }}
- name: LABKEEPER_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: LABKEEPER_POOLS
  value: {{ join " " .Values.pools | quote }}
- name: LABKEEPER_TOPIC_PREFIX
  value: {{ .Values.broker.topicPrefix | quote }}
- name: LABKEEPER_BROKER
  value: {{ .Values.broker.kind }}
{{- if eq .Values.broker.kind "kafka" }}
- name: LABKEEPER_KAFKA_SERVERS
  value: {{ join "," .Values.broker.kafka.servers | quote }}
{{- if .Values.broker.kafka.config.existingSecret }}
- name: LABKEEPER_KAFKA_CONFIG
  value: /etc/labkeeper/kafka/client.properties
{{- end }}
{{- else if eq .Values.broker.kind "pubsub" }}
- name: LABKEEPER_PUBSUB_PROJECT
  value: {{ .Values.broker.pubsub.project | quote }}
{{- if .Values.broker.pubsub.credentials.existingSecret }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /etc/labkeeper/google/{{ .Values.broker.pubsub.credentials.key }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Secrets that are mounted as folders: a dictionary of folder to Secret. */ -}}
{{- define "labkeeper.secretFolders" -}}
{{- $folders := dict -}}
{{- with .Values.database.certificates.existingSecret -}}
{{- $_ := set $folders "database" . -}}
{{- end -}}
{{- if and (eq .Values.broker.kind "kafka") .Values.broker.kafka.config.existingSecret -}}
{{- $_ := set $folders "kafka" .Values.broker.kafka.config.existingSecret -}}
{{- end -}}
{{- if and (eq .Values.broker.kind "pubsub") .Values.broker.pubsub.credentials.existingSecret -}}
{{- $_ := set $folders "google" .Values.broker.pubsub.credentials.existingSecret -}}
{{- end -}}
{{ toYaml $folders }}
{{- end -}}

{{- define "labkeeper.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: data
  mountPath: /var/lib/labkeeper
{{- range $folder, $secret := include "labkeeper.secretFolders" . | fromYaml }}
- name: {{ $folder }}
  mountPath: /etc/labkeeper/{{ $folder }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "labkeeper.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- range $folder, $secret := include "labkeeper.secretFolders" . | fromYaml }}
- name: {{ $folder }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440  # libpq refuses a private key that others may read
{{- end }}
{{- end -}}

{{- define "labkeeper.shortLivedData" -}}
- name: data
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}
