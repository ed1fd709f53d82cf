"""Databases of a test's own, beside that of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from tests.environment import require_services

_numbers = count(1)


@contextmanager
def empty_database() -> Iterator[dict[str, str]]:
    """The environment of a process of the product on a database with nothing in it."""
    require_services()
    name = f"activities_test_{os.getpid()}_{next(_numbers)}"
    urls = {
        variable: urlsplit(os.environ[variable])._replace(path=f"/{name}").geturl()
        for variable in ("DATABASE_URL", "DATABASE_DIRECT_URL")
    }
    with psycopg.connect(os.environ["DATABASE_DIRECT_URL"], autocommit=True) as direct:
        direct.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield {
                **urls,
                "REDIS_URL": os.environ["REDIS_URL"],
                "DJANGO_SETTINGS_MODULE": "activities_project.settings",
                "ACTIVITIES_BACKEND": "postgres",
            }
        finally:
            direct.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def direct(database: None) -> Iterator[psycopg.Connection]:
    """A connection to the run's database round everything of ours."""
    name = connection.settings_dict["NAME"]
    url = urlsplit(os.environ["DATABASE_DIRECT_URL"])._replace(path=f"/{name}").geturl()
    with psycopg.connect(url, autocommit=True) as direct:
        yield direct


_chats = count(2_000_000)


@pytest.fixture
def chat_id() -> int:
    """A chat that no other test uses."""
    return next(_chats)


@pytest.fixture
def chat_ids() -> list[int]:
    """Chats that no other test uses."""
    return [next(_chats) for _ in range(5)]
