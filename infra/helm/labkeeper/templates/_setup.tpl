{{- /* A Job's pod that runs one command of the `labkeeper` program. Takes a dictionary of `root`, `account` and `args`. */ -}}
{{- define "labkeeper.setupJob" -}}
backoffLimit: 6
activeDeadlineSeconds: 3600
ttlSecondsAfterFinished: 86400
template:
  metadata:
    labels:
      {{- include "labkeeper.labels" .root | nindent 6 }}
      app.kubernetes.io/component: setup
  spec:
    restartPolicy: OnFailure
    serviceAccountName: {{ .account }}
    {{- include "labkeeper.podSecurity" .root | nindent 4 }}
    {{- with .root.Values.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .root.Values.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - name: labkeeper
        {{- include "labkeeper.containerBasics" .root | nindent 8 }}
        args:
          {{- toYaml .args | nindent 10 }}
        env:
          {{- include "labkeeper.environment" .root | nindent 10 }}
        resources:
          requests: {cpu: 50m, memory: 128Mi}
          limits: {memory: 256Mi}
        volumeMounts:
          {{- include "labkeeper.mounts" .root | nindent 10 }}
    volumes:
      {{- include "labkeeper.volumes" .root | nindent 6 }}
      {{- include "labkeeper.shortLivedData" .root | nindent 6 }}
{{- end -}}
