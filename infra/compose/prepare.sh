#!/bin/sh
# Makes the secret that the lab cannot make itself: Grafana's password for `admin`. Safe twice: what is there stays.
set -eu

cd "$(dirname "$0")"
mkdir -p secrets
chmod 0700 secrets  # the file in it is readable, because Grafana has another user id; the folder is ours
if [ ! -s secrets/grafana-password ]; then
    od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n' >secrets/grafana-password
    chmod 0444 secrets/grafana-password
fi
echo "secrets/grafana-password holds the password of Grafana's user admin"
