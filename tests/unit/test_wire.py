"""What travels over gRPC and Kafka comes out as it went in."""

from __future__ import annotations

from decimal import Decimal

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import (
    ERRORS,
    MESSAGES,
    ActivitiesError,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Chat,
    InvalidActivity,
    OutcomePending,
    RateLimited,
    Reading,
    StorageBusy,
    Violation,
    read_activity,
)
from activities.wire import (
    CODES,
    activity_from,
    activity_message,
    chat_from,
    chat_message,
    error_of,
    given_fields,
    list_message,
    page_from,
    status_of,
    today_message,
)
from proto.activities.v1 import activities_pb2, chats_pb2
from tests.examples import ODD_NAMES, activities, activity

texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
violations = st.builds(
    Violation,
    st.sampled_from(["name", "chat_id", "x-request-id"]),
    st.sampled_from(list(MESSAGES)),
    st.dictionaries(keys, texts),
)


def travelled(error: ActivitiesError) -> status_pb2.Status:
    return status_pb2.Status.FromString(status_of(error).SerializeToString())


@given(st.lists(violations, max_size=8))
def test_broken_rules_survive_the_way(broken):
    error = InvalidActivity(broken)
    again = error_of(travelled(error))
    assert again == error
    assert str(again) == str(error)
    assert isinstance(again, InvalidActivity)
    assert again.by_field == error.by_field


@given(
    st.sampled_from([error for error in ERRORS.values() if error is not InvalidActivity]), st.dictionaries(keys, texts)
)
def test_every_other_error_survives_the_way(kind, details):
    details.pop("retry_after", None)  # a number of seconds
    error = kind(**details)
    again = error_of(travelled(error))
    assert again == error
    assert str(again) == str(error)


def test_every_error_has_the_code_of_the_contract():
    names = {kind.__name__: code_pb2.Code.Name(code) for kind, code in CODES.items()}
    assert names == {
        "InvalidActivity": "INVALID_ARGUMENT",
        "RequestIdReused": "INVALID_ARGUMENT",
        "ActivityNotFound": "NOT_FOUND",
        "ActivityExists": "ALREADY_EXISTS",
        "TooManyActivities": "FAILED_PRECONDITION",
        "RateLimited": "RESOURCE_EXHAUSTED",
        "StorageBusy": "RESOURCE_EXHAUSTED",
        "StorageTimeout": "DEADLINE_EXCEEDED",
        "StorageUnavailable": "UNAVAILABLE",
        "OutcomePending": "DEADLINE_EXCEEDED",
        "NotAuthenticated": "UNAUTHENTICATED",
        "PermissionDenied": "PERMISSION_DENIED",
    }
    assert set(CODES) == set(ERRORS.values())


def details_of(status: status_pb2.Status, kind: type) -> list:
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


