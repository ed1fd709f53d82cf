"""Commands as records of their topics, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypedDict
from uuid import NAMESPACE_OID, UUID, uuid5

from google.protobuf.message import DecodeError, Message

from activities.domain import (
    Broken,
    Command,
    Create,
    Delete,
    InvalidActivity,
    Reading,
    Update,
    read_activity,
    read_changes,
    read_chat_id,
    read_name,
    read_request_id,
)
from activities.wire import create_request, delete_request, given_fields, update_request
from proto.activities.v1 import activities_pb2 as pb

CREATE, UPDATE, DELETE = "activities.create", "activities.update", "activities.delete"
DEAD_LETTER = "activities.dead-letter"
GROUP = "activities-data-service"
"""The consumers that share the commands."""
REQUEST_ID = "request-id"
"""The header of a record that makes its command safe to send again."""

TRACEPARENT = "traceparent"
ACCEPTED_AT = "accepted-at"
"""The header of a record that was put aside and is sent again: when it was accepted, in Unix milliseconds."""
_MILLISECONDS = re.compile(rb"[0-9]{1,15}")

Headers = Sequence[tuple[str, bytes | None]]


class Unreadable(Exception):
    """A record that is no command, now and for ever; the text tells why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is sent."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record lies, which no other record does."""

    topic: str
    partition: int
    offset: int

    @property
    def as_id(self) -> UUID:
        return uuid5(NAMESPACE_OID, f"{self.topic}/{self.partition}/{self.offset}")


def record_of(command: Command, request_id: UUID, traceparent: str = "") -> Record:
    """A command as a record; a chat's commands of one kind share a partition and keep their order."""
    request: Message
    if isinstance(command, Create):
        topic, request = CREATE, create_request(command.chat_id, command.activity)
    elif isinstance(command, Update):
        topic, request = UPDATE, update_request(command.chat_id, command.name, command.changes)
    else:
        topic, request = DELETE, delete_request(command.chat_id, command.name)
    headers = [(REQUEST_ID, str(request_id).encode())]
    if traceparent:
        headers.append((TRACEPARENT, traceparent.encode()))
    return Record(topic, str(command.chat_id).encode(), request.SerializeToString(), headers)


@dataclass(frozen=True, slots=True)
class Received:
    """A record that was read."""

    position: Position
    chat_id: int
    request_id: UUID
    """Under which the outcome is told; the record's position stands in for a valid one of the sender's."""
    command: Command | InvalidActivity
    """What is to be done, or the rules that it breaks."""


def read(position: Position, value: bytes | None, headers: Headers, timestamp: int) -> Received:
    """A record as it came. `timestamp` is its own, in Unix milliseconds, negative for none.

    Raises `Unreadable` when it is no command, or names no chat that could be told so.
    """
    kind = _REQUESTS.get(position.topic)
    if kind is None:
        raise Unreadable(f"{position.topic} is no topic of commands that is known here")
    if value is None:
        raise Unreadable("it has no value")
    try:
        request = kind.FromString(value)
    except DecodeError:
        raise Unreadable(f"its value is no {kind.DESCRIPTOR.name}") from None
    try:
        chat_id = read_chat_id(request.chat_id)
    except Broken:
        raise Unreadable(f"chat_id: {request.chat_id} is no chat") from None
    own_id = _request_id(headers)
    accepted_at = _instant(accepted(headers, timestamp))
    origin = _Origin(request_id=own_id, delivery_id=position.as_id, accepted_at=accepted_at)
    command: Command | InvalidActivity
    try:
        command = _command(request, chat_id, origin)
    except InvalidActivity as invalid:
        command = invalid.with_traceback(None)
    return Received(position, chat_id, own_id or position.as_id, command)


def accepted(headers: Headers, timestamp: int) -> int:
    """When a record with this `timestamp` was first accepted, in Unix milliseconds; negative when nobody knows."""
    known = [int(text) for name, text in headers if name == ACCEPTED_AT and text and _MILLISECONDS.fullmatch(text)]
    return min([*known, timestamp] if timestamp >= 0 else known, default=timestamp)


_Request = pb.ActivityCreateRequest | pb.ActivityUpdateRequest | pb.ActivityDeleteRequest
_REQUESTS: Mapping[str, type[_Request]] = MappingProxyType(
    {CREATE: pb.ActivityCreateRequest, UPDATE: pb.ActivityUpdateRequest, DELETE: pb.ActivityDeleteRequest}
)


class _Origin(TypedDict):
    request_id: UUID | None
    delivery_id: UUID
    accepted_at: datetime | None


def _command(request: _Request, chat_id: int, origin: _Origin) -> Command:
    """Raises `InvalidActivity`, which names every broken rule."""
    reading, fields = Reading(), given_fields(request)
    if isinstance(request, pb.ActivityCreateRequest):
        activity = read_activity(reading, fields)
        reading.done()
        return Create(chat_id=chat_id, activity=activity, **origin)
    name = reading.take("name", read_name, request.name)
    if isinstance(request, pb.ActivityDeleteRequest):
        reading.done()
        return Delete(chat_id=chat_id, name=name, **origin)
    changes = read_changes(reading, fields)
    reading.done()
    return Update(chat_id=chat_id, name=name, changes=changes, **origin)


def _instant(timestamp: int) -> datetime | None:
    """None also for what is no time of this age: any program may send records."""
    try:
        return None if timestamp < 0 else datetime.fromtimestamp(timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _request_id(headers: Headers) -> UUID | None:
    """The sender's; None without a valid one."""
    for name, text in headers:
        if name == REQUEST_ID:
            try:
                return read_request_id((text or b"").decode())
            except (Broken, UnicodeDecodeError):
                return None
    return None
