"""The consumer: takes commands from their topics, applies them in batches, tells their outcomes.

Offsets are committed when all that is done. What is delivered again meets its record in the store: the effect happens
once, and the outcome is told again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from uuid import UUID

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from prometheus_client import Counter
from redis.exceptions import RedisError

from activities.domain import ActivitiesError, Command, InvalidActivity, Outcome
from activities.ports import Activities, Call
from activities.repositories.timed_redis import reason
from kafka_worker.dead_letters import DeadLetters
from kafka_worker.messages import GROUP, Position, Received, Unreadable, read
from kafka_worker.network import connection
from kafka_worker.security import OPEN, Security

logger = logging.getLogger(__name__)

TOPICS = r"^activities\.(?!dead-letter$)[^.]+$"
"""Also those that only a newer release knows: what lies there is put aside, and nobody waits for it in vain."""
BATCH = 500
"""How many records are taken at once."""
POLL_SECONDS = 0.2
"""How long the consumer waits for records before it looks whether it is to stop."""
SESSION_SECONDS = 6.0
"""After so much silence a member's partitions go to the others; brokers allow no less by default."""
LONGEST_PAUSE = 1.0
"""Between tries while the store cannot be used."""
REFUSED_SHARE, REFUSED_OF = 0.9, 100
"""When so much of so many records in a row is refused, this release is bad rather than the records."""

COMMANDS = Counter("activities_commands_consumed", "Commands that were applied or refused by their rules.", ["topic"])
REDELIVERIES = Counter("activities_consumer_retries", "Batches that the store could not take at once.")
DEAD = Counter("activities_dead_letters", "Records that were put aside.", ["topic"])


class Tells(Protocol):
    """Where outcomes go."""

    def tell(self, outcomes: Sequence[tuple[int, UUID, Outcome, str]]) -> None: ...


class TooManyRefused(Exception):
    """Nearly everything is refused: going on would drain the topics into the dead letters."""


