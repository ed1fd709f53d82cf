"""Chats whose ids could be taken for one another share a store and nothing in it, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from activities.domain import ActivityChanges, ActivityNotFound, ChatChanges, Page, RequestIdReused, read_order
from activities.ports import Call
from tests.contract.backends import BACKENDS, Backend, starting
from tests.examples import activity

CHATS = (1, -1, 2, 10, -10, 2**31, 2**32 + 1, 2**53 + 1, 2**53, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1)
"""Next to one another, of opposite signs, equal in their lower halves or as doubles, and at both ends."""
NAMES = ("vitamin C", ":1:", "1:vitamin C", "%2F")
"""Some look like parts of keys."""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with starting(request, len(NAMES)) as backend:
        if request.param == "postgres":  # its tables outlive this test
            for chat_id in CHATS:
                backend.chats.forget(chat_id, call=Call())
        yield backend


def times(chat_id: int) -> int:
    """What tells a chat's activities from those of the same name elsewhere."""
    return CHATS.index(chat_id) + 1


def has_its_own(backend: Backend, chat_id: int, names: tuple[str, ...] = NAMES, more: int = 0) -> None:
    """However it is asked for."""
    own = {name: times(chat_id) + more for name in names}
    activities, page = backend.activities, Page(order=read_order("name"))
    found = [
        {each.name: each.times_per_day for each in each_way}
        for each_way in (
            [activities.get(chat_id, name=name.upper(), call=Call()) for name in names],
            activities.list(chat_id, page=page, call=Call()).activities,
            activities.today(chat_id, page=page, call=Call()).activities,
            activities.stream(chat_id, order=page.order, call=Call()),
        )
    ]
    assert found == [own] * 4
    assert activities.list(chat_id, page=Page(limit=1), call=Call()).total == len(own)


def test_each_chat_has_its_own_activities_settings_and_request_ids(backend: Backend) -> None:
    ids = {name: uuid4() for name in NAMES}
    for _ in range(2):  # the second time it is the answer kept for the id
        for chat_id in CHATS:
            for name, request_id in ids.items():
                wish = activity(name, times_per_day=times(chat_id))
                assert backend.activities.create(chat_id, activity=wish, call=Call(request_id=request_id)) == wish
    for chat_id in CHATS:
        has_its_own(backend, chat_id)

    backend.chats.update(CHATS[0], changes=ChatChanges("Europe/Moscow", "ru"), call=Call())
    changed = [backend.chats.get(chat_id, call=Call()).language for chat_id in CHATS]
    assert changed == ["ru", *["en"] * (len(CHATS) - 1)]


@pytest.mark.parametrize("one", [1, -1, 2**63 - 1, -(2**63)])
def test_what_happens_in_a_chat_happens_in_no_other(backend: Backend, one: int) -> None:
    for chat_id in CHATS:
        for name in NAMES:
            backend.activities.create(chat_id, activity=activity(name, times_per_day=times(chat_id)), call=Call())
            backend.activities.get(chat_id, name=name, call=Call())
    before = {chat_id: backend.chats.get(chat_id, call=Call()) for chat_id in CHATS}
    reused = uuid4()
    for name in NAMES:
        changes = ActivityChanges(times_per_day=times(one) + 20)
        backend.activities.update(one, name=name, changes=changes, call=Call())
    has_its_own(backend, one, more=20)
    backend.activities.delete(one, name=NAMES[0], call=Call(request_id=reused))
    with pytest.raises(ActivityNotFound):
        backend.activities.get(one, name=NAMES[0], call=Call())
    has_its_own(backend, one, NAMES[1:], more=20)
    backend.chats.revoke_tokens(one, call=Call())

    others = [chat_id for chat_id in CHATS if chat_id != one]
    for chat_id in others:
        has_its_own(backend, chat_id)
        assert backend.chats.get(chat_id, call=Call()) == before[chat_id]
        change = ActivityChanges(times_per_day=times(chat_id))
        call = Call(request_id=reused)  # an id belongs to its chat
        backend.activities.update(chat_id, name=NAMES[1], changes=change, call=call)
        with pytest.raises(RequestIdReused):
            backend.activities.update(chat_id, name=NAMES[2], changes=change, call=replace(call))
    if not backend.is_queued:
        backend.chats.forget(one, call=Call())
        assert backend.activities.list(one, page=Page(), call=Call()).total == 0
        for chat_id in others:
            has_its_own(backend, chat_id)
