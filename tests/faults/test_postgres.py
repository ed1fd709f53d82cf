"""What PostgreSQL refuses or does not get round to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from activities.domain import ActivityChanges, StorageTimeout, StorageUnavailable
from activities.ports import Activities, Call
from activities.repositories.database import Database
from tests.examples import activity
from tests.faults.product import Product
from tests.faults.services import ANSWER_SECONDS, eventually

Write = Callable[[Activities, int], object]


def create(activities: Activities, chat_id: int) -> object:
    return activities.create(chat_id, activity=activity("fresh"), call=Call())


def update(activities: Activities, chat_id: int) -> object:
    return activities.update(chat_id, name="there", changes=ActivityChanges(times_per_day=99), call=Call())


def delete(activities: Activities, chat_id: int) -> None:
    activities.delete(chat_id, name="there", call=Call())


WRITES = [create, update, delete]


@pytest.fixture
def there(product: Product, chat_id: int) -> Activities:
    """The product, where the chat has an activity of this name."""
    product.activities.create(chat_id, activity=activity("there"), call=Call())
    return product.activities


def stored(direct: psycopg.Connection, chat_id: int) -> list[tuple[str, int]]:
    rows = direct.execute(
        "SELECT name, times_per_day FROM activities_activity WHERE chat_id = %s ORDER BY name", [chat_id]
    )
    return rows.fetchall()


def test_who_stands_still_in_the_middle_of_a_write_keeps_others_out_until_its_deadline(
    alias: str, there: Activities, chat_id: int, direct: psycopg.Connection
) -> None:
    chat = "SELECT 1 FROM activities_chat WHERE chat_id = %s FOR UPDATE"

    def is_free() -> bool:
        try:
            direct.execute(f"{chat} NOWAIT", [chat_id])
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    def write(database: Database) -> None:
        with database.transaction(Call(deadline=time.monotonic() + 1), writes=True) as transaction:
            transaction.ask((chat, [chat_id]))
            assert not is_free()
            eventually(is_free)
            transaction.ask(("SELECT 1", []), last=True)

    with closing(Database(alias=alias)) as database, pytest.raises(StorageTimeout):
        write(database)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_gives_up_on_a_row_that_somebody_else_has_locked(
    write: Write, there: Activities, chat_id: int, direct: psycopg.Connection, environment: dict[str, str]
) -> None:
    with psycopg.connect(environment["DATABASE_DIRECT_URL"]) as somebody:
        # Deleting the chat would cascade: this lock is in the way of every write to it.
        somebody.execute("SELECT 1 FROM activities_chat WHERE chat_id = %s FOR UPDATE", [chat_id])
        somebody.execute("SELECT 1 FROM activities_activity WHERE chat_id = %s FOR UPDATE", [chat_id])
        began = time.monotonic()
        with pytest.raises(StorageTimeout):
            write(there, chat_id)
        assert time.monotonic() - began < ANSWER_SECONDS

        def nobody_waits() -> bool:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
            return direct.execute(waiting).fetchone() == (0,)

        eventually(nobody_waits, seconds=ANSWER_SECONDS - 2)
        assert there.get(chat_id, name="there", call=Call()) == activity("there")
    assert stored(direct, chat_id) == [("there", 2)]


@contextmanager
def reading_only(superuser: psycopg.Connection, environment: dict[str, str]) -> Iterator[None]:
    """Sessions may only read, as those of a standby."""
    (name,) = superuser.execute("SELECT current_database()").fetchone() or ()
    superuser.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    _replace_sessions(environment)
    try:
        yield
    finally:
        superuser.execute("SET default_transaction_read_only = off")
        superuser.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        _replace_sessions(environment)


def _replace_sessions(environment: dict[str, str]) -> None:
    """Has pgbouncer begin new ones, which know of the change."""
    console = urlsplit(environment["DATABASE_URL"])._replace(path="/pgbouncer").geturl()
    with psycopg.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor) as pgbouncer:
        pgbouncer.execute("RECONNECT")


@pytest.mark.parametrize("write", WRITES)
def test_a_server_that_only_lets_read_is_unavailable_to_writes(
    write: Write, there: Activities, chat_id: int, superuser: psycopg.Connection, environment: dict[str, str]
) -> None:
    with reading_only(superuser, environment):
        with pytest.raises(StorageUnavailable):
            write(there, chat_id)
        assert there.get(chat_id, name="there", call=Call()) == activity("there")
    write(there, chat_id)


REFUSALS = {
    "disk_full": "53100",
    "out_of_memory": "53200",
    "io_error": "58030",
    "read_only_sql_transaction": "25006",
    "admin_shutdown": "57P01",
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_server_that_cannot_write_is_unavailable_and_keeps_nothing_of_the_try(
    refusal: str, product: Product, chat_id: int, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file "base/16384/16385"' USING ERRCODE = '{REFUSALS[refusal]}'; END $$;
        CREATE TRIGGER refusing BEFORE INSERT ON activities_activity FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )
    try:
        with pytest.raises(StorageUnavailable) as raised:
            create(product.activities, chat_id)
    finally:
        superuser.execute("DROP FUNCTION refuse() CASCADE")
    assert "file" not in str(raised.value)
    chats = superuser.execute("SELECT count(*) FROM activities_chat WHERE chat_id = %s", [chat_id])
    assert chats.fetchone() == (0,)
    create(product.activities, chat_id)
