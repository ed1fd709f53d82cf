"""What is measured runs in processes of its own, on a database and a Redis of the benchmarks' own."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from redis import Redis

from activities.access import Access

ROOT = Path(__file__).resolve().parent.parent
REDIS_DATABASE = 15
"""Apart from the one that the services' other users have."""
KEY = secrets.token_urlsafe(48)
SERVICE_SECRET = secrets.token_urlsafe(48)

_FILL = """
    INSERT INTO activities_activity
        (chat_id, key, name, begin_date, end_date, times_per_day, quantity_per_time)
    SELECT chat, 'activity ' || n, 'Activity ' || n, current_date - 60, current_date + n %% 100 - 50, 1 + n %% 9, 0.5
    FROM generate_series(0, %s - 1) AS n, generate_series(1, %s) AS chat"""


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the benchmarks' own."""

    chats: int
    per_chat: int
    url: str = field(repr=False)
    """Through pgbouncer."""
    direct_url: str = field(repr=False)
    requests_per_minute: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Of processes that use it."""
        return {
            **os.environ,
            "ACTIVITIES_BACKEND": "postgres",
            "ACTIVITIES_SERVICE_TOKENS": f"benchmark:{SERVICE_SECRET}",
            "ACTIVITIES_MAX_PER_CHAT": str(max(10_000, self.per_chat)),
            "ACTIVITIES_REQUESTS_PER_MINUTE": str(self.requests_per_minute),
            "DATABASE_URL": self.url,
            "DJANGO_SECRET_KEY": KEY,
            "REDIS_URL": _with_name(os.environ["REDIS_URL"], str(REDIS_DATABASE)),
        }


@contextmanager
def database(*, chats: int, per_chat: int, requests_per_minute: int = 1_000_000_000) -> Iterator[Database]:
    """Chats 1 to `chats` with `Activity 0`, `Activity 1` ... each, as far as possible from one another on the disk.

    Of a chat's activities half are active today; its tokens may ask so often. Dropped at the end.
    """
    name = f"activities_bench_{os.getpid()}_{chats}x{per_chat}"
    direct = os.environ["DATABASE_DIRECT_URL"]
    made = Database(
        chats, per_chat, _with_name(os.environ["DATABASE_URL"], name), _with_name(direct, name), requests_per_minute
    )
    with psycopg.connect(direct, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, cwd=ROOT, env=made.environment, check=True)
            with psycopg.connect(made.direct_url, autocommit=True) as inside:
                inside.execute("INSERT INTO activities_chat (chat_id) SELECT generate_series(1, %s)", [chats])
            fill(made)
            yield made
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def fill(database: Database) -> None:
    """Makes the database as if it were new."""
    with psycopg.connect(database.direct_url, autocommit=True) as inside:
        inside.execute("TRUNCATE activities_activity, activities_handledrequest")
        inside.execute(_FILL, [database.per_chat, database.chats])
        inside.execute("VACUUM ANALYZE")


def empty_cache() -> None:
    """Forgets what earlier rounds left in the benchmarks' Redis."""
    with own_redis() as redis:
        redis.flushdb()


def own_redis() -> Redis:
    """The benchmarks' own part of Redis."""
    return Redis.from_url(_with_name(os.environ["REDIS_URL"], str(REDIS_DATABASE)))


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    address: str
    pid: int


@contextmanager
def ours(database: Database) -> Iterator[Server]:
    """`manage.py grpcserver`, one process, as it is run in production."""
    with _started(["manage.py", "grpcserver", "--address", "127.0.0.1:0"], database.environment) as server:
        yield server


@contextmanager
def ours_over_http(database: Database) -> Iterator[Server]:
    """`manage.py serve`; its address is a URL."""
    command = ["manage.py", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with _started(command, database.environment, address=r"^HTTP +(http://[^/]+)/") as server:
        yield server


@contextmanager
def our_interface(database: Database, data: Server) -> Iterator[Server]:
    """`manage.py grpcserver` on the backend `grpc`."""
    theirs = {
        "ACTIVITIES_BACKEND": "grpc",
        "ACTIVITIES_GRPC_TARGET": data.address,
        "ACTIVITIES_GRPC_TOKEN": SERVICE_SECRET,
    }
    command = ["manage.py", "grpcserver", "--address", "127.0.0.1:0"]
    with _started(command, {**database.environment, **theirs}) as server:
        yield server


@contextmanager
def baseline(name: str, database: Database, *arguments: str) -> Iterator[Server]:
    """A program under `baselines/`, which prints its address."""
    with _started(["-m", f"benchmarks.baselines.{name}", *arguments], database.environment) as server:
        yield server


@contextmanager
def our_consumer(database: Database) -> Iterator[None]:
    """`manage.py consume_commands`, one process, as it is run in production."""
    with _started(["manage.py", "consume_commands"], database.environment):
        yield


@contextmanager
def bare_consumer(program: str, database: Database, *arguments: str) -> Iterator[None]:
    """A program under `baselines/` that prints a line before it consumes."""
    with _started(["-m", f"benchmarks.baselines.{program}", *arguments], database.environment):
        yield


def chat_token(chat_id: int) -> str:
    return Access(keys=[KEY], valid_after=lambda *_: 0).issue(chat_id)


@contextmanager
def _started(arguments: list[str], environment: Mapping[str, str], *, address: str = r"(\S+)$") -> Iterator[Server]:
    """A Python program that says its `address` in one of its first lines."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        found = None
        while found is None:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(arguments)} ended with {process.wait()}")
            found = re.search(address, line)
        yield Server(found[1], process.pid)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
