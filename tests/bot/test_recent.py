"""What is remembered is bounded in number and age, and one taker has it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bot.recent import Recent
from tests.bot.talking import NOON


class Clock:
    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recent(clock) -> Recent[str, int]:
    return Recent(most=3, lifetime=timedelta(minutes=1), clock=clock)


def test_the_newest_are_kept(recent):
    for number, key in enumerate("abca"):
        recent.put(key, number)
    recent.put("d", 4)
    assert [recent.get(key) for key in "abcd"] == [3, None, 2, 4]


def test_the_old_are_forgotten_and_not_held(recent, clock):
    recent.put("a", 1)
    clock.now += timedelta(minutes=1)
    assert (recent.get("a"), recent.take("a")) == (None, None)
    recent.put("b", 1)
    clock.now += timedelta(minutes=1)
    recent.put("c", 1)
    assert list(recent._values) == ["c"]


def test_of_many_takers_one_has_it(recent):
    with ThreadPoolExecutor(8) as threads:
        for round_ in range(200):
            recent.put("a", round_)
            taken = list(threads.map(lambda _: recent.take("a"), range(8)))
            assert sorted(each for each in taken if each is not None) == [round_]
