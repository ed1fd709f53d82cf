"""The bot's commands in a terminal, or from a pipe: one command a line."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, groupby
from pathlib import Path

from django.utils import translation
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from wcwidth import wcswidth

from activities.cli import STOP_SECONDS
from activities.domain import ActivitiesError
from bot import texts
from bot.asked import Refused
from bot.chat_files import MOST_BYTES
from bot.chat_settings import LANGUAGE_NAMES, REGIONS, REVOKE, zones_in
from bot.commands import Commands, spoken
from bot.replies import NAME_COLUMN, File, Reply, Row, Text, plain
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


def read_file(name: str) -> bytes:
    """The content of the file, as far as it may go; raises `Refused`."""
    try:
        # A pipe that nobody writes to would keep us waiting already when it is opened.
        descriptor = os.open(os.path.expanduser(name), os.O_RDONLY | os.O_NONBLOCK)  # noqa: PTH111 - it never fails
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ValueError):  # a name that no file can have
        raise Refused(Text(texts.file_not_found(name))) from None
    except OSError as failed:
        raise Refused(Text(texts.file_unreadable(name, failed.strerror or "?"))) from None
    raise Refused(Text(texts.no_file(name)))


def save(file: File) -> Path:
    """Writes the file into the current folder, for our user alone, beside what has its name already: where it is."""
    name = Path(file.name)
    for number in count(1):
        path = Path.cwd() / (name if number == 1 else f"{name.stem}-{number}{name.suffix}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        break
    try:
        with open(descriptor, "wb") as written:  # noqa: PTH123
            written.write(file.content)
    except OSError:
        path.unlink()
        raise
    return path


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
            if reply.lines:
                self._write(aligned(reply.without_buttons) + "\n")
            if reply.file:
                self._write(self._saved(reply.file) + "\n")
            self._language = reply.language or self._language
            if self._ending:
                break
        self._busy = False
        if self._ending:
            raise _Ended

    def _saved(self, file: File) -> str:
        with translation.override(self._language):
            try:
                return texts.saved_as(str(save(file)))
            except OSError as failed:
                return texts.not_saved(file.name, failed.strerror or "?")

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
