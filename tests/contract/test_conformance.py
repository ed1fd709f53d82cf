"""What every implementation of the ports `Activities` and `Chats` promises, whatever lies between it and the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from typing import TypeVar
from uuid import uuid4

import pytest

from activities.domain import (
    LATEST_END_FIRST,
    ORDERS,
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Chat,
    ChatChanges,
    Create,
    Delete,
    InvalidActivity,
    OutcomePending,
    Page,
    RequestIdReused,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
    Update,
    read_order,
)
from activities.ports import Call, Cancelled
from tests.contract.backends import Backend
from tests.contract.conftest import MOST
from tests.examples import ODD_NAMES, activity

T = TypeVar("T")
NAME = read_order("name")


def at_once(actions: Sequence[Callable[[], T]]) -> list[T | ActivitiesError]:
    """How actions end that begin at the same moment."""
    start = threading.Barrier(len(actions))

    def act(action: Callable[[], T]) -> T | ActivitiesError:
        start.wait(30)
        try:
            return action()
        except ActivitiesError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(act, actions))


def fill(backend: Backend, chat: int, several: Sequence[Activity]) -> None:
    """Puts activities in the store without going the long way."""
    outcomes = backend.data.activities.apply([Create(chat_id=chat, activity=each) for each in several], call=Call())
    assert list(outcomes) == list(several)


def names(backend: Backend, chat: int) -> list[str]:
    return [each.name for each in backend.activities.list(chat, page=Page(order=NAME), call=Call()).activities]


# ---------------------------------------------------------------------------------- the life of one


def test_an_activity_is_created_read_changed_and_deleted(backend, chat):
    port = backend.activities
    assert port.create(chat, activity=activity(), call=Call()) == activity()
    assert port.get(chat, name="vitamin C", call=Call()) == activity()
    changes = ActivityChanges(times_per_day=3, quantity_per_time=Decimal("1.125"))
    changed = activity(times_per_day=3, quantity_per_time=Decimal("1.125"))
    assert port.update(chat, name="vitamin C", changes=changes, call=Call()) == changed
    assert port.get(chat, name="vitamin C", call=Call()) == changed
    assert port.delete(chat, name="vitamin C", call=Call()) is None
    with pytest.raises(ActivityNotFound) as raised:
        port.get(chat, name="vitamin C", call=Call())
    assert raised.value == ActivityNotFound(name="vitamin C")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_a_name_in_every_use_case(backend, chat, name):
    port = backend.activities
    assert port.create(chat, activity=activity(name), call=Call()) == activity(name)
    with pytest.raises(ActivityExists) as raised:
        port.create(chat, activity=activity(name, times_per_day=9), call=Call())
    assert raised.value == ActivityExists(name=name)
    assert port.get(chat, name=name, call=Call()) == activity(name)
    changed = port.update(chat, name=name, changes=ActivityChanges(times_per_day=9), call=Call())
    assert changed == activity(name, times_per_day=9)
    assert names(backend, chat) == [name]
    assert [each.name for each in port.stream(chat, order=NAME, call=Call())] == [name]
    assert port.today(chat, page=Page(), call=Call()).activities == (changed,)
    port.delete(chat, name=name, call=Call())
    with pytest.raises(ActivityNotFound) as gone:
        port.delete(chat, name=name, call=Call())
    assert gone.value == ActivityNotFound(name=name)


def test_odd_names_do_not_get_into_one_anothers_way(backend, chat):
    for n, name in enumerate(ODD_NAMES):
        backend.activities.create(chat, activity=activity(name, times_per_day=n + 1), call=Call())
    for n, name in enumerate(ODD_NAMES):
        assert backend.activities.get(chat, name=name, call=Call()) == activity(name, times_per_day=n + 1)
    assert sorted(names(backend, chat)) == sorted(ODD_NAMES)


@pytest.mark.parametrize(
    ("written", "asked"),
    [("Café", "CAFÉ"), ("ПИЛЮЛЯ", "пилюля"), ("straße", "STRASSE"), ("STRASSE", "straße"), ("ﬁsh", "FISH")],
)
def test_a_name_is_found_in_any_case_and_shown_as_first_written(backend, chat, written, asked):
    port = backend.activities
    port.create(chat, activity=activity(written), call=Call())
    with pytest.raises(ActivityExists) as raised:
        port.create(chat, activity=activity(asked), call=Call())
    assert raised.value == ActivityExists(name=written)
    assert port.get(chat, name=asked, call=Call()) == activity(written)
    changed = port.update(chat, name=asked, changes=ActivityChanges(times_per_day=9), call=Call())
    assert changed == activity(written, times_per_day=9)
    port.delete(chat, name=asked, call=Call())
    port.create(chat, activity=activity(asked), call=Call())
    assert names(backend, chat) == [asked]


@pytest.mark.parametrize(
    "extreme",
    [
        {"begin_date": date(2000, 1, 1), "end_date": date(2999, 12, 31)},
        {"begin_date": date(2028, 2, 29), "end_date": date(2028, 2, 29)},
        {"times_per_day": 1, "quantity_per_time": Decimal("0.001")},
        {"times_per_day": 100, "quantity_per_time": Decimal(1_000_000)},
        {"quantity_per_time": Decimal("999999.999")},
        {"quantity_per_time": Decimal("0.3")},
        {"quantity_per_time": Decimal("1E+3")},
    ],
)
def test_extreme_values_come_back_exactly(backend, chat, extreme):
    expected = activity(**extreme)
    assert backend.activities.create(chat, activity=expected, call=Call()) == expected
    assert backend.activities.get(chat, name=expected.name, call=Call()) == expected


# ------------------------------------------------------------------------------------------ updates


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"begin_date": date(2026, 7, 1)},
        {"end_date": date(2026, 7, 20)},
        {"times_per_day": 100},
        {"quantity_per_time": Decimal("0.001")},
        {"begin_date": date(2027, 1, 1), "end_date": date(2027, 1, 1)},
        {
            "begin_date": date(2026, 7, 1),
            "end_date": date(2026, 7, 2),
            "times_per_day": 1,
            "quantity_per_time": Decimal(7),
        },
    ],
)
def test_an_update_changes_the_given_fields_alone(backend, chat, fields):
    port = backend.activities
    port.create(chat, activity=activity(), call=Call())
    port.create(chat, activity=activity("bystander"), call=Call())
    changed = port.update(chat, name="vitamin C", changes=ActivityChanges(**fields), call=Call())
    assert changed == activity(**fields)
    assert port.get(chat, name="vitamin C", call=Call()) == activity(**fields)
    assert port.get(chat, name="bystander", call=Call()) == activity("bystander")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ActivityChanges(end_date=date(2026, 7, 19), times_per_day=9),
            {"end_date": ["end_date 2026-07-19 is before begin_date 2026-07-20; for example 2026-07-20 or later"]},
        ),
        (
            ActivityChanges(begin_date=date(2026, 7, 31), times_per_day=9),
            {"begin_date": ["begin_date 2026-07-31 is after end_date 2026-07-30; for example 2026-07-30 or earlier"]},
        ),
    ],
)
def test_an_update_is_checked_as_a_whole_and_changes_nothing_when_refused(backend, chat, changes, expected):
    backend.activities.create(chat, activity=activity(), call=Call())
    with pytest.raises(InvalidActivity) as raised:
        backend.activities.update(chat, name="vitamin C", changes=changes, call=Call())
    assert raised.value.by_field == expected
    assert backend.activities.get(chat, name="vitamin C", call=Call()) == activity()


def test_what_is_not_there_cannot_be_changed(backend, chat):
    with pytest.raises(ActivityNotFound) as raised:
        backend.activities.update(chat, name="Pill", changes=ActivityChanges(), call=Call())
    assert raised.value == ActivityNotFound(name="Pill")
    assert names(backend, chat) == []


# -------------------------------------------------------------------------------------------- lists

TIED = [
    activity(
        name,
        begin_date=date(2026, 7, 1 + n % 3),
        end_date=date(2026, 8, 1 + n % 2),
        times_per_day=1 + n % 4,
        quantity_per_time=Decimal(1 + n % 3) / 2,
    )
    for n, name in enumerate(["b", "A", "Ä", "a b", "Z", "я", "Б", "10", "9", "~", "💊", "_"])
]


def in_order(several: Sequence[Activity], order: str) -> list[Activity]:
    """By one field, ties by name key; stable sorts, so written otherwise than in the product."""
    field = order.removeprefix("-")
    by_name = sorted(several, key=lambda each: each.name.casefold())
    key = (lambda each: each.name.casefold()) if field == "name" else (lambda each: getattr(each, field))
    return sorted(by_name, key=key, reverse=order.startswith("-"))


@pytest.mark.parametrize("order", ORDERS)
def test_pages_of_every_order_make_up_the_whole_list(backend, chat, order):
    fill(backend, chat, TIED)
    expected = in_order(TIED, order)
    for limit, offset in product((1, 5, 12, 500), (0, 1, 5, 11, 12, 2**63 - 1)):
        page = Page(limit, offset, read_order(order))
        found = backend.activities.list(chat, page=page, call=Call())
        assert found.activities == tuple(expected[offset : offset + limit])
        assert found.total == len(TIED)


@pytest.mark.parametrize("order", ORDERS)
def test_a_stream_gives_everything_in_every_order(backend, chat, order):
    fill(backend, chat, TIED)
    assert list(backend.activities.stream(chat, order=read_order(order), call=Call())) == in_order(TIED, order)


def test_an_empty_chat_has_an_empty_list_and_stream(backend, chat):
    assert backend.activities.list(chat, page=Page(), call=Call()).activities == ()
    assert backend.activities.list(chat, page=Page(), call=Call()).total == 0
    assert backend.activities.today(chat, page=Page(), call=Call()).total == 0
    assert list(backend.activities.stream(chat, order=LATEST_END_FIRST, call=Call())) == []


@pytest.mark.parametrize("count", [199, 200, 201, MOST])
def test_a_long_stream_is_whole(backend, chat, count):
    several = [activity(f"pill {n:03}", times_per_day=1 + n % 7) for n in range(count)]
    fill(backend, chat, several)
    found = list(backend.activities.stream(chat, order=read_order("-times_per_day"), call=Call()))
    assert found == in_order(several, "-times_per_day")


def test_a_reader_may_stop_a_stream_early(backend, chat):
    fill(backend, chat, [activity(f"pill {n:03}") for n in range(MOST)])
    for _ in range(3):
        with closing(backend.activities.stream(chat, order=NAME, call=Call())) as stream:
            assert next(stream).name == "pill 000"
    assert len(list(backend.activities.stream(chat, order=NAME, call=Call()))) == MOST


def test_a_stream_ends_when_its_caller_goes(backend, chat):
    fill(backend, chat, [activity(f"pill {n:03}") for n in range(MOST)])
    call = Call()
    stream = backend.activities.stream(chat, order=NAME, call=call)
    assert next(stream).name == "pill 000"
    call.cancellation.cancel()
    with pytest.raises(Cancelled):
        list(stream)


def test_a_caller_who_has_gone_gets_no_answer(backend, chat):
    call = Call()
    call.cancellation.cancel()
    with pytest.raises(Cancelled):
        backend.activities.get(chat, name="x", call=call)


# -------------------------------------------------------------------------------------------- today


def test_today_are_those_between_their_first_and_last_day(backend, chat):
    day = timedelta(days=1)
    today = date(2026, 7, 20)
    fill(
        backend,
        chat,
        [
            activity("one day", begin_date=today, end_date=today),
            activity("over", begin_date=today - day, end_date=today - day),
            activity("to come", begin_date=today + day, end_date=today + day),
            activity("last day", begin_date=today - day, end_date=today),
            activity("first day", begin_date=today, end_date=today + day),
        ],
    )
    page = backend.activities.today(chat, page=Page(limit=2, offset=1, order=NAME), call=Call())
    assert [each.name for each in page.activities] == ["last day", "one day"]
    assert page.total == 3


@pytest.mark.parametrize("order", ORDERS)
def test_today_is_ordered_like_the_list(backend, chat, order):
    fill(backend, chat, TIED)
    page = backend.activities.today(chat, page=Page(order=read_order(order)), call=Call())
    assert list(page.activities) == in_order(TIED, order)


def test_today_is_the_chats_own_date(backend, new_chat):
    here, there = new_chat(), new_chat()
    for chat in (here, there):
        fill(
            backend,
            chat,
            [activity("monday", end_date=date(2026, 7, 20)), activity("tuesday", begin_date=date(2026, 7, 21))],
        )
    backend.chats.update(there, changes=ChatChanges(timezone="Pacific/Kiritimati"), call=Call())

    def due(chat: int) -> list[str]:
        return [each.name for each in backend.activities.today(chat, page=Page(), call=Call()).activities]

    assert (due(here), due(there)) == (["monday"], ["tuesday"])
    backend.clock.now += timedelta(hours=12)
    assert (due(here), due(there)) == (["tuesday"], ["tuesday"])


# -------------------------------------------------------------------------------------------- chats


def test_an_unknown_chat_has_the_defaults(backend, chat):
    assert backend.chats.get(chat, call=Call()) == Chat(chat, "UTC", "en", 0)


def test_a_chat_keeps_what_a_change_does_not_give(backend, chat):
    changed = backend.chats.update(chat, changes=ChatChanges(timezone="Europe/Moscow"), call=Call())
    assert changed == Chat(chat, "Europe/Moscow", "en")
    assert backend.chats.update(chat, changes=ChatChanges(language="ru"), call=Call()) == Chat(
        chat, "Europe/Moscow", "ru"
    )
    assert backend.chats.update(chat, changes=ChatChanges(), call=Call()) == Chat(chat, "Europe/Moscow", "ru")
    assert backend.chats.get(chat, call=Call()) == Chat(chat, "Europe/Moscow", "ru")


def test_chats_neither_see_nor_change_nor_count_one_anothers_activities(backend, new_chat):
    port = backend.activities
    first = new_chat()
    chats = [first, first + 1, -first, -first - 1]
    for n, chat in enumerate(chats):
        assert port.create(chat, activity=activity(times_per_day=n + 1), call=Call()).times_per_day == n + 1
    port.update(chats[1], name="vitamin C", changes=ActivityChanges(times_per_day=50), call=Call())
    port.delete(chats[2], name="vitamin C", call=Call())
    backend.chats.update(chats[3], changes=ChatChanges(timezone="Asia/Tokyo", language="ru"), call=Call())
    for chat, expected in zip(chats, ([1], [50], [], [4]), strict=True):
        page = port.list(chat, page=Page(), call=Call())
        assert [each.times_per_day for each in page.activities] == expected
        assert page.total == len(expected)
        assert port.today(chat, page=Page(), call=Call()).total == len(expected)
        assert [each.times_per_day for each in port.stream(chat, order=NAME, call=Call())] == expected
    assert [backend.chats.get(chat, call=Call()).language for chat in chats] == ["en", "en", "en", "ru"]


@pytest.mark.parametrize("chat", [2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, -1_001_234_567_890])
def test_the_ids_of_chats_are_64_bits_wide(backend, chat):
    port = backend.activities
    port.create(chat, activity=activity(), call=Call())
    assert port.list(chat, page=Page(), call=Call()).total == 1
    neighbour = chat - 1 if chat > 0 else chat + 1
    assert port.list(neighbour, page=Page(), call=Call()).total == 0
    assert backend.chats.get(chat, call=Call()).chat_id == chat
    port.delete(chat, name="vitamin C", call=Call())


# ------------------------------------------------------------------------------------- many at once


def test_of_64_that_create_one_name_at_once_one_wins(backend, chat):
    attempts = [activity("Straße" if n % 2 else "STRASSE", times_per_day=n + 1) for n in range(64)]
    outcomes = at_once([partial(backend.activities.create, chat, activity=each, call=Call()) for each in attempts])
    winners = [outcome for outcome in outcomes if isinstance(outcome, Activity)]
    assert len(winners) == 1
    assert outcomes.count(ActivityExists(name=winners[0].name)) == 63
    assert backend.activities.list(chat, page=Page(), call=Call()).activities == tuple(winners)


def test_of_64_concurrent_updates_of_different_fields_none_is_lost(backend, chat):
    fill(backend, chat, [activity(f"pill {n}") for n in range(16)])
    fields: list[dict] = [
        {"begin_date": date(2026, 7, 1)},
        {"end_date": date(2026, 8, 31)},
        {"times_per_day": 7},
        {"quantity_per_time": Decimal("2.5")},
    ]

    outcomes = at_once(
        [
            partial(
                backend.activities.update,
                chat,
                name=f"pill {n // 4}",
                changes=ActivityChanges(**fields[n % 4]),
                call=Call(),
            )
            for n in range(64)
        ]
    )
    assert all(isinstance(outcome, Activity) for outcome in outcomes)
    merged = fields[0] | fields[1] | fields[2] | fields[3]
    assert set(backend.activities.list(chat, page=Page(), call=Call()).activities) == {
        activity(f"pill {n}", **merged) for n in range(16)
    }


def test_a_full_chat_takes_no_more(backend, new_chat):
    chat, other = new_chat(), new_chat()
    fill(backend, chat, [activity(f"pill {n}") for n in range(MOST)])
    with pytest.raises(TooManyActivities) as raised:
        backend.activities.create(chat, activity=activity(), call=Call())
    assert raised.value == TooManyActivities(limit=str(MOST))
    assert backend.activities.create(other, activity=activity(), call=Call()) == activity()
    backend.activities.delete(chat, name="pill 7", call=Call())
    assert backend.activities.create(chat, activity=activity(), call=Call()) == activity()


# -------------------------------------------------------------------------------------- request ids


def test_the_second_create_gets_the_answer_of_the_first(backend, chat):
    port, call = backend.activities, Call(request_id=uuid4())
    port.create(chat, activity=activity(), call=call)
    port.update(chat, name="vitamin C", changes=ActivityChanges(times_per_day=9), call=Call())
    assert port.create(chat, activity=activity(), call=call) == activity()
    assert port.get(chat, name="vitamin C", call=Call()).times_per_day == 9


def test_the_second_update_gets_the_answer_of_the_first(backend, chat):
    port, call = backend.activities, Call(request_id=uuid4())
    fill(backend, chat, [activity()])
    changes = ActivityChanges(times_per_day=9)
    assert port.update(chat, name="vitamin C", changes=changes, call=call) == activity(times_per_day=9)
    port.update(chat, name="vitamin C", changes=ActivityChanges(times_per_day=1), call=Call())
    assert port.update(chat, name="Vitamin c", changes=changes, call=call) == activity(times_per_day=9)
    assert port.get(chat, name="vitamin C", call=Call()).times_per_day == 1


def test_the_second_delete_gets_the_answer_of_the_first(backend, chat):
    port, call = backend.activities, Call(request_id=uuid4())
    fill(backend, chat, [activity()])
    port.delete(chat, name="vitamin C", call=call)
    port.create(chat, activity=activity(), call=Call())
    port.delete(chat, name="vitamin C", call=call)
    assert names(backend, chat) == ["vitamin C"]


def test_a_refusal_that_was_final_stays_so_for_its_request(backend, chat):
    port = backend.activities
    fill(backend, chat, [activity()])
    create, delete, update = (Call(request_id=uuid4()) for _ in range(3))
    with pytest.raises(ActivityExists):
        port.create(chat, activity=activity(), call=create)
    port.delete(chat, name="vitamin C", call=Call())
    with pytest.raises(ActivityNotFound):
        port.delete(chat, name="vitamin C", call=delete)
    with pytest.raises(ActivityNotFound):
        port.update(chat, name="vitamin C", changes=ActivityChanges(), call=update)
    with pytest.raises(ActivityExists) as raised:
        port.create(chat, activity=activity(), call=create)
    assert raised.value == ActivityExists(name="vitamin C")
    fill(backend, chat, [activity()])
    with pytest.raises(ActivityNotFound):
        port.delete(chat, name="vitamin C", call=delete)
    with pytest.raises(ActivityNotFound):
        port.update(chat, name="vitamin C", changes=ActivityChanges(), call=update)
    assert names(backend, chat) == ["vitamin C"]


@pytest.mark.parametrize("error", [StorageBusy(), StorageTimeout(), StorageUnavailable()])
def test_a_failure_of_the_store_is_no_answer_to_keep(backend, chat, error):
    call = Call(request_id=uuid4())
    backend.store.error = error
    if backend.is_queued:
        impatient, error = replace(call, deadline=time.monotonic() + 0.5), OutcomePending()
    else:
        impatient = call
    with pytest.raises(type(error)):
        backend.activities.create(chat, activity=activity(), call=impatient)
    backend.store.error = None
    assert backend.activities.create(chat, activity=activity(), call=call) == activity()


def test_an_id_that_comes_with_another_request_is_refused(backend, chat):
    port, call = backend.activities, Call(request_id=uuid4())
    port.create(chat, activity=activity(), call=call)
    others: list[Callable[[], object]] = [
        lambda: port.create(chat, activity=activity("pill"), call=call),
        lambda: port.create(chat, activity=activity(times_per_day=9), call=call),
        lambda: port.update(chat, name="vitamin C", changes=ActivityChanges(times_per_day=9), call=call),
        lambda: port.delete(chat, name="vitamin C", call=call),
    ]
    for other in others:
        with pytest.raises(RequestIdReused) as raised:
            other()
        assert raised.value == RequestIdReused()
    assert port.list(chat, page=Page(), call=Call()).activities == (activity(),)


def test_an_id_belongs_to_its_chat(backend, new_chat):
    here, there, call = new_chat(), new_chat(), Call(request_id=uuid4())
    backend.activities.create(here, activity=activity("x"), call=call)
    assert backend.activities.create(there, activity=activity("y"), call=call) == activity("y")
    assert (names(backend, here), names(backend, there)) == (["x"], ["y"])


def test_an_answer_is_forgotten_after_24_hours(backend, chat):
    port, call = backend.activities, Call(request_id=uuid4())
    port.create(chat, activity=activity(), call=call)
    backend.clock.now += timedelta(hours=24) - timedelta(seconds=1)
    assert port.create(chat, activity=activity(), call=call) == activity()
    backend.clock.now += timedelta(seconds=1)
    with pytest.raises(ActivityExists):
        port.create(chat, activity=activity(), call=call)


def test_a_read_does_not_use_up_an_id(backend, chat):
    call = Call(request_id=uuid4())
    with pytest.raises(ActivityNotFound):
        backend.activities.get(chat, name="vitamin C", call=call)
    assert backend.activities.create(chat, activity=activity(), call=call) == activity()


def test_of_16_requests_with_one_id_at_once_one_takes_effect_and_all_get_its_answer(backend, chat):
    port, create, delete = backend.activities, Call(request_id=uuid4()), Call(request_id=uuid4())
    created = at_once([lambda: port.create(chat, activity=activity(), call=replaced(create))] * 16)
    assert created == [activity()] * 16
    assert names(backend, chat) == ["vitamin C"]
    assert at_once([lambda: port.delete(chat, name="vitamin C", call=replaced(delete))] * 16) == [None] * 16
    assert names(backend, chat) == []


def replaced(call: Call) -> Call:
    """The same request once more, by a caller of its own."""
    return Call(request_id=call.request_id)


# ------------------------------------------------------------------------------------------- apply


def test_commands_given_together_end_each_for_itself(backend, new_chat):
    here, there = new_chat(), new_chat()
    same = uuid4()
    commands = [
        Create(chat_id=here, activity=activity("a"), request_id=same),
        Create(chat_id=here, activity=activity("a"), request_id=same),
        Create(chat_id=here, activity=activity("A")),
        Create(chat_id=there, activity=activity("a")),
        Update(chat_id=here, name="b", changes=ActivityChanges(times_per_day=3)),
        Update(chat_id=here, name="a", changes=ActivityChanges(times_per_day=3)),
        Delete(chat_id=here, name="a", request_id=same),
        Delete(chat_id=there, name="a"),
        Delete(chat_id=there, name="a"),
    ]
    together = [[each] for each in commands] if backend.is_queued else [commands]
    ends = [end for several in together for end in backend.activities.apply(several, call=Call())]
    assert ends == [
        activity("a"),
        activity("a"),
        ActivityExists(name="a"),
        activity("a"),
        ActivityNotFound(name="b"),
        activity("a", times_per_day=3),
        RequestIdReused(),
        None,
        ActivityNotFound(name="a"),
    ]
    assert (names(backend, here), names(backend, there)) == (["a"], [])


# ------------------------------------------------------------------------------------------- errors

FROM_THE_STORE = [
    RequestIdReused(),
    ActivityNotFound(name="{name} ' \" \n% 💊"),
    ActivityExists(name="Витамин D₃"),
    TooManyActivities(limit="10000"),
    StorageBusy(),
    StorageTimeout(),
    StorageUnavailable(),
    OutcomePending(request_id="3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b"),
]


@pytest.mark.parametrize("error", FROM_THE_STORE, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_however_far_it_came(backend, chat, error):
    backend.store.error = error
    port = backend.activities
    asks: list[Callable[[], object]] = [
        lambda: port.get(chat, name="x", call=Call()),
        lambda: port.list(chat, page=Page(), call=Call()),
        lambda: port.today(chat, page=Page(), call=Call()),
        lambda: list(port.stream(chat, order=NAME, call=Call())),
        lambda: backend.chats.get(chat, call=Call()),
        lambda: backend.chats.update(chat, changes=ChatChanges(), call=Call()),
    ]
    writes: list[Callable[[], object]] = [
        lambda: port.create(chat, activity=activity(), call=Call()),
        lambda: port.update(chat, name="x", changes=ActivityChanges(), call=Call()),
        lambda: port.delete(chat, name="x", call=Call()),
    ]
    for ask in asks if backend.is_queued else [*asks, *writes]:
        with pytest.raises(ActivitiesError) as raised:
            ask()
        assert raised.value == error
        assert str(raised.value) == str(error)
