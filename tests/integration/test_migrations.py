"""Migrations, however many processes start them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.faults.product import manage
from tests.integration.conftest import empty_database


def test_four_processes_migrate_an_empty_database_at_once_and_again() -> None:
    with empty_database() as environment, ThreadPoolExecutor(4) as starting:
        for _ in range(2):
            for each in [starting.submit(manage, environment, "migrate", "--verbosity=0") for _ in range(4)]:
                each.result()
            manage(environment, "migrate", "--check")
        with psycopg.connect(environment["DATABASE_DIRECT_URL"]) as direct:
            applied = direct.execute("SELECT count(*), count(DISTINCT (app, name)) FROM django_migrations").fetchone()
            locks = direct.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert applied is not None
    assert applied[0] == applied[1] > 0
    assert locks == (0,)
