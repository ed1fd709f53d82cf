"""Chats of the bot's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bot.talking import Talk


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.container.close()


@pytest.fixture
def russian() -> Iterator[Talk]:
    talk = Talk(language="ru-RU")
    yield talk
    talk.container.close()
