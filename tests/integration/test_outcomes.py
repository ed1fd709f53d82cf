"""Outcomes through a real Redis: told, heard, looked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings

from activities.container import outcome_connections
from activities.domain import (
    ActivityExists,
    ActivityNotFound,
    InvalidActivity,
    Outcome,
    RequestIdReused,
    TooManyActivities,
    Violation,
)
from activities.ports import Cancelled
from kafka_worker import outcomes
from kafka_worker.outcomes import LIFETIME, Expected, Listener, Outcomes, key_of
from tests.environment import require_services
from tests.examples import activity
from tests.faults.services import eventually

SECONDS = 20.0
OWN, OTHER = "own", "other"
NEVER = 3600.0
PILL = activity("pill")
FULL = TooManyActivities(limit="1")


@pytest.fixture
def raw() -> Iterator[redis.Redis]:
    """Redis as another program would use it."""
    require_services()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture
def teller(raw: redis.Redis) -> Iterator[Outcomes]:
    with closing(Outcomes(outcome_connections)) as teller:
        yield teller


@pytest.fixture
def listener(raw: redis.Redis) -> Iterator[Listener]:
    with closing(Listener(outcome_connections)) as listener:
        yield listener


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "LOOK_SECONDS", NEVER)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """That this machine is slow is not to be taken for a silent Redis."""
    monkeypatch.setattr(outcomes, "READY_SECONDS", SECONDS)


@pytest.fixture
def request_id() -> UUID:
    return uuid4()


@pytest.fixture
def key(chat_id: int, request_id: UUID) -> str:
    return key_of(chat_id, request_id)


def expect(listener: Listener, key: str, *, is_new: bool = True, fingerprint: str = OWN) -> Expected:
    expected = listener.expect(key, fingerprint, is_new=is_new)
    listener.prepare([expected], until=soon())
    return expected


def taken(raw: redis.Redis, key: str) -> bytes:
    """What is under a key, where it is no more."""
    entry = raw.getdel(key)
    assert isinstance(entry, bytes)
    return entry


def soon() -> float:
    return time.monotonic() + SECONDS


def nothing_comes(expected: Expected, *, seconds: float = 0.5) -> bool:
    try:
        expected.wait(time.monotonic() + seconds)
    except TimeoutError:
        return True
    return False


@pytest.mark.usefixtures("patience", "no_looks")
@pytest.mark.parametrize(
    "outcome",
    [
        PILL,
        None,
        ActivityExists(name="pill"),
        ActivityNotFound(name="pill"),
        FULL,
        RequestIdReused(),
        InvalidActivity(
            [Violation("end_date", "end_before_begin", {"begin_date": "2026-02-02", "end_date": "2026-01-01"})]
        ),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_is_told_is_heard(
    outcome: Outcome, listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    expected = expect(listener, key)
    teller.tell([(chat_id, request_id, outcome, OWN)])
    assert expected.wait(soon()) == outcome


def test_a_notification_that_is_lost_costs_a_moment(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int, request_id: UUID, key: str
) -> None:
    teller.tell([(chat_id, request_id, PILL, OWN)])
    entry = taken(raw, key)
    expected = expect(listener, key)
    raw.set(key, entry)
    assert expected.wait(soon()) == PILL


@pytest.mark.usefixtures("patience", "no_looks")
def test_the_outcome_of_another_request_is_not_taken_for_ones_own(
    listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    expected = expect(listener, key)
    teller.tell([(chat_id, request_id, PILL, OTHER)])
    assert nothing_comes(expected)
    teller.tell([(chat_id, request_id, RequestIdReused(), OWN)])
    assert expected.wait(soon()) == RequestIdReused()


def test_a_key_with_the_end_of_another_request_tells_that_the_id_is_used_up(
    listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    expected = expect(listener, key)
    teller.tell([(chat_id, request_id, PILL, OTHER)])
    assert expected.wait(soon()) == RequestIdReused()


@pytest.mark.parametrize("outcome", [FULL, RequestIdReused()], ids=lambda outcome: type(outcome).__name__)
def test_a_key_with_the_refusal_of_another_request_tells_nothing(
    outcome: Outcome, listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    expected = expect(listener, key)
    teller.tell([(chat_id, request_id, outcome, OTHER)])
    assert nothing_comes(expected)


@pytest.mark.parametrize(("outcome", "fingerprint"), [(RequestIdReused(), OTHER), (InvalidActivity([]), "")])
def test_who_has_no_right_to_an_id_leaves_what_its_owner_was_told(
    outcome: Outcome,
    fingerprint: str,
    listener: Listener,
    teller: Outcomes,
    raw: redis.Redis,
    chat_id: int,
    request_id: UUID,
    key: str,
) -> None:
    teller.tell([(chat_id, request_id, None, OWN), (chat_id, request_id, outcome, fingerprint)])
    assert expect(listener, key, is_new=False).wait(soon()) is None


def test_who_sent_what_could_not_be_read_is_told_so(
    listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    expected = expect(listener, key)
    teller.tell([(chat_id, request_id, InvalidActivity([]), "")])
    assert expected.wait(soon()) == InvalidActivity([])


def test_an_outcome_that_nobody_waits_for_is_kept_for_a_minute(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int, request_id: UUID, key: str
) -> None:
    teller.tell([])
    teller.tell([(chat_id, request_id, PILL, OWN)])
    assert LIFETIME - 10 < int(raw.ttl(key)) <= LIFETIME == 60
    assert expect(listener, key, is_new=False).wait(soon()) == PILL


@pytest.mark.usefixtures("patience")
def test_a_repeat_has_the_final_answer_before_it_is_sent(
    listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    teller.tell([(chat_id, request_id, PILL, OWN)])
    assert expect(listener, key, is_new=False).is_over
    assert expect(listener, key, is_new=False, fingerprint=OTHER).wait(soon()) == RequestIdReused()


@pytest.mark.usefixtures("patience")
def test_a_refusal_that_an_earlier_request_left_does_not_answer_a_later_one(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int, request_id: UUID, key: str
) -> None:
    teller.tell([(chat_id, request_id, FULL, OWN)])
    expected = expect(listener, key, is_new=False)
    assert nothing_comes(expected)
    assert raw.get(key) is None
    teller.tell([(chat_id, request_id, PILL, OWN)])
    assert expected.wait(soon()) == PILL


@pytest.mark.usefixtures("patience")
def test_a_refusal_is_found_under_the_key_when_it_is_the_answer(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int, request_id: UUID, key: str
) -> None:
    teller.tell([(chat_id, request_id, FULL, OWN)])
    entry = taken(raw, key)
    expected = expect(listener, key, is_new=False)
    raw.set(key, entry)
    assert expected.wait(soon()) == FULL


@pytest.mark.usefixtures("patience", "no_looks")
def test_all_who_wait_under_one_id_are_answered(
    listener: Listener, teller: Outcomes, chat_id: int, request_id: UUID, key: str
) -> None:
    first, second = expect(listener, key), expect(listener, key)
    given_up = expect(listener, key)
    listener.leave(given_up)
    teller.tell([(chat_id, request_id, FULL, OWN)])
    assert [first.wait(soon()), second.wait(soon())] == [FULL, FULL]
    assert first.wait(soon()) is not second.wait(soon()), "an error that is raised twice mixes up its traces"
    assert not given_up.is_over


@pytest.mark.usefixtures("patience", "no_looks")
def test_a_thousand_wait_on_one_connection(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(raw.client_list(_type="pubsub"))
    ids = [uuid4() for _ in range(1000)]
    waits = [listener.expect(key_of(chat_id, each), OWN, is_new=True) for each in ids]
    listener.prepare(waits, until=soon())
    assert len(raw.client_list(_type="pubsub")) == before + 1
    teller.tell([(chat_id, each, None, OWN) for each in ids])
    assert [each.wait(soon()) for each in waits] == [None] * 1000
    assert subscriptions(raw, chat_id) == 1000
    for each in waits:
        listener.leave(each)
    monkeypatch.setattr(outcomes, "LOOK_SECONDS", 0.1)
    expect(listener, key_of(chat_id, uuid4()), is_new=False)  # a look, which takes up the rest of the work
    eventually(lambda: subscriptions(raw, chat_id) == 1)


def subscriptions(raw: redis.Redis, chat_id: int) -> int:
    return len(raw.pubsub_channels(key_of(chat_id, "*")))  # type: ignore[arg-type]


@pytest.mark.usefixtures("patience")
def test_a_thousand_missed_notifications_are_found(
    listener: Listener, teller: Outcomes, raw: redis.Redis, chat_id: int
) -> None:
    ids = [uuid4() for _ in range(1000)]
    waits = [listener.expect(key_of(chat_id, each), OWN, is_new=True) for each in ids]
    listener.prepare(waits, until=soon())
    teller.tell([(chat_id, ids[0], None, OWN)])
    entry = taken(raw, key_of(chat_id, ids[0]))
    raw.mset({key_of(chat_id, each): entry for each in ids})
    assert [each.wait(soon()) for each in waits] == [None] * 1000


def test_what_is_no_outcome_is_ignored_and_told_once(
    listener: Listener,
    teller: Outcomes,
    raw: redis.Redis,
    chat_id: int,
    request_id: UUID,
    key: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    expected = expect(listener, key)
    for garbage in (b"", b"\xff", b"\x12\x00\x12", b"\x0a\x03\x0a\x01x"):
        raw.publish(key, garbage)
        raw.set(key, garbage)
        assert nothing_comes(expected, seconds=0.3)
    raw.delete(key)
    raw.rpush(key, "a list")
    assert nothing_comes(expected, seconds=0.3)
    raw.delete(key)
    assert len(caplog.messages) == 1
    teller.tell([(chat_id, request_id, PILL, OWN)])
    assert expected.wait(soon()) == PILL


def test_who_is_cancelled_waits_no_longer(listener: Listener, key: str) -> None:
    expected = expect(listener, key)
    threading.Timer(0.2, expected.cancel).start()
    with pytest.raises(Cancelled):
        expected.wait(soon())


def test_closing_ends_what_it_began(raw: redis.Redis, key: str) -> None:
    before = {thread.name for thread in threading.enumerate()}
    listener = Listener(outcome_connections)
    expect(listener, key)
    listener.close()
    assert {thread.name for thread in threading.enumerate()} == before
    Listener(outcome_connections).close()
