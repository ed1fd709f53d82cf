"""`manage.py migrate`: Django's own, one at a time on a database however many processes start it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import ProgrammingError, connections
from psycopg import sql

LOCK = 0x6163746976697479
"""Which of the database's advisory locks stands for its migrations: "activity" in ASCII."""


class Command(migrate.Command):
    help = f"{migrate.Command.help} Waits for another one that is under way."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--data", metavar="ROLE", help="allow this role to read and change activities and chats")
        parser.add_argument("--admin", metavar="ROLE", help="the same of what the admin keeps: accounts, sessions, log")

    def handle(self, *args: Any, **options: Any) -> None:
        with _alone(options["database"]):
            super().handle(*args, **options)
            ours, others = _tables()
            if options["data"]:
                _allow(options["database"], "SELECT, INSERT, UPDATE, DELETE", ours, options["data"])
            if options["admin"]:
                _allow(options["database"], "SELECT, INSERT, UPDATE, DELETE", others, options["admin"])
                # Commands of Django's look whether there is something to migrate.
                _allow(options["database"], "SELECT", ["django_migrations"], options["admin"])


def _tables() -> tuple[list[str], list[str]]:
    """The product's own, and those of Django's that the admin needs."""
    ours: list[str] = []
    others: list[str] = []
    for model in apps.get_models(include_auto_created=True):
        (ours if model._meta.app_label == "activities" else others).append(model._meta.db_table)
    return ours, others


def _allow(alias: str, what: LiteralString, tables: Iterable[str], role: str) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    statement = sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(what), names, sql.Identifier(role))
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(statement)
    except ProgrammingError as failed:
        raise CommandError(f"{role}: {failed}") from failed


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
