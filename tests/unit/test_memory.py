"""The store in memory keeps the promises of a real one while the process lives."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from activities.domain import (
    ORDERS,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    ChatChanges,
    Command,
    Create,
    Delete,
    InvalidActivity,
    Outcome,
    Page,
    RequestIdReused,
    TooManyActivities,
    Update,
    read_order,
)
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from tests.examples import NOON, activity

T = TypeVar("T")
DAY = timedelta(hours=24)


@pytest.fixture
def store() -> MemoryRepository:
    return MemoryRepository()


def apply(store: MemoryRepository, command: Command, now=NOON) -> Outcome:
    (outcome,) = store.apply([command], now=now, call=Call())
    return outcome


def create(name: str = "vitamin C", *, chat_id: int = 1, request_id: UUID | None = None, **fields: object) -> Create:
    return Create(chat_id=chat_id, activity=activity(name, **fields), request_id=request_id)


def everything(store: MemoryRepository, chat_id: int = 1) -> tuple[Activity, ...]:
    return store.page(chat_id, page=Page(limit=100_000, order=read_order("name")), call=Call()).activities


@pytest.fixture
def at_once() -> Iterator[Callable[[Sequence[Callable[[], T]]], list[T]]]:
    """Runs actions in as many threads, all let go at the same moment, which take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def run(actions: Sequence[Callable[[], T]]) -> list[T]:
        start = threading.Barrier(len(actions))

        def act(action: Callable[[], T]) -> T:
            start.wait(30)
            return action()

        with ThreadPoolExecutor(len(actions)) as threads:
            return list(threads.map(act, actions))

    yield run
    sys.setswitchinterval(interval)


# ------------------------------------------------------------------------------------ many at once


def test_of_64_threads_that_create_one_name_one_wins(store, at_once):
    spellings = ["Straße", "STRASSE", "strasse", "straße"]
    outcomes = at_once([lambda n=n: apply(store, create(spellings[n % 4], times_per_day=n + 1)) for n in range(64)])
    winners = [outcome for outcome in outcomes if isinstance(outcome, Activity)]
    assert len(winners) == 1
    assert outcomes.count(ActivityExists(name=winners[0].name)) == 63
    assert everything(store) == tuple(winners)


def test_of_64_concurrent_changes_of_different_fields_none_is_lost(store, at_once):
    for n in range(16):
        apply(store, create(f"pill {n}"))
    fields: list[dict[str, object]] = [
        {"begin_date": date(2026, 7, 1)},
        {"end_date": date(2026, 8, 31)},
        {"times_per_day": 7},
        {"quantity_per_time": Decimal("2.5")},
    ]
    at_once(
        [
            lambda n=n: apply(store, Update(chat_id=1, name=f"pill {n // 4}", changes=ActivityChanges(**fields[n % 4])))
            for n in range(64)
        ]
    )
    merged = fields[0] | fields[1] | fields[2] | fields[3]
    assert set(everything(store)) == {activity(f"pill {n}", **merged) for n in range(16)}


def test_nothing_happens_between_the_parts_of_a_change(store):
    apply(store, create())
    more = ActivityChanges(quantity_per_time=Decimal(7))

    class Interrupted(ActivityChanges):
        def applied_to(self, activity: Activity) -> Activity:
            other = threads.submit(apply, store, Update(chat_id=1, name="vitamin C", changes=more))
            with pytest.raises(TimeoutError):
                other.result(timeout=0.2)
            return super().applied_to(activity)

    with ThreadPoolExecutor(1) as threads:
        apply(store, Update(chat_id=1, name="vitamin C", changes=Interrupted(times_per_day=9)))
    assert everything(store) == (activity(times_per_day=9, quantity_per_time=Decimal(7)),)


def test_of_64_requests_with_one_id_one_takes_effect(store, at_once):
    request_id = uuid4()
    outcomes = at_once([lambda: apply(store, create(request_id=request_id))] * 64)
    assert outcomes == [activity()] * 64
    deletes = at_once([lambda: apply(store, Delete(chat_id=1, name="vitamin C", request_id=UUID(int=1)))] * 64)
    assert deletes == [None] * 64


def test_a_full_chat_stays_full_however_many_push(at_once):
    store = MemoryRepository(max_activities=10)
    outcomes = at_once([lambda n=n: apply(store, create(f"pill {n}")) for n in range(64)])
    assert sum(isinstance(outcome, Activity) for outcome in outcomes) == 10
    assert outcomes.count(TooManyActivities(limit="10")) == 54


# ------------------------------------------------------------------------------------------ limits


def test_the_limit_is_each_chats_own_and_room_comes_back():
    store = MemoryRepository(max_activities=1)
    assert isinstance(apply(store, create("a")), Activity)
    assert apply(store, create("b")) == TooManyActivities(limit="1")
    assert apply(store, create("A")) == ActivityExists(name="a")  # the better reason
    assert isinstance(apply(store, create("b", chat_id=2)), Activity)
    apply(store, Delete(chat_id=1, name="a"))
    assert isinstance(apply(store, create("b")), Activity)


