"""The pool: whoever asks is held up no longer than it wants, and what was made for it is not lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from activities.repositories.pool import Pool

LONG = 30.0
"""Seconds that no passing test waits for."""


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


class Maker:
    """Makes connections as long as it is not held up."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self) -> Connection:
        assert self.goes_on.wait(LONG)
        self.made.append(Connection())
        return self.made[-1]


@contextmanager
def pool_of(maker: Maker, *, most: int = 2) -> Iterator[Pool[Connection]]:
    pool = Pool(maker, most=most)
    yield pool
    pool.close()


def soon() -> float:
    return time.monotonic() + 0.05


def later() -> float:
    return time.monotonic() + LONG


def test_what_is_given_back_is_used_again_the_last_one_first() -> None:
    with pool_of(Maker()) as pool:
        first, second = pool.take(later()), pool.take(later())
        assert first is not second
        pool.give_back(first)
        pool.give_back(second)
        assert pool.take(later()) is second
        assert pool.take(later()) is first


def test_a_connection_that_takes_long_to_make_holds_nobody_up_and_serves_the_next() -> None:
    maker = Maker()
    with pool_of(maker) as pool:
        maker.goes_on.clear()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            pool.take(soon())
        assert time.monotonic() - began < LONG / 2
        maker.goes_on.set()
        assert pool.take(later()) in maker.made
        pool.close()
        assert len(maker.made) <= 2


def test_what_making_raises_reaches_the_one_who_asked() -> None:
    def refuse() -> Connection:
        raise ConnectionRefusedError

    pool = Pool(refuse, most=1)
    with pytest.raises(ConnectionRefusedError):
        pool.take(later())
    pool.close()


def test_no_more_are_kept_idle_than_it_may() -> None:
    with pool_of(Maker(), most=1) as pool:
        first, second = pool.take(later()), pool.take(later())
        pool.give_back(first)
        pool.give_back(second)
        assert (first.closed, second.closed) == (False, True)


def test_closing_closes_what_is_idle_and_what_comes_too_late() -> None:
    maker = Maker()
    pool = Pool(maker, most=2)
    idle, in_use = pool.take(later()), pool.take(later())
    maker.goes_on.clear()
    with pytest.raises(TimeoutError):
        pool.take(soon())
    pool.give_back(idle)
    threading.Timer(0.1, maker.goes_on.set).start()
    pool.close()
    late = maker.made[-1]
    assert len(maker.made) == 3
    assert (idle.closed, in_use.closed, late.closed) == (True, False, True)
