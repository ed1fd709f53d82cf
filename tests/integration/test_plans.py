"""How PostgreSQL finds things among a million."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from activities.domain import (
    LATEST_END_FIRST,
    ActivityChanges,
    ActivityPage,
    Command,
    Create,
    Delete,
    Order,
    Page,
    Update,
)
from activities.ports import Call, Repository
from activities.repositories.database import Database, Statement, Transaction
from activities.repositories.postgres import PostgresRepository
from activities.service import STREAM_BATCH
from tests.examples import NOON, activity
from tests.faults.conftest import known_as
from tests.faults.product import manage
from tests.integration.conftest import empty_database

CHATS = 10_000
EACH = 100
CHAT = CHATS // 2
LIFETIME = timedelta(days=90)


@pytest.fixture(scope="module")
def million() -> Iterator[dict[str, str]]:
    """The environment of a database with so many activities of each of so many chats."""
    with empty_database() as environment:
        manage(environment, "migrate", "--verbosity=0")
        with psycopg.connect(environment["DATABASE_DIRECT_URL"], autocommit=True) as direct:
            direct.execute("SET synchronous_commit = off")
            direct.execute(f"INSERT INTO activities_chat (chat_id) SELECT generate_series(1, {CHATS})")
            direct.execute(
                f"""
                INSERT INTO activities_activity
                    (chat_id, name, key, begin_date, end_date, times_per_day, quantity_per_time)
                SELECT chat, 'pill ' || number, 'pill ' || number, date '2026-01-01' + number,
                       date '2026-01-01' + 3 * number, 1 + number % 100, 0.5
                FROM generate_series(1, {CHATS}) AS chat, generate_series(1, {EACH}) AS number"""
            )
            direct.execute(
                """
                INSERT INTO activities_handledrequest (chat_id, request_id, fingerprint, outcome, handled_at)
                SELECT number, gen_random_uuid(), '', 'null', now() FROM generate_series(1, 20000) AS number"""
            )
            direct.execute(
                f"""
                INSERT INTO activities_chat (chat_id, tokens_valid_after, forgotten_at)
                SELECT {CHATS} + number, {int(NOON.timestamp())} - 60 * number, timestamptz '2026-01-01'
                FROM generate_series(1, {CHATS}) AS number"""
            )
            direct.execute("VACUUM ANALYZE")
        yield environment


def _many() -> Iterator[Command]:
    for chat_id in range(CHAT + 10, CHAT + 110):
        yield Create(chat_id=chat_id, activity=activity("fresh"), request_id=uuid4(), delivery_id=uuid4())
        changes = ActivityChanges(times_per_day=7)
        yield Update(chat_id=chat_id, name="pill 8", changes=changes, delivery_id=uuid4())
        yield Delete(chat_id=chat_id, name="pill 9", request_id=uuid4(), delivery_id=uuid4())


QUERIES: dict[str, Callable[[Repository, Call], Any]] = {
    "get": lambda store, call: store.get(CHAT, name="pill 7", call=call),
    "list": lambda store, call: store.page(CHAT, page=Page(), call=call),
    "list, last page": lambda store, call: store.page(CHAT, page=Page(offset=EACH - 10), call=call),
    "today": lambda store, call: store.today(CHAT, now=NOON, page=Page(), call=call),
    "chat": lambda store, call: store.chat(CHAT, call=call),
    "create": lambda store, call: store.apply(
        [Create(chat_id=CHAT, activity=activity("fresh"), request_id=uuid4())], now=NOON, call=call
    ),
    "update": lambda store, call: store.apply(
        [Update(chat_id=CHAT, name="pill 8", changes=ActivityChanges(times_per_day=7))], now=NOON, call=call
    ),
    "delete": lambda store, call: store.apply([Delete(chat_id=CHAT, name="fresh")], now=NOON, call=call),
    "forget": lambda store, call: store.forget(CHAT, now=NOON + LIFETIME, call=call),
    "purge": lambda store, call: store.purge(now=NOON + LIFETIME, call=call),
    "many": lambda store, call: store.apply(list(_many()), now=NOON, call=call),
} | {
    f"stream by {order}": lambda store, call, order=order: store.batch(
        CHAT, order=order, after=activity("pill 50", end_date=date(2026, 8, 1)), size=STREAM_BATCH, call=call
    )
    for order in (LATEST_END_FIRST, Order("name"), Order("begin_date"), Order("quantity_per_time", True))
}


@pytest.mark.parametrize("query", QUERIES)
def test_nothing_is_looked_for_row_by_row(query: str, million: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Statement] = []
    ask = Transaction.ask

    def asking(self: Transaction, *statements: Statement, last: bool = False) -> Sequence[Any]:
        asked.extend(statements)
        return ask(self, *statements, last=last)

    monkeypatch.setattr(Transaction, "ask", asking)
    store = PostgresRepository(database=Database(alias=known_as("million", million["DATABASE_URL"])))
    QUERIES[query](store, Call(deadline=Call().asked_at + 60))
    store.close()
    assert asked
    with psycopg.connect(million["DATABASE_DIRECT_URL"], cursor_factory=psycopg.ClientCursor) as direct:
        for text, parameters in asked:
            rows = direct.execute(f"EXPLAIN (COSTS OFF) {text}".encode(), parameters or None).fetchall()
            plan = "\n".join(line for (line,) in rows)
            assert "Seq Scan" not in plan, plan
            assert "Index" in plan or "Insert on" in plan or "advisory_xact_lock" in text, plan


def test_a_page_in_the_usual_order_is_read_from_an_index_in_that_order(million: dict[str, str]) -> None:
    store = PostgresRepository(database=Database(alias=known_as("million", million["DATABASE_URL"])))
    page: ActivityPage = store.page(CHAT + 1, page=Page(limit=3), call=Call(deadline=Call().asked_at + 60))
    store.close()
    assert [each.name for each in page.activities] == ["pill 100", "pill 99", "pill 98"]
    assert page.total == EACH
    with psycopg.connect(million["DATABASE_DIRECT_URL"]) as direct:
        rows = direct.execute(
            "EXPLAIN (COSTS OFF) SELECT name FROM activities_activity WHERE chat_id = 77 "
            "ORDER BY end_date DESC, key ASC LIMIT 50"
        ).fetchall()
    assert not [line for (line,) in rows if "Sort" in line]
