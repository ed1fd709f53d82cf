"""Failures to log in to the admin are counted, and forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from redis.exceptions import ConnectionError as RedisConnectionError

from activities.admin_site import MOST_BY_ADDRESS, MOST_BY_NAME, WINDOW_SECONDS, FailedLogins

HERE = "203.0.113.7"


class Away(LocMemCache):
    """A Redis that does not answer."""

    def add(self, *arguments: object, **options: object) -> bool:
        raise RedisConnectionError

    def delete(self, *arguments: object, **options: object) -> bool:
        raise RedisConnectionError

    incr = add


@pytest.fixture(params=[LocMemCache, Away])
def shared(request: pytest.FixtureRequest) -> BaseCache:
    cache: BaseCache = request.param(f"test {request.node.name}", {})
    return cache


def test_a_name_is_refused_after_its_failures_and_free_again_after_the_window(shared: BaseCache) -> None:
    now = [10.0 * WINDOW_SECONDS + 100]
    failed = FailedLogins(shared, clock=lambda: now[0])
    addresses = [f"198.51.100.{number}" for number in range(MOST_BY_NAME + 1)]
    assert [failed.attempt("head", address) for address in addresses] == [*[0] * MOST_BY_NAME, WINDOW_SECONDS - 99]
    assert failed.attempt("another", HERE) == 0
    for _ in range(100):  # whoever goes on does not put it off
        failed.attempt("head", HERE)
    now[0] += WINDOW_SECONDS - 99
    assert failed.attempt("head", "198.51.100.77") == 0


@pytest.mark.parametrize("addresses", [(HERE, HERE), ("2001:db8::1", "2001:db8::ffff:1"), ("no address", "no address")])
def test_an_address_is_refused_after_its_failures_under_any_name(shared: BaseCache, addresses: tuple[str, str]) -> None:
    failed = FailedLogins(shared, clock=lambda: 1000.0)
    for number in range(MOST_BY_ADDRESS):
        assert failed.attempt(f"name {number}", addresses[0]) == 0
    assert failed.attempt("head", addresses[1]) > 0
    assert failed.attempt("head", "198.51.100.1") == 0


def test_a_name_is_the_same_however_it_is_spelt_to_django(shared: BaseCache) -> None:
    failed = FailedLogins(shared, clock=lambda: 1000.0)
    spellings = ["head", " head", "head\t", "\u3000head", "\N{FULLWIDTH LATIN SMALL LETTER H}ead"]
    tries = [failed.attempt(spellings[number % 5], f"198.51.100.{number}") for number in range(MOST_BY_NAME + 1)]
    assert tries[:-1] == [0] * MOST_BY_NAME
    assert tries[-1] > 0


def test_who_gets_in_has_not_failed(shared: BaseCache) -> None:
    failed = FailedLogins(shared, clock=lambda: 1000.0)
    for _ in range(3 * MOST_BY_ADDRESS):
        assert failed.attempt("head", HERE) == 0
        failed.succeeded("head", HERE)
    tried = 0
    while failed.attempt("head", HERE) == 0:
        tried += 1
    assert tried == MOST_BY_NAME  # it has no more than others in reserve


def test_many_at_once_are_no_way_round(shared: BaseCache) -> None:
    failed = FailedLogins(shared, clock=lambda: 1000.0)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: failed.attempt("head", HERE), range(100)))
    assert answers.count(0) == MOST_BY_NAME


def test_names_are_not_to_be_read_in_the_cache() -> None:
    cache = LocMemCache("readable", {})
    FailedLogins(cache, clock=lambda: 1000.0).attempt("head", HERE)
    assert len(cache._cache) == 2  # type: ignore[attr-defined]
    assert not [key for key in cache._cache if "head" in key or HERE in key]  # type: ignore[attr-defined]
