"""Many commands in one access: PostgreSQL does what the store in memory does, command by command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from random import Random
from uuid import UUID

import psycopg
import pytest

from activities.domain import (
    LATEST_END_FIRST,
    Activity,
    ActivityChanges,
    ActivityNotFound,
    Command,
    Create,
    Delete,
    InvalidActivity,
    Outcome,
    TooManyActivities,
    Update,
)
from activities.ports import Call, Repository
from activities.repositories.memory import MemoryRepository
from activities.repositories.postgres import PostgresRepository
from tests.examples import NOON, activity

MOST = 4
NAMES = ("pill", "PILL", "drops", "Straße", "STRASSE", "tea", "run", "swim")


@pytest.fixture
def store(database: None) -> Iterator[PostgresRepository]:
    store = PostgresRepository(max_activities=MOST)
    yield store
    store.close()


def soon() -> Call:
    call = Call()
    return Call(asked_at=call.asked_at, deadline=call.asked_at + 30)


def apply(store: Repository, *commands: Command) -> Sequence[Outcome]:
    return store.apply(commands, now=NOON, call=soon())


def all_of(store: Repository, chat_id: int) -> Sequence[Activity]:
    return store.batch(chat_id, order=LATEST_END_FIRST, after=None, size=100, call=soon())


class Commands:
    """Random ones about few names of few chats, some of them again under an id that was used."""

    def __init__(self, seed: int, chats: Sequence[int]) -> None:
        self._random = Random(seed)
        self._chats = chats
        self._made: list[Command] = []

    def some(self) -> list[Command]:
        return [self._one() for _ in range(self._random.randint(1, 25))]

    def _one(self) -> Command:
        if self._made and self._random.random() < 0.15:
            return self._random.choice(self._made)
        chat_id, name = self._random.choice(self._chats), self._random.choice(NAMES)
        request_id, delivery_id = (self._id() if self._random.random() < share else None for share in (0.6, 0.7))
        number = self._random.randint(1, 28)
        match self._random.choice(("create", "create", "update", "delete")):
            case "create":
                made = activity(name, times_per_day=number, quantity_per_time=Decimal(number) / 8)
                command: Command = Create(
                    chat_id=chat_id, activity=made, request_id=request_id, delivery_id=delivery_id
                )
            case "update":
                changes = ActivityChanges(end_date=date(2026, 7, number), times_per_day=number)
                command = Update(
                    chat_id=chat_id, name=name, changes=changes, request_id=request_id, delivery_id=delivery_id
                )
            case _:
                command = Delete(chat_id=chat_id, name=name, request_id=request_id, delivery_id=delivery_id)
        self._made.append(command)
        return command

    def _id(self) -> UUID:
        # From few, so that ids are used for other requests and by other chats too.
        return UUID(int=self._random.randint(1, 40))


@pytest.mark.parametrize("seed", range(20))
def test_batches_end_as_in_memory(store: PostgresRepository, chat_ids: Sequence[int], seed: int) -> None:
    chats = chat_ids[:3]
    memory, commands = MemoryRepository(max_activities=MOST), Commands(seed, chats)
    for _ in range(10):
        batch = commands.some()
        assert apply(store, *batch) == apply(memory, *batch)
        for chat_id in chats:
            assert all_of(store, chat_id) == all_of(memory, chat_id)


def test_a_refusal_is_the_answer_to_this_delivery_alone(store: PostgresRepository, chat_id: int) -> None:
    apply(store, *(Create(chat_id=chat_id, activity=activity(f"other {number}")) for number in range(MOST)))

    def create(delivery: int) -> Create:
        return Create(
            chat_id=chat_id, activity=activity("pill"), request_id=UUID(int=3), delivery_id=UUID(int=delivery)
        )

    full = TooManyActivities(limit=str(MOST))
    assert apply(store, create(1)) == [full]
    apply(store, Delete(chat_id=chat_id, name="other 0"))
    assert apply(store, create(1)) == [full], "delivered again after its sender was told"
    assert apply(store, create(2)) == [activity("pill")], "sent again by its sender"
    assert apply(store, create(1)) == [activity("pill")]


def test_broken_rules_are_remembered_with_all_that_tells_them(store: PostgresRepository, chat_id: int) -> None:
    apply(store, Create(chat_id=chat_id, activity=activity("pill")))
    update = Update(
        chat_id=chat_id, name="pill", changes=ActivityChanges(begin_date=date(2999, 1, 1)), delivery_id=UUID(int=1)
    )
    (first,) = apply(store, update)
    assert isinstance(first, InvalidActivity)
    apply(store, Delete(chat_id=chat_id, name="pill"))
    assert apply(store, update) == [first]


def test_batches_and_single_writes_on_the_same_chats_wait_for_one_another(
    store: PostgresRepository, chat_ids: Sequence[int]
) -> None:
    """In whatever order they name the chats."""
    chats = chat_ids[:4]

    def many(number: int) -> Sequence[Outcome]:
        order = chats if number % 2 else chats[::-1]
        creates = [Create(chat_id=each, activity=activity("pill"), delivery_id=UUID(int=number + 1)) for each in order]
        deletes = [Delete(chat_id=each, name="pill", delivery_id=UUID(int=number + 10**6)) for each in order]
        return apply(store, *creates, *deletes)

    def single(number: int) -> Sequence[Outcome]:
        chat_id = chats[number % len(chats)]
        return [
            *apply(store, Create(chat_id=chat_id, activity=activity("drops"))),
            *apply(store, Delete(chat_id=chat_id, name="drops")),
        ]

    with ThreadPoolExecutor(8) as callers:
        batches = [callers.submit(many, number) for number in range(60)]
        singles = [callers.submit(single, number) for number in range(120)]
        for batch in batches:
            assert batch.result() == [activity("pill")] * 4 + [None] * 4
        for each in singles:
            assert all(
                outcome is None or isinstance(outcome, Activity | ActivityNotFound) or "already" in str(outcome)
                for outcome in each.result()
            )
    assert not any(all_of(store, each) for each in chats)


def test_a_chat_and_its_first_activity_appear_together_or_not_at_all(
    store: PostgresRepository, chat_ids: Sequence[int], direct: psycopg.Connection
) -> None:
    made, refused = chat_ids[:2]
    apply(
        store,
        Create(chat_id=made, activity=activity("pill"), delivery_id=UUID(int=1)),
        Delete(chat_id=refused, name="pill", delivery_id=UUID(int=2)),
    )
    known = direct.execute("SELECT chat_id FROM activities_chat WHERE chat_id = ANY(%s)", [[made, refused]])
    assert known.fetchall() == [(made,)]
