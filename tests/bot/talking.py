"""A chat to talk to in tests: the real use cases on the store in memory, on 24.11.2026."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from activities.container import on_repository
from activities.ports import Repository
from activities.repositories.memory import MemoryRepository
from bot.commands import Commands
from bot.replies import Button, Copy, Reply, plain

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Talk:
    """What one person types, and what comes back: as in a terminal, or `with_buttons`.

    `now` can be moved. `language` is spoken whatever the chat's is; None for the chat's.
    """

    def __init__(
        self,
        repository: Repository | None = None,
        *,
        language: str | None = "en",
        now: datetime = NOON,
        with_buttons: bool = False,
    ) -> None:
        self.now = now
        self.container = on_repository(repository or MemoryRepository(), clock=lambda: self.now)
        self.language = language
        self.chat_id = 1
        self.user_id = 7 if with_buttons else None
        self.is_private = True
        self.guess: str | None = None
        self.shown: Reply | None = None
        """The last reply with buttons."""
        self.restart()

    def restart(self) -> None:
        """What the process had in mind is gone."""
        self.commands = Commands(
            self.container.activities,
            self.container.chats,
            self.container.streams,
            access=self.container.access,
            clock=lambda: self.now,
        )

    def replies(self, line: str, file: bytes | None = None) -> list[Reply]:
        """To a line, or to a button of the last reply that had some, as in `[Cancel]`."""
        if self.user_id and line.startswith("["):
            return self.pressed(self.button(line[1:-1]).data)
        replies = self.commands.answer(
            line,
            chat_id=self.chat_id,
            user_id=self.user_id,
            language=self.guess,
            speaks=self.language,
            is_private=self.is_private,
            has_buttons=self.user_id is not None,
            attached=None if file is None else lambda: file,
        )
        return self._seen(replies)

    def pressed(self, data: str) -> list[Reply]:
        assert self.user_id
        return self._seen(self.commands.press(data, chat_id=self.chat_id, user_id=self.user_id))

    def _seen(self, replies: Iterable[Reply]) -> list[Reply]:
        seen = list(replies)
        self.shown = next((reply for reply in reversed(seen) if reply.buttons), self.shown)
        return seen

    def button(self, label: str) -> Button:
        assert self.shown
        return next(button for row in self.shown.buttons for button in row if button.label == label)

    def say(self, line: str, file: bytes | None = None) -> str:
        """The text of all replies, with their buttons."""
        return "\n".join(filter(None, map(self.text, self.replies(line, file))))

    def exported(self) -> tuple[bytes, bytes]:
        """The files of /export: JSON and CSV."""
        as_json, as_csv = (reply.file.content for reply in self.replies("/export") if reply.file)
        return as_json, as_csv

    def text(self, reply: Reply) -> str:
        if self.user_id is None:
            return plain(reply.without_buttons)
        rows = ("".join(f"[{button.label}]" for button in row) for row in reply.buttons)
        notice = [f"({reply.notice})"] if reply.notice else []
        return "\n".join([*([plain(reply)] if reply.lines else []), *rows, *notice])

    def suggestions(self, line: str) -> list[str]:
        """The commands that the replies offer to copy."""
        replies = [reply.without_buttons for reply in self.replies(line)]
        return [each.command for reply in replies for each in reply.lines if isinstance(each, Copy)]

    def in_new_chat(self) -> Talk:
        """The same, in a chat of which nobody has spoken."""
        self.chat_id += 1
        return self
