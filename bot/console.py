"""The bot's commands in a terminal, or from a pipe: one command a line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby

from django.utils import translation
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from wcwidth import wcswidth

from activities.cli import STOP_SECONDS
from activities.domain import ActivitiesError
from bot import texts
from bot.chat_settings import LANGUAGE_NAMES, REGIONS, REVOKE, zones_in
from bot.commands import Commands, spoken
from bot.replies import NAME_COLUMN, Reply, Row, Text, plain
from bot.words import quoted

_INDENT = "  "
_GAP = "   "
_NAMED = ("/get", "/update", "/delete")
_VALUES: Mapping[str, Sequence[str]] = {
    "/timezone": ["UTC", *(zone for region in REGIONS for zone in zones_in(region))],
    "/language": list(LANGUAGE_NAMES),
    "/token": [REVOKE],
}


def aligned(reply: Reply) -> str:
    """The reply for a terminal: its rows in columns."""
    lines: list[str] = []
    for is_table, group in groupby(reply.lines, lambda line: isinstance(line, Row)):
        if is_table:
            lines += _table([line.cells for line in group if isinstance(line, Row)])
        else:
            lines += [plain(Reply((line,))) for line in group]
    return "\n".join(lines)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(width for width in map(_width, column)) for column in zip(*rows, strict=True)]
    widths[0] = max((width for row in rows if (width := _width(row[0])) <= NAME_COLUMN), default=0)
    for row in rows:
        cells = row
        if _width(row[0]) > widths[0]:
            yield _INDENT + row[0]
            cells = ("", *row[1:])
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
        yield (_INDENT + _GAP.join(padded)).rstrip(" ")


def _width(text: str) -> int:
    """How many columns a terminal gives the text."""
    return max(0, wcswidth(text))


def language_of(environment: Mapping[str, str]) -> str:
    """The language that the environment's locale variables ask for."""
    chosen = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return spoken(chosen.partition(".")[0])


class _Ended(BaseException):
    """A signal wants the conversation to end, and nothing is under way."""


class Conversation:
    """One chat's lines, and the replies to them, which `write` shows.

    SIGTERM and SIGINT end it once the command in hand is finished. One that does not finish within `STOP_SECONDS`,
    because nobody reads its replies, is left; so it is at a second signal.
    """

    def __init__(self, commands: Commands, *, chat_id: int, language: str, write: Callable[[str], None]) -> None:
        self._commands = commands
        self._chat_id = chat_id
        self._language = language
        self._write = write
        self._busy = self._ending = False

    def from_pipe(self, lines: Iterable[bytes]) -> None:
        """Answers each line, blank ones excepted, with a blank line between. The lines should be UTF-8."""
        with self._until_signalled():
            for number, raw in enumerate(filter(bytes.strip, lines)):
                self._show(self._replies_to_bytes(raw), before="\n" if number else "")

    def from_terminal(self) -> None:
        """Asks for lines, with history and completion, until Ctrl-D or Ctrl-C."""
        session: PromptSession[str] = PromptSession(
            completer=ThreadedCompleter(_Completer(self._commands, self._chat_id, lambda: self._language)),
            complete_while_typing=False,
        )
        with self._until_signalled(), suppress(EOFError, KeyboardInterrupt):
            self._show(self._replies_to("/start"))
            while True:
                line = session.prompt("\n> ")
                if line.strip():
                    self._show(self._replies_to(line))

    def _replies_to(self, line: str) -> Iterable[Reply]:
        return self._commands.answer(line, chat_id=self._chat_id, speaks=self._language)

    def _replies_to_bytes(self, line: bytes) -> Iterable[Reply]:
        try:
            return self._replies_to(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            with translation.override(self._language):
                return [Reply((Text(texts.not_utf8()),))]

    def _show(self, replies: Iterable[Reply], *, before: str = "") -> None:
        self._busy = True
        self._write(before)
        for reply in replies:
            self._write(aligned(reply.without_buttons) + "\n")
            self._language = reply.language or self._language
            if self._ending:
                break
        self._busy = False
        if self._ending:
            raise _Ended

    @contextmanager
    def _until_signalled(self) -> Iterator[None]:
        def end(*_: object) -> None:
            if not self._busy or self._ending:
                raise _Ended
            self._ending = True
            signal.alarm(int(STOP_SECONDS))

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
        try:
            yield
        except _Ended:
            pass
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)


class _Completer(Completer):
    """Completes commands and what they want: the chat's names, time zones."""

    def __init__(self, commands: Commands, chat_id: int, language: Callable[[], str]) -> None:
        self._commands = commands
        self._chat_id = chat_id
        self._language = language

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor.lstrip()
        command, space, word = typed.partition(" ")
        if not space:
            with translation.override(self._language()):
                usages = [usage.translated() for usage in texts.USAGES]
            for usage in usages:
                if f"/{usage.command}".startswith(command):
                    yield Completion(f"/{usage.command}", -len(command), display_meta=usage.meaning)
        elif command in _NAMED:
            for name in self._names():
                if quoted(name).startswith(word) or name.startswith(word):
                    yield Completion(quoted(name), -len(word), display=name)
        else:
            for value in _VALUES.get(command, ()):
                if value.lower().startswith(word.lower()):
                    yield Completion(value, -len(word))

    def _names(self) -> list[str]:
        try:
            return self._commands.names(self._chat_id)
        except ActivitiesError:  # the command itself will tell
            return []
