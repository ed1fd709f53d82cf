"""A chat that sends too much is told so; what it sends then is not acted on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from activities.access import Access
from activities.container import on_repository
from activities.fair_use import FairUse
from activities.repositories.memory import MemoryRepository
from activities.repositories.windows import MemoryWindows
from bot.commands import Commands
from bot.replies import plain
from bot.telegram import telegram_bot
from tests.bot.talking import NOON


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def commands(clock: Clock) -> Iterator[Commands]:
    parts = on_repository(MemoryRepository(), clock=lambda: NOON)
    fair_use = FairUse(MemoryWindows(clock=clock), per_chat=2, clock=clock)
    yield Commands(
        parts.activities, parts.chats, parts.streams, access=parts.access, clock=lambda: NOON, fair_use=fair_use
    )
    parts.close()


def said(commands: Commands, line: str, *, chat_id: int = 1, language: str | None = None) -> str:
    return "\n".join(plain(reply) for reply in commands.answer(line, chat_id=chat_id, language=language))


def test_a_chat_hears_when_it_may_go_on(commands, clock):
    for _ in range(2):
        assert "no activities" in said(commands, "/list")
    clock.now += 20
    assert said(commands, "/add pill 01.12.2026 02.12.2026 1 1") == "That was a lot at once. Please try again in 40 s."
    assert "no activities" in said(commands, "/list", chat_id=2)
    clock.now += 40
    assert "no activities" in said(commands, "/list")


def test_it_hears_so_in_the_language_that_its_person_is_believed_to_speak(commands):
    for _ in range(2):
        said(commands, "/help")
    assert "40" not in said(commands, "/help", language="ru-RU")
    assert "через 60 с" in said(commands, "/help", language="ru-RU")


def test_a_press_that_is_one_too_many_is_answered_by_a_notice(commands):
    for _ in range(2):
        list(commands.press("p:list:1", chat_id=1, user_id=7))
    (reply,) = commands.press("p:list:1", chat_id=1, user_id=7)
    assert not reply.lines
    assert "a lot at once" in reply.notice


def test_the_bot_is_bounded_by_the_setting_and_a_token_that_is_worn_out_does_not_count_there(settings):
    settings.ACTIVITIES_REQUESTS_PER_MINUTE = 1
    settings.TELEGRAM_BOT_TOKEN = "1:token"
    parts = on_repository(MemoryRepository())
    access: Access = parts.access
    access.fair_use.by_token(1)
    bot = telegram_bot(parts)
    try:
        assert "/help" in said(bot._commands, "/help")
        assert "a lot at once" in said(bot._commands, "/help")
    finally:
        bot.close()
        parts.close()
