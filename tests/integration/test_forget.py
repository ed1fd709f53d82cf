"""That a chat is erased everywhere, and stays so whatever was on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from django.conf import settings
from psycopg import sql

from activities.container import Container, durable_repository, on_repository, outcome_connections
from activities.domain import (
    Activity,
    ActivityChanges,
    ActivityNotFound,
    ChatChanges,
    Command,
    Create,
    Delete,
    StorageTimeout,
    Update,
    name_key,
    read_order,
)
from activities.ports import Call, Repository
from activities.repositories.memory import MemoryRepository
from activities.repositories.postgres import PostgresRepository
from kafka_worker.messages import ACCEPTED_AT, DELETE, Position, accepted, read
from kafka_worker.outcomes import Outcomes, erase
from proto.activities.v1 import activities_pb2 as pb
from tests.examples import NOON, activity
from tests.faults.services import eventually
from tests.integration.traces import traces

MOMENT = timedelta(milliseconds=1)


def soon() -> Call:
    call = Call()
    return Call(asked_at=call.asked_at, deadline=call.asked_at + 30)


@pytest.fixture
def parts(database: None) -> Iterator[Container]:
    """A data service on PostgreSQL behind Redis."""
    with closing(on_repository(durable_repository())) as parts:
        yield parts


@pytest.fixture
def stored() -> Iterator[redis.Redis]:
    """All that these processes keep in Redis."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        yield client


def rows_with(direct: psycopg.Connection, chat_id: int) -> dict[str, list[Any]]:
    """The rows of any table in which the number occurs."""
    tables = direct.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").fetchall()
    found = {}
    for (table,) in tables:
        query = sql.SQL("SELECT to_jsonb(t) FROM {} AS t WHERE t::text LIKE %s").format(sql.Identifier(table))
        rows = [row for (row,) in direct.execute(query, [f"%{chat_id}%"])]
        if rows:
            found[table] = rows
    return found


def test_in_no_table_and_under_no_key_is_anything_left(
    parts: Container, direct: psycopg.Connection, stored: redis.Redis, chat_ids: list[int]
) -> None:
    chat_id, other = chat_ids[0], chat_ids[0] * 10  # whose number begins alike
    with closing(Outcomes(outcome_connections)) as outcomes:
        for chat in (chat_id, other):
            parts.chats.update(chat, changes=ChatChanges("Europe/Moscow", "ru"), call=soon())
            for number in range(20):
                call = Call(request_id=uuid4())
                parts.activities.create(chat, activity=activity(f"pill {number}"), call=call)
                parts.activities.get(chat, name=f"pill {number}", call=soon())
                outcomes.tell([(chat, call.request_id or uuid4(), activity(), "fingerprint")])
    keys = {chat: [key for key in stored.scan_iter(count=1000) if b":%d:" % chat in key] for chat in (chat_id, other)}
    assert {chat: len(each) for chat, each in keys.items()} == {chat_id: 40, other: 40}

    parts.chats.forget(chat_id, call=soon())

    left = rows_with(direct, chat_id)
    others = {table: [row for row in rows if row.get("chat_id") == other] for table, rows in left.items()}
    assert {table: len(rows) for table, rows in others.items()} == {
        "activities_chat": 1,
        "activities_activity": 20,
        "activities_handledrequest": 20,
    }
    (row,) = [row for table, rows in left.items() for row in rows if row not in others[table]]
    assert row.keys() == {"chat_id", "timezone", "language", "tokens_valid_after", "forgotten_at"}
    assert (row["chat_id"], row["timezone"], row["language"]) == (chat_id, "UTC", "en")
    assert [key for key in stored.scan_iter(count=1000) if b":%d:" % chat_id in key] == []
    assert set(keys[other]) <= set(stored.scan_iter(count=1000))


def test_the_name_of_an_activity_is_nowhere_any_more(
    parts: Container, direct: psycopg.Connection, stored: redis.Redis, chat_id: int
) -> None:
    number = uuid4().hex
    name = f"Метотрексат {number}"  # shown as written, found by its key
    create, update = Call(request_id=uuid4()), Call(request_id=uuid4())
    parts.activities.create(chat_id, activity=activity(name), call=create)
    parts.activities.update(chat_id, name=name, changes=ActivityChanges(times_per_day=3), call=update)
    again = Create(chat_id=chat_id, activity=activity(name), delivery_id=uuid4(), accepted_at=NOON)
    parts.activities.apply([again], call=soon())
    found = parts.activities.get(chat_id, name=name, call=soon())
    with closing(Outcomes(outcome_connections)) as outcomes:
        for outcome in (found, ActivityNotFound(name=f"{name} too")):
            outcomes.tell([(chat_id, uuid4(), outcome, "fingerprint")])
    where = traces(direct, stored, number)
    assert len(where) == 5
    assert {"activities_activity", "activities_handledrequest"} < set(where)

    parts.chats.forget(chat_id, call=soon())

    assert [traces(direct, stored, text) for text in (number, name, name_key(name))] == [[], [], []]


