"""One request while it is served: counted, timed, and told in the log, the same on every transport."""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import NamedTuple

from prometheus_client import Counter, Histogram

from activities.domain import (
    ActivitiesError,
    OutcomePending,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Cancelled

logger = logging.getLogger(__name__)

_LABELS = ("transport", "use_case")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
RECEIVED = Counter("activities_requests_received", "Requests that came in.", _LABELS)
SENT = Counter("activities_requests_sent", "Requests passed on to another service.", _LABELS)
SUCCEEDED = Counter("activities_requests_succeeded", "Requests that were carried out.", _LABELS)
FAILED = Counter("activities_requests_failed", "Requests refused for a reason on the caller's side.", _LABELS)
ERRORS = Counter("activities_request_errors", "Requests not carried out for a reason on our side.", _LABELS)
SECONDS = Histogram("activities_request_duration_seconds", "From asking to answering.", _LABELS, buckets=_BUCKETS)

OURS = (StorageBusy, StorageTimeout, StorageUnavailable, OutcomePending)
"""What a caller gets through no fault of its own, beside what is unexpected."""


class _Meters(NamedTuple):
    received: Counter
    succeeded: Counter
    failed: Counter
    errors: Counter
    seconds: Histogram


@cache
def _meters(transport: str, use_case: str) -> _Meters:
    received, succeeded, failed, errors = (
        each.labels(transport, use_case) for each in (RECEIVED, SUCCEEDED, FAILED, ERRORS)
    )
    return _Meters(received, succeeded, failed, errors, SECONDS.labels(transport, use_case))


def sent(transport: str, use_case: str) -> None:
    """Counts a request that is passed on to another service."""
    SENT.labels(transport, use_case).inc()


class Request:
    """One request, from here on. Exactly one of its ends is to be called.

    `transport` is one of `grpc`, `http`, `telegram`, `kafka`, `console`; `use_case` is one of ours, never what somebody
    sent. `who` is a principal's name, once it is known.
    """

    __slots__ = ("_began", "_meters", "request_id", "transport", "use_case", "who")

    def __init__(self, transport: str, use_case: str, *, request_id: str = "", who: str = "nobody") -> None:
        self.transport = transport
        self.use_case = use_case
        self.request_id = request_id
        self.who = who
        self._meters = _meters(transport, use_case)
        self._meters.received.inc()
        self._began = time.perf_counter()

    def succeeded(self) -> None:
        self._ended(self._meters.succeeded, "done", logging.DEBUG)  # a line for each would cost a fast one a quarter

    def failed(self, error: BaseException, *, is_ours: bool | None = None) -> None:
        """It ended with this error, whose name alone is logged: some errors quote what people sent.

        `is_ours`: whose fault it is, where the transport knows better than the error's kind tells.
        """
        if is_ours is None:
            is_ours = isinstance(error, OURS) or not isinstance(error, ActivitiesError | Cancelled)
        self._ended(self._meters.errors if is_ours else self._meters.failed, type(error).__name__, logging.INFO)

    def _ended(self, counter: Counter, outcome: str, level: int) -> None:
        seconds = time.perf_counter() - self._began
        counter.inc()
        self._meters.seconds.observe(seconds)
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "%s %s for %s: %s in %.1f ms%s",
                self.transport,
                self.use_case,
                self.who,
                outcome,
                seconds * 1000,
                f", request id {self.request_id}" if self.request_id else "",
            )
