"""Requests counted in a real Redis: by all processes together, and in the same way as in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from activities.container import outcome_connections
from activities.repositories.windows import LARGEST_SHARE, LEASE_SECONDS, PREFIX, WINDOW_SECONDS, SharedWindows
from tests.environment import require_services


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the machine is slow is no outage."""
    monkeypatch.setattr("activities.repositories.windows.ASK_SECONDS", 30.0)


@pytest.fixture
def windows() -> Iterator[SharedWindows]:
    require_services()
    windows = SharedWindows(outcome_connections, most=10)
    yield windows
    windows.close()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis(connection_pool=outcome_connections()) as redis:
        yield redis


def test_processes_count_together(windows, chat_id):
    others = SharedWindows(outcome_connections, most=10)
    who = f"chat:{chat_id}"
    assert [each.take(who, limit=3) for each in (windows, others, windows)] == [0, 0, 0]
    for each in (windows, others):
        assert 0 < each.take(who, limit=3) <= WINDOW_SECONDS
    others.close()


def test_of_many_at_once_just_so_many_count(windows, chat_id):
    with ThreadPoolExecutor(20) as threads:
        waits = list(threads.map(lambda _: windows.take(f"chat:{chat_id}", limit=100), range(300)))
    assert waits.count(0) == 100


def test_whoever_asks_often_is_counted_several_at_a_time_and_gets_not_one_less(windows, redis, chat_id):
    who, limit = f"chat:{chat_id}", 600
    before = redis.info("commandstats")["cmdstat_eval"]["calls"]
    assert [windows.take(who, limit=limit) for _ in range(limit)] == [0] * limit
    assert windows.take(who, limit=limit) > 0
    assert redis.info("commandstats")["cmdstat_eval"]["calls"] - before < limit / 2


def test_a_process_gets_all_that_is_left_by_the_others(windows, redis, chat_id):
    others = SharedWindows(outcome_connections, most=10)
    who, limit = f"chat:{chat_id}", 600
    for _ in range(300):
        others.take(who, limit=limit)
    counted = 0
    while windows.take(who, limit=limit) == 0:
        counted += 1
    left_over = 300 - counted
    assert 0 <= left_over <= limit / LARGEST_SHARE  # what the other process has in hand
    while others.take(who, limit=limit) == 0:
        counted += 1
    assert counted == 300
    others.close()


def test_what_a_process_has_in_hand_is_soon_worth_nothing(chat_id):
    clock = Clock()
    windows = SharedWindows(outcome_connections, most=10, clock=clock)
    for _ in range(400):
        windows.take(f"chat:{chat_id}", limit=600)
    in_hand = windows._leases[f"chat:{chat_id}"].left
    assert in_hand
    clock.now += LEASE_SECONDS
    counted = 0
    while windows.take(f"chat:{chat_id}", limit=600) == 0:
        counted += 1
    assert counted == 200 - in_hand
    windows.close()


def test_a_window_moves(windows, redis, chat_id):
    who, now = f"chat:{chat_id}", time.time()
    ages = (70, 61, 59, 30)
    redis.rpush(PREFIX + who, *(f"{(now - age) * 1e6:.0f}" for age in ages))
    assert windows.take(who, limit=3) == 0
    assert windows.take(who, limit=3) == pytest.approx(1, abs=0.9)
    assert windows.take(who, limit=2) == pytest.approx(30, abs=5)
    assert redis.llen(PREFIX + who) == 3


def test_what_is_kept_goes_when_nobody_asks(windows, redis, chat_id):
    windows.take(f"chat:{chat_id}", limit=3)
    assert 0 < redis.ttl(f"{PREFIX}chat:{chat_id}") <= WINDOW_SECONDS


def test_with_garbage_under_the_key_the_process_counts_for_itself(windows, redis, chat_id):
    redis.set(f"{PREFIX}chat:{chat_id}", "garbage", ex=WINDOW_SECONDS)
    assert [windows.take(f"chat:{chat_id}", limit=2) for _ in range(2)] == [0, 0]
    assert windows.take(f"chat:{chat_id}", limit=2) > 0