def test_clients_that_know_google_rpc_alone_find_what_they_look_for():
    invalid = travelled(InvalidActivity([Violation("name", "required", {"example": "x"})]))
    (request,) = details_of(invalid, error_details_pb2.BadRequest)
    assert [(each.field, each.description, each.reason) for each in request.field_violations] == [
        ("name", "is required, for example x", "REQUIRED")
    ]
    (info,) = details_of(travelled(ActivityExists(name="pill")), error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("ActivityExists", "activities", {"name": "pill"})
    (pending,) = details_of(travelled(OutcomePending(request_id="abc")), error_details_pb2.RequestInfo)
    assert pending.request_id == "abc"


@pytest.mark.parametrize(
    ("error", "seconds"), [(StorageBusy(), 1), (RateLimited(), 60), (RateLimited(retry_after="7"), 7)]
)
def test_exhaustion_says_when_to_try_again(error, seconds):
    (retry,) = details_of(travelled(error), error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == seconds


def test_what_cannot_be_repeated_with_success_names_no_time():
    assert not details_of(travelled(ActivityNotFound(name="x")), error_details_pb2.RetryInfo)


def test_a_rule_that_only_a_newer_peer_knows_keeps_its_message():
    status = travelled(
        InvalidActivity([Violation("name", "required", {"example": "x"}), Violation("name", "name_dots")])
    )
    (request,) = details_of(status, error_details_pb2.BadRequest)
    request.field_violations[0].reason = "NAME_RUDE"
    request.field_violations[0].description = "is rude; for example vitamin C"
    status.details[0].Pack(request)
    error = error_of(status)
    assert isinstance(error, InvalidActivity)
    assert error.violations[0] == Violation("name", "other", {"message": "is rude; for example vitamin C"})
    assert error.violations[1].code == "name_dots"
    assert error_of(travelled(error)) == error


@pytest.mark.parametrize("params", [None, "[]", '[{"example": "x"}, {}, {}]'])
def test_broken_rules_of_a_peer_that_counts_their_details_otherwise_keep_their_fields(params):
    status = travelled(InvalidActivity([Violation("name", "required", {"example": "x"})]))
    info = error_details_pb2.ErrorInfo()
    status.details[1].Unpack(info)
    del info.metadata["params"]
    if params is not None:
        info.metadata["params"] = params
    status.details[1].Pack(info)
    error = error_of(status)
    assert isinstance(error, InvalidActivity)
    assert [(each.field, each.code) for each in error.violations] == [("name", "required")]


@pytest.mark.parametrize(
    "info",
    [
        None,
        error_details_pb2.ErrorInfo(reason="ActivityNotFound", domain="example.org"),
        error_details_pb2.ErrorInfo(),
    ],
)
def test_a_status_that_is_not_ours_is_no_error_of_ours(info):
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="there is no activity x")
    status.details.append(Any(type_url="type.googleapis.com/example.Unknown", value=b"\xff"))
    if info is not None:
        status.details.add().Pack(info)
    assert error_of(status) is None


def test_the_longest_refusal_fits_the_trailing_metadata_of_a_call():
    reading = Reading()
    worst = "\U000e0fff" * 200  # unassigned: shown as ten characters each
    read_activity(
        reading, dict.fromkeys(("begin_date", "end_date"), worst) | {"name": "x\x00", "times_per_day": 2**32 - 1}
    )
    status = travelled(InvalidActivity(reading.violations))
    assert (
        len(status.SerializeToString()) * 4 / 3 + 3 * len(status.message.encode()) < 8192
    )  # the usual bound of HTTP/2 peers


# ----------------------------------------------------------------------------------------- values


@given(activities())
def test_an_activity_survives_the_way(each):
    message = activities_pb2.Activity.FromString(activity_message(each).SerializeToString())
    assert activity_from(message) == each


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_survive_the_way(name):
    assert activity_from(activity_message(activity(name))) == activity(name)


@pytest.mark.parametrize("make", [list_message, today_message])
@given(several=st.lists(activities(), max_size=3), total=st.integers(0, 2**63 - 1))
def test_a_page_survives_the_way(make, several, total):
    page = ActivityPage(tuple(several), total)
    assert page_from(make(page)) == page


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**40))
def test_a_chat_survives_the_way(chat_id, tokens_valid_after):
    chat = Chat(chat_id, "Europe/Moscow", "ru", tokens_valid_after)
    assert chat_from(chats_pb2.Chat.FromString(chat_message(chat).SerializeToString())) == chat


@given(activities())
def test_a_request_is_read_as_it_was_meant(each):
    message = activity_message(each)
    request = activities_pb2.ActivityCreateRequest(
        chat_id=5,
        name=message.name,
        begin_date=message.begin_date,
        end_date=message.end_date,
        times_per_day=message.times_per_day,
        quantity_per_time=message.quantity_per_time,
    )
    reading = Reading()
    assert read_activity(reading, given_fields(request)) == each
    reading.done()


def test_what_an_update_does_not_send_is_not_given():
    request = activities_pb2.ActivityUpdateRequest(name="x", times_per_day=0)
    assert given_fields(request) == {"chat_id": 0, "name": "x", "times_per_day": 0}
    assert "quantity_per_time" in given_fields(activities_pb2.ActivityUpdateRequest(quantity_per_time=0.0))


def test_a_double_means_its_shortest_decimal_form():
    message = activities_pb2.Activity(begin_date="2026-07-20", end_date="2026-07-20", quantity_per_time=0.1)
    assert activity_from(message).quantity_per_time == Decimal("0.1")
