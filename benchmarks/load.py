"""The load over gRPC: the same light client for every server, in a process apart from theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import grpc

OUTSTANDING = 64
SECONDS = 3.0
"""How long a round takes."""
TIMEOUT = 10.0
SERVICE = "activities.v1.ActivityService"

Request = tuple[bytes, str]
"""A serialized message and the token to show."""


def calls_per_second(address: str, method: str, requests: Iterator[Request], outstanding: int = OUTSTANDING) -> float:
    """Successful calls, `outstanding` of them under way at any time; the first that fails ends it with its error.

    Messages stay bytes and calls are futures: anything more would cost as much as a fast server does.
    """
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(TIMEOUT)
        return _Round(channel.unary_unary(f"/{SERVICE}/{method}", bytes, bytes), requests).run(outstanding)


class _Round:
    """Begins a call whenever one ends, until its time is over."""

    def __init__(self, method: grpc.UnaryUnaryMultiCallable[bytes, bytes], requests: Iterator[Request]) -> None:
        self._method = method
        self._requests = requests
        self._lock = threading.Lock()
        self._under_way = 0
        self._succeeded = 0
        self._end = time.monotonic() + SECONDS
        self._over: Future[None] = Future()

    def run(self, outstanding: int) -> float:
        self._under_way = outstanding
        began = time.monotonic()
        for _ in range(outstanding):
            self._begin()
        self._over.result(SECONDS + TIMEOUT)
        return self._succeeded / (time.monotonic() - began)

    def _begin(self) -> None:
        with self._lock:
            message, token = next(self._requests)
        metadata = (("authorization", f"Bearer {token}"),)
        self._method.future(message, metadata=metadata, timeout=TIMEOUT).add_done_callback(self._ended)

    def _ended(self, call: grpc.Future[bytes]) -> None:
        error = call.exception()
        with self._lock:
            self._succeeded += error is None
            more = error is None and time.monotonic() < self._end
            self._under_way -= not more
            last = self._under_way == 0
        if more:
            self._begin()
        elif error is not None and not self._over.done():
            self._over.set_exception(error)
        elif last:
            self._over.set_result(None)
