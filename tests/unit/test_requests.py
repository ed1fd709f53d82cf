"""Each request is counted once, under how it ended, and told in one line that has nothing of what people sent."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from activities.domain import (
    ERRORS,
    ActivitiesError,
    ActivityNotFound,
    InvalidActivity,
    OutcomePending,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Cancelled
from activities.requests import Request, sent

NAMES = ("received", "sent", "succeeded", "failed")


def counted() -> dict[str, float]:
    labels = {"transport": "grpc", "use_case": "get"}
    samples = {name: f"activities_requests_{name}_total" for name in NAMES}
    samples |= {"errors": "activities_request_errors_total", "timed": "activities_request_duration_seconds_count"}
    return {name: REGISTRY.get_sample_value(sample, labels) or 0 for name, sample in samples.items()}


def counts_more(before: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in counted().items() if value != before[name]}


def test_a_request_that_is_carried_out() -> None:
    before = counted()
    Request("grpc", "get").succeeded()
    assert counts_more(before) == {"received": 1, "succeeded": 1, "timed": 1}


OURS = (StorageBusy, StorageTimeout, StorageUnavailable, OutcomePending)


@pytest.mark.parametrize("error", ERRORS.values())
def test_a_refusal_is_the_callers_fault_or_ours(error: type[ActivitiesError]) -> None:
    before = counted()
    Request("grpc", "get").failed(InvalidActivity([]) if error is InvalidActivity else error())
    assert counts_more(before) == {"received": 1, "errors" if error in OURS else "failed": 1, "timed": 1}


@pytest.mark.parametrize(("error", "end"), [(ZeroDivisionError(), "errors"), (Cancelled(), "failed")])
def test_what_is_unexpected_is_ours_and_that_the_caller_went_is_not(error: Exception, end: str) -> None:
    before = counted()
    Request("grpc", "get").failed(error)
    assert counts_more(before) == {"received": 1, end: 1, "timed": 1}


def test_what_is_passed_on_is_counted_apart() -> None:
    before = counted()
    sent("grpc", "get")
    assert counts_more(before) == {"sent": 1}


def test_a_line_names_the_service_and_the_error_and_nothing_that_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "activities.requests")
    request = Request("grpc", "get", who="backup", request_id="3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b")
    request.failed(ActivityNotFound(name="vitamin C"))
    (line,) = caplog.messages
    assert line.startswith("grpc get for backup: ActivityNotFound in ")
    assert line.endswith(" ms, request id 3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b")
    assert "vitamin" not in line


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 1)])
def test_what_is_carried_out_is_told_to_whoever_looks_closely(
    level: int, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "activities.requests")
    Request("grpc", "get", who="backup").succeeded()
    assert len(caplog.messages) == lines
