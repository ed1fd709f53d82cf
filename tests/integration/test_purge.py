"""That nothing is kept longer than it counts, and nothing that counts goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import settings as searching
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from activities import container
from activities.access import Access
from activities.domain import (
    Chat,
    ChatChanges,
    Command,
    Create,
    Delete,
    NotAuthenticated,
    StorageUnavailable,
    read_order,
)
from activities.ports import Call, Repository
from activities.repositories.commands import PURGE_BATCH
from activities.repositories.database import Statement, Transaction
from activities.repositories.memory import MemoryRepository
from activities.repositories.postgres import PostgresRepository
from tests.examples import NOON, activity
from tests.faults.product import manage
from tests.faults.services import eventually
from tests.integration.conftest import empty_database
from tests.integration.test_forget import queued, soon

MOMENT = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
LIFETIME = 90 * DAY
QUEUE = 9 * DAY
MAKERS: dict[str, Callable[..., Repository]] = {"memory": MemoryRepository, "postgres": PostgresRepository}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Repository]]:
    """Makes a store."""
    if request.param == "postgres":
        request.getfixturevalue("database")
    made: list[Repository] = []

    def make(**arguments: Any) -> Repository:
        made.append(MAKERS[request.param](**arguments))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[..., Repository]) -> Repository:
    return make()


def forget(store: Repository, chat_id: int, *, now: datetime = NOON) -> None:
    store.forget(chat_id, now=now, call=soon())


def purge(store: Repository, now: datetime) -> None:
    while store.purge(now=now, call=soon()):
        pass


def known(store: Repository, chat_id: int) -> Chat:
    return store.chat(chat_id, call=soon())


def names(store: Repository, chat_id: int) -> list[str]:
    found = store.batch(chat_id, order=read_order("name"), after=None, size=100, call=soon())
    return [each.name for each in found]


def had_effect(store: Repository, chat_id: int, after: timedelta = -MOMENT) -> bool:
    """Whether a create has one that was accepted so long after noon."""
    create = queued(chat_id, after)[0]
    return list(store.apply([create], now=NOON, call=soon())) == [activity("new")]


# ------------------------------------------------------------------------------------------- what goes


def test_nothing_of_a_chat_is_left_once_the_last_of_its_tokens_has_ended(store: Repository, chat_id: int) -> None:
    forget(store, chat_id)
    purge(store, NOON + SECOND + LIFETIME - MOMENT)
    assert known(store, chat_id) == Chat(chat_id, tokens_valid_after=int(NOON.timestamp()) + 1)
    purge(store, NOON + SECOND + LIFETIME)
    assert known(store, chat_id) == Chat(chat_id)


def test_its_row_is_gone(database: None, direct: psycopg.Connection, chat_ids: list[int]) -> None:
    chat_id, living, *_ = chat_ids
    rows = "SELECT chat_id FROM activities_chat WHERE chat_id = ANY(%s)"
    with closing(PostgresRepository()) as store:
        store.update_chat(living, changes=ChatChanges(), call=soon())
        forget(store, chat_id)
        assert len(direct.execute(rows, [chat_ids]).fetchall()) == 2
        purge(store, NOON + SECOND + LIFETIME)
    assert direct.execute(rows, [chat_ids]).fetchall() == [(living,)]


def test_as_long_as_a_command_may_come_that_was_accepted_before_it_is_known(
    make: Callable[..., Repository], chat_id: int
) -> None:
    store = make(token_lifetime=DAY)
    forget(store, chat_id)
    purge(store, NOON + QUEUE)
    assert not had_effect(store, chat_id)
    purge(store, NOON + QUEUE + SECOND)
    assert had_effect(store, chat_id)


@pytest.mark.parametrize(
    "use",
    [
        lambda store, chat_id: store.update_chat(chat_id, changes=ChatChanges(timezone="Europe/Moscow"), call=soon()),
        lambda store, chat_id: store.update_chat(chat_id, changes=ChatChanges(language="ru"), call=soon()),
        lambda store, chat_id: store.apply([Create(chat_id=chat_id, activity=activity())], now=NOON, call=soon()),
        lambda store, chat_id: store.apply(queued(chat_id, timedelta())[:1], now=NOON, call=soon()),
    ],
)
def test_a_chat_that_is_used_again_stays_and_its_past_is_over(
    store: Repository, chat_id: int, use: Callable[[Repository, int], object]
) -> None:
    forget(store, chat_id)
    use(store, chat_id)
    before = known(store, chat_id), names(store, chat_id)
    purge(store, NOON + SECOND + LIFETIME)
    assert (known(store, chat_id), names(store, chat_id)) == before
    purge(store, NOON + 2 * LIFETIME)  # also when it is looked at once more
    assert (known(store, chat_id), names(store, chat_id)) == before
    store.apply([Delete(chat_id=chat_id, name="new")], now=NOON, call=soon())
    assert had_effect(store, chat_id)


def test_a_revocation_since_then_is_kept_as_long_as_it_counts(store: Repository, chat_id: int) -> None:
    forget(store, chat_id)
    revoked = store.revoke_tokens(chat_id, now=NOON + 30 * DAY, call=soon())
    purge(store, NOON + SECOND + 30 * DAY + LIFETIME - MOMENT)
    assert known(store, chat_id) == revoked
    assert not had_effect(store, chat_id)
    purge(store, NOON + SECOND + 30 * DAY + LIFETIME)
    assert known(store, chat_id) == Chat(chat_id)


def test_a_chat_that_was_left_for_another_goes_too(store: Repository, chat_ids: list[int]) -> None:
    old, new, *_ = chat_ids
    store.apply([Create(chat_id=old, activity=activity())], now=NOON, call=soon())
    store.move(old, to_chat_id=new, now=NOON, call=soon())
    purge(store, NOON + SECOND + LIFETIME)
    assert known(store, old) == Chat(old)
    assert names(store, new) == ["vitamin C"]


def test_who_was_never_forgotten_is_left_alone(store: Repository, chat_id: int) -> None:
    store.revoke_tokens(chat_id, now=NOON, call=soon())
    before = known(store, chat_id)
    purge(store, NOON + 10 * LIFETIME)
    assert known(store, chat_id) == before


def test_every_forgetting_purges_a_batch(store: Repository, chat_ids: list[int]) -> None:
    first, second, *_ = chat_ids
    purge(store, NOON + SECOND + LIFETIME)
    forget(store, first)
    forget(store, second, now=NOON + SECOND + LIFETIME)
    assert known(store, first) == Chat(first)
    assert known(store, second).tokens_valid_after > 0


def test_many_go_a_batch_an_access(store: Repository) -> None:
    now = NOON + SECOND + LIFETIME
    purge(store, now)
    for each in range(PURGE_BATCH + 1):
        forget(store, 7_654_000_000 + each)
    assert [store.purge(now=now, call=soon()) for _ in range(2)] == [True, False]

    def is_gone(chat_id: int) -> bool:
        store.purge(now=now, call=soon())  # it waits for nobody, and leaves what is in use at the moment
        return known(store, chat_id).tokens_valid_after == 0

    for each in range(PURGE_BATCH + 1):
        eventually(partial(is_gone, 7_654_000_000 + each))


def test_answers_to_requests_go_though_nobody_writes_any_more(
    database: None, direct: psycopg.Connection, chat_id: int
) -> None:
    query = "SELECT count(*) FROM activities_handledrequest WHERE chat_id = %s"
    with closing(PostgresRepository()) as store:
        purge(store, NOON)
        for age in (DAY, DAY - MOMENT):
            commands = [
                Create(chat_id=chat_id, activity=activity(f"pill {each}"), request_id=uuid4())
                for each in range(PURGE_BATCH)
            ]
            store.apply(commands, now=NOON - age, call=soon())
        assert [store.purge(now=NOON, call=soon()) for _ in range(2)] == [True, False]
    assert direct.execute(query, [chat_id]).fetchone() == (PURGE_BATCH,)


# -------------------------------------------------------------------------------- what is under way


def blocks(direct: psycopg.Connection, pid: int) -> Callable[[], bool]:
    """Tells whether somebody waits for the server's process."""
    waiting = "SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    return lambda: direct.execute(waiting, [pid]).rowcount == 1


