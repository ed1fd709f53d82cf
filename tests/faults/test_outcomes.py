"""Outcomes while Redis is away, silent, or loses connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import UUID, uuid4

import pytest
import redis
from redis import ConnectionPool
from redis.exceptions import RedisError

from activities.repositories.timed_redis import TimedConnection
from kafka_worker import outcomes
from kafka_worker.outcomes import READY_SECONDS, TELL_SECONDS, Expected, Listener, Outcomes, key_of
from tests.faults.services import SECONDS, Services, eventually
from tests.faults.wire import Wire, wire_to

OWN = "own"


@pytest.fixture
def wire(services: Services) -> Iterator[Wire]:
    with wire_to(services.ports["redis"]) as wire:
        yield wire


@pytest.fixture
def connections(services: Services) -> Callable[[int], ConnectionPool]:
    """Connections to a Redis on a port."""

    def connections(port: int) -> ConnectionPool:
        url = services.environment["REDIS_URL"].replace(f":{services.ports['redis']}/", f":{port}/")
        return ConnectionPool.from_url(url, connection_class=TimedConnection, socket_connect_timeout=0.5)

    return connections


@pytest.fixture
def teller(connections: Callable[[int], ConnectionPool], services: Services) -> Iterator[Outcomes]:
    """What another process tells, which nothing is between."""
    with closing(Outcomes(lambda: connections(services.ports["redis"]))) as teller:
        yield teller


@pytest.fixture
def listener(connections: Callable[[int], ConnectionPool], wire: Wire, raw_redis: redis.Redis) -> Iterator[Listener]:
    with closing(Listener(lambda: connections(wire.port))) as listener:
        yield listener


@pytest.fixture
def request_id() -> UUID:
    return uuid4()


def expect(listener: Listener, request_id: UUID) -> Expected:
    expected = listener.expect(key_of(1, request_id), OWN, is_new=True)
    listener.prepare([expected], until=soon())
    return expected


def soon() -> float:
    return time.monotonic() + SECONDS


def test_who_waits_while_redis_is_away_is_not_held_up_and_hears_when_it_is_back(
    listener: Listener, teller: Outcomes, wire: Wire, request_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        expect(listener, uuid4())
        wire.take_down()
        eventually(lambda: "Redis does not answer" in caplog.text)
        began = time.monotonic()
        waits = [expect(listener, uuid4()) for _ in range(20)]
        missed = expect(listener, request_id)
        assert time.monotonic() - began < 1
        teller.tell([(1, request_id, None, OWN)])
        with pytest.raises(TimeoutError):
            missed.wait(time.monotonic() + 0.7)
        wire.down = False
        assert missed.wait(soon()) is None
        eventually(lambda: "Redis answers again" in caplog.text)
        assert len(caplog.messages) == 2, "its going and its coming are told once"
        caplog.clear()
        assert not any(each.is_over for each in waits)
        request_id = uuid4()


def test_a_connection_that_is_lost_is_made_again_with_all_that_is_waited_for(
    listener: Listener,
    teller: Outcomes,
    wire: Wire,
    raw_redis: redis.Redis,
    request_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "LOOK_SECONDS", 3600.0)
    ids = [uuid4() for _ in range(3)]
    waits = [expect(listener, each) for each in ids]
    wire.take_down()
    eventually(lambda: raw_redis.pubsub_channels() == [])
    wire.down = False
    eventually(lambda: len(raw_redis.pubsub_channels()) == len(ids))
    teller.tell([(1, each, None, OWN) for each in ids])
    assert [each.wait(soon()) for each in waits] == [None] * len(ids)


def test_a_redis_that_says_nothing_holds_nobody_up(
    services: Services, listener: Listener, teller: Outcomes, caplog: pytest.LogCaptureFixture
) -> None:
    expect(listener, uuid4())
    teller.tell([(1, uuid4(), None, OWN)])
    services.pause("redis")
    ids = [uuid4() for _ in range(10)]
    waits = []
    for each in ids:
        began = time.monotonic()
        waits.append(expect(listener, each))
        assert time.monotonic() - began < READY_SECONDS + 0.5
    began = time.monotonic()
    with pytest.raises((RedisError, OSError)):
        teller.tell([(1, ids[0], None, OWN)])
    assert TELL_SECONDS <= time.monotonic() - began < TELL_SECONDS + 1
    eventually(lambda: "Redis does not answer" in caplog.text)
    services.resume("redis")
    teller.tell([(1, each, None, OWN) for each in ids])
    assert [each.wait(soon()) for each in waits] == [None] * len(ids)
    eventually(lambda: "Redis answers again" in caplog.text)


def test_what_was_told_on_a_connection_that_was_lost_meanwhile_is_told_again(
    connections: Callable[[int], ConnectionPool], wire: Wire, raw_redis: redis.Redis, request_id: UUID
) -> None:
    with closing(Outcomes(lambda: connections(wire.port))) as teller:
        teller.tell([(1, uuid4(), None, OWN)])
        wire.take_down()
        with pytest.raises((RedisError, OSError)):
            teller.tell([(1, request_id, None, OWN)])
        wire.down = False
        teller.tell([(1, request_id, None, OWN)])
        raw_redis.client_kill_filter(_type="normal", skipme=True)
        teller.tell([(1, request_id, None, OWN)])
    assert raw_redis.get(key_of(1, request_id))