def test_ten_thousand_activities_of_one_chat_are_read_in_batches_and_pages(store):
    commands = [create(f"pill {n:05}", times_per_day=n % 100 + 1) for n in range(10_000)]
    store.apply(commands, now=NOON, call=Call())
    assert apply(store, create("one more")) == TooManyActivities(limit="10000")
    order = read_order("-times_per_day")
    found: list[Activity] = []
    while batch := store.batch(1, order=order, after=found[-1] if found else None, size=200, call=Call()):
        assert len(batch) == 200
        found.extend(batch)
    expected = sorted((command.activity for command in commands), key=lambda each: (-each.times_per_day, each.key))
    assert found == expected
    page = store.page(1, page=Page(limit=500, offset=9_900, order=order), call=Call())
    assert (page.activities, page.total) == (tuple(expected[9_900:]), 10_000)


# -------------------------------------------------------------------------------------------- ties


def test_a_created_activity_keeps_its_first_spelling(store):
    apply(store, create("Café"))
    apply(store, Update(chat_id=1, name="CAFE\u0301", changes=ActivityChanges(times_per_day=9)))
    assert store.get(1, name="café", call=Call()) == activity("Café", times_per_day=9)


def test_commands_given_together_succeed_and_fail_each_for_itself(store):
    commands = [
        create("a"),
        create("A"),
        Update(chat_id=1, name="b", changes=ActivityChanges()),
        Update(chat_id=1, name="a", changes=ActivityChanges(end_date=date(2026, 7, 19))),
        create("a", chat_id=2),
        Delete(chat_id=1, name="a"),
        create("a", times_per_day=9),
    ]
    outcomes = store.apply(commands, now=NOON, call=Call())
    assert [outcome if outcome is None else type(outcome) for outcome in outcomes] == [
        Activity,
        ActivityExists,
        ActivityNotFound,
        InvalidActivity,
        Activity,
        None,
        Activity,
    ]
    assert everything(store) == (activity("a", times_per_day=9),)


def test_a_change_that_breaks_a_rule_changes_nothing(store):
    apply(store, create())
    changes = ActivityChanges(begin_date=date(2026, 8, 1), times_per_day=9)
    assert isinstance(apply(store, Update(chat_id=1, name="vitamin C", changes=changes)), InvalidActivity)
    assert everything(store) == (activity(),)


# ------------------------------------------------------------------------------------- request ids


def repeatable(kind: str, request_id: UUID) -> Command:
    if kind == "create":
        return create("x", request_id=request_id)
    if kind == "update":
        return Update(chat_id=1, name="x", changes=ActivityChanges(times_per_day=9), request_id=request_id)
    return Delete(chat_id=1, name="x", request_id=request_id)


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize("exists", [False, True])
def test_the_second_request_gets_the_answer_of_the_first_whatever_came_between(store, kind, exists):
    if exists:
        apply(store, create("x"))
    command = repeatable(kind, uuid4())
    first = apply(store, command)
    apply(store, Delete(chat_id=1, name="x"))
    assert apply(store, command) == first
    apply(store, create("x", times_per_day=50))
    assert apply(store, command) == first
    assert everything(store) == (activity("x", times_per_day=50),)


def test_an_id_that_came_with_another_request_is_refused_and_has_no_effect(store):
    request_id = uuid4()
    apply(store, create("x", request_id=request_id))
    others: list[Command] = [
        create("y", request_id=request_id),
        create("x", times_per_day=9, request_id=request_id),
        repeatable("update", request_id),
        repeatable("delete", request_id),
    ]
    for other in others:
        assert apply(store, other) == RequestIdReused()
    assert everything(store) == (activity("x"),)
    assert apply(store, create("x", request_id=request_id)) == activity("x")


def test_an_id_belongs_to_its_chat(store):
    request_id = uuid4()
    assert apply(store, create("x", request_id=request_id)) == activity("x")
    assert apply(store, create("y", chat_id=2, request_id=request_id)) == activity("y")
    assert everything(store, 2) == (activity("y"),)


def test_an_answer_is_kept_for_24_hours_and_no_longer(store):
    command = create("x", request_id=uuid4())
    apply(store, command)
    assert apply(store, command, now=NOON + DAY - timedelta(microseconds=1)) == activity("x")
    assert apply(store, command, now=NOON + DAY) == ActivityExists(name="x")


def test_answers_are_forgotten_one_by_one(store):
    old, young = create("x", request_id=uuid4()), create("y", request_id=uuid4())
    apply(store, old)
    apply(store, young, now=NOON + timedelta(hours=1))
    assert apply(store, young, now=NOON + DAY) == activity("y")
    assert apply(store, old, now=NOON + DAY) == ActivityExists(name="x")


