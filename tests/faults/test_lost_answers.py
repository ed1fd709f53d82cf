"""Writes whose answer never came, repeated with the same request id: done once, and the same answer for all."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest

from activities.container import Container, on_repository
from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    RequestIdReused,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Activities, Call
from activities.repositories.database import Database
from activities.repositories.postgres import PostgresRepository
from tests.examples import activity
from tests.faults.conftest import known_as
from tests.faults.product import Product
from tests.faults.services import Services, eventually
from tests.faults.wire import Wire, wire_to

PILL = activity("pill")
LAST_WORD = b";COMMIT"
"""What the message ends with that ends a transaction."""


@pytest.fixture
def wire(services: Services) -> Iterator[Wire]:
    """Between the use cases and pgbouncer."""
    with wire_to(services.ports["pgbouncer"]) as wire:
        yield wire


@pytest.fixture
def parts(wire: Wire, services: Services, environment: dict[str, str]) -> Iterator[Container]:
    """The use cases in this process, behind the wire."""
    url = environment["DATABASE_URL"].replace(f":{services.ports['pgbouncer']}/", f":{wire.port}/")
    parts = on_repository(PostgresRepository(database=Database(alias=known_as("wired", url))))
    yield parts
    parts.close()


def create(activities: Activities, chat_id: int, request_id: UUID | None, wanted: Activity = PILL) -> Activity:
    return activities.create(chat_id, activity=wanted, call=Call(request_id=request_id))


def rows(direct: psycopg.Connection, chat_id: int) -> int:
    (count,) = direct.execute("SELECT count(*) FROM activities_activity WHERE chat_id = %s", [chat_id]).fetchone() or ()
    return int(count)


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
def test_a_create_whose_answer_was_lost_on_the_way_is_done_once(
    where: str, wire: Wire, parts: Container, chat_id: int, direct: psycopg.Connection
) -> None:
    request_id = uuid4()
    setattr(wire, where, LAST_WORD)
    with pytest.raises(StorageUnavailable):
        create(parts.activities, chat_id, request_id)
    assert wire.cuts == 1
    assert rows(direct, chat_id) == (1 if where == "cut_after" else 0)
    setattr(wire, where, None)
    assert create(parts.activities, chat_id, request_id) == PILL
    assert create(parts.activities, chat_id, request_id) == PILL
    assert rows(direct, chat_id) == 1


def test_a_delete_whose_answer_was_lost_is_not_answered_as_if_there_had_been_nothing(
    wire: Wire, parts: Container, chat_id: int
) -> None:
    create(parts.activities, chat_id, None)
    call = Call(request_id=uuid4())
    wire.cut_after = LAST_WORD
    with pytest.raises(StorageUnavailable):
        parts.activities.delete(chat_id, name="pill", call=call)
    wire.cut_after = None
    parts.activities.delete(chat_id, name="pill", call=Call(request_id=call.request_id))


def test_a_create_whose_process_was_killed_is_done_once(
    product: Product, second: Product, chat_id: int, direct: psycopg.Connection, environment: dict[str, str]
) -> None:
    request_id = uuid4()
    create(product.activities, chat_id, None, activity("other"))
    with ThreadPoolExecutor(1) as caller, psycopg.connect(environment["DATABASE_DIRECT_URL"]) as somebody:
        somebody.execute("SELECT 1 FROM activities_chat WHERE chat_id = %s FOR UPDATE", [chat_id])
        lost = caller.submit(create, second.activities, chat_id, request_id)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: direct.execute(waiting).fetchone() == (1,))
        second.kill()
        assert isinstance(lost.exception(), StorageUnavailable | StorageTimeout)
        somebody.rollback()
    assert create(product.activities, chat_id, request_id) == PILL
    assert rows(direct, chat_id) == 2


def test_many_with_one_request_id_at_two_processes_get_one_answer(
    product: Product, second: Product, chat_id: int, direct: psycopg.Connection
) -> None:
    with ThreadPoolExecutor(8) as callers:
        for number in range(10):
            wanted, request_id = activity(f"pill {number}"), uuid4()
            answers = [
                callers.submit(create, each.activities, chat_id, request_id, wanted) for each in [product, second] * 4
            ]
            assert [answer.result() for answer in answers] == [wanted] * 8
            assert rows(direct, chat_id) == number + 1


def test_of_two_requests_with_one_id_at_two_processes_only_one_is_done(
    product: Product, second: Product, chat_id: int
) -> None:
    create(product.activities, chat_id, None)

    def update(process: Product, request_id: UUID, times: int) -> int | type[ActivitiesError]:
        changes = ActivityChanges(times_per_day=times)
        try:
            return process.activities.update(
                chat_id, name="pill", changes=changes, call=Call(request_id=request_id)
            ).times_per_day
        except ActivitiesError as error:
            return type(error)

    with ThreadPoolExecutor(2) as callers:
        for number in range(1, 20, 2):
            request_id = uuid4()
            first, other = (
                callers.submit(update, process, request_id, number + more)
                for more, process in enumerate([product, second])
            )
            answers = {first.result(), other.result()}
            now = product.activities.get(chat_id, name="pill", call=Call()).times_per_day
            assert answers == {now, RequestIdReused}
            assert now in (number, number + 1)
