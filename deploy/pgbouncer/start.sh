#!/bin/sh
# pgbouncer, with the roles of roles.sql by the passwords in the environment. Arguments are further settings,
# NAME=VALUE. Nothing is written but $PGBOUNCER_FOLDER.
set -eu
umask 077
folder=${PGBOUNCER_FOLDER:-/tmp}
cat >"$folder/users.txt" <<END
"activities_owner" "$POSTGRES_OWNER_PASSWORD"
"activities_grpc" "$POSTGRES_GRPC_PASSWORD"
"activities_web" "$POSTGRES_WEB_PASSWORD"
"activities_consumer" "$POSTGRES_CONSUMER_PASSWORD"
END
cat >"$folder/pgbouncer.ini" <<END
[databases]
* = host=${POSTGRES_HOST:-postgres} port=${POSTGRES_PORT:-5432}
[pgbouncer]
listen_addr = *
listen_port = 5432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $folder/users.txt
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 30
END
[ $# -eq 0 ] || printf '%s\n' "$@" >>"$folder/pgbouncer.ini"
exec pgbouncer "$folder/pgbouncer.ini"
