"""The use cases on a store: what they add to it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from uuid import uuid4

import pytest

from activities.domain import (
    LATEST_END_FIRST,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Create,
    Delete,
    Order,
    Page,
    read_order,
)
from activities.ports import Call, Cancelled
from activities.repositories.guarded import Guard, GuardedRepository
from activities.repositories.memory import MemoryRepository
from activities.service import STREAM_BATCH, ActivityService
from tests.examples import NOON, activity


class Watched(MemoryRepository):
    """Remembers the call of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Call] = []

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        self.batches.append(call)
        return super().batch(chat_id, order=order, after=after, size=size, call=call)


@pytest.fixture
def store() -> Watched:
    return Watched()


def service_on(store: MemoryRepository, *, slots: int = 10, clock=lambda: NOON) -> ActivityService:
    return ActivityService(GuardedRepository(store, Guard(slots=slots)), clock=clock)


def fill(service: ActivityService, count: int) -> None:
    outcomes = service.apply([Create(chat_id=1, activity=activity(f"pill {n:04}")) for n in range(count)], call=Call())
    assert all(isinstance(outcome, Activity) for outcome in outcomes)


def test_errors_are_raised_and_results_returned(store):
    service = service_on(store)
    assert service.create(1, activity=activity(), call=Call()) == activity()
    with pytest.raises(ActivityExists):
        service.create(1, activity=activity(), call=Call())
    changes = ActivityChanges(times_per_day=9)
    assert service.update(1, name="VITAMIN C", changes=changes, call=Call()) == activity(times_per_day=9)
    service.delete(1, name="vitamin c", call=Call())
    with pytest.raises(ActivityNotFound):
        service.get(1, name="vitamin C", call=Call())


def test_several_commands_give_their_errors_instead_of_raising_them(store):
    service = service_on(store)
    outcomes = service.apply([Delete(chat_id=1, name="x"), Create(chat_id=1, activity=activity())], call=Call())
    assert list(outcomes) == [ActivityNotFound(name="x"), activity()]


def test_an_update_without_fields_returns_the_activity_as_it_is(store):
    service = service_on(store)
    fill(service, 1)
    assert service.update(1, name="pill 0000", changes=ActivityChanges(), call=Call()) == activity("pill 0000")


def test_the_request_id_of_the_call_makes_a_write_safe_to_repeat(store):
    service = service_on(store)
    call = Call(request_id=uuid4())
    service.create(1, activity=activity(), call=call)
    service.delete(1, name="vitamin C", call=(delete := Call(request_id=uuid4())))
    service.delete(1, name="vitamin C", call=delete)
    assert service.create(1, activity=activity(), call=call) == activity()
    assert service.list(1, page=Page(), call=Call()).total == 0


def test_the_clock_that_was_passed_in_decides_what_is_due(store):
    days = [NOON]
    service = service_on(store, clock=lambda: days[-1])
    service.create(1, activity=activity(end_date=date(2026, 7, 20)), call=Call())
    assert service.today(1, page=Page(), call=Call()).total == 1
    days.append(NOON + timedelta(days=1))
    assert service.today(1, page=Page(), call=Call()).total == 0


# ---------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("count", [0, 1, STREAM_BATCH - 1, STREAM_BATCH, STREAM_BATCH + 1, 3 * STREAM_BATCH])
def test_a_stream_gives_everything_in_order(store, count):
    service = service_on(store)
    fill(service, count)
    names = [each.name for each in service.stream(1, order=read_order("-name"), call=Call())]
    assert names == [f"pill {n:04}" for n in reversed(range(count))]


def test_a_stream_reads_no_further_than_its_reader(store):
    service = service_on(store)
    fill(service, 3 * STREAM_BATCH)
    stream = service.stream(1, order=LATEST_END_FIRST, call=Call())
    assert store.batches == []
    for _ in range(STREAM_BATCH):
        next(stream)
    assert len(store.batches) == 1
    next(stream)
    assert len(store.batches) == 2
    stream.close()
    assert len(store.batches) == 2


def test_a_stream_holds_no_slot_between_batches(store):
    service = service_on(store, slots=1)
    fill(service, 2 * STREAM_BATCH)
    with closing(service.stream(1, order=LATEST_END_FIRST, call=Call())) as stream:
        next(stream)
        assert service.list(1, page=Page(), call=Call()).total == 2 * STREAM_BATCH


def test_a_stream_whose_reader_has_gone_reads_no_other_batch(store):
    service = service_on(store)
    fill(service, 3 * STREAM_BATCH)
    call = Call()
    stream = service.stream(1, order=LATEST_END_FIRST, call=call)
    next(stream)
    call.cancellation.cancel()
    with pytest.raises(Cancelled):
        list(stream)
    assert len(store.batches) == 1


def test_each_batch_has_the_whole_limit_and_the_callers_own_deadline(store):
    service = ActivityService(store, clock=lambda: NOON)
    fill(service, 2 * STREAM_BATCH)
    call = Call(asked_at=time.monotonic() - 1000, deadline=time.monotonic() + 1000, request_id=None)
    list(service.stream(1, order=LATEST_END_FIRST, call=call))
    first, *later = store.batches
    assert first.asked_at == call.asked_at
    assert all(each.asked_at > call.asked_at + 1000 for each in later)
    assert {each.deadline for each in store.batches} == {call.deadline} != {math.inf}
    assert all(each.cancellation is call.cancellation for each in store.batches)