def test_a_redis_that_is_away_does_not_keep_a_chat_from_being_forgotten(
    caplog: pytest.LogCaptureFixture, chat_id: int
) -> None:
    def connections() -> redis.ConnectionPool:
        return redis.ConnectionPool(host="127.0.0.1", port=1)

    erase(connections, chat_id)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_readers_do_not_bring_back_what_was_forgotten(parts: Container, chat_id: int) -> None:
    """Nor does the cache serve it."""
    for _ in range(20):
        parts.activities.create(chat_id, activity=activity(), call=Call())
        with ThreadPoolExecutor(4) as threads:
            reads = [threads.submit(_found, parts, chat_id) for _ in range(12)]
            parts.chats.forget(chat_id, call=soon())
            assert not _found(parts, chat_id)
            for each in reads:
                each.result()
        assert not _found(parts, chat_id)


def _found(parts: Container, chat_id: int) -> bool:
    try:
        parts.activities.get(chat_id, name="vitamin C", call=soon())
    except ActivityNotFound:
        return False
    return True


class Late:
    """A store that does what it is asked and says that it did not answer in time."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def forget(self, chat_id: int, **more: Any) -> Any:
        self._inner.forget(chat_id, **more)
        raise StorageTimeout

    def move(self, chat_id: int, **more: Any) -> Any:
        self._inner.move(chat_id, **more)
        raise StorageTimeout


@pytest.mark.parametrize("how", ["forget", "move"])
def test_what_may_have_been_done_is_not_served_from_the_cache(
    database: None, chat_ids: list[int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_id, other, *_ = chat_ids
    repository: Any = durable_repository()
    monkeypatch.setattr(repository, "_inner", Late(repository._inner))
    with closing(on_repository(repository)) as parts:
        parts.activities.create(chat_id, activity=activity(), call=soon())
        assert _found(parts, chat_id)
        more = {"to_chat_id": other} if how == "move" else {}
        with pytest.raises(StorageTimeout):
            getattr(parts.chats, how)(chat_id, call=soon(), **more)
        assert not _found(parts, chat_id)


class Meanwhile:
    """A store in which something is created and read just before a chat is left."""

    def __init__(self, inner: Repository, chat_id: int) -> None:
        self._inner = inner
        self._chat_id = chat_id
        self.read: Callable[[], object] = list

    def __getattr__(self, name: str) -> Any:
        if name in ("forget", "move"):
            create = Create(chat_id=self._chat_id, activity=activity())
            self._inner.apply([create], now=NOON, call=soon())
            self.read()
        return getattr(self._inner, name)


@pytest.mark.parametrize("how", ["forget", "move"])
def test_what_was_created_and_read_meanwhile_is_not_served_from_the_cache(
    database: None, chat_ids: list[int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_id, other, *_ = chat_ids
    repository: Any = durable_repository()
    meanwhile = Meanwhile(repository._inner, chat_id)
    monkeypatch.setattr(repository, "_inner", meanwhile)
    with closing(on_repository(repository)) as parts:
        meanwhile.read = lambda: parts.activities.get(chat_id, name="vitamin C", call=soon())
        more = {"to_chat_id": other} if how == "move" else {}
        getattr(parts.chats, how)(chat_id, call=soon(), **more)
        assert not _found(parts, chat_id)


def test_a_change_that_is_under_way_while_its_chat_moves_is_not_lost(
    database: None, direct: psycopg.Connection, chat_ids: list[int]
) -> None:
    """The same activity is in both chats until one is changed."""
    old, new, *_ = chat_ids
    with closing(PostgresRepository()) as store, ThreadPoolExecutor(1) as thread:
        store.apply([Create(chat_id=each, activity=activity()) for each in (old, new)], now=NOON, call=soon())
        with direct.transaction():
            direct.execute("UPDATE activities_activity SET times_per_day = 9 WHERE chat_id = %s", [old])
            move = thread.submit(store.move, old, to_chat_id=new, now=NOON, call=soon())
            waiting = "SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            eventually(lambda: direct.execute(waiting, [direct.info.backend_pid]).rowcount == 1)
        move.result()
        assert _all(store, new) == [activity(), activity("vitamin C (2)", times_per_day=9)]


# ------------------------------------------------------------------------------ what was on its way


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[Repository]:
    if request.param == "memory":
        yield MemoryRepository()
        return
    request.getfixturevalue("database")
    with closing(PostgresRepository()) as store:
        yield store


def queued(chat_id: int, after: timedelta, id_of: Any = uuid4) -> list[Command]:
    """One command of each kind, accepted so long after noon."""
    origin: dict[str, Any] = {"chat_id": chat_id, "accepted_at": NOON + after}
    return [
        Create(activity=activity("new"), request_id=id_of(), delivery_id=id_of(), **origin),
        Update(name="new", changes=ActivityChanges(times_per_day=9), delivery_id=id_of(), **origin),
        Delete(name="new", request_id=id_of(), delivery_id=id_of(), **origin),
    ]


@pytest.mark.parametrize("leave", ["forget", "move"])
def test_a_command_that_was_accepted_before_has_no_effect(store: Repository, chat_ids: list[int], leave: str) -> None:
    chat_id, elsewhere, untouched, *_ = chat_ids
    if leave == "forget":
        store.forget(chat_id, now=NOON, call=soon())
    else:
        store.move(chat_id, to_chat_id=elsewhere, now=NOON, call=soon())
    before, after = queued(chat_id, -MOMENT), queued(chat_id, timedelta())
    for command in before:
        assert list(store.apply([command], now=NOON, call=soon())) == [ActivityNotFound(name="new")]
    assert list(store.apply(before, now=NOON, call=soon())) == [ActivityNotFound(name="new")] * 3
    others = store.apply([*queued(untouched, -MOMENT)[:1], *queued(elsewhere, -MOMENT)[:1]], now=NOON, call=soon())
    assert list(others) == [activity("new")] * 2
    assert list(store.apply(after, now=NOON, call=soon())) == [activity("new"), activity("new", times_per_day=9), None]


def test_what_is_sent_again_after_the_chat_was_forgotten_is_a_new_request(store: Repository, chat_id: int) -> None:
    same = uuid4()
    create = Create(chat_id=chat_id, activity=activity("new"), request_id=same, accepted_at=NOON)
    assert list(store.apply([create], now=NOON, call=soon())) == [activity("new")]
    store.forget(chat_id, now=NOON + MOMENT, call=soon())
    assert list(store.apply([create], now=NOON, call=soon())) == [ActivityNotFound(name="new")]
    again = Create(chat_id=chat_id, activity=activity("new"), request_id=same, accepted_at=NOON + 2 * MOMENT)
    assert list(store.apply([again], now=NOON, call=soon())) == [activity("new")]


def test_nothing_is_remembered_of_a_command_that_came_too_late(
    database: None, direct: psycopg.Connection, chat_id: int
) -> None:
    with closing(PostgresRepository()) as store:
        store.forget(chat_id, now=NOON, call=soon())
        store.apply(queued(chat_id, -MOMENT), now=NOON, call=soon())
    assert rows_with(direct, chat_id).keys() == {"activities_chat"}


@pytest.mark.parametrize(
    ("headers", "timestamp", "known"),
    [
        ([], 5, 5),
        ([(ACCEPTED_AT, b"3")], 5, 3),
        ([(ACCEPTED_AT, b"7")], 5, 5),
        ([(ACCEPTED_AT, b"7")], -1, 7),
        ([(ACCEPTED_AT, b"4"), (ACCEPTED_AT, b"3")], 5, 3),
        *(([(ACCEPTED_AT, wrong)], 5, 5) for wrong in (None, b"", b"-1", b"x", b"9" * 5000, "١".encode())),
    ],
)
def test_what_is_sent_again_was_accepted_when_it_was_sent_first(headers: Any, timestamp: int, known: int) -> None:
    assert accepted(headers, timestamp) == known


@pytest.mark.parametrize(
    ("timestamp", "accepted_at"),
    [
        (int(NOON.timestamp()) * 1000 + 250, NOON + timedelta(milliseconds=250)),
        (0, NOON - timedelta(seconds=NOON.timestamp())),
        (-1, None),
        (2**63 - 1, None),
    ],
)
def test_a_command_was_accepted_when_its_record_says(timestamp: int, accepted_at: Any) -> None:
    value = pb.ActivityDeleteRequest(chat_id=1, name="pill").SerializeToString()
    command = read(Position(DELETE, 0, 0), value, [], timestamp).command
    assert isinstance(command, Delete)
    assert command.accepted_at == accepted_at


# --------------------------------------------------------------------------------- many at a time


def test_creates_deletes_moves_and_forgetting_at_once_leave_no_half(database: None, chat_ids: list[int]) -> None:
    """And no two wait for one another until one is refused."""
    with closing(PostgresRepository()) as store, ThreadPoolExecutor(8) as threads:

        def act(number: int) -> None:
            chat_id, to_chat_id = chat_ids[number % 3], chat_ids[(number + 1) % 3]
            match number % 4:
                case 0:
                    store.move(chat_id, to_chat_id=to_chat_id, now=NOON, call=soon())
                case 1:
                    store.forget(chat_id, now=NOON, call=soon())
                case _:
                    commands: list[Command] = [
                        Create(chat_id=each, activity=activity(f"pill {number % 7}"), request_id=UUID(int=number))
                        for each in chat_ids[:3]
                    ]
                    store.apply([*commands, Delete(chat_id=chat_id, name="pill 3")], now=NOON, call=soon())
                    store.apply([Delete(chat_id=chat_id, name="pill 2")], now=NOON, call=soon())

        for each in [threads.submit(act, number) for number in range(200)]:
            each.result()
        for chat_id in chat_ids[:3]:
            names = [each.name for each in _all(store, chat_id)]
            assert len(set(names)) == len(names)


def _all(store: Repository, chat_id: int) -> list[Activity]:
    return list(store.batch(chat_id, order=read_order("name"), after=None, size=10_000, call=soon()))