def test_a_refusal_that_may_end_is_not_kept():
    store = MemoryRepository(max_activities=1)
    apply(store, create("x"))
    full = create("y", request_id=uuid4())
    assert apply(store, full) == TooManyActivities(limit="1")
    wrong = Update(chat_id=1, name="x", changes=ActivityChanges(begin_date=date(2026, 8, 1)), request_id=uuid4())
    assert isinstance(apply(store, wrong), InvalidActivity)
    apply(store, Update(chat_id=1, name="x", changes=ActivityChanges(end_date=date(2026, 9, 1))))
    assert apply(store, wrong) == activity("x", begin_date=date(2026, 8, 1), end_date=date(2026, 9, 1))
    apply(store, Delete(chat_id=1, name="x"))
    assert apply(store, full) == activity("y")


def test_a_kept_error_is_a_new_one_each_time_so_that_it_gathers_no_frames(store):
    apply(store, create("x"))
    command = create("x", request_id=uuid4())
    witnesses: list[weakref.ref[set]] = []

    def ask() -> None:
        witness: set = set()
        witnesses.append(weakref.ref(witness))
        answer = apply(store, command)
        assert isinstance(answer, ActivityExists)
        raise answer

    for _ in range(3):
        with suppress(ActivityExists):
            ask()
    gc.collect()
    assert [witness() for witness in witnesses] == [None] * 3


def test_without_an_id_every_request_counts(store):
    apply(store, create("x"))
    assert apply(store, Delete(chat_id=1, name="x")) is None
    assert apply(store, Delete(chat_id=1, name="x")) == ActivityNotFound(name="x")


# ---------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("order_text", ORDERS)
def test_what_does_not_change_between_batches_appears_exactly_once(store, order_text):
    dice = random.Random(order_text)
    order = read_order(order_text)

    def some(name: str) -> Activity:
        return activity(
            name,
            begin_date=date(2026, 7, dice.randint(1, 5)),
            end_date=date(2026, 8, dice.randint(1, 5)),
            times_per_day=dice.randint(1, 5),
            quantity_per_time=Decimal(dice.randint(1, 5)),
        )

    steady = [some(f"steady {n}") for n in range(100)]
    restless = [f"{dice.choice('az')}{n}" for n in range(60)]
    for each in [*steady, *map(some, restless[::2])]:
        apply(store, Create(chat_id=1, activity=each))
    found: list[Activity] = []
    after: Activity | None = None
    while batch := store.batch(1, order=order, after=after, size=7, call=Call()):
        assert len(batch) <= 7
        found.extend(batch)
        after = batch[-1]
        for name in dice.sample(restless, 20) + [after.name] * after.name.startswith(("a", "z")):
            either: list[Command] = [Create(chat_id=1, activity=some(name)), Delete(chat_id=1, name=name)]
            apply(store, dice.choice(either))
            changes = ActivityChanges(
                times_per_day=dice.randint(1, 5),
                quantity_per_time=Decimal(dice.randint(1, 5)),
                end_date=date(2026, 8, dice.randint(1, 5)),
            )
            apply(store, Update(chat_id=1, name=name, changes=changes))
    assert [each for each in found if each.name.startswith("steady")] == sorted(steady, key=order.sort_key)
    assert found == sorted(found, key=order.sort_key)


def test_a_batch_is_not_changed_by_what_comes_later(store):
    for n in range(3):
        apply(store, create(f"pill {n}"))
    batch = store.batch(1, order=read_order("name"), after=None, size=10, call=Call())
    apply(store, Delete(chat_id=1, name="pill 1"))
    assert [each.name for each in batch] == ["pill 0", "pill 1", "pill 2"]


# ------------------------------------------------------------------------------------------ chats


def test_an_unknown_chat_has_the_defaults_and_leaves_no_trace(store):
    chat = store.chat(5, call=Call())
    assert (chat.chat_id, chat.timezone, chat.language, chat.tokens_valid_after) == (5, "UTC", "en", 0)
    assert everything(store, 5) == ()


def test_chats_are_changed_each_for_itself(store):
    store.update_chat(1, changes=ChatChanges(timezone="Asia/Tokyo"), call=Call())
    store.update_chat(1, changes=ChatChanges(language="ru"), call=Call())
    assert (store.chat(1, call=Call()).timezone, store.chat(1, call=Call()).language) == ("Asia/Tokyo", "ru")
    assert store.chat(2, call=Call()).timezone == "UTC"


def test_today_is_the_chats_own_date(store):
    apply(store, create("begins tomorrow", begin_date=date(2026, 7, 21)))
    apply(store, create("ends today", end_date=date(2026, 7, 20)))

    def due(now) -> list[str]:
        page = store.today(1, now=now, page=Page(order=read_order("name")), call=Call())
        assert page.total == len(page.activities)
        return [each.name for each in page.activities]

    assert due(NOON) == ["ends today"]
    store.update_chat(1, changes=ChatChanges(timezone="Pacific/Kiritimati"), call=Call())  # UTC+14
    assert due(NOON) == ["begins tomorrow"]