class Consumer:
    """One member of the consumer group. `run` it in one thread; `stalled_for` may be asked from any."""

    def __init__(
        self,
        servers: str,
        *,
        activities: Activities,
        outcomes: Tells,
        dead_letters: DeadLetters,
        security: Security = OPEN,
        group: str = GROUP,
        topics: str = TOPICS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._security = security
        self._activities = activities
        self._outcomes = outcomes
        self._dead_letters = dead_letters
        self._group = group
        self._topics = topics
        self._clock = clock
        self._moved_on = clock()
        self._most = BATCH
        self._failures = 0
        self._silent = False
        self._done: dict[TopicPartition, OffsetAndMetadata] = {}
        self._refused: deque[bool] = deque(maxlen=REFUSED_OF)

    def stalled_for(self) -> float:
        """For how many seconds it has neither finished a batch nor found that there is nothing to do."""
        return self._clock() - self._moved_on

    def run(self, stopping: threading.Event) -> None:
        """Consumes until told to stop; the batch in hand is finished first. Raises `TooManyRefused`."""
        while consumer := self._connect(stopping):
            try:
                while not stopping.is_set():
                    self._turn(consumer, stopping)
                self._commit_all(consumer)
            except TooManyRefused:
                raise
            except KafkaError as error:
                logger.warning("joining the consumer group anew (%s)", error)
            except Exception:
                logger.exception("joining the consumer group anew")
            finally:
                with suppress(KafkaError):
                    consumer.close(timeout_ms=5000)
            stopping.wait(LONGEST_PAUSE)

    def _connect(self, stopping: threading.Event) -> KafkaConsumer | None:
        """A member of the group, as soon as a broker is there."""
        while not stopping.is_set():
            try:
                consumer = KafkaConsumer(
                    **connection(self._servers, self._security),
                    group_id=self._group,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    partition_assignment_strategy=[CooperativeStickyAssignor],
                    max_poll_records=BATCH,
                    session_timeout_ms=int(SESSION_SECONDS * 1000),
                    heartbeat_interval_ms=1_500,
                    # How soon a topic that was made after the start is noticed.
                    metadata_max_age_ms=10_000,
                    reconnect_backoff_max_ms=1_000,
                    bootstrap_timeout_ms=2_000,
                    # kafka-python may begin to wait for a partition that has just been read, and has no eye for the
                    # others meanwhile: that is how long a command may lie there.
                    fetch_max_wait_ms=50,
                )
            except KafkaError as error:
                logger.warning("no broker at %s (%s); trying on", self._servers, error)
                stopping.wait(LONGEST_PAUSE)
            else:
                consumer.subscribe(pattern=self._topics)
                return consumer
        return None

    def _turn(self, consumer: KafkaConsumer, stopping: threading.Event) -> None:
        polled = consumer.poll(timeout_ms=int(POLL_SECONDS * 1000), max_records=self._most)
        if polled and not self._finish([record for records in polled.values() for record in records]):
            for partition, records in polled.items():
                consumer.seek(partition, records[0].offset)
            REDELIVERIES.inc()
            self._failures += 1
            stopping.wait(min(LONGEST_PAUSE, 0.05 * 2**self._failures))
            return
        if polled or self._is_in_touch(consumer):
            self._moved_on = self._clock()
        self._failures = 0
        if polled:
            self._most = min(BATCH, 2 * self._most)
            self._commit(consumer, polled)

    def _is_in_touch(self, consumer: KafkaConsumer) -> bool:
        """Whether it belongs to the group; a broker that is away looks like one that has nothing."""
        ago = consumer.metrics()["consumer-coordinator-metrics"]["last-heartbeat-seconds-ago"]
        return float(ago) < SESSION_SECONDS

    def _commit(self, consumer: KafkaConsumer, polled: dict[TopicPartition, list[Any]]) -> None:
        offsets = {
            partition: OffsetAndMetadata(records[-1].offset + 1, "", records[-1].leader_epoch)
            for partition, records in polled.items()
        }
        self._done = {each: self._done[each] for each in consumer.assignment() & self._done.keys()} | offsets
        try:
            consumer.commit_async(offsets, callback=_committed)
        except KafkaError as error:
            _committed(offsets, error)

    def _commit_all(self, consumer: KafkaConsumer) -> None:
        with suppress(KafkaError):
            consumer.commit(
                {each: self._done[each] for each in consumer.assignment() & self._done.keys()}, timeout_ms=2000
            )

    def _finish(self, records: Sequence[Any]) -> bool:
        """Does all that these records ask for; False when the store cannot be used now."""
        received, dead = self._read(records)
        outcomes = self._apply([each.command for each in received if not isinstance(each.command, InvalidActivity)])
        if outcomes is None:
            return False
        answers: list[tuple[int, UUID, Outcome, str]] = []
        ends = iter(outcomes)
        for each in received:
            if isinstance(each.command, InvalidActivity):
                answers.append((each.chat_id, each.request_id, each.command, ""))
                continue
            outcome = next(ends)
            if isinstance(outcome, Exception) and not isinstance(outcome, ActivitiesError):
                dead.append((each.position, f"it cannot be applied: {type(outcome).__name__}"))
            else:
                answers.append((each.chat_id, each.request_id, outcome, each.command.fingerprint))
        self._tell(answers)
        for each in received:
            COMMANDS.labels(each.position.topic).inc()
        return self._put_aside(records, dict(dead))

    def _read(self, records: Sequence[Any]) -> tuple[list[Received], list[tuple[Position, str]]]:
        received: list[Received] = []
        dead: list[tuple[Position, str]] = []
        for record in records:
            position = Position(record.topic, record.partition, record.offset)
            try:
                received.append(read(position, record.value, record.headers, record.timestamp))
            except Unreadable as reason:
                dead.append((position, str(reason)))
        return received, dead

    def _apply(self, commands: Sequence[Command]) -> Sequence[Outcome | Exception] | None:
        """Each command's end; None when the store cannot be used now.

        What breaks a whole batch, as only a fault of ours can, is looked for command by command.
        """
        if not commands:
            return []
        try:
            return self._activities.apply(commands, call=Call())
        except ActivitiesError as error:
            if self._failures == 0:
                logger.warning("commands wait: %s", error)
            self._most = max(1, self._most // 2)  # a store that is slow may do with less
            return None
        except Exception as error:
            if len(commands) == 1:
                logger.exception("a command cannot be applied")
                return [error]
        one_by_one: list[Outcome | Exception] = []
        for command in commands:
            ends = self._apply([command])
            if ends is None:
                return None
            one_by_one += ends
        return one_by_one

    def _tell(self, answers: Sequence[tuple[int, UUID, Outcome, str]]) -> None:
        """Who is not told in time asks again with the same id."""
        try:
            self._outcomes.tell(answers)
        except (RedisError, OSError) as error:
            if not self._silent:
                logger.warning("Redis does not take outcomes (%s); going on without", reason(error))
            self._silent = True
        else:
            if self._silent and answers:
                logger.warning("Redis takes outcomes again")
                self._silent = False

    def _put_aside(self, records: Sequence[Any], dead: dict[Position, str]) -> bool:
        for record in records:
            position = Position(record.topic, record.partition, record.offset)
            reason = dead.get(position)
            self._refused.append(reason is not None)
            if reason is None:
                continue
            if len(self._refused) == REFUSED_OF and sum(self._refused) >= REFUSED_SHARE * REFUSED_OF:
                raise TooManyRefused(
                    f"{sum(self._refused)} of the last {REFUSED_OF} records were refused, the last one since {reason}; "
                    "this looks like a bad release, and the topics are left as they are"
                )
            try:
                self._dead_letters.put_aside(
                    position,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    timestamp=record.timestamp,
                    reason=reason,
                )
            except KafkaError as error:
                logger.warning("a dead letter is not taken (%s)", error)
                return False
            DEAD.labels(position.topic).inc()
            logger.warning("put aside %s/%s/%s: %s", position.topic, position.partition, position.offset, reason)
        return True


def _committed(_offsets: object, answer: object) -> None:
    # A partition went to another consumer, or the broker is away: what is not committed is delivered again.
    if isinstance(answer, Exception):
        logger.info("offsets are not committed (%s)", answer)
