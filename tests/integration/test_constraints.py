"""What the database refuses from whoever writes to it, as the domain does."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql

from activities.container import durable_repository, on_repository
from activities.domain import StorageUnavailable
from activities.ports import Call
from tests.examples import activity

GOOD: dict[str, object] = {
    "name": "pill",
    "key": "pill",
    "begin_date": "2026-07-20",
    "end_date": "2026-07-30",
    "times_per_day": 2,
    "quantity_per_time": "0.5",
}

ACCEPTED: list[dict[str, object]] = [
    {},
    {"begin_date": "2000-01-01", "end_date": "2999-12-31"},
    {"begin_date": "2026-07-20", "end_date": "2026-07-20"},
    {"times_per_day": 1},
    {"times_per_day": 100},
    {"quantity_per_time": "0.001"},
    {"quantity_per_time": "1000000"},
    {"name": "x" * 120, "key": "x" * 360},
]
REFUSED: list[dict[str, object]] = [
    {"begin_date": "1999-12-31"},
    {"end_date": "3000-01-01"},
    {"begin_date": "2026-07-31"},
    {"times_per_day": 0},
    {"times_per_day": 101},
    {"times_per_day": -1},
    {"quantity_per_time": "0"},
    {"quantity_per_time": "-0.5"},
    {"quantity_per_time": "1000000.001"},
    {"quantity_per_time": "NaN"},
    {"name": ""},
    {"name": "x" * 121},
    {"name": "."},
    {"name": ".."},
    {"key": ""},
    {"key": "x" * 361},
    *[dict[str, object]({column: None}) for column in GOOD],
]


@pytest.fixture
def chat(direct: psycopg.Connection, chat_id: int) -> Iterator[int]:
    direct.execute("INSERT INTO activities_chat (chat_id) VALUES (%s)", [chat_id])
    yield chat_id
    direct.execute("DELETE FROM activities_activity WHERE chat_id = %s", [chat_id])


def insert(direct: psycopg.Connection, table: str, row: dict[str, object]) -> None:
    direct.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Literal, row.values())),
        )
    )


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_an_activity_that_keeps_the_rules_is_taken(
    changes: dict[str, object], direct: psycopg.Connection, chat: int
) -> None:
    insert(direct, "activities_activity", {"chat_id": chat, **GOOD, **changes})


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_an_activity_that_breaks_a_rule_is_refused(
    changes: dict[str, object], direct: psycopg.Connection, chat: int
) -> None:
    with pytest.raises((errors.CheckViolation, errors.NotNullViolation, errors.NumericValueOutOfRange)):
        insert(direct, "activities_activity", {"chat_id": chat, **GOOD, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"chat_id": 0},
        {"timezone": ""},
        {"language": "de"},
        {"tokens_valid_after": -1},
    ],
    ids=str,
)
def test_a_chat_that_breaks_a_rule_is_refused(
    changes: dict[str, object], direct: psycopg.Connection, chat_id: int
) -> None:
    with pytest.raises(errors.CheckViolation):
        insert(direct, "activities_chat", {"chat_id": chat_id, **changes})


def test_a_name_is_unique_in_its_chat_and_belongs_to_one(direct: psycopg.Connection, chat: int, chat_id: int) -> None:
    insert(direct, "activities_activity", {"chat_id": chat, **GOOD})
    with pytest.raises(errors.UniqueViolation):
        insert(direct, "activities_activity", {"chat_id": chat, **GOOD, "name": "PILL"})
    with pytest.raises(errors.ForeignKeyViolation):
        insert(direct, "activities_activity", {"chat_id": -chat, **GOOD})


def test_a_chat_and_its_first_activity_appear_together_or_not_at_all(direct: psycopg.Connection, chat_id: int) -> None:
    parts = on_repository(durable_repository())
    direct.execute(
        sql.SQL(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE 'no more' USING ERRCODE = 'disk_full'; END $$;
            CREATE TRIGGER refusing BEFORE INSERT ON activities_activity FOR EACH ROW WHEN (NEW.chat_id = {})
            EXECUTE FUNCTION refuse()"""
        ).format(sql.Literal(chat_id))
    )

    def seen() -> list[int]:
        """How many chats and activities are there."""
        return [
            count
            for table in ("activities_chat", "activities_activity")
            for (count,) in direct.execute(f"SELECT count(*) FROM {table} WHERE chat_id = {chat_id}")
        ]

    try:
        with pytest.raises(StorageUnavailable):
            parts.activities.create(chat_id, activity=activity(), call=Call())
        assert seen() == [0, 0]
    finally:
        direct.execute("DROP FUNCTION refuse() CASCADE")
    parts.activities.create(chat_id, activity=activity(), call=Call())
    assert seen() == [1, 1]
    parts.close()
