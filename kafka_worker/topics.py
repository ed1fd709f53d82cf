"""The topics of the queue: how they are divided and how long they keep a record."""

from __future__ import annotations

from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import NoError, TopicAlreadyExistsError, for_code

from kafka_worker.messages import CREATE, DEAD_LETTER, DELETE, UPDATE

DAY_MS = 24 * 3600 * 1000


def _topic(*, partitions: int, days: int) -> dict[str, Any]:
    return {"num_partitions": partitions, "configs": {"retention.ms": str(days * DAY_MS)}}


TOPICS = {
    # As long as a request id is remembered: what is older may have been forgotten, and would be done again.
    **{name: _topic(partitions=8, days=1) for name in (CREATE, UPDATE, DELETE)},
    DEAD_LETTER: _topic(partitions=1, days=7),
}


def ensure_topics(bootstrap_servers: str, *, timeout: float, replication_factor: int = 1) -> None:
    """Makes the topics that are missing, and returns when all of them can be written to.

    Those that are there stay as they are, however they are divided. Several processes may do this at once.
    `timeout` is in seconds, for each of: reaching a broker, its answer, the topics' coming up. `KafkaError` where one
    of them fails.
    """
    milliseconds = int(timeout * 1000)
    with KafkaAdminClient(
        bootstrap_servers=bootstrap_servers,
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
