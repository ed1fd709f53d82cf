"""Chats of the bot's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from activities.domain import ChatChanges
from activities.ports import Call
from tests.bot.talking import Talk

Talking = Callable[..., Talk]


@pytest.fixture
def talking() -> Iterator[Talking]:
    """Makes chats, and closes them."""
    made: list[Talk] = []

    def make(*args: Any, **kwargs: Any) -> Talk:
        made.append(Talk(*args, **kwargs))
        return made[-1]

    yield make
    for talk in made:
        talk.container.close()


@pytest.fixture
def talk(talking: Talking) -> Talk:
    return talking()


@pytest.fixture
def russian(talking: Talking) -> Talk:
    return talking(language="ru-RU")


@pytest.fixture
def tapping(talking: Talking) -> Talk:
    """With buttons, in the chat's own language."""
    return talking(language=None, with_buttons=True)


@pytest.fixture
def tapping_russian(talking: Talking) -> Talk:
    talk = talking(language=None, with_buttons=True)
    talk.container.chats.update(1, changes=ChatChanges(language="ru"), call=Call())
    return talk
