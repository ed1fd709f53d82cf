"""What the log leaves out: secrets, what people wrote, and what is no fault of ours."""

from __future__ import annotations

import copy
import logging
import os
import re
import select
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import urlsplit

import django.db
from django.conf import settings

from activities.domain import ActivityExists, ActivityNotFound, InvalidActivity

LEAST_KNOWN = 16
"""Characters of a secret of ours that is looked for by itself; a shorter one may be a word of any line."""
_SHAPES = (
    r"act_[\w.:=-]{12,}",  # a chat's token
    r"(?i:(?<=bearer\s)\s*[^\s\"',]+)",
    r"\d{6,}:[\w-]{30,}",  # Telegram's token of a bot
    r"(?<=://)[^\s/@:\"']*:[^\s/\"']+(?=@)",  # who logs in by a URL, and how
    r"(?i:(?<=password=)[^\s&;,]+)",
)
_WORDS = re.compile(r"\w")


class PrivateFormatter(logging.Formatter):
    """Whoever writes a line, there is no secret in it, and of an error that quotes rows or names only which it is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        known = sorted({each for each in _secrets() if len(each) >= LEAST_KNOWN}, key=len, reverse=True)
        self._secret = re.compile("|".join((*map(re.escape, known), *_SHAPES)))

    def format(self, record: logging.LogRecord) -> str:
        arguments = record.args
        if record.exc_info or (isinstance(arguments, tuple) and any(map(_quotes, arguments))):
            record = copy.copy(record)
            record.exc_text = None  # another handler's formatter may have kept what it made of it
            if isinstance(arguments, tuple):
                record.args = tuple(_described(each) if _quotes(each) else each for each in arguments)
        return self._secret.sub("…", super().format(record))

    def formatException(  # noqa: N802
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        text = super().formatException(ei)
        for error in _chain(ei[1], set()):
            if _quotes(error):
                for line in filter(_WORDS.search, str(error).splitlines()):
                    text = text.replace(f": {line}", f": {_described(error)}").replace(line, "…")
        return text


def _chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The exceptions of which a traceback tells."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (error.__cause__, error.__context__, *within):
        yield from _chain(other, seen)


def _quotes(error: object) -> bool:
    """Whether it tells what was wrong by quoting it."""
    if isinstance(error, ActivityExists | ActivityNotFound | InvalidActivity):
        return True
    psycopg: Any = sys.modules.get("psycopg")  # where nobody has imported it, none of its errors is raised
    for database in filter(None, (django.db, psycopg)):
        # Of what operates the database they tell without a value, and whoever mends it needs to know.
        if isinstance(error, database.DatabaseError):
            return not isinstance(error, database.OperationalError)
    return False


def _described(error: Any) -> str:
    """An error without what it quotes: its name, a database's code, and what of the schema was in the way."""
    told = error if hasattr(error, "sqlstate") else error.__cause__
    diagnosis = getattr(told, "diag", None)
    where = getattr(diagnosis, "constraint_name", None) or getattr(diagnosis, "column_name", None)
    words = (type(error).__name__, getattr(told, "sqlstate", None), where)
    return f"({' '.join(filter(None, words))})"


def _secrets() -> list[str]:
    """Those that this process knows."""
    database: dict[str, Any] = settings.DATABASES.get("default", {})
    return [
        settings.SECRET_KEY,
        *settings.SECRET_KEY_FALLBACKS,
        *(each.secret for each in settings.ACTIVITIES_SERVICE_TOKENS),
        settings.ACTIVITIES_GRPC_TOKEN,
        settings.TELEGRAM_BOT_TOKEN,
        settings.KAFKA_SECURITY.password,
        database.get("PASSWORD", ""),
        urlsplit(settings.REDIS_URL).password or "",
    ]


class Console(logging.StreamHandler[TextIO]):
    """Writes to where errors go, and leaves out what would have to wait there for a reader that does not read: what is
    served must not stop because nobody looks at the log."""

    _left_out = 0

    def emit(self, record: logging.LogRecord) -> None:  # under the handler's lock
        try:
            descriptor = self.stream.fileno()
        except (AttributeError, OSError, ValueError):
            super().emit(record)  # it is in memory, where nobody waits
            return
        try:
            text = f"{self.format(record)}\n"
            if self._left_out:
                text = f"{self._left_out} lines are left out here: nobody read them\n{text}"
            if _write(descriptor, text.encode(errors="backslashreplace")):
                self._left_out = 0
            else:
                self._left_out += 1
        except Exception:
            self.handleError(record)


def _write(descriptor: int, data: bytes) -> bool:
    """Whether all of it could be written at once. What says that it takes something takes a piece of `PIPE_BUF`."""
    for start in range(0, len(data), select.PIPE_BUF):
        if not select.select([], [descriptor], [], 0)[1]:
            return False
        os.write(descriptor, data[start : start + select.PIPE_BUF])
    return True


class CallersFault(logging.Filter):
    """Keeps the line and drops the traceback of what a caller sent wrong: it would show our code, which is right."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True
