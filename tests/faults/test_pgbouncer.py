"""A pooler that takes bytes and says nothing: the calls end in time, and what it reads later has no effect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    Command,
    Create,
    Delete,
    Page,
    StorageBusy,
    StorageTimeout,
    Update,
)
from activities.ports import Call, Repository
from activities.repositories.database import Database
from activities.repositories.guarded import Guard, GuardedRepository
from activities.repositories.postgres import PostgresRepository
from tests.examples import activity
from tests.faults.product import Product
from tests.faults.services import ANSWER_SECONDS, Services, eventually

NOW = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def repository(alias: str) -> Iterator[PostgresRepository]:
    repository = PostgresRepository(database=Database(alias=alias))
    yield repository
    repository.close()


def soon(seconds: float) -> Call:
    """A call that has so much time."""
    return Call(deadline=time.monotonic() + seconds)


def apply(repository: Repository, command: Command, seconds: float = 30.0) -> object:
    (outcome,) = repository.apply([command], now=NOW, call=soon(seconds))
    return outcome


class Counting:
    """A store that knows how many accesses are inside."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.inside = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.inside += 1
            try:
                return method(*args, **kwargs)
            finally:
                with self._lock:
                    self.inside -= 1

        return counted


@contextmanager
def paused(services: Services, server: str) -> Iterator[None]:
    services.pause(server)
    try:
        yield
    finally:
        services.resume(server)


@pytest.mark.parametrize("server", ["pgbouncer", "postgres"])
@pytest.mark.parametrize("acquainted", [True, False], ids=["on-old-connections", "on-new-connections"])
def test_slots_come_free_within_a_second_while_the_silence_lasts(
    server: str, acquainted: bool, services: Services, repository: PostgresRepository, chat_id: int
) -> None:
    counting = Counting(repository)
    guard = Guard()
    guarded = GuardedRepository(cast("Repository", counting), guard)

    def ask(_: int) -> tuple[type[ActivitiesError], float]:
        began = time.monotonic()
        with pytest.raises(ActivitiesError) as raised:
            guarded.get(chat_id, name="none", call=Call())
        return raised.type, time.monotonic() - began

    with ThreadPoolExecutor(guard.slots + 2) as callers:
        if acquainted:
            list(callers.map(ask, range(guard.slots + 2)))
        with paused(services, server):
            answers = list(callers.map(ask, range(guard.slots + 2)))
            assert {error for error, _ in answers} <= {StorageBusy, StorageTimeout}
            assert max(seconds for _, seconds in answers) < ANSWER_SECONDS
            eventually(lambda: counting.inside == 0, seconds=ANSWER_SECONDS - 2)
    eventually(lambda: counting.inside == 0)
    guard.close()


COMMANDS: dict[str, Callable[[int], Command]] = {
    "create": lambda chat_id: Create(chat_id=chat_id, activity=activity("fresh")),
    "update": lambda chat_id: Update(chat_id=chat_id, name="there", changes=ActivityChanges(times_per_day=99)),
    "delete": lambda chat_id: Delete(chat_id=chat_id, name="there"),
    "create-once": lambda chat_id: Create(chat_id=chat_id, activity=activity("fresh"), request_id=uuid4()),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_write_that_is_read_after_its_deadline_has_no_effect(
    command: str,
    services: Services,
    repository: PostgresRepository,
    chat_id: int,
    direct: psycopg.Connection,
    environment: dict[str, str],
) -> None:
    apply(repository, Create(chat_id=chat_id, activity=activity("there")))
    with paused(services, "pgbouncer"), pytest.raises(StorageTimeout):
        apply(repository, COMMANDS[command](chat_id), seconds=0.2)
    with psycopg.connect(environment["DATABASE_URL"]) as later:
        later.execute("SELECT 1")  # the pooler has read what came before this
    busy = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
    eventually(lambda: direct.execute(busy).fetchone() == (0,))
    rows: Sequence[tuple[str, int]] = direct.execute(
        "SELECT name, times_per_day FROM activities_activity WHERE chat_id = %s", [chat_id]
    ).fetchall()
    assert rows == [("there", 2)]


def test_a_write_in_time_is_not_taken_for_late_when_the_clocks_have_gone_apart(
    repository: PostgresRepository, chat_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a machine has slept: the first write may fail, the next ones compare the clocks anew."""
    apply(repository, Create(chat_id=chat_id, activity=activity("there")))
    with monkeypatch.context() as patched:
        real = time.monotonic
        patched.setattr(time, "monotonic", lambda: real() - 3600)  # as this one's clock goes on from now
        update = Update(chat_id=chat_id, name="there", changes=ActivityChanges(times_per_day=99))
        with pytest.raises(StorageTimeout):
            apply(repository, update)
        assert apply(repository, update) == activity("there", times_per_day=99)


def test_a_write_during_the_silence_is_done_whole_or_not_at_all_and_its_id_tells(
    services: Services, product: Product, chat_id: int, direct: psycopg.Connection
) -> None:
    request_id = uuid4()

    def create() -> Activity:
        return product.activities.create(chat_id, activity=activity("pill"), call=Call(request_id=request_id))

    product.activities.list(chat_id, page=Page(), call=Call())
    with paused(services, "pgbouncer"), pytest.raises(StorageTimeout):
        create()
    assert create() == activity("pill")
    assert create() == activity("pill")
    count = direct.execute("SELECT count(*) FROM activities_activity WHERE chat_id = %s", [chat_id])
    assert count.fetchone() == (1,)
