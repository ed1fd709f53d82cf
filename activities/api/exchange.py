"""One request on its way through the HTTP interface: what came with it, who asks, for which chat."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from activities.access import Principal
from activities.container import Container, container
from activities.domain import Reading, read_chat_id, read_request_id
from activities.ports import Call, Cancellation, traceparent_of

REQUEST_ID = "x-request-id"
_ANSWER_ID = "activities.answer_id"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as read so far. `chat_id` and `call` are good once `reading.done()` has returned."""

    parts: Container
    reading: Reading
    chat_id: int
    call: Call

    @classmethod
    def by(cls, request: Request) -> Asked:
        """Who asks for what. Raises `PermissionDenied` for another's chat; broken rules wait in the reading."""
        principal = principal_of(request)

        def read_chat(raw: object) -> int:
            return principal.chat(raw if raw in (None, "0") else read_chat_id(raw))

        reading = Reading()
        return cls(
            parts=container_of(request),
            reading=reading,
            chat_id=reading.take("chat_id", read_chat, request.headers.get("x-chat-id")),
            call=call_of(request, reading.optional(REQUEST_ID, read_request_id, request.headers)),
        )


def principal_of(request: Request) -> Principal:
    """Who asks, as the authentication found."""
    return cast("Principal", request.user)


def container_of(request: HttpRequest | Request) -> Container:
    """The parts that the server was started with; the process's own when it named none."""
    return request.META.get("activities.container") or container()


def call_of(request: HttpRequest | Request, request_id: UUID | None = None) -> Call:
    """When the request was asked, and whether its client is still there, as the server in front knows."""
    return Call(
        asked_at=request.META.get("activities.asked_at") or time.monotonic(),
        request_id=request_id,
        cancellation=request.META.get("activities.cancellation") or Cancellation(),
        traceparent=traceparent_of(request.headers.get("traceparent")),
    )


def fields_of(request: Request) -> Mapping[str, object]:
    """The fields of the body, JSON or form; raises `ParseError` for JSON that is no object."""
    body: object = request.data
    if isinstance(body, QueryDict):
        return body.dict()  # of a field sent twice the last one, as in JSON
    if not isinstance(body, Mapping):
        raise ParseError('the body must be a JSON object, for example {"times_per_day": 2}')
    return body


def answer_id(request: HttpRequest | Request) -> str:
    """The id under which this request is answered and logged: its own, or a new one when it has none that is good."""
    if _ANSWER_ID not in request.META:
        given = request.headers.get(REQUEST_ID)
        reading = Reading()
        reading.take(REQUEST_ID, read_request_id, given)
        request.META[_ANSWER_ID] = str(uuid.uuid4()) if reading.violations else given
    result: str = request.META[_ANSWER_ID]
    return result


def answer_ids(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: every answer carries its `x-request-id`."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response[REQUEST_ID] = answer_id(request)
        return response

    return middleware
