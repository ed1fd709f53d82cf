"""`manage.py migrate`: Django's own, one at a time on a database however many processes start it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import connections

LOCK = 0x6163746976697479
"""Which of the database's advisory locks stands for its migrations: "activity" in ASCII."""


class Command(migrate.Command):
    help = f"{migrate.Command.help} Waits for another one that is under way."

    def handle(self, *args: Any, **options: Any) -> None:
        with _alone(options["database"]):
            super().handle(*args, **options)


@contextmanager
def _alone(alias: str) -> Iterator[None]:
    """Holds the lock in an open transaction of its own, the only place that a transaction pooler keeps it in."""
    wrapper = connections[alias]
    if wrapper.vendor != "postgresql":  # there is none: Django says so better
        yield
        return
    try:
        connection = psycopg.connect(**wrapper.get_connection_params())
    except psycopg.OperationalError as failed:
        raise CommandError(f"the database cannot be reached: {failed}") from failed
    with connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        yield
