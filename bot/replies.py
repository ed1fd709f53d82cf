"""What the bot answers, before anybody knows where it is shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MOST_UNITS = 4096
"""The longest message that Telegram takes, in UTF-16 code units."""
MOST_CAPTION_UNITS = 1024
"""The longest text beside a file that Telegram takes, in UTF-16 code units."""
_ROW_MARGIN = 64
"""What a layout may add to a row's cells: a bullet and separators, or the padding of columns."""
MOST_DATA_BYTES = 64
"""The longest data of a button that Telegram takes, in UTF-8."""
NAME_COLUMN = 32
"""The widest first column that a layout lines up; a longer cell stands on a line of its own."""


@dataclass(frozen=True, slots=True)
class Text:
    """A line to read."""

    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: its subject, then what there is to say of it."""

    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A command to copy, with the words that lead to it."""

    command: str
    lead: str = ""


Line = Text | Row | Copy


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message; its `data` comes back when it is pressed."""

    label: str
    data: str

    def __post_init__(self) -> None:
        if len(self.data.encode()) > MOST_DATA_BYTES:
            raise ValueError(f"{self.data!r} is longer than {MOST_DATA_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class File:
    """A file to keep."""

    name: str
    content: bytes = field(repr=False)


Buttons = tuple[tuple[Button, ...], ...]
"""Rows of buttons."""
NOWHERE = "-"
"""The data of a button that only shows something."""


def pager(data: str, number: int, last: int) -> Buttons:
    """The way from page `number` to those beside it, if there are any; `data` and a page's number lead there."""
    if last <= 1:
        return ()
    back = [Button("‹", f"{data}{number - 1}")] if number > 1 else []
    on = [Button("›", f"{data}{number + 1}")] if number < last else []
    return ((*back, Button(f"{number}/{last}", NOWHERE), *on),)


@dataclass(frozen=True, slots=True)
class Reply:
    """One message. Its lines are text without markup, and no layout here makes them longer than `MOST_UNITS`.

    A reply without lines is its notice alone; one that has nothing at all says that work goes on.
    """

    lines: tuple[Line, ...]
    buttons: Buttons = ()
    typed: tuple[Line, ...] = ()
    """What stands after the lines where there are no buttons."""
    replaces: bool = False
    """Whether it takes the place of the message whose button was pressed."""
    notice: str = ""
    """What is shown for a moment to the one who pressed a button, at most 200 characters."""
    language: str = ""
    """The language in which the chat goes on, when it was chosen just now."""
    file: File | None = None
    """What the message brings; its lines are then at most `MOST_CAPTION_UNITS` long."""
    instead_of_file: str = ""
    """What is said where no file may be sent."""
    forgets: bool = False
    """Whether nothing of the chat is to be kept any more, not in mind either."""

    @property
    def without_buttons(self) -> Reply:
        return Reply(self.lines + self.typed, file=self.file)


def plain(reply: Reply) -> str:
    """The reply for a proportional font: no columns."""
    return "\n".join(map(_plain_line, reply.lines))


def _plain_line(line: Line) -> str:
    if isinstance(line, Row):
        subject, *rest = line.cells
        return f"• {subject}: {', '.join(rest)}"
    if isinstance(line, Copy):
        return f"{line.lead} {line.command}" if line.lead else line.command
    return line.text


def units(text: str) -> int:
    """The text's length as Telegram counts it: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def size(line: Line) -> int:
    """An upper bound of the line's length in any layout, in UTF-16 code units, its line break included."""
    return units(_plain_line(line)) + (_ROW_MARGIN if isinstance(line, Row) else 0) + 1


def fitting(lines: Iterable[Line], *, first: int | None = None) -> Iterator[Reply]:
    """The lines as replies, each as full as it may be, made as the lines arrive.

    With `first`, the first reply goes out after so many lines, so that there is something to see early.
    """
    held: list[Line] = []
    used = 0
    for line in lines:
        more = size(line)
        if held and used + more > MOST_UNITS:
            yield Reply(tuple(held))
            held, used, first = [], 0, None
        held.append(line)
        used += more
        if len(held) == first:
            yield Reply(tuple(held))
            held, used, first = [], 0, None
    if held:
        yield Reply(tuple(held))


_DIRECTION_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def isolated(text: str) -> str:
    """Foreign text for the middle of a sentence: written from right to left, it must not turn its surroundings.

    Never for a command to copy, where the isolating characters would be copied too.
    """
    if all(unicodedata.bidirectional(char) not in _TURNING for char in text):
        return text
    return f"\u2068{text.translate(_DIRECTION_CONTROLS)}\u2069"


_TURNING = frozenset({"R", "AL", "AN", "RLE", "RLO", "LRE", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"})
