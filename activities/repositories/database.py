"""PostgreSQL within a deadline: one message there and back, and no wait that the deadline does not end."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import errors

from activities.domain import StorageTimeout, StorageUnavailable
from activities.ports import Call

LAST_SECONDS = 0.5
"""How long after its deadline an access is left to the server's own time limit before its socket is shut."""

LEAST_TO_CONNECT = 1.0
"""libpq bounds a connection attempt by 2 s at the least: with less left than this, it would end too late."""

LATE = "past the deadline"
"""What the server says of a write that it would have committed too late."""

Row = tuple[Any, ...]
Statement = tuple[str, Sequence[object]]


class Watchdog:
    """Shuts sockets at their time, which ends a wait on a server that takes bytes and says nothing.

    A paused server is bounded by no time limit of its own, nor by TCP's. One thread serves all connections.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, socket.socket]] = []
        self._watched: set[int] = set()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, descriptor: int, until: float) -> Iterator[None]:
        """Shuts the socket at `until` (monotonic seconds) unless the block has ended."""
        # A copy: by the time that it is shut, the number may be another connection's.
        connection = socket.socket(fileno=os.dup(descriptor))
        number = next(self._numbers)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
            self._watched.add(number)
            heapq.heappush(self._due, (until, number, connection))
            if self._due[0][1] == number:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.discard(number)
            connection.close()

    def _run(self) -> None:
        with self._changed:
            while True:
                if not self._due:
                    self._changed.wait()
                    continue
                until, number, connection = self._due[0]
                if number in self._watched and until > time.monotonic():
                    self._changed.wait(until - time.monotonic())
                    continue
                heapq.heappop(self._due)
                if number in self._watched:
                    self._watched.discard(number)
                    with suppress(OSError):  # the other end was faster
                        connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A connection to the server, and by how much its clock is ahead of this process's monotonic one, in seconds."""

    connection: psycopg.Connection[Row]
    ahead: float


class Database:
    """This thread's session with PostgreSQL. The guard's threads are few and stay, and so do their sessions."""

    def __init__(self, *, alias: str = DEFAULT_DB_ALIAS) -> None:
        self._alias = alias
        self._watchdog = Watchdog()
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()

    @contextmanager
    def transaction(self, call: Call, *, writes: bool) -> Iterator[Transaction]:
        """A transaction that is over, one way or the other, soon after the call's deadline.

        A write is not committed after it, even where the server gets to read its message only later. What a read sees
        is of one moment. Raises `StorageTimeout` and `StorageUnavailable`; what is raised inside rolls back.
        """
        session = self._session(call)
        transaction = Transaction(session, call, writes=writes)
        try:
            with self._watched(session.connection, call):
                try:
                    yield transaction
                except BaseException:
                    transaction.abandon()
                    raise
        except psycopg.Error as error:
            # The clocks may have gone apart, so that it was not late: the next session compares them anew.
            if session.connection.closed or _is_late(error):
                self._drop(session)
            raise _meaning(error, call) from error

    def ask(self, call: Call, *statements: Statement, writes: bool = False) -> list[list[Row]]:
        """The rows of each statement, all of them one transaction in one message."""
        with self.transaction(call, writes=writes) as transaction:
            return transaction.ask(*statements, last=True)

    def close(self) -> None:
        """Closes every thread's session; none may be in use."""
        with self._lock:
            for session in self._sessions:
                session.connection.close()
            self._sessions.clear()

    def _session(self, call: Call) -> Session:
        """This thread's session, made when there is none or the server has ended it meanwhile."""
        session: Session | None = getattr(self._mine, "session", None)
        if session is not None:
            if not _is_stale(session.connection):
                return session
            self._drop(session)
        if call.deadline - time.monotonic() < LEAST_TO_CONNECT:
            raise StorageTimeout
        try:
            session = self._mine.session = self._connect(call)
        except psycopg.Error as error:
            raise _meaning(error, call) from error
        with self._lock:
            self._sessions.add(session)
        return session

    def _connect(self, call: Call) -> Session:
        connection = psycopg.connect(**connections[self._alias].get_connection_params(), autocommit=True)
        try:
            with self._watched(connection, call):
                ((now,),) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
        except BaseException:
            connection.close()
            raise
        # The server said so before now: its clock is at least so much ahead, and a deadline by it never too late.
        return Session(connection, now - time.monotonic())

    def _watched(self, connection: psycopg.Connection[Row], call: Call) -> AbstractContextManager[None]:
        return self._watchdog.watching(connection.fileno(), call.deadline + LAST_SECONDS)

    def _drop(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
        self._mine.session = None
        session.connection.close()


class Transaction:
    """Statements of one transaction. It begins with the first message and ends with the one that is the last."""

    def __init__(self, session: Session, call: Call, *, writes: bool) -> None:
        self._session = session
        self._cursor = psycopg.ClientCursor(session.connection)
        self._call = call
        self._writes = writes
        self._open = False
        self._later: list[str] = []

    def later(self, *statements: Statement) -> None:
        """Statements whose rows nobody wants: they go in front of the next message's own."""
        self._later += map(self._text, statements)

    def ask(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        """The rows of each statement; all go in one message. `last` commits in the same message."""
        texts = [self._text(each) for each in statements]
        before = [f"SET LOCAL statement_timeout = {self._milliseconds()}", *self._later]
        if not self._open:
            before = [_BEGIN_WRITING if self._writes else _BEGIN_READING, *before]
        after: list[str] = []
        if last:
            after = [self._in_time(), "COMMIT"] if self._writes else ["COMMIT"]
        self._later = []
        self._open = True
        # Without parameters, psycopg sends it as one simple query, which may hold several statements.
        self._cursor.execute(";".join([*before, *texts, *after]).encode())
        self._open = not last
        rows: list[list[Row]] = []
        for number in range(len(before) + len(texts)):
            if number >= len(before):
                rows.append(self._cursor.fetchall() if self._cursor.description else [])
            self._cursor.nextset()
        return rows

    def abandon(self) -> None:
        """Rolls back what is open; a connection that cannot even do that is closed."""
        if not self._open:
            return
        self._open = False
        try:
            self._session.connection.execute("ROLLBACK")
        except psycopg.Error:
            self._session.connection.close()

    def _text(self, statement: Statement) -> str:
        text, parameters = statement
        return self._cursor.mogrify(text, parameters or None)

    def _milliseconds(self) -> int:
        left = self._call.deadline - time.monotonic()
        if left <= 0:
            raise StorageTimeout
        return max(1, int(left * 1000))

    def _in_time(self) -> str:
        """Fails when the deadline is past by the server's clock.

        What was sent to a server or pooler that did not read it is read when that goes on, though the sender has long
        given up and shut its end.
        """
        deadline = f"to_timestamp({self._call.deadline + self._session.ahead:.6f})"
        return f"SELECT CASE WHEN clock_timestamp() > {deadline} THEN ('{LATE}, ' || {deadline})::int END"


_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"


def _is_stale(connection: psycopg.Connection[Row]) -> bool:
    """Whether the other end has closed, or said something unasked, which only precedes that."""
    if connection.closed:
        return True
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return bool(readable)


def _is_late(error: psycopg.Error) -> bool:
    return isinstance(error, errors.InvalidTextRepresentation) and LATE in str(error)


def _meaning(error: psycopg.Error, call: Call) -> Exception:
    """The domain's error for a database's; what is nobody's fault but ours stays as it is."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable) or _is_late(error):
        return StorageTimeout()
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | errors.ReadOnlySqlTransaction):
        return StorageTimeout() if time.monotonic() >= call.deadline else StorageUnavailable()
    return error
