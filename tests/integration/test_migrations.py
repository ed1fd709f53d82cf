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


def test_what_the_admins_log_told_of_names_and_chats_is_redacted() -> None:
    with empty_database() as environment:
        manage(environment, "migrate", "--verbosity=0")
        manage(environment, "migrate", "--verbosity=0", "activities", "0002")
        with psycopg.connect(environment["DATABASE_DIRECT_URL"], autocommit=True) as direct:
            direct.execute(
                "INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff, "
                "is_active, date_joined) VALUES ('head', '', true, '', '', '', true, true, now())"
            )
            direct.execute(
                """
                INSERT INTO django_admin_log
                    (action_time, object_id, object_repr, action_flag, change_message, content_type_id, user_id)
                SELECT now(), '42', 'secret', 1, '[]', django_content_type.id, auth_user.id
                FROM django_content_type, auth_user WHERE model IN ('activity', 'chat', 'user')"""
            )
            manage(environment, "migrate", "--verbosity=0")
            rows = direct.execute("SELECT object_repr, object_id FROM django_admin_log ORDER BY object_repr").fetchall()
    assert rows == [("activity", "42"), ("chat", None), ("secret", "42")]
