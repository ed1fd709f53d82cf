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
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from psycopg import errors

from activities.domain import StorageTimeout, StorageUnavailable
from activities.ports import Call

LAST_SECONDS = 0.5
"""How long after its deadline an access is left to the server's own time limit before its socket is shut."""

LEAST_TO_CONNECT = 1.0
"""libpq bounds a connection attempt by 2 s at the least: with less left than this, it would end too late."""

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
                    connection.shutdown(socket.SHUT_RDWR)


class Database:
    """This thread's connection to PostgreSQL. The guard's threads are few and stay, and so do their connections."""

    def __init__(self, *, watchdog: Watchdog | None = None) -> None:
        self._watchdog = watchdog or Watchdog()
        self._lock = threading.Lock()
        self._connections: set[psycopg.Connection[Row]] = set()

    @contextmanager
    def transaction(self, call: Call) -> Iterator[Transaction]:
        """A transaction that is over, one way or the other, soon after the call's deadline.

        Raises `StorageTimeout` and `StorageUnavailable`; what is raised inside rolls back.
        """
        connection = self._connection(call)
        transaction = Transaction(connection, call)
        try:
            with self._watchdog.watching(connection.fileno(), call.deadline + LAST_SECONDS):
                try:
                    yield transaction
                except BaseException:
                    transaction.abandon()
                    raise
        except psycopg.Error as error:
            if connection.closed or connection.broken:
                self._drop()
            raise _meaning(error, call) from error

    def ask(self, call: Call, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement, all of them one transaction in one message."""
        with self.transaction(call) as transaction:
            return transaction.ask(*statements, last=True)

    def close(self) -> None:
        """Closes every thread's connection; none may be in use."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self, call: Call) -> psycopg.Connection[Row]:
        """This thread's connection, made when there is none or the server has closed it meanwhile."""
        wrapper = connections[DEFAULT_DB_ALIAS]
        if wrapper.connection is not None and _is_stale(wrapper.connection):
            self._drop()
        if wrapper.connection is None and call.deadline - time.monotonic() < LEAST_TO_CONNECT:
            raise StorageTimeout
        try:
            wrapper.ensure_connection()
        except (OperationalError, InterfaceError) as error:
            raise (StorageTimeout if time.monotonic() >= call.deadline else StorageUnavailable)() from error
        connection: psycopg.Connection[Row] = wrapper.connection
        with self._lock:
            self._connections.add(connection)
        return connection

    def _drop(self) -> None:
        wrapper = connections[DEFAULT_DB_ALIAS]
        with self._lock:
            self._connections.discard(wrapper.connection)
        wrapper.close()


class Transaction:
    """Statements of one transaction. It begins with the first message and ends with the one that is the last."""

    def __init__(self, connection: psycopg.Connection[Row], call: Call) -> None:
        self._connection = connection
        self._call = call
        self._open = False

    def ask(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        """The rows of each statement; all go in one message. `last` commits in the same message."""
        cursor = psycopg.ClientCursor(self._connection)
        texts = [cursor.mogrify(text, parameters or None) for text, parameters in statements]
        before: list[str] = []
        if not self._open:
            before = ["BEGIN"]
        before.append(f"SET LOCAL statement_timeout = {self._milliseconds()}")
        after = ["COMMIT"] if last else []
        self._open = True
        # Without parameters, psycopg sends it as one simple query, which may hold several statements.
        cursor.execute(";".join([*before, *texts, *after]).encode())
        self._open = not last
        rows: list[list[Row]] = []
        for number in range(len(before) + len(texts)):
            if number >= len(before):
                rows.append(cursor.fetchall() if cursor.description else [])
            cursor.nextset()
        return rows

    def abandon(self) -> None:
        """Rolls back what is open; a connection that cannot even do that is closed."""
        if not self._open:
            return
        self._open = False
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.Error:
            self._connection.close()

    def _milliseconds(self) -> int:
        left = self._call.deadline - time.monotonic()
        if left <= 0:
            raise StorageTimeout
        return max(1, int(left * 1000))


def _is_stale(connection: psycopg.Connection[Row]) -> bool:
    """Whether the other end has closed, or said something unasked, which only precedes that."""
    if connection.closed or connection.broken:
        return True
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return bool(readable)


def _meaning(error: psycopg.Error, call: Call) -> Exception:
    """The domain's error for a database's; what is nobody's fault but ours stays as it is."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return StorageTimeout()
    if isinstance(error, psycopg.OperationalError | errors.ReadOnlySqlTransaction | errors.InsufficientResources):
        return StorageTimeout() if time.monotonic() >= call.deadline else StorageUnavailable()
    return error
