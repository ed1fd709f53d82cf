#!/bin/sh
# Redis as a cache and a messenger: nothing in it has to outlive it. Each user by its password in the environment, and
# what it needs alone; nobody else gets in. Arguments go to redis-server. Nothing is written but $REDIS_FOLDER.
set -eu
umask 077
folder=${REDIS_FOLDER:-/tmp}

# What each part of the product does: entries of the cache, a chat's outcomes that are erased, outcomes that are told,
# outcomes that are awaited, requests that are counted, log-ins to the admin that failed.
caches='~activities:activity:* +ping +get +set +del +eval'
erases='%W~activities:result:* +scan +unlink'
tells='%W~activities:result:* &activities:result:* +ping +set +publish'
awaits='~activities:result:* &activities:result:* +ping +mget +del +subscribe +unsubscribe'
counts='~activities:requests:* +ping +eval +time +lindex +llen +lpop +rpush +expire'
logins='~:1:activities:failed-login:* +eval +set +exists +incrby'

cat >"$folder/users.acl" <<END
user default off resetpass
user grpc on >$REDIS_GRPC_PASSWORD $caches $erases $counts
user web on >$REDIS_WEB_PASSWORD $caches $erases $counts $logins
user consumer on >$REDIS_CONSUMER_PASSWORD $caches $tells
user interface on >$REDIS_INTERFACE_PASSWORD $awaits $counts
${REDIS_ADMIN_PASSWORD:+user admin on >$REDIS_ADMIN_PASSWORD ~* &* +@all}
END
exec redis-server --aclfile "$folder/users.acl" --dir "$folder" --save '' --appendonly no "$@"
