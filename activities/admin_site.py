"""The admin's entrance: whoever fails to log in too often has to wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar
from unicodedata import normalize

from django.contrib import admin
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
T = TypeVar("T")

WINDOW_SECONDS = 900
"""After which failures are forgotten: whatever others did to a name, its owner gets in again."""
MOST_BY_NAME = 10
"""Failures under one name in a window: at most a thousand a day, of passwords with 12 characters or more."""
MOST_BY_ADDRESS = 30
"""Failures from one address, behind which there may be several people."""


class FailedLogins:
    """Counts failures to log in by name and by address, in Redis; while that is away, in this process alone."""

    def __init__(self, shared: BaseCache, *, clock: Callable[[], float] = time.time) -> None:
        own = LocMemCache(f"failed logins {id(self)}", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
        self._stores = (shared, own)
        self._clock = clock

    def attempt(self, name: str, address: str) -> int:
        """Counts an attempt as a failure, before anybody looks at its password: many at once are no way round.

        Returns for how many seconds it must not be looked at, or 0.
        """
        now = self._clock()
        by_name, by_address = self._keys(name, address, now)
        # Both are counted, whatever the first one says.
        counts = self._count(by_name), self._count(by_address)
        if counts[0] > MOST_BY_NAME or counts[1] > MOST_BY_ADDRESS:
            return int(WINDOW_SECONDS - now % WINDOW_SECONDS) + 1
        return 0

    def succeeded(self, name: str, address: str) -> None:
        """The attempt was no failure, and the name's owner has come."""
        by_name, by_address = self._keys(name, address, self._clock())
        self._first(lambda store: store.delete(by_name))
        self._first(lambda store: store.incr(by_address, -1))

    def _count(self, key: str) -> int:
        def count(store: BaseCache) -> int:
            store.add(key, 0, WINDOW_SECONDS)
            return store.incr(key)

        return self._first(count) or 0

    def _first(self, act: Callable[[BaseCache], T]) -> T | None:
        """What comes of it in the first store that answers."""
        for store in self._stores:
            with suppress(ConnectionInterrupted, RedisError, OSError, ValueError):  # the last: the key has expired
                return act(store)
        return None

    def _keys(self, name: str, address: str, now: float) -> tuple[str, str]:
        def key(text: str) -> str:
            # What people type, which may be a password in the wrong field, is not to be read in Redis.
            digest = salted_hmac("activities.failed-login", text).hexdigest()
            return f"activities:failed-login:{int(now // WINDOW_SECONDS)}:{digest}"

        return key(f"name {normalize('NFKC', name.strip())}"), key(f"address {_place(address)}")


def _place(address: str) -> str:
    """An address; of IPv6 the network of one customer, who has all addresses of it."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(known if known.version == 4 else ip_network((known, 64), strict=False))


class AdminSite(admin.AdminSite):
    """The admin, which answers 429 to who fails to log in too often."""

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self._failed = FailedLogins(cache)

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        if request.method != "POST":
            return super().login(request, dict(extra_context or {}))
        who = request.POST.get("username", ""), request.META.get("REMOTE_ADDR", "")
        seconds = self._failed.attempt(*who)
        if seconds:
            logger.warning("too many failures to log in to the admin; the next attempt is looked at in %s s", seconds)
            context = {"minutes": -(-seconds // 60)}
            response = render(request, "activities/too_many_logins.html", context, status=429)
            response["Retry-After"] = str(seconds)
            return response
        response = super().login(request, dict(extra_context or {}))
        if request.user.is_authenticated and response.status_code == 302:
            self._failed.succeeded(*who)
        return response
