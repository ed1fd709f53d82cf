"""Records that can never succeed: put aside with the reason, listed, sent back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from kafka_worker.messages import ACCEPTED_AT, DEAD_LETTER, Headers, Position, accepted
from kafka_worker.network import connection
from kafka_worker.security import OPEN, Security

REASON, TOPIC, PARTITION, OFFSET, ACCEPTED = (
    f"dead-letter-{what}" for what in ("reason", "topic", "partition", "offset", "accepted-at")
)
"""Headers of a dead letter, beside those that the record came with."""
SEND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was put aside."""

    offset: int
    """Its own place in the topic of dead letters."""
    put_aside_at: datetime
    accepted_at: int
    """When the record was accepted, in Unix milliseconds: what its chat had then may have been erased since."""
    position: Position
    """Where it lay before."""
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    """Those that it came with."""


class DeadLetters:
    """The topic of dead letters. Connects when first used; raises `kafka.errors.KafkaError`."""

    def __init__(self, servers: str, *, security: Security = OPEN) -> None:
        self._connection = connection(servers, security)
        self._producer: KafkaProducer | None = None

    def put_aside(
        self,
        position: Position,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp: int,
        reason: str,
    ) -> None:
        """Returns when the broker has it."""
        described = [
            (REASON, reason.encode()),
            (TOPIC, position.topic.encode()),
            (PARTITION, str(position.partition).encode()),
            (OFFSET, str(position.offset).encode()),
            (ACCEPTED, str(accepted(headers, timestamp)).encode()),
        ]
        self._send(DEAD_LETTER, key, value, [*headers, *described])

    def all(self) -> Iterator[DeadLetter]:
        """All that are kept, oldest first."""
        consumer = KafkaConsumer(**self._connection, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            partitions = [
                TopicPartition(DEAD_LETTER, each) for each in consumer.partitions_for_topic(DEAD_LETTER) or ()
            ]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning(*partitions)
            while any(consumer.position(each) < ends[each] for each in partitions):
                for records in consumer.poll(timeout_ms=1000).values():
                    yield from map(_read, records)
        finally:
            consumer.close()

    def send_back(self, letter: DeadLetter) -> None:
        """Sends it to the topic that it came from, as it was accepted; returns when the broker has it."""
        headers = [each for each in letter.headers if each[0] != ACCEPTED_AT]
        headers.append((ACCEPTED_AT, str(letter.accepted_at).encode()))
        self._send(letter.position.topic, letter.key, letter.value, headers)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=SEND_SECONDS)

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._connection, acks="all", enable_idempotence=True, allow_auto_create_topics=False
            )
        given = [(name, text or b"") for name, text in headers]  # the client does not send headers without a value
        self._producer.send(topic, key=key, value=value, headers=given).get(timeout=SEND_SECONDS)


def _read(record: Any) -> DeadLetter:
    ours = {REASON, TOPIC, PARTITION, OFFSET, ACCEPTED}
    described = {name: value.decode() for name, value in record.headers if name in ours}
    return DeadLetter(
        offset=record.offset,
        put_aside_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        accepted_at=int(described.get(ACCEPTED, record.timestamp)),  # one of an earlier release did not say
        position=Position(described[TOPIC], int(described[PARTITION]), int(described[OFFSET])),
        reason=described[REASON],
        key=record.key,
        value=record.value,
        headers=[(name, value) for name, value in record.headers if name not in ours],
    )
