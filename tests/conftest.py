"""For every test: properties are searched the same way on each run, and a database is made for those that ask."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django_redis import get_redis_connection
from hypothesis import HealthCheck, settings
from psycopg import sql
from pytest_django.plugin import DjangoDbBlocker

from tests.environment import require_services

settings.register_profile(
    "project",
    derandomize=True,
    deadline=None,  # the machine's speed is no property of the code
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


@pytest.fixture(scope="session")
def database(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database of this run's own, migrated; reached through pgbouncer, made and dropped round it."""
    require_services()
    get_redis_connection("default").flushdb()  # an earlier run's database may have had chats of the same ids
    name = sql.Identifier(connection.settings_dict["NAME"])
    with psycopg.connect(os.environ["DATABASE_DIRECT_URL"], autocommit=True) as direct:
        direct.execute(sql.SQL("CREATE DATABASE {}").format(name))
        # Tests use it from threads of their own, in transactions of their own.
        with django_db_blocker.unblock():
            call_command("migrate", verbosity=0)
            connection.close()
            yield
        direct.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
