"""A chat to talk to in tests: the real use cases on the store in memory, on 24.11.2026."""

from __future__ import annotations

from datetime import UTC, datetime

from activities.container import on_repository
from activities.ports import Repository
from activities.repositories.memory import MemoryRepository
from bot.commands import Commands
from bot.replies import Copy, Reply, plain

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Talk:
    """What one person types, and what comes back."""

    def __init__(self, repository: Repository | None = None, *, language: str = "en", now: datetime = NOON) -> None:
        self.container = on_repository(repository or MemoryRepository(), clock=lambda: now)
        self.commands = Commands(
            self.container.activities, self.container.chats, self.container.streams, clock=lambda: now
        )
        self.language = language
        self.chat_id = 1

    def replies(self, line: str) -> list[Reply]:
        return list(self.commands.answer(line, chat_id=self.chat_id, language=self.language))

    def say(self, line: str) -> str:
        """The text of all replies."""
        return "\n".join(map(plain, self.replies(line)))

    def suggestions(self, line: str) -> list[str]:
        """The commands that the replies offer to copy."""
        return [each.command for reply in self.replies(line) for each in reply.lines if isinstance(each, Copy)]

    def in_new_chat(self) -> Talk:
        """The same, in a chat of which nobody has spoken."""
        self.chat_id += 1
        return self
