"""Writes through Kafka while its parts are killed: each is done once, and every answer is true."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from django.test import override_settings
from redis import ConnectionPool

from activities.container import Container, on_queue, on_repository, on_service
from activities.domain import Activity, OutcomePending
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from activities.repositories.timed_redis import TimedConnection
from kafka_worker.consumer import Consumer
from kafka_worker.dead_letters import DeadLetters
from kafka_worker.topics import ensure_topics
from tests.examples import activity
from tests.faults.load import Load, load
from tests.faults.product import PATIENCE, TOKEN, ConsumerProcess, Product
from tests.faults.services import Services, eventually

COMMANDS = 2000
KILLS = 4
QUEUE_SECONDS = 120.0
"""What a test waits at most: a consumer that was killed is missed after 6 s, and another one has to start."""
TIMES = 20 if os.environ.get("TEST_LONG") else 1

pytestmark = pytest.mark.timeout(900)


class Consumers:
    """Starts consumers, and stops those that were not killed."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._alive: list[ConsumerProcess] = []
        self._count = 0

    def start(self) -> ConsumerProcess:
        self._count += 1
        self._alive.append(ConsumerProcess(self._environment, self._folder / f"consumer-{self._count}.log"))
        return self._alive[-1]

    def kill(self, consumer: ConsumerProcess) -> None:
        self._alive.remove(consumer)
        consumer.kill()

    def stop(self) -> list[int]:
        """Their exit codes."""
        codes = [each.stop() for each in self._alive]
        self._alive.clear()
        return codes


@pytest.fixture
def consumers(services: Services, environment: dict[str, str], tmp_path: Path) -> Iterator[Consumers]:
    ensure_topics(environment["KAFKA_BOOTSTRAP_SERVERS"], timeout=20)
    consumers = Consumers(environment, tmp_path)
    yield consumers
    codes = consumers.stop()
    assert codes == [0] * len(codes)


@pytest.fixture
def interface(
    services: Services, product: Product, environment: dict[str, str], consumers: Consumers
) -> Iterator[Container]:
    """An interface service on backend `kafka`."""
    pool = ConnectionPool.from_url(environment["REDIS_URL"], connection_class=TimedConnection)
    with override_settings(ACTIVITIES_STORAGE_SECONDS=2.0):
        interface = on_queue(
            servers=environment["KAFKA_BOOTSTRAP_SERVERS"],
            connections=lambda: pool,
            data=on_service(target=product.target, token=TOKEN),
        )
    eventually(lambda: _is_ready(interface))
    yield interface
    interface.close()


def _is_ready(interface: Container) -> bool:
    try:
        interface.ready(Call())
    except Exception:
        return False
    return True


def is_as_the_callers_know_it(callers: Load, direct: psycopg.Connection) -> None:
    """What is stored is what they left there."""
    for caller in callers.callers:
        rows = direct.execute(
            "SELECT name FROM activities_activity WHERE chat_id = %s AND name <> 'pill'", [caller.chat_id]
        ).fetchall()
        assert {name for (name,) in rows} == caller.kept


@pytest.mark.parametrize("seed", range(TIMES))
def test_a_consumer_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(
    seed: int, interface: Container, consumers: Consumers, chat_id: int, direct: psycopg.Connection
) -> None:
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(50, COMMANDS), KILLS))
    consumer = consumers.start()
    with load(interface.activities, chat_id, callers=16, patience=QUEUE_SECONDS) as callers:
        for moment in moments:
            eventually(partial(callers.have, moment), seconds=QUEUE_SECONDS)
            consumers.kill(consumer)
            consumer = consumers.start()
            eventually(callers.everyone_has_more(), seconds=QUEUE_SECONDS)
        eventually(partial(callers.have, 2 * COMMANDS), seconds=QUEUE_SECONDS)  # half of them are reads
    is_as_the_callers_know_it(callers, direct)


def test_of_two_consumers_one_is_killed(
    interface: Container, consumers: Consumers, chat_id: int, direct: psycopg.Connection
) -> None:
    first, _ = consumers.start(), consumers.start()
    with load(interface.activities, chat_id, callers=8, patience=QUEUE_SECONDS) as callers:
        eventually(callers.everyone_has_more())
        consumers.kill(first)
        for _ in range(3):
            eventually(callers.everyone_has_more(), seconds=QUEUE_SECONDS)
    is_as_the_callers_know_it(callers, direct)


@pytest.mark.parametrize("server", ["kafka", "redis", "postgres", "pgbouncer"])
def test_a_server_that_is_killed_and_started_under_load_loses_nothing(
    server: str,
    services: Services,
    interface: Container,
    consumers: Consumers,
    chat_id: int,
    direct: psycopg.Connection,
) -> None:
    consumers.start()
    with load(interface.activities, chat_id, callers=8, patience=QUEUE_SECONDS) as callers:
        eventually(callers.everyone_has_more())
        services.kill(server)
        services.mend()
        for _ in range(3):
            eventually(callers.everyone_has_more(), seconds=QUEUE_SECONDS)
    with psycopg.connect(direct.info.dsn, password=direct.info.password) as anew:
        is_as_the_callers_know_it(callers, anew)


def test_the_outcome_that_redis_lost_is_told_to_whoever_asks_again(
    services: Services, interface: Container, consumers: Consumers, chat_id: int, direct: psycopg.Connection
) -> None:
    consumers.start()
    request_id = uuid4()
    services.kill("redis")
    with pytest.raises(OutcomePending) as pending:
        interface.activities.create(chat_id, activity=activity("pill"), call=Call(request_id=request_id))
    assert pending.value.details == {"request_id": str(request_id)}
    count = "SELECT count(*) FROM activities_activity WHERE chat_id = %s"
    eventually(lambda: direct.execute(count, [chat_id]).fetchone() == (1,))
    services.mend()

    def answer() -> Activity | None:
        try:
            return interface.activities.create(chat_id, activity=activity("pill"), call=Call(request_id=request_id))
        except OutcomePending:
            return None

    eventually(lambda: answer() == activity("pill"), seconds=PATIENCE)
    assert direct.execute(count, [chat_id]).fetchone() == (1,)


def test_a_consumer_without_a_broker_says_so_and_goes_on_when_it_is_back(
    services: Services, environment: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(environment["KAFKA_BOOTSTRAP_SERVERS"], timeout=20)
    with (
        closing(on_repository(MemoryRepository())) as parts,
        closing(DeadLetters(environment["KAFKA_BOOTSTRAP_SERVERS"])) as dead_letters,
    ):
        consumer = Consumer(
            environment["KAFKA_BOOTSTRAP_SERVERS"],
            activities=parts.activities,
            outcomes=Unheard(),
            dead_letters=dead_letters,
            group="without-a-broker",
        )
        stopping = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(consumer.run, stopping)
            eventually(lambda: consumer.stalled_for() < 1)
            services.kill("kafka")
            eventually(lambda: consumer.stalled_for() > 2)
            services.mend()
            eventually(lambda: consumer.stalled_for() < 1)
            stopping.set()
            running.result()


class Unheard:
    def tell(self, outcomes: object) -> None:
        """Nobody asks."""
