"""Protobuf and the domain, both ways; errors and `google.rpc.Status`, both ways. Once for every user of the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from itertools import chain, repeat
from types import MappingProxyType

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from activities.domain import (
    ERRORS,
    MESSAGES,
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Chat,
    InvalidActivity,
    NotAuthenticated,
    Outcome,
    OutcomePending,
    PermissionDenied,
    RateLimited,
    RequestIdReused,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
    Violation,
)
from proto.activities.v1 import activities_pb2, chats_pb2, outcomes_pb2

DOMAIN = "activities"
"""The domain of every `google.rpc.ErrorInfo`."""

CODES: Mapping[type[ActivitiesError], int] = MappingProxyType(
    {
        InvalidActivity: code_pb2.INVALID_ARGUMENT,
        RequestIdReused: code_pb2.INVALID_ARGUMENT,
        ActivityNotFound: code_pb2.NOT_FOUND,
        ActivityExists: code_pb2.ALREADY_EXISTS,
        TooManyActivities: code_pb2.FAILED_PRECONDITION,
        RateLimited: code_pb2.RESOURCE_EXHAUSTED,
        StorageBusy: code_pb2.RESOURCE_EXHAUSTED,
        StorageTimeout: code_pb2.DEADLINE_EXCEEDED,
        StorageUnavailable: code_pb2.UNAVAILABLE,
        OutcomePending: code_pb2.DEADLINE_EXCEEDED,
        NotAuthenticated: code_pb2.UNAUTHENTICATED,
        PermissionDenied: code_pb2.PERMISSION_DENIED,
    }
)


_NEAREST: Mapping[int, type[ActivitiesError]] = MappingProxyType(
    {
        code_pb2.NOT_FOUND: ActivityNotFound,
        code_pb2.ALREADY_EXISTS: ActivityExists,
        code_pb2.FAILED_PRECONDITION: TooManyActivities,
        code_pb2.RESOURCE_EXHAUSTED: StorageBusy,
        code_pb2.DEADLINE_EXCEEDED: StorageTimeout,
        code_pb2.UNAVAILABLE: StorageUnavailable,
        code_pb2.UNAUTHENTICATED: NotAuthenticated,
        code_pb2.PERMISSION_DENIED: PermissionDenied,
    }
)
"""What an error with this code is most like."""


def given_fields(message: Message) -> dict[str, object]:
    """The fields of a request as raw input for the domain: an `optional` one that was not sent is left out."""
    return {
        field.name: getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def activity_message(activity: Activity) -> activities_pb2.Activity:
    return activities_pb2.Activity(
        name=activity.name,
        begin_date=activity.begin_date.isoformat(),
        end_date=activity.end_date.isoformat(),
        times_per_day=activity.times_per_day,
        quantity_per_time=float(activity.quantity_per_time),
    )


def activity_from(message: activities_pb2.Activity) -> Activity:
    """An activity that a peer of ours sent, which has checked it already; `ValueError` when it can be none."""
    try:
        return Activity(
            name=message.name,
            begin_date=date.fromisoformat(message.begin_date),
            end_date=date.fromisoformat(message.end_date),
            times_per_day=message.times_per_day,
            quantity_per_time=Decimal(repr(message.quantity_per_time)),
        )
    except (InvalidActivity, ArithmeticError) as wrong:
        raise ValueError("no activity") from wrong


def activity_to_bytes(activity: Activity) -> bytes:
    return activity_message(activity).SerializeToString()


def activity_from_bytes(data: bytes) -> Activity:
    """What `activity_to_bytes` made; `ValueError` for anything else."""
    try:
        return activity_from(activities_pb2.Activity.FromString(data))
    except DecodeError as garbage:
        raise ValueError("no activity") from garbage


def list_message(page: ActivityPage) -> activities_pb2.ActivityListResponse:
    return activities_pb2.ActivityListResponse(activities=map(activity_message, page.activities), total=page.total)


def today_message(page: ActivityPage) -> activities_pb2.ActivityTodayResponse:
    return activities_pb2.ActivityTodayResponse(activities=map(activity_message, page.activities), total=page.total)


def create_request(chat_id: int, activity: Activity) -> activities_pb2.ActivityCreateRequest:
    message = activity_message(activity)
    return activities_pb2.ActivityCreateRequest(
        chat_id=chat_id,
        name=message.name,
        begin_date=message.begin_date,
        end_date=message.end_date,
        times_per_day=message.times_per_day,
        quantity_per_time=message.quantity_per_time,
    )


def update_request(chat_id: int, name: str, changes: ActivityChanges) -> activities_pb2.ActivityUpdateRequest:
    return activities_pb2.ActivityUpdateRequest(
        chat_id=chat_id,
        name=name,
        begin_date=_iso(changes.begin_date),
        end_date=_iso(changes.end_date),
        times_per_day=changes.times_per_day,
        quantity_per_time=None if changes.quantity_per_time is None else float(changes.quantity_per_time),
    )


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def delete_request(chat_id: int, name: str) -> activities_pb2.ActivityDeleteRequest:
    return activities_pb2.ActivityDeleteRequest(chat_id=chat_id, name=name)


def outcome_message(outcome: Outcome, fingerprint: str) -> outcomes_pb2.Outcome:
    """A command's end, and the fingerprint of the command."""
    if isinstance(outcome, ActivitiesError):
        return outcomes_pb2.Outcome(status=status_of(outcome), fingerprint=fingerprint)
    if outcome is None:
        return outcomes_pb2.Outcome(deleted=Empty(), fingerprint=fingerprint)
    return outcomes_pb2.Outcome(activity=activity_message(outcome), fingerprint=fingerprint)


