"""The topics of the queue: how they are divided and how long they keep a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.errors import NoError, TopicAlreadyExistsError, for_code

from kafka_worker.messages import CREATE, DEAD_LETTER, DELETE, GROUP, UPDATE
from kafka_worker.network import connection
from kafka_worker.security import OPEN, Security

DAY_MS = 24 * 3600 * 1000


def _topic(*, partitions: int, days: int) -> dict[str, Any]:
    return {"num_partitions": partitions, "configs": {"retention.ms": str(days * DAY_MS)}}


TOPICS = {
    # As long as a request id is remembered: what is older may have been forgotten, and would be done again.
    **{name: _topic(partitions=8, days=1) for name in (CREATE, UPDATE, DELETE)},
    DEAD_LETTER: _topic(partitions=1, days=7),
}


PREFIX = "activities."
"""Of every topic, also of those that only a newer release knows: the consumer has to see them."""


def interface_acls(user: str) -> list[ACL]:
    """What an interface service needs: to write commands."""
    return [_allowed(user, ACLOperation.WRITE, ResourceType.TOPIC, name) for name in (CREATE, UPDATE, DELETE)]


def consumer_acls(user: str) -> list[ACL]:
    """What the consumer needs: to read commands as a member of its group, and to put aside what cannot succeed."""
    return [
        _allowed(user, ACLOperation.READ, ResourceType.TOPIC, PREFIX, ACLResourcePatternType.PREFIXED),
        _allowed(user, ACLOperation.READ, ResourceType.GROUP, GROUP),
        _allowed(user, ACLOperation.WRITE, ResourceType.TOPIC, DEAD_LETTER),
    ]


def _allowed(
    user: str,
    operation: ACLOperation,
    kind: ResourceType,
    name: str,
    pattern: ACLResourcePatternType = ACLResourcePatternType.LITERAL,
) -> ACL:
    resource = ResourcePattern(kind, name, pattern)
    return ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, resource)


def ensure_topics(
    bootstrap_servers: str,
    *,
    timeout: float,
    replication_factor: int = 1,
    security: Security = OPEN,
    acls: Sequence[ACL] = (),
) -> None:
    """Makes the topics and `acls` that are missing, and returns when all topics can be written to.

    Those that are there stay as they are, however they are divided. Several processes may do this at once.
    `timeout` is in seconds, for each of: reaching a broker, its answer, the topics' coming up. `KafkaError` where one
    of them fails.
    """
    milliseconds = int(timeout * 1000)
    with KafkaAdminClient(
        **connection(bootstrap_servers, security),
        bootstrap_timeout_ms=milliseconds,
        request_timeout_ms=milliseconds,
        reconnect_backoff_max_ms=1000,
    ) as admin:
        wanted = {name: {**topic, "replication_factor": replication_factor} for name, topic in TOPICS.items()}
        for answer in admin.create_topics(wanted, raise_errors=False)["topics"]:
            error = for_code(answer["error_code"])
            if error not in (NoError, TopicAlreadyExistsError):
                raise error(f"{answer['name']}: {answer['error_message']}")
        admin.wait_for_topics(list(TOPICS), timeout_ms=milliseconds)
        for error in admin.create_acls(list(acls))["failed"] if acls else ():
            raise error("who may use the topics cannot be told to the broker")
