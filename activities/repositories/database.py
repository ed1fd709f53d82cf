"""PostgreSQL within a deadline: one message there and back, and no wait that the deadline does not end."""

from __future__ import annotations

import logging
import math
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from activities.domain import StorageTimeout, StorageUnavailable
from activities.ports import Call
from activities.repositories.pool import Pool

logger = logging.getLogger(__name__)

WAY_BACK = 0.05
"""How long before the deadline the server's own time limit ends a statement, in seconds, so that its answer still
comes in time."""

GREETING_SECONDS = 2.0
"""How long a new session is waited for, as long as libpq waits for a connection at the least."""

LATE = "past the deadline"
"""What the server says of a write that it would have committed too late."""

T = TypeVar("T")
Row = tuple[Any, ...]
Statement = tuple[str, Sequence[object]]


class TimedConnection(psycopg.Connection[Row]):
    """A connection on which no wait goes on after a time.

    A server that takes bytes and says nothing, as a paused one does, is bounded by no limit of its own, nor by TCP's.
    """

    until: float = math.inf
    """In monotonic seconds. What runs into it leaves the connection in the middle of an answer: it must be closed."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        left = max(0.0, self.until - time.monotonic())
        return super().wait(gen, interval, timeout if left == math.inf else left)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A connection to the server, and by how much its clock is ahead of this process's monotonic one, in seconds."""

    connection: TimedConnection
    ahead: float

    def close(self) -> None:
        self.connection.close()


class Database:
    """Sessions with PostgreSQL, of which at most `most` are kept while nobody uses them."""

    def __init__(self, *, alias: str = DEFAULT_DB_ALIAS, most: int = 10) -> None:
        self._alias = alias
        self._sessions = Pool(self._connect, most=most)
        self._lock = threading.Lock()
        self._away = False

    @contextmanager
    def transaction(self, call: Call, *, writes: bool) -> Iterator[Transaction]:
        """A transaction that is over, one way or the other, at the call's deadline.

        A write is not committed after it, even where the server gets to read its message only later. What a read sees
        is of one moment. Raises `StorageTimeout` and `StorageUnavailable`; what is raised inside rolls back.
        """
        session = self._session(call)
        session.connection.until = call.deadline
        transaction = Transaction(session, call, writes=writes)
        try:
            try:
                yield transaction
            except BaseException:
                transaction.abandon()
                raise
        except psycopg.Error as error:
            # The clocks may have gone apart, so that it was not late: the next session compares them anew.
            if _is_late(error):
                session.close()
            raise _meaning(error, call) from error
        finally:
            if session.connection.pgconn.transaction_status == TransactionStatus.IDLE:
                self._sessions.give_back(session)
            else:  # lost, or in the middle of an answer that was waited for in vain
                session.close()

    def ask(self, call: Call, *statements: Statement, writes: bool = False) -> list[list[Row]]:
        """The rows of each statement, all of them one transaction in one message."""
        with self.transaction(call, writes=writes) as transaction:
            return transaction.ask(*statements, last=True)

    def close(self) -> None:
        """Closes the sessions; none may be in use."""
        self._sessions.close()

    def _session(self, call: Call) -> Session:
        """A session that the server has not ended meanwhile."""
        try:
            while True:
                session = self._sessions.take(call.deadline)
                if not _is_stale(session.connection):
                    return session
                session.close()
        except TimeoutError:
            raise StorageTimeout from None
        except psycopg.Error as error:
            raise _meaning(error, call) from error

    def _connect(self) -> Session:
        try:
            session = self._greeted()
        except psycopg.Error as error:
            self._tell(away=True, why=" ".join(str(error).split()))  # which has no passwords
            raise
        self._tell(away=False)
        return session

    def _tell(self, *, away: bool, why: str = "") -> None:
        """Logs what is new: that no connection can be made, or that one can after all."""
        with self._lock:
            if away and not self._away:
                logger.warning("PostgreSQL cannot be used (%s)", why)
            elif self._away and not away:
                logger.warning("PostgreSQL can be used again")
            self._away = away

    def _greeted(self) -> Session:
        """A new connection that has answered."""
        parameters = {**connections[self._alias].get_connection_params(), "autocommit": True}
        connection = TimedConnection.connect(**parameters)
        try:
            connection.until = time.monotonic() + GREETING_SECONDS
            ((now,),) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
        except BaseException:
            connection.close()
            raise
        # The server said so before now: its clock is at least so much ahead, and a deadline by it never too late.
        return Session(connection, now - time.monotonic())


class Transaction:
    """Statements of one transaction. It begins with the first message and ends with the one that is the last."""

    def __init__(self, session: Session, call: Call, *, writes: bool) -> None:
        self._session = session
        self._cursor = psycopg.ClientCursor(session.connection)
        self._call = call
        self._writes = writes
        self._open = False

    def ask(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        """The rows of each statement; all go in one message. `last` commits in the same message."""
        texts = [self._text(each) for each in statements]
        before = [f"SET LOCAL statement_timeout = {self._milliseconds()}"]
        if not last:  # a process that stands still before its next message keeps its locks no longer
            before.append(f"SET LOCAL idle_in_transaction_session_timeout = {self._milliseconds()}")
        if not self._open:
            before = [*(_BEGIN_WRITING if self._writes else _BEGIN_READING), *before]
        after: list[str] = []
        if last:
            after = [self._in_time(), "COMMIT"] if self._writes else ["COMMIT"]
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
        return max(1, int(max(left - WAY_BACK, left / 2) * 1000))

    def _in_time(self) -> str:
        """Fails when the deadline is past by the server's clock.

        What was sent to a server or pooler that did not read it is read when that goes on, though the sender has long
        given up and shut its end.
        """
        deadline = f"to_timestamp({self._call.deadline + self._session.ahead:.6f})"
        return f"SELECT CASE WHEN clock_timestamp() > {deadline} THEN ('{LATE}, ' || {deadline})::int END"


_BEGIN_READING = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
# Django's foreign keys are checked at COMMIT unless told otherwise, where no time limit of the server counts.
_BEGIN_WRITING = ("BEGIN ISOLATION LEVEL READ COMMITTED", "SET CONSTRAINTS ALL IMMEDIATE")


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
    late = errors.QueryCanceled | errors.LockNotAvailable | errors.IdleInTransactionSessionTimeout
    if isinstance(error, late) or _is_late(error):
        return StorageTimeout()
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | errors.ReadOnlySqlTransaction):
        return StorageTimeout() if time.monotonic() >= call.deadline else StorageUnavailable()
    return error
