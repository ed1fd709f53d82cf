"""Servers that may be harmed, and the product on them. Each test leaves them healthy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from django.db import connections

from activities_project.environment import durable_database
from tests.faults.product import Product, manage
from tests.faults.services import Services

ALIAS = "faults"


@pytest.fixture(scope="session")
def all_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)  # servers that drop root have to pass through
    services = Services(folder)
    try:
        yield services
    finally:
        services.mend()
        services.stop()


@pytest.fixture
def services(all_services: Services) -> Iterator[Services]:
    """PostgreSQL, pgbouncer, Redis and Kafka, migrated or not; mended afterwards."""
    yield all_services
    all_services.mend()


@pytest.fixture(scope="session")
def environment(all_services: Services) -> dict[str, str]:
    """What the product is told; its tables are made."""
    given = {
        **all_services.environment,
        "DJANGO_SETTINGS_MODULE": "activities_project.settings",
        "ACTIVITIES_BACKEND": "postgres",
        "LOG_LEVEL": "WARNING",
    }
    manage(given, "migrate", "--verbosity=0")
    return given


@pytest.fixture(scope="session")
def running(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(environment, tmp_path_factory.mktemp("product") / "log")
    yield product
    assert product.stop() == 0


@pytest.fixture
def product(services: Services, running: Product) -> Product:
    """The same process through all faults: none of them may make a restart of ours necessary."""
    return running


@pytest.fixture
def second(services: Services, environment: dict[str, str], tmp_path: Path) -> Iterator[Product]:
    """Another process of the product on the same servers."""
    product = Product(environment, tmp_path / "log")
    yield product
    product.stop()


_chats = count(1)


@pytest.fixture
def chat_id() -> int:
    """A chat that no other test uses."""
    return next(_chats) + 1_000_000


@pytest.fixture
def alias(services: Services, environment: dict[str, str]) -> str:
    """Django's name in this process for the database behind pgbouncer."""
    return known_as(ALIAS, environment["DATABASE_URL"])


def known_as(alias: str, url: str) -> str:
    connections.settings[alias] = connections.configure_settings({"default": durable_database(url)})["default"]
    return alias


@pytest.fixture
def direct(services: Services, environment: dict[str, str]) -> Iterator[psycopg.Connection]:
    """A connection round everything of ours, to look at what is really there."""
    with psycopg.connect(environment["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def superuser(services: Services, environment: dict[str, str]) -> Iterator[psycopg.Connection]:
    """An administrator's connection to the product's database."""
    name = environment["DATABASE_DIRECT_URL"].rpartition("/")[2]
    with psycopg.connect(services.superuser_url + name, autocommit=True) as connection:
        yield connection


@pytest.fixture
def raw_redis(services: Services) -> Iterator[redis.Redis]:
    """Redis as another program would use it, with nothing in it."""
    with redis.Redis.from_url(services.environment["REDIS_URL"]) as client:
        client.flushall()
        yield client
