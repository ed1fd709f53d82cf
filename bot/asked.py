"""What a person wants: a line or a pressed button, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

from activities.domain import Chat
from activities.ports import Call
from bot.replies import Line
from bot.words import joined


class Refused(Exception):
    """A command that cannot be carried out; the lines say why, and what would be right."""

    def __init__(self, *lines: Line) -> None:
        super().__init__()
        self.lines = lines


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command with its words. Its name is empty for plain text, of which there is `text`, and for a button."""

    command: str
    words: tuple[str, ...] = ()
    unclosed: bool = False
    text: str = ""
    chat_id: int
    user_id: int | None
    """Who wants it; None where nobody is known, as in a terminal."""
    is_private: bool
    has_buttons: bool
    """Whether buttons can be shown to them."""
    is_press: bool = False
    """Whether it was a button, under a message that the reply can replace."""
    is_dialog: bool = False
    """Whether the words were asked for one by one, so that nobody typed the whole line."""
    attached: Callable[[], bytes] | None = None
    """Fetches the file that came along; raises `Refused`."""
    call: Call
    read_chat: Callable[[], Chat]
    now: datetime

    @property
    def chat(self) -> Chat:
        return self.read_chat()

    @cached_property
    def today(self) -> date:
        """The chat's own date."""
        return self.chat.date_at(self.now)

    def with_words(self, *words: str) -> str:
        """The line of the same command with these words."""
        return " ".join((f"/{self.command}", *([joined(words)] if words else [])))
