"""The consumer with a backlog beside a naive one: at least 4 times its commands, with ids and outcomes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from decimal import Decimal
from functools import partial
from uuid import uuid4

import psycopg
from kafka import KafkaProducer

from activities.domain import Activity, ActivityChanges, Command, Create, Delete, Update
from benchmarks.baselines import naive_consumer
from benchmarks.broker import Group, group
from benchmarks.harness import Figures, Row, compare
from benchmarks.servers import Database, bare_consumer, database, empty_cache, fill, our_consumer, own_redis
from kafka_worker.messages import GROUP, record_of

CHATS, PER_CHAT = 1000, 20
OUR_BACKLOG, NAIVE_BACKLOG = 24_000, 1_500
"""Either takes some seconds."""
CHANGED = 99
"""What no activity has at first."""


def run() -> list[Row]:
    with (
        database(chats=CHATS, per_chat=PER_CHAT) as rows,
        group(GROUP) as ours,
        group(naive_consumer.GROUP) as naive,
    ):
        return [
            row
            for what, commands in {"creates": creates, "mixed": mixed}.items()
            for row in compare(
                f"consume, {what}",
                partial(_consumed, rows, ours, partial(our_consumer, rows), commands, OUR_BACKLOG, outcomes=True),
                {
                    "naive consumer": partial(
                        _consumed, rows, naive, partial(bare_consumer, "naive_consumer", rows), commands, NAIVE_BACKLOG
                    )
                },
            )
        ]


def creates(count: int) -> Iterator[Command]:
    """New names, over all chats in turn."""
    for number in range(count):
        yield Create(chat_id=1 + number % CHATS, activity=_new(number))


def mixed(count: int) -> Iterator[Command]:
    """A third each: new names, changes and deletes of what is there, none of it twice."""
    for number in range(count // 3):
        chat_id, nth = 1 + number % CHATS, number // CHATS
        yield Create(chat_id=chat_id, activity=_new(number))
        yield Update(chat_id=chat_id, name=f"Activity {nth}", changes=ActivityChanges(times_per_day=CHANGED))
        yield Delete(chat_id=chat_id, name=f"Activity {PER_CHAT - 1 - nth}")


def _new(number: int) -> Activity:
    return Activity(f"New {number}", date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5"))


def _consumed(
    rows: Database,
    group: Group,
    consumer: Callable[[], AbstractContextManager[None]],
    commands: Callable[[int], Iterator[Command]],
    count: int,
    *,
    outcomes: bool = False,
) -> Figures:
    fill(rows)
    empty_cache()
    group.go_to_the_end()
    before = group.finished()
    _produce(commands(count))
    with consumer():
        rate = group.rate(before, count)
    _check(rows, list(commands(count)))
    with own_redis() as redis:
        told = sum(1 for _ in redis.scan_iter("activities:result:*", count=1000))
    if outcomes and told != count:
        raise RuntimeError(f"{told} outcomes of {count}")
    return {"commands/s": rate}


def _produce(commands: Iterator[Command]) -> None:
    producer = KafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all", linger_ms=20)
    for command in commands:
        record = record_of(command, uuid4())
        producer.send(record.topic, key=record.key, value=record.value, headers=record.headers)
    producer.close()


def _check(rows: Database, commands: list[Command]) -> None:
    """That every command was done."""
    created, updated, deleted = (sum(isinstance(each, kind) for each in commands) for kind in (Create, Update, Delete))
    query = """
        SELECT count(*) FILTER (WHERE name LIKE 'New %%'), count(*) FILTER (WHERE times_per_day = %s), count(*)
        FROM activities_activity"""
    with psycopg.connect(rows.direct_url) as inside:
        found = inside.execute(query, [CHANGED]).fetchone()
    if found != (created, updated, CHATS * PER_CHAT + created - deleted):
        raise RuntimeError(f"{created} creates, {updated} updates and {deleted} deletes left {found}")
