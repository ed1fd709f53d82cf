"""Consumer groups as the benchmarks find, watch and leave them, and topics of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, NoError, NotCoordinatorError

from kafka_worker.messages import CREATE, DELETE, UPDATE
from kafka_worker.topics import TOPICS, ensure_topics

TIMEOUT = 60.0
LOOK_SECONDS = 0.05
PARTITIONS = [
    TopicPartition(topic, partition)
    for topic in (CREATE, UPDATE, DELETE)
    for partition in range(TOPICS[topic]["num_partitions"])
]


class Group:
    """A consumer group of the topics of commands."""

    def __init__(self, admin: KafkaAdminClient, name: str) -> None:
        self._admin = admin
        self._name = name

    def go_to_the_end(self) -> None:
        """Passes over all that is there, as soon as the group's last member has left."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            wanted = dict.fromkeys(PARTITIONS, OffsetSpec.LATEST)
            with suppress(CoordinatorNotAvailableError, NotCoordinatorError):  # a new broker has none until it is asked
                answers = self._admin.reset_group_offsets(self._name, wanted)
                if all(answer["error"] is NoError for answer in answers.values()):
                    return
            time.sleep(0.2)
        raise RuntimeError(f"somebody else consumes as {self._name}")

    def finished(self) -> int:
        """Of how many records the offsets are committed, counted from some time on."""
        offsets = self._admin.list_group_offsets({self._name: PARTITIONS})[self._name]
        return sum(each.offset for each in offsets.values())

    def rate(self, before: int, count: int) -> float:
        """Records a second, from the first look that finds some of them finished to the one that finds all."""
        started_at, started_with, done = 0.0, 0, 0
        end = time.monotonic() + TIMEOUT
        while done < count:
            time.sleep(LOOK_SECONDS)
            done, now = self.finished() - before, time.monotonic()
            if now > end:
                raise RuntimeError(f"{self._name} finished {done} records of {count}")
            if done and not started_with:
                started_at, started_with = now, done
        return (count - started_with) / (now - started_at)


@contextmanager
def group(name: str) -> Iterator[Group]:
    """One that is at the end now, and will be when all is over, whatever happens."""
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    ensure_topics(servers, timeout=TIMEOUT)
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        group = Group(admin, name)
        group.go_to_the_end()
        try:
            yield group
        finally:
            group.go_to_the_end()


@contextmanager
def own_topic(kind: str) -> Iterator[str]:
    """The name of a new one. Deleted at the end."""
    name = f"benchmark-{os.getpid()}-{kind}"
    with KafkaAdminClient(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"]) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})
        try:
            admin.wait_for_topics([name], timeout_ms=int(TIMEOUT * 1000))
            yield name
        finally:
            admin.delete_topics([name])
