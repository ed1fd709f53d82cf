"""What the database has to decide when several come at once, and what it keeps of requests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from activities.domain import Activity, ActivityExists, Create, Delete, Outcome, TooManyActivities
from activities.ports import RECORD_LIFETIME, Call
from activities.repositories.postgres import DROP_EVERY, PostgresRepository
from tests.examples import NOON, activity

MOST = 5


@pytest.fixture
def store(database: None) -> Iterator[PostgresRepository]:
    store = PostgresRepository(max_activities=MOST)
    yield store
    store.close()


def soon() -> Call:
    call = Call()
    return Call(asked_at=call.asked_at, deadline=call.asked_at + 30)


def create(store: PostgresRepository, chat_id: int, name: str, request_id: UUID | None = None) -> Outcome:
    command = Create(chat_id=chat_id, activity=activity(name), request_id=request_id)
    (outcome,) = store.apply([command], now=NOON, call=soon())
    return outcome


def test_no_two_creates_take_a_chats_last_place(store: PostgresRepository, chat_id: int) -> None:
    with ThreadPoolExecutor(8) as callers:
        outcomes = list(
            callers.map(
                lambda number: create(store, chat_id, f"pill {number}", uuid4() if number % 2 else None), range(24)
            )
        )
    assert sum(isinstance(each, Activity) for each in outcomes) == MOST
    assert sum(isinstance(each, TooManyActivities) for each in outcomes) == 24 - MOST


def test_of_many_creates_of_one_name_one_is_done_and_the_others_are_told_so(
    store: PostgresRepository, chat_id: int
) -> None:
    with ThreadPoolExecutor(8) as callers:
        for number in range(MOST):
            names = [f"pill {number}", f"PILL {number}"] * 4
            outcomes = list(callers.map(lambda name: create(store, chat_id, name), names))
            (done,) = [each for each in outcomes if isinstance(each, Activity)]
            assert [each for each in outcomes if each is not done] == [ActivityExists(name=done.name)] * 7


def test_creates_and_deletes_of_one_name_at_once_never_find_a_chat_full(
    store: PostgresRepository, chat_id: int
) -> None:
    for number in range(MOST - 1):
        create(store, chat_id, f"other {number}")

    def both(_: int) -> list[Outcome]:
        return [
            create(store, chat_id, "pill"),
            *store.apply([Delete(chat_id=chat_id, name="pill")], now=NOON, call=soon()),
        ]

    with ThreadPoolExecutor(8) as callers:
        for created, _ in callers.map(both, range(200)):
            assert created in (activity("pill"), ActivityExists(name="pill"))


def test_the_answer_to_a_request_id_is_kept_for_24_hours_and_then_not_at_all(
    store: PostgresRepository, chat_id: int, direct: psycopg.Connection
) -> None:
    request_id = uuid4()
    assert create(store, chat_id, "pill", request_id) == activity("pill")

    def repeated(later: timedelta) -> Outcome:
        command = Create(chat_id=chat_id, activity=activity("pill"), request_id=request_id)
        (outcome,) = store.apply([command], now=NOON + later, call=soon())
        return outcome

    assert repeated(RECORD_LIFETIME - timedelta(seconds=1)) == activity("pill")
    assert repeated(RECORD_LIFETIME) == ActivityExists(name="pill")


def test_records_that_no_longer_count_are_dropped_as_new_ones_come(
    store: PostgresRepository, chat_id: int, direct: psycopg.Connection
) -> None:
    first = NOON - timedelta(days=365)  # before those of other tests
    for day in (0, 1):
        commands = [Delete(chat_id=chat_id, name="none", request_id=uuid4()) for _ in range(DROP_EVERY)]
        store.apply(commands, now=first + timedelta(days=day), call=soon())
    ages = direct.execute(
        "SELECT handled_at, count(*) FROM activities_handledrequest WHERE chat_id = %s GROUP BY 1", [chat_id]
    )
    assert ages.fetchall() == [(first + timedelta(days=1), DROP_EVERY)]
