"""What the log leaves out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import django.db
import psycopg
import pytest
from django.conf import settings

from activities.access import Access
from activities.domain import ActivityNotFound, StorageTimeout
from activities_project.logs import Console, PrivateFormatter

NAME = "insulin"
"""What the code that a traceback shows has not."""
TOKEN = Access(keys=["key"], valid_after=lambda chat_id, call: 0).issue(42)


def logged(message: str, *arguments: Any, error: BaseException | None = None) -> str:
    """The line of a log."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("any", logging.ERROR, __file__, 1, message, arguments, exc_info)
    return PrivateFormatter("%(levelname)s %(name)s: %(message)s").format(record)


def raised(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (f"refused {TOKEN}", "refused …"),
        (f"Cookie: activities_token={TOKEN}:1aB:sig; other=1", "Cookie: activities_token=…; other=1"),
        ("{'authorization': 'Bearer abc.def-123'}", "{'authorization': 'Bearer …'}"),
        ("bearer  abc", "bearer …"),
        (settings.SECRET_KEY, "…"),
        (f"with {settings.ACTIVITIES_SERVICE_TOKENS[0].secret}!", "with …!"),
        (
            "POST https://api.telegram.org/bot123456789:AAF-abcdefghijklmnopqrstuvwxyz01234/getMe",
            "POST https://api.telegram.org/bot…/getMe",
        ),
        ("redis://:pass@word@10.0.0.1:6379/0 is away", "redis://…@10.0.0.1:6379/0 is away"),
        ("postgres://activities:p%40ss@db:5432/activities", "postgres://…@db:5432/activities"),
        ("host=db password=hunter2 dbname=a", "host=db password=… dbname=a"),
    ],
)
def test_no_secret_gets_into_a_line(written: str, left: str) -> None:
    assert logged(written) == f"ERROR any: {left}"
    assert logged("%s", written) == f"ERROR any: {left}"
    told = logged("failed", error=RuntimeError(written))
    assert told == f"ERROR any: failed\nRuntimeError: {left}"


@pytest.mark.parametrize(
    "line", ["gRPC http://127.0.0.1:8000/api/ at 10:20:30", "act_ is what tokens begin with", "a bearer of news"]
)
def test_what_is_no_secret_stays(line: str) -> None:
    if line.startswith("a bearer"):  # the word behind it is taken for a token: rather too much than too little
        assert logged(line) == "ERROR any: a bearer … news"
    else:
        assert logged(line) == f"ERROR any: {line}"


def test_an_error_that_quotes_a_name_is_told_without_it() -> None:
    missing = ActivityNotFound(name="insulin")
    for told in (logged("no %s", missing), logged("no", error=missing)):
        assert "insulin" not in told
        assert "(ActivityNotFound)" in told
    assert "the storage did not answer in time" in logged("late: %s", StorageTimeout())


def test_every_exception_of_a_chain_is_looked_at() -> None:
    def fail() -> None:
        try:
            raise ActivityNotFound(name=NAME)
        except ActivityNotFound as error:
            raise ExceptionGroup("several", [ActivityNotFound(name=NAME)]) from error

    told = logged("x", error=raised(fail))
    assert NAME not in told
    assert 'raise ExceptionGroup("several"' in told  # where it happened is there


def test_what_another_formatter_made_of_an_error_is_not_taken_over() -> None:
    error = ActivityNotFound(name="insulin")
    record = logging.LogRecord("any", logging.ERROR, __file__, 1, "x", (), (type(error), error, None))
    logging.Formatter().format(record)
    assert "insulin" not in PrivateFormatter().format(record)
    assert record.exc_text
    assert "insulin" in record.exc_text  # the other one's record is as it was


@pytest.fixture
def direct(database: None) -> psycopg.Connection[Any]:
    from os import environ

    return psycopg.connect(environ["DATABASE_DIRECT_URL"], autocommit=True, cursor_factory=psycopg.ClientCursor)


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("INSERT INTO pg_temp.t VALUES (%s, 2)", "23505 t_pkey"),
        ("INSERT INTO pg_temp.t VALUES (%s || '2', 0)", "23514 t_n_check"),
        ("INSERT INTO pg_temp.t VALUES (%s, NULL)", "23502 n"),
        ("SELECT %s::integer", "22P02"),
        ("SELECT %s::date", "22007"),
        ("SELECT nothing, %s", "42703"),
    ],
)
def test_what_postgresql_quotes_of_rows_and_values_is_left_out(
    direct: psycopg.Connection[Any], statement: str, state: str
) -> None:
    with direct:
        direct.execute("CREATE TEMPORARY TABLE t (name text PRIMARY KEY, n integer NOT NULL CHECK (n > 0))")
        direct.execute("INSERT INTO t VALUES ('insulin', 1)")
        error = raised(lambda: direct.execute(statement, [NAME]))
        assert NAME in str(error)

        def wrapped() -> None:
            with django.db.connection.wrap_database_errors:
                raise error

        for told in (logged("x", error=error), logged("x", error=raised(wrapped)), logged("x %s", error)):
            assert NAME not in told
            assert state in told
            assert type(error).__name__ in told


def test_what_operates_the_database_is_told() -> None:
    error = psycopg.OperationalError('connection failed: FATAL:  password authentication failed for user "activities"')
    assert "password authentication failed" in logged("x", error=error)


def test_the_processes_log_this_way() -> None:
    handler = next(each for each in logging.getLogger().handlers if isinstance(each.formatter, PrivateFormatter))
    assert getattr(handler, "stream", None) is not sys.stdout


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("activities", logging.INFO, __file__, 1, text, None, None)


def test_a_log_that_nobody_reads_stops_nothing_and_says_later_what_is_missing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as reading, os.fdopen(writer, "w") as writing:
        console = Console(writing)
        for number in range(10_000):
            console.emit(record(f"line {number}"))
        console.emit(record("long " * 10_000))
        unread = reading.read(1 << 20).decode().splitlines()
        assert unread == [f"line {number}" for number in range(len(unread))]
        console.emit(record("one more"))
        missing = 10_001 - len(unread)
        assert reading.read(1 << 20).decode() == (f"{missing} lines are left out here: nobody read them\none more\n")


def test_a_log_that_is_read_has_every_line() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as reading, os.fdopen(writer, "w") as writing:
        console = Console(writing)
        console.emit(record("first"))
        console.emit(record("\ud800 is no character"))
        writing.close()
        assert reading.read() == "first\n\\ud800 is no character\n"