@pytest.mark.parametrize(
    "held",
    [
        "SELECT pg_advisory_xact_lock(hashtextextended('activities.chat', %s))",
        "SELECT FROM activities_chat WHERE chat_id = %s FOR UPDATE",
        "SELECT FROM activities_chat WHERE chat_id = %s FOR KEY SHARE",
    ],
)
def test_a_purge_waits_for_nobody(database: None, direct: psycopg.Connection, chat_ids: list[int], held: str) -> None:
    """Nor does who forgets another chat meanwhile."""
    busy, old, new, *_ = chat_ids
    now = NOON + SECOND + LIFETIME
    with closing(PostgresRepository()) as store:
        for each in (busy, old):
            forget(store, each)
        with direct.transaction():
            direct.execute(held, [busy])
            forget(store, new, now=now)
            purge(store, now)
            assert known(store, old) == Chat(old)
            assert known(store, busy).tokens_valid_after > 0
        purge(store, now)
        assert known(store, busy) == Chat(busy)


@pytest.mark.parametrize("how", ["create", "settings", "revocation", "forget"])
def test_what_comes_while_a_chat_is_being_purged_waits_and_is_not_lost(
    database: None, direct: psycopg.Connection, chat_id: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what can go and its going."""
    use: dict[str, Callable[[], object]] = {
        "create": lambda: store.apply([Create(chat_id=chat_id, activity=activity())], now=NOON, call=soon()),
        "settings": lambda: store.update_chat(chat_id, changes=ChatChanges(language="ru"), call=soon()),
        "revocation": lambda: store.revoke_tokens(chat_id, now=NOON + LIFETIME, call=soon()),
        "forget": lambda: forget(store, chat_id, now=NOON + LIFETIME),
    }
    coming: list[Future[object]] = []
    ask = Transaction.ask

    def asking(self: Transaction, *statements: Statement, last: bool = False) -> Sequence[Any]:
        if last and not coming and any("DELETE FROM activities_chat" in text for text, _ in statements):
            (((pid,),),) = ask(self, ("SELECT pg_backend_pid()", []))
            coming.append(thread.submit(use[how]))
            eventually(blocks(direct, pid))
        return ask(self, *statements, last=last)

    with closing(PostgresRepository()) as store, ThreadPoolExecutor(1) as thread:
        purge(store, NOON + SECOND + LIFETIME)
        forget(store, chat_id)
        monkeypatch.setattr(Transaction, "ask", asking)
        purge(store, NOON + SECOND + LIFETIME)
        (came,) = coming
        came.result()
        chat = known(store, chat_id)
        assert names(store, chat_id) == (["vitamin C"] if how == "create" else [])
        assert chat.language == ("ru" if how == "settings" else "en")
        assert (chat.tokens_valid_after > 0) is (how in ("revocation", "forget"))


def test_all_of_it_at_once_fails_nobody_and_loses_nothing(database: None, chat_ids: list[int]) -> None:
    later = NOON + 2 * LIFETIME  # each time that it is forgotten again moves its revocation on by a second
    with closing(PostgresRepository()) as store, ThreadPoolExecutor(8) as threads:

        def act(number: int) -> None:
            chat_id = chat_ids[number % 2]
            match number % 5:
                case 0:
                    forget(store, chat_id)
                case 1:
                    store.update_chat(chat_id, changes=ChatChanges(language="ru"), call=soon())
                case 2:
                    create = Create(
                        chat_id=chat_ids[2], activity=activity(f"pill {number}"), request_id=UUID(int=number)
                    )
                    forget(store, chat_ids[3])
                    store.apply([create], now=NOON, call=soon())
                case _:
                    store.apply([Create(chat_id=chat_id, activity=activity(f"pill {number}"))], now=NOON, call=soon())
                    store.purge(now=later, call=soon())

        for each in [threads.submit(act, number) for number in range(300)]:
            each.result()
        assert len(names(store, chat_ids[2])) == 60
        for chat_id in chat_ids[:2]:
            forget(store, chat_id)
        purge(store, later)
        assert [known(store, chat_id) for chat_id in chat_ids[:2]] == [Chat(chat_id) for chat_id in chat_ids[:2]]


# ---------------------------------------------------------------------------------- by whom


def test_a_data_service_purges_when_it_starts() -> None:
    with empty_database() as environment:
        manage(environment, "migrate", "--verbosity=0")
        with psycopg.connect(environment["DATABASE_DIRECT_URL"], autocommit=True) as direct:
            direct.execute(
                "INSERT INTO activities_chat (chat_id, tokens_valid_after, forgotten_at) "
                "SELECT number, 1, to_timestamp(0) FROM generate_series(1, 250) AS number"
            )
            direct.execute("UPDATE activities_chat SET language = 'ru' WHERE chat_id = 7")
            started = "from activities.container import container; parts = container()"
            wait = "[each.join() for each in threading.enumerate() if each.name == 'purge']; parts.close()"
            manage(environment, "shell", "--no-imports", "-c", f"import threading; {started}; {wait}")
            assert direct.execute("SELECT chat_id FROM activities_chat").fetchall() == [(7,)]


def test_a_store_that_does_not_answer_keeps_no_service_from_starting() -> None:
    class Away(MemoryRepository):
        def purge(self, *, now: datetime, call: Call) -> bool:
            raise StorageUnavailable

    with closing(container.on_repository(Away())) as parts:
        container.purge_all(parts)


# ------------------------------------------------------------------------------ both stores alike

_ids = count(8_000_000)
LIVED = 10 * DAY


class Stores(RuleBasedStateMachine):
    """Drives the store in memory and the durable one through the same, and tokens that were issued meanwhile.

    A token opens its chat if it was issued after the last revocation and has not ended: whatever was purged. Some were
    issued when they lived longer.
    """

    durable: Repository

    def __init__(self) -> None:
        super().__init__()
        self.stores = [MemoryRepository(token_lifetime=LIVED), self.durable]
        self.chats = [next(_ids), next(_ids)]
        self.now = NOON
        self.tokens: dict[str, datetime] = {}
        self.revoked: dict[str, datetime] = {}
        self.owners: dict[str, int] = {}

    def both(self, ask: Callable[[Repository], object]) -> None:
        """One answer of both."""
        first, second = map(ask, self.stores)
        assert first == second

    def end(self, chat_id: int) -> None:
        for token in [each for each in self.tokens if self.owners[each] == chat_id]:
            self.revoked[token] = self.tokens.pop(token)

    @rule(chat=st.integers(0, 1), lifetime=st.sampled_from([LIVED, 10 * LIVED]))
    def issue(self, chat, lifetime):
        chat_id = self.chats[chat]
        valid_after = known(self.stores[0], chat_id).tokens_valid_after
        token = self.access(self.stores[0], lifetime).issue(chat_id, valid_after=valid_after)
        self.tokens[token], self.owners[token] = self.now + LIVED, chat_id

    @rule(chat=st.integers(0, 1))
    def revoke(self, chat):
        self.both(lambda store: store.revoke_tokens(self.chats[chat], now=self.now, call=soon()))
        self.end(self.chats[chat])

    @rule(chat=st.integers(0, 1))
    def forget(self, chat):
        self.both(lambda store: store.forget(self.chats[chat], now=self.now, call=soon()))
        self.end(self.chats[chat])

    @rule(chat=st.integers(0, 1))
    def move(self, chat):
        old, new = self.chats[chat], self.chats[1 - chat]
        self.both(lambda store: store.move(old, to_chat_id=new, now=self.now, call=soon()))
        self.end(old)

    @rule(chat=st.integers(0, 1), language=st.sampled_from(["en", "ru"]))
    def settle(self, chat, language):
        changes = ChatChanges(language=language)
        self.both(lambda store: store.update_chat(self.chats[chat], changes=changes, call=soon()))

    @rule(chat=st.integers(0, 1), deletes=st.booleans(), repeatable=st.booleans(), ago=st.none() | st.integers(0, 9))
    def write(self, chat, deletes, repeatable, ago):
        """`ago`: for how many days it has waited in the queue."""
        origin: dict[str, Any] = {
            "chat_id": self.chats[chat],
            "request_id": UUID(int=next(_ids)) if repeatable else None,
            "delivery_id": None if ago is None else UUID(int=next(_ids)),
            "accepted_at": None if ago is None else self.now - ago * DAY,
        }
        command: Command = Delete(name="vitamin C", **origin) if deletes else Create(activity=activity(), **origin)
        self.both(lambda store: list(store.apply([command], now=self.now, call=soon())))

    @rule()
    def purge(self):
        for store in self.stores:
            purge(store, self.now)

    @rule(passing=st.sampled_from([MOMENT, DAY, LIVED - SECOND, LIVED + SECOND]))
    def wait(self, passing):
        self.now += passing

    @rule(chat=st.integers(0, 1), passing=st.sampled_from([LIVED - SECOND, LIVED + SECOND]))
    def revoked_and_long_past(self, chat, passing):
        """What chance brings about too rarely."""
        self.issue(chat, 10 * LIVED)
        self.forget(chat)
        self.now += passing
        self.purge()

    @invariant()
    def both_know_the_same(self):
        for chat_id in self.chats:
            for look in (known, names):
                self.both(partial(look, chat_id=chat_id))

    @precondition(lambda self: self.owners)
    @invariant()
    def revoked_tokens_open_nothing_and_others_live_as_long_as_they_should(self):
        for store in self.stores:
            access = self.access(store)
            assert [token for token in self.revoked if opens(access, token)] == []
            living = [token for token, until in self.tokens.items() if self.now < until - SECOND]
            assert [token for token in living if not opens(access, token)] == []

    def access(self, store: Repository, lifetime: timedelta = LIVED) -> Access:
        return Access(
            keys=["key"],
            valid_after=lambda chat_id, call: known(store, chat_id).tokens_valid_after,
            lifetime=lifetime,
            clock=self.now.timestamp,
        )


def opens(access: Access, token: str) -> bool:
    try:
        access.principal(token, call=Call())
    except NotAuthenticated:
        return False
    return True


def test_both_stores_purge_alike_and_no_revoked_token_ever_lives_again(database: None) -> None:
    with closing(PostgresRepository(token_lifetime=LIVED)) as durable:
        machine = type("StoresHere", (Stores,), {"durable": durable})
        run_state_machine_as_test(machine, settings=searching(max_examples=60, stateful_step_count=40))
