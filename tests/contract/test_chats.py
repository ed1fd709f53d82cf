"""What becomes of a chat as a whole: its tokens revoked, forgotten, moved. Over every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityNotFound,
    Chat,
    ChatChanges,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Call
from tests.contract.backends import Backend
from tests.contract.conftest import MOST
from tests.contract.test_conformance import NAME, fill, names
from tests.examples import NOON, activity

REVOKED_AT_NOON = int(NOON.timestamp()) + 1


def settle(backend: Backend, chat: int) -> Chat:
    """Gives the chat settings of its own."""
    return backend.chats.update(chat, changes=ChatChanges("Europe/Moscow", "ru"), call=Call())


def all_of(backend: Backend, chat: int) -> list[Activity]:
    return list(backend.activities.stream(chat, order=NAME, call=Call()))


@pytest.fixture
def really_now(backend: Backend) -> None:
    """The store's present is that of Kafka's records, in its milliseconds."""
    now = datetime.now(UTC)
    backend.clock.now = now.replace(microsecond=now.microsecond // 1000 * 1000)


# ------------------------------------------------------------------------------------------ tokens


def test_tokens_are_revoked_from_the_next_second_on_and_the_rest_stays(backend, new_chat):
    chat, other = new_chat(), new_chat()
    settled = settle(backend, chat)
    fill(backend, chat, [activity()])
    revoked = replace(settled, tokens_valid_after=REVOKED_AT_NOON)
    assert backend.chats.revoke_tokens(chat, call=Call()) == revoked
    assert backend.chats.get(chat, call=Call()) == revoked
    assert names(backend, chat) == ["vitamin C"]
    assert backend.chats.get(other, call=Call()) == Chat(other)


def test_each_revocation_moves_on(backend: Backend, chat: int) -> None:
    def revoked() -> int:
        return backend.chats.revoke_tokens(chat, call=Call()).tokens_valid_after

    assert [revoked(), revoked()] == [REVOKED_AT_NOON, REVOKED_AT_NOON + 1]
    backend.clock.now += timedelta(seconds=0.999)
    assert revoked() == REVOKED_AT_NOON + 2
    backend.clock.now += timedelta(days=1)
    assert revoked() == REVOKED_AT_NOON + 86_400
    backend.clock.now -= timedelta(days=2)  # a clock that was set right revives no token
    assert revoked() == REVOKED_AT_NOON + 86_401


# ------------------------------------------------------------------------------------------ forget


@pytest.mark.usefixtures("really_now")
def test_of_a_forgotten_chat_only_the_revocation_is_left(backend, new_chat):
    chat, other, call = new_chat(), new_chat(), Call(request_id=uuid4())
    for each in (chat, other):
        settle(backend, each)
        fill(backend, each, [activity(f"pill {number}") for number in range(5)])
        backend.activities.create(each, activity=activity(), call=call)
        backend.activities.get(each, name="vitamin C", call=Call())
    assert backend.chats.forget(chat, call=Call()) is None
    valid_after = int(backend.clock.now.timestamp()) + 1
    assert backend.chats.get(chat, call=Call()) == Chat(chat, tokens_valid_after=valid_after)
    assert names(backend, chat) == []
    for name in ("vitamin C", "pill 0"):
        with pytest.raises(ActivityNotFound):
            backend.activities.get(chat, name=name, call=Call())
    # Its requests are forgotten too: the id may be used for another one.
    assert backend.activities.create(chat, activity=activity("other"), call=call) == activity("other")
    assert len(names(backend, other)) == 6
    assert backend.activities.create(other, activity=activity(), call=call) == activity()
    assert backend.chats.get(other, call=Call()).timezone == "Europe/Moscow"


@pytest.mark.usefixtures("really_now")
def test_a_chat_may_be_forgotten_again_and_live_on(backend, chat):
    valid_after = int(backend.clock.now.timestamp()) + 1
    for number in range(3):
        backend.chats.forget(chat, call=Call())
        assert backend.chats.get(chat, call=Call()).tokens_valid_after == valid_after + number
        backend.activities.create(chat, activity=activity(), call=Call())
        assert settle(backend, chat).language == "ru"
        assert all_of(backend, chat) == [activity()]


# -------------------------------------------------------------------------------------------- move


def test_a_chat_takes_all_it_has_along(backend, new_chat):
    old, new, call = new_chat(), new_chat(), Call(request_id=uuid4())
    settle(backend, old)
    fill(backend, old, [activity(f"pill {number:03}", times_per_day=number % 9 + 1) for number in range(300)])
    backend.activities.create(old, activity=activity(), call=call)
    backend.activities.get(old, name="vitamin C", call=Call())
    before = all_of(backend, old)
    moved = Chat(new, "Europe/Moscow", "ru")
    assert backend.chats.move(old, to_chat_id=new, call=Call()) == moved
    assert backend.chats.get(new, call=Call()) == moved
    assert all_of(backend, new) == before
    assert all_of(backend, old) == []
    with pytest.raises(ActivityNotFound):
        backend.activities.get(old, name="vitamin C", call=Call())
    assert backend.chats.get(old, call=Call()) == Chat(old, tokens_valid_after=REVOKED_AT_NOON)
    # The answers to its requests as well.
    backend.activities.delete(new, name="vitamin C", call=Call())
    assert backend.activities.create(new, activity=activity(), call=call) == activity()
    assert "vitamin C" not in [each.name for each in all_of(backend, new)]


def test_what_the_new_chat_has_stays_and_what_clashes_gets_a_number(backend, new_chat):
    old, new = new_chat(), new_chat()
    long = "я" * 120
    kept = [activity("Pill", times_per_day=9), activity("pill (2)"), activity(long), activity("same")]
    fill(backend, new, kept)
    fill(backend, old, [activity("pill"), activity("pill (3)"), activity(long, times_per_day=3), activity("same")])
    backend.chats.move(old, to_chat_id=new, call=Call())
    came = [activity("pill (4)"), activity("pill (3)"), activity(f"{long[:116]} (2)", times_per_day=3)]
    assert all_of(backend, new) == sorted([*kept, *came], key=NAME.sort_key)
    for each in (*kept, *came):
        assert backend.activities.get(new, name=each.name, call=Call()) == each
    assert all_of(backend, old) == []


def test_a_setting_that_the_new_chat_has_stays(backend, new_chat):
    old, new = new_chat(), new_chat()
    settle(backend, old)
    backend.chats.update(new, changes=ChatChanges(timezone="Asia/Tokyo"), call=Call())
    backend.chats.revoke_tokens(new, call=Call())
    expected = Chat(new, "Asia/Tokyo", "ru", REVOKED_AT_NOON)
    assert backend.chats.move(old, to_chat_id=new, call=Call()) == expected
    assert backend.chats.get(new, call=Call()) == expected


def test_to_move_again_changes_nothing_but_takes_along_what_came_meanwhile(backend, new_chat):
    old, new = new_chat(), new_chat()
    settle(backend, old)
    fill(backend, old, [activity("a"), activity("b")])
    first = backend.chats.move(old, to_chat_id=new, call=Call())
    assert backend.chats.move(old, to_chat_id=new, call=Call()) == first
    assert names(backend, new) == ["a", "b"]
    fill(backend, old, [activity("a"), activity("c")])
    assert backend.chats.move(old, to_chat_id=new, call=Call()) == first
    assert all_of(backend, new) == [activity("a"), activity("b"), activity("c")]


def test_the_new_chat_may_have_more_than_a_chat_may_have(backend, new_chat):
    old, new = new_chat(), new_chat()
    fill(backend, old, [activity(f"a {number}") for number in range(MOST)])
    fill(backend, new, [activity(f"b {number}") for number in range(5)])
    backend.chats.move(old, to_chat_id=new, call=Call())
    assert len(all_of(backend, new)) == MOST + 5


def test_a_chat_that_nobody_knows_and_a_chat_itself_may_be_moved(backend, new_chat):
    old, new = new_chat(), new_chat()
    assert backend.chats.move(old, to_chat_id=new, call=Call()) == Chat(new)
    fill(backend, new, [activity()])
    assert backend.chats.move(new, to_chat_id=new, call=Call()) == Chat(new)
    assert all_of(backend, new) == [activity()]


def test_nothing_that_was_answered_is_lost_while_a_chat_moves(backend, new_chat):
    """A write to the old chat is done before the move, or found by the next one, or refused."""
    old, new = new_chat(), new_chat()
    counted = [activity(f"counted {number}", times_per_day=1) for number in range(3)]
    fill(backend, old, counted)
    moving, writing = threading.Event(), threading.Event()

    def creates(writer: int) -> Iterator[str]:
        for number in count():
            if moving.is_set() or number == 60:
                return
            name = f"{writer} {number}"
            with suppress(ActivityNotFound):  # through Kafka, when the chat had moved before it was done
                backend.activities.create(old, activity=activity(name), call=Call())
                yield name
            writing.set()

    def updates(name: str) -> int:
        """The last value that was answered."""
        for value in range(2, 100):
            try:
                changes = ActivityChanges(times_per_day=value)
                backend.activities.update(old, name=name, changes=changes, call=Call())
            except ActivityNotFound:
                return value - 1
        return 99

    with ThreadPoolExecutor(6) as threads:
        created = [threads.submit(lambda writer: list(creates(writer)), writer) for writer in range(3)]
        updated = [threads.submit(updates, each.name) for each in counted]
        assert writing.wait(30)
        for _ in range(3):
            backend.chats.move(old, to_chat_id=new, call=Call())
        moving.set()
    backend.chats.move(old, to_chat_id=new, call=Call())
    there = {each.name: each for each in all_of(backend, new)}
    for writer in created:
        assert set(writer.result()) <= there.keys()
    assert [there[each.name].times_per_day for each in counted] == [each.result() for each in updated]
    assert all_of(backend, old) == []


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("error", [StorageBusy(), StorageTimeout(), StorageUnavailable()])
def test_a_failure_of_the_store_is_told(backend, new_chat, error):
    chat, other = new_chat(), new_chat()
    asks: list[Callable[[], object]] = [
        lambda: backend.chats.revoke_tokens(chat, call=Call()),
        lambda: backend.chats.forget(chat, call=Call()),
        lambda: backend.chats.move(chat, to_chat_id=other, call=Call()),
    ]
    backend.store.error = error
    for ask in asks:
        with pytest.raises(ActivitiesError) as raised:
            ask()
        assert raised.value == error