def outcome_from(message: outcomes_pb2.Outcome) -> Outcome:
    """The outcome in what `outcome_message` made; `ValueError` when a newer peer says what is not known here."""
    result = message.WhichOneof("result")
    if result == "activity":
        return activity_from(message.activity)
    if result == "deleted":
        return None
    error = error_of(message.status) if result == "status" else None
    if error is None:
        raise ValueError("no outcome that is known here")
    return error


def page_from(message: activities_pb2.ActivityListResponse | activities_pb2.ActivityTodayResponse) -> ActivityPage:
    return ActivityPage(tuple(map(activity_from, message.activities)), message.total)


def chat_message(chat: Chat) -> chats_pb2.Chat:
    return chats_pb2.Chat(
        chat_id=chat.chat_id,
        timezone=chat.timezone,
        language=chat.language,
        tokens_valid_after=chat.tokens_valid_after,
    )


def chat_from(message: chats_pb2.Chat) -> Chat:
    return Chat(message.chat_id, message.timezone, message.language, message.tokens_valid_after)


def status_of(error: ActivitiesError) -> status_pb2.Status:
    """The error with everything that its other end needs to raise it again."""
    status = status_pb2.Status(code=CODES[type(error)], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN, metadata=error.details)
    if isinstance(error, InvalidActivity):
        request = error_details_pb2.BadRequest()
        for each in error.violations:
            request.field_violations.add(field=each.field, description=each.message, reason=each.code.upper())
        info.metadata["params"] = json.dumps([dict(each.params) for each in error.violations], ensure_ascii=False)
        status.details.add().Pack(request)
    status.details.add().Pack(info)
    if error.seconds_to_wait is not None and CODES[type(error)] == code_pb2.RESOURCE_EXHAUSTED:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = int(error.seconds_to_wait)
        status.details.add().Pack(retry)
    if isinstance(error, OutcomePending):
        request_id = error.details.get("request_id", "")
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    return status


def error_of(status: status_pb2.Status) -> ActivitiesError | None:
    """The error that `status_of` made this from, or the nearest to a newer peer's, with its message; None when it is
    none of ours."""
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
    if info.domain != DOMAIN:
        return None
    kind = ERRORS.get(info.reason)
    if kind is None:
        return _nearest(status, request)
    if kind is InvalidActivity:
        params = json.loads(info.metadata.get("params", "[]"))
        return InvalidActivity(
            Violation(each.field, code, known)
            if (code := each.reason.lower()) in MESSAGES
            else Violation(each.field, "other", {"message": each.description})
            for each, known in zip(request.field_violations, chain(params, repeat({})), strict=False)
        )
    return kind(**info.metadata)


def _nearest(status: status_pb2.Status, request: error_details_pb2.BadRequest) -> ActivitiesError | None:
    """What comes nearest to an error whose name only a newer peer knows, with its message."""
    if status.code == code_pb2.INVALID_ARGUMENT:
        fields = [(each.field, each.description) for each in request.field_violations] or [("request", status.message)]
        return InvalidActivity(Violation(field, "other", {"message": message}) for field, message in fields)
    kind = _NEAREST.get(status.code)
    return None if kind is None else kind(message=status.message)
