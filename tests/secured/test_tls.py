"""TLS to PostgreSQL, Redis and Kafka: who is not the right one is refused, and no wait is longer than without."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.core.cache.backends.base import BaseCache
from django.test import override_settings
from django_redis.cache import RedisCache
from redis import ConnectionPool

from activities.container import outcome_connections
from activities.domain import ActivitiesError, Create, StorageBusy, StorageTimeout, StorageUnavailable
from activities.ports import Call
from activities.repositories import cached
from activities.repositories.cached import Cache, CachedRepository
from activities.repositories.database import Database, TimedConnection
from activities.repositories.guarded import Guard, GuardedRepository
from activities.repositories.memory import MemoryRepository
from activities.repositories.postgres import PostgresRepository
from activities.repositories.timed_redis import connections_to
from activities.tls import client_context
from activities_project.environment import redis_cache
from kafka_worker.client import CommandProducer
from kafka_worker.messages import record_of
from kafka_worker.outcomes import Listener, Outcomes, key_of
from kafka_worker.security import Security
from tests.examples import NOON, activity
from tests.faults.conftest import known_as
from tests.faults.services import ANSWER_SECONDS, ROOT, SECONDS, eventually
from tests.faults.wire import wire_to
from tests.secured.servers import SecuredServices
from tests.transports.certificates import Authority

ALIAS = "secured"
GUESSED = "a-guessed-password"


@pytest.fixture
def other_ca(tmp_path: Path) -> Path:
    """The CA of somebody else."""
    return Authority(tmp_path / "other").file


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[str], str]:
    def log(words: str) -> str:
        """The one line with these words, as soon as it is there."""
        eventually(lambda: any(words in message for message in caplog.messages))
        (line,) = [message for message in caplog.messages if words in message]
        assert "\n" not in line
        return line

    return log


def nothing_tells(*secrets: str, caplog: pytest.LogCaptureFixture) -> None:
    for secret in secrets:
        assert secret not in caplog.text


# ---------------------------------------------------------------------------------- PostgreSQL


Address = Callable[..., str]


@pytest.fixture
def address(services: SecuredServices) -> Address:
    """The URL that the data service has, with changes."""

    def address(*, host: str = "127.0.0.1", password: str | None = None, port: str = "pgbouncer", **tls: object) -> str:
        url = services.database_url(
            "activities_grpc", password or services.secrets["POSTGRES_GRPC_PASSWORD"], port=port
        )
        return url.partition("?")[0].replace("127.0.0.1", host) + services.database_parameters(**tls)

    return address


@contextmanager
def database(url: str) -> Iterator[Database]:
    with closing(Database(alias=known_as(ALIAS, url))) as database:
        yield database


def test_sessions_of_postgresql_are_kept_and_used_again(address: Address) -> None:
    with database(address()) as asked, patch.object(TimedConnection, "connect", wraps=TimedConnection.connect) as made:
        for _ in range(20):
            assert asked.ask(Call(deadline=time.monotonic() + SECONDS), ("SELECT 1", ()))[-1] == [(1,)]
    assert made.call_count == 1


@pytest.mark.parametrize("port", ["pgbouncer", "postgres"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sslrootcert": "the other"}, "certificate verify failed"),
        ({"host": "localhost"}, 'does not match host name "localhost"'),
        ({"password": GUESSED}, "failed"),
        ({"sslmode": "disable"}, ""),
    ],
    ids=["wrong-ca", "wrong-name", "wrong-password", "plain-text"],
)
def test_a_connection_to_postgresql_that_is_not_as_it_should_be_is_refused_and_the_log_says_why(
    port: str,
    changes: dict[str, Any],
    reason: str,
    address: Address,
    other_ca: Path,
    services: SecuredServices,
    log: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if "sslrootcert" in changes:
        changes = {"sslrootcert": other_ca}
    with database(address(port=port, **changes)) as asked:
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                asked.ask(Call(deadline=time.monotonic() + SECONDS), ("SELECT 1", ()))
    assert reason in log("PostgreSQL cannot be used (")
    nothing_tells(GUESSED, services.secrets["POSTGRES_GRPC_PASSWORD"], caplog=caplog)


@pytest.mark.parametrize("acquainted", [True, False], ids=["on-old-connections", "on-new-connections"])
def test_a_silent_pgbouncer_behind_tls_holds_nobody_up(
    acquainted: bool, services: SecuredServices, address: Address
) -> None:
    guard = Guard()
    with database(address()) as asked:
        guarded = GuardedRepository(PostgresRepository(database=asked), guard)

        def ask(_: int) -> tuple[type[ActivitiesError], float]:
            began = time.monotonic()
            with pytest.raises(ActivitiesError) as raised:
                guarded.get(1, name="none", call=Call())
            return raised.type, time.monotonic() - began

        with ThreadPoolExecutor(guard.slots + 2) as callers:
            if acquainted:
                list(callers.map(ask, range(guard.slots + 2)))
            services.pause("pgbouncer")
            answers = list(callers.map(ask, range(guard.slots + 2)))
        assert {error for error, _ in answers} <= {StorageBusy, StorageTimeout}
        assert max(seconds for _, seconds in answers) < ANSWER_SECONDS
        services.resume("pgbouncer")
        guard.close()


# --------------------------------------------------------------------------------------- Redis


def tls_of(services: SecuredServices, *, ca: Path | None = None, shown: bool = True) -> ssl.SSLContext:
    """How the product makes it of its settings."""
    pair = services.certificates.client
    ours = {"certificate": str(pair.certificate), "key": str(pair.key)} if shown else {"certificate": "", "key": ""}
    return client_context("TEST", ca=str(ca or services.certificates.ca), **ours)


def redis_url(services: SecuredServices, user: str, *, port: int | None = None, password: str | None = None) -> str:
    password = password or services.secrets[f"REDIS_{user.upper()}_PASSWORD"]
    return f"rediss://{user}:{password}@127.0.0.1:{port or services.ports['redis']}/0"


def pool_of(url: str, tls: ssl.SSLContext, **options: Any) -> ConnectionPool:
    return ConnectionPool.from_url(url, **connections_to(url, tls=tls), **options)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does other things as well is no outage."""
    monkeypatch.setattr(cached, "ASK_SECONDS", 5.0)
    monkeypatch.setattr(cached, "DROP_SECONDS", 5.0)


