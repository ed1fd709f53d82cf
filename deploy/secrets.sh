#!/bin/sh
# Completes .env with what docker-compose.yml demands and .env lacks, each a secret of its own.
#   deploy/secrets.sh
set -eu
cd "$(dirname "$0")/.."
umask 077
touch .env
chmod 600 .env
[ -z "$(tail -c 1 .env)" ] || echo >>.env
grep -o '\${[A-Z_]*:?' docker-compose.yml | tr -d '${:?' | sort -u | while read -r name; do
    grep -q "^$name=." .env && continue
    echo "$name=$(python3 -c 'import secrets; print(secrets.token_urlsafe(36))')" >>.env
    echo "$name: made"
done
