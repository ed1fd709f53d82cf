"""A chat is taken in, handed out and erased on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from activities.domain import Activity, ChatChanges, read_order
from activities.ports import Call
from bot.chat_files import as_csv
from bot.commands import Commands
from bot.replies import plain
from tests.contract.backends import BACKENDS, Backend, starting
from tests.examples import ODD_NAMES, activity

MANY = [activity(name) for name in ODD_NAMES] + [activity(f"pill {number}", times_per_day=3) for number in range(220)]

_chats = count(7_000_001)


@pytest.fixture(scope="module", params=[name for name in BACKENDS if "http" not in name])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with starting(request, 10_000) as backend:
        yield backend


class Person:
    """Who talks to the bot in a chat of their own."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._commands = Commands(
            backend.activities, backend.chats, backend.data.streams, access=backend.data.access, clock=backend.clock
        )
        self.chat_id = next(_chats)

    def say(self, line: str, file: bytes | None = None) -> str:
        """The last reply."""
        attached = None if file is None else lambda: file
        *_, last = self._commands.answer(line, chat_id=self.chat_id, speaks="en", attached=attached)
        return plain(last)

    def exported(self) -> tuple[bytes, ...]:
        replies = self._commands.answer("/export", chat_id=self.chat_id)
        return tuple(reply.file.content for reply in replies if reply.file)

    def kept(self) -> tuple[list[Activity], str, str]:
        chat = self._backend.chats.get(self.chat_id, call=Call())
        stream = self._backend.activities.stream(self.chat_id, order=read_order("name"), call=Call())
        return list(stream), chat.timezone, chat.language


@pytest.fixture
def person(backend: Backend) -> Person:
    return Person(backend)


def test_import_export_forget_import_gives_the_same(backend: Backend, person: Person) -> None:
    backend.chats.update(person.chat_id, changes=ChatChanges("Asia/Tokyo", "ru"), call=Call())
    assert person.say("/import", as_csv(MANY)) == f"Imported {len(MANY)} activities."
    before = person.kept()
    assert before == (sorted(MANY, key=lambda each: each.key), "Asia/Tokyo", "ru")
    whole, table = person.exported()
    assert person.say("/forget_me yes").startswith("Everything I kept of this chat is erased")
    assert person.kept() == ([], "UTC", "en")
    assert person.say("/import", whole).startswith(f"Imported {len(MANY)} activities.")
    assert person.kept() == before
    assert person.say("/import", table) == f"{len(MANY)} were there already, just like that."


def test_an_export_of_another_chat_stays_what_it_was(backend: Backend, person: Person) -> None:
    other = Person(backend)
    for each, name in ((person, "mine"), (other, "yours")):
        each.say(f"/add {name} 2026-07-20 +1d 1 1")
    person.say("/import", other.exported()[0])
    assert [each.name for each in person.kept()[0]] == ["mine", "yours"]
    person.say("/forget_me yes")
    assert [each.name for each in other.kept()[0]] == ["yours"]