def test_the_cache_works_over_tls_on_connections_that_are_used_again(
    services: SecuredServices, patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryRepository()
    pool = pool_of(redis_url(services, "grpc"), tls_of(services))
    names = [f"pill {'x' * 100} {number}" for number in range(20)]
    with (
        patch.object(pool, "connection_class", wraps=pool.connection_class) as made,
        closing(CachedRepository(store, Cache(lambda: pool))) as repository,
    ):
        for name in names:
            repository.apply([Create(chat_id=31, activity=activity(name))], now=NOON, call=Call())
            repository.get(31, name=name, call=Call())
        store.forget(31, now=NOON, call=Call())
        assert [repository.get(31, name=name, call=Call()).name for name in names] == names
    assert made.call_count == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ca": "the other"}, "its certificate is refused: "),
        ({"host": "localhost"}, "its certificate is refused: Hostname mismatch"),
        ({"password": GUESSED}, "it refuses user and password"),
        ({"shown": False}, ""),
        ({"scheme": "redis"}, "ConnectionError"),
    ],
    ids=["wrong-ca", "wrong-name", "wrong-password", "no-certificate", "plain-text"],
)
def test_a_connection_to_redis_that_is_not_as_it_should_be_is_refused_and_the_log_says_why(
    changes: dict[str, Any],
    reason: str,
    services: SecuredServices,
    other_ca: Path,
    patience: None,
    log: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = redis_url(services, "grpc", password=changes.get("password"))
    url = url.replace("127.0.0.1", changes.get("host", "127.0.0.1")).replace("rediss", changes.get("scheme", "rediss"))
    tls = tls_of(services, ca=other_ca if "ca" in changes else None, shown=changes.get("shown", True))
    store = MemoryRepository()
    with closing(CachedRepository(store, Cache(lambda: pool_of(url, tls)))) as repository:
        repository.apply([Create(chat_id=32, activity=activity("pill"))], now=NOON, call=Call())
        for _ in range(3):
            assert repository.get(32, name="pill", call=Call()) == activity("pill")
        assert reason in log("Redis does not answer")
    listener = Listener(lambda: pool_of(url, tls))
    with closing(listener):
        listener.leave(listener.expect(key_of(32, uuid4()), "", is_new=True))
        assert reason in log("outcomes come late or not at all")
    nothing_tells(GUESSED, services.secrets["REDIS_GRPC_PASSWORD"], caplog=caplog)


def of_the_cache(url: str, tls: ssl.SSLContext) -> ConnectionPool:
    given: dict[str, Any] = redis_cache(url, tls)
    cache: BaseCache = RedisCache(given["LOCATION"], given)
    pool: ConnectionPool = cache.client.get_client().connection_pool  # type: ignore[attr-defined]
    return pool


def of_outcomes(url: str, tls: ssl.SSLContext) -> ConnectionPool:
    with override_settings(REDIS_URL=url, REDIS_TLS=tls):
        return outcome_connections()


@pytest.mark.parametrize("pool", [of_the_cache, of_outcomes])
def test_what_takes_no_tls_is_told_nothing(
    pool: Callable[[str, ssl.SSLContext], ConnectionPool], services: SecuredServices
) -> None:
    told = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            connection, _ = listener.accept()
            with connection:
                told.extend(connection.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        connections = pool(redis_url(services, "grpc", port=listener.getsockname()[1]), tls_of(services))
        connection = connections.connection_class(**connections.connection_kwargs)
        with pytest.raises(Exception, match=r"(?i)connect|closed|eof|reset"):
            connection.connect()
        thread.join()
    tls_handshake = b"\x16\x03"
    assert told.startswith(tls_handshake)
    assert b"AUTH" not in told


def test_a_silent_redis_behind_tls_costs_the_cache_its_time_and_no_more(
    services: SecuredServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "ASK_SECONDS", 0.3)
    pool = pool_of(redis_url(services, "grpc"), tls_of(services))
    for acquainted in (True, False):
        with closing(Cache(lambda: pool)) as cache:
            if acquainted:
                cache.connect()
            services.pause("redis")
            began = time.monotonic()
            assert cache.find("activities:activity:none") is None
            assert 0.2 < time.monotonic() - began < 1.5, "it has waited, but not for the longest that it may elsewhere"
            services.resume("redis")


def test_what_comes_in_pieces_shares_the_time_of_its_question(
    services: SecuredServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece is in time for itself, of the greeting as well as of the answer."""
    monkeypatch.setattr(cached, "ASK_SECONDS", 0.5)
    with wire_to(services.ports["redis"]) as wire:
        pool = pool_of(redis_url(services, "grpc", port=wire.port), tls_of(services))
        with closing(Cache(lambda: pool)) as cache:
            wire.delay = 0.4
            began = time.monotonic()
            assert cache.find("activities:activity:none") is None
            assert time.monotonic() - began < 3 * 0.4


def test_a_connection_is_heard_and_spoken_on_at_the_same_time(
    services: SecuredServices, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSSL has one thread at a time at work on a connection."""
    listener = Listener(lambda: pool_of(redis_url(services, "interface"), tls_of(services)))
    outcome = activity("pill " + "x" * 100)

    def wait_for_many(chat_id: int) -> None:
        with closing(Outcomes(lambda: pool_of(redis_url(services, "consumer"), tls_of(services)))) as outcomes:
            for _ in range(100):
                request_id = uuid4()
                expected = listener.expect(key_of(chat_id, request_id), "fingerprint", is_new=True)
                outcomes.tell([(chat_id, request_id, outcome, "fingerprint")])
                assert expected.wait(time.monotonic() + SECONDS) == outcome
                listener.leave(expected)

    with closing(listener), ThreadPoolExecutor(8) as callers:
        list(callers.map(wait_for_many, range(41, 49)))
    assert caplog.messages == []


# --------------------------------------------------------------------------------------- Kafka


def security_of(services: SecuredServices, **changes: Any) -> Security:
    given: dict[str, Any] = {
        "protocol": "sasl_ssl",
        "tls": tls_of(services),
        "mechanism": "PLAIN",
        "username": "interface",
        "password": services.secrets["KAFKA_INTERFACE_PASSWORD"],
    }
    return Security(**given | changes)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # kafka-python leaves sockets to Python there
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("ca", "CERTIFICATE_VERIFY_FAILED"),
        ("name", "CERTIFICATE_VERIFY_FAILED"),
        ("password", "Authentication failed"),
        ("certificate", ""),
        ("scheme", ""),
    ],
)
def test_a_connection_to_kafka_that_is_not_as_it_should_be_is_refused_and_the_log_says_why(
    wrong: str,
    reason: str,
    services: SecuredServices,
    other_ca: Path,
    log: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "ca": {"tls": tls_of(services, ca=other_ca)},
        "name": {},
        "password": {"password": GUESSED},
        "certificate": {"tls": tls_of(services, shown=False)},
        "scheme": {"protocol": "sasl_plaintext", "tls": None},
    }
    host = "localhost" if wrong == "name" else "127.0.0.1"
    security = security_of(services, **changes[wrong])
    with closing(CommandProducer(f"{host}:{services.ports['kafka']}", limit=2, security=security)) as producer:
        line = log(reason or "Kafka cannot be used (")
        with pytest.raises(StorageUnavailable):
            producer.send(
                record_of(Create(chat_id=51, activity=activity("pill")), uuid4()), until=time.monotonic() + SECONDS
            )
    gc.collect()
    assert line.startswith("Kafka cannot be used (")
    nothing_tells(GUESSED, services.secrets["KAFKA_INTERFACE_PASSWORD"], caplog=caplog)
    assert GUESSED not in repr(security)


@pytest.mark.parametrize("command", [["kafka_topics"], ["dead_letters"]])
def test_a_command_with_a_wrong_password_ends_with_one_line(command: list[str], services: SecuredServices) -> None:
    environment = {**os.environ, **services.environment_of("topics"), "KAFKA_PASSWORD": GUESSED}
    ended = subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert "Authentication failed" in line
    assert GUESSED not in line


def test_a_silent_broker_behind_tls_holds_nobody_up(services: SecuredServices) -> None:
    servers = f"127.0.0.1:{services.ports['kafka']}"
    with closing(CommandProducer(servers, limit=2, security=security_of(services))) as producer:
        producer.ready(time.monotonic() + SECONDS)
        services.pause("kafka")
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                producer.ready(began + 1)
            assert time.monotonic() - began < ANSWER_SECONDS
        services.resume("kafka")
