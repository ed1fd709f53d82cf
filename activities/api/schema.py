"""What the OpenAPI schema says beyond what the code of a view shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
)

from activities.api.authentication import COOKIE
from activities.api.errors import STATUS
from activities.api.serializers import BrokenRulesSerializer, ErrorSerializer, TracedErrorSerializer
from activities.domain import (
    INT64,
    MOST_PER_PAGE,
    NAME_LENGTH,
    ORDERS,
    ActivitiesError,
    ActivityExists,
    ActivityNotFound,
    NotAuthenticated,
    OutcomePending,
    PermissionDenied,
    RateLimited,
    RequestIdReused,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
)

Method = TypeVar("Method", bound=Callable[..., Any])

EXAMPLE = {
    "name": "vitamin C",
    "begin_date": "2026-11-24",
    "end_date": "2026-12-04",
    "times_per_day": 2,
    "quantity_per_time": 0.5,
}
CHAT_EXAMPLE = {"chat_id": 42, "timezone": "Europe/Moscow", "language": "en", "tokens_valid_after": 0}
_ID = "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b"

NAME = OpenApiParameter(
    "name",
    {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH},
    OpenApiParameter.PATH,
    description="The activity's name as one percent-encoded path segment: `pill 1/2` is `pill%201%2F2`.",
    examples=[OpenApiExample("A name", value="vitamin C")],
)
ORDER = OpenApiParameter(
    "order",
    str,
    enum=ORDERS,
    default="-end_date",
    description="The field to order by, with `-` in front for descending; ties by name.",
)
PAGE = [
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 0, "maximum": MOST_PER_PAGE, "default": 50},
        description="How many to a page; 0 means 50.",
    ),
    OpenApiParameter(
        "offset",
        {"type": "integer", "format": "int64", "minimum": 0, "maximum": INT64 - 1, "default": 0},
        description="How many to leave out before the page.",
    ),
    ORDER,
]
CHAT_ID = OpenApiParameter(
    "X-Chat-Id",
    {"type": "integer", "format": "int64", "minimum": -INT64, "maximum": INT64 - 1},
    OpenApiParameter.HEADER,
    description="The chat to act for. A chat's own token needs none, or 0; a service's token needs it.",
)
REQUEST_ID = OpenApiParameter(
    "X-Request-Id",
    OpenApiTypes.UUID,
    OpenApiParameter.HEADER,
    description="A UUID that makes a create, update or delete safe to repeat: for 24 hours the same request under the "
    "same id gets the first one's answer. The answer carries it.",
)
_ANSWER_ID = OpenApiParameter(
    "X-Request-Id", str, OpenApiParameter.HEADER, response=True, description="The request's id, or one made for it."
)
_RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, response=[202, 429, 503], description="Seconds to wait."
)
_CHALLENGE = OpenApiParameter("WWW-Authenticate", str, OpenApiParameter.HEADER, response=[401], description="`Bearer`.")
LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201], description="Where the activity is now."
)

STORAGE: tuple[ActivitiesError, ...] = (StorageBusy(), StorageUnavailable(), StorageTimeout())
READING: tuple[ActivitiesError, ...] = (
    NotAuthenticated(),
    PermissionDenied(reason="it opens another chat"),
    RateLimited(retry_after="60"),
    *STORAGE,
)
WRITING: tuple[ActivitiesError, ...] = (*READING, RequestIdReused(), OutcomePending(request_id=_ID))
NOT_FOUND = ActivityNotFound(name="vitamin C")
EXISTS = ActivityExists(name="vitamin C")
TOO_MANY = TooManyActivities(limit="10000")


def operation(
    operation_id: str,
    summary: str,
    *,
    answers: dict[Any, Any],
    errors: Sequence[ActivitiesError] = (),
    example: object = None,
    sends: Any = None,
    sent: object = None,
    parameters: Sequence[OpenApiParameter] = (),
    broken: dict[str, list[str]] | None = None,
    **more: Any,
) -> Callable[[Method], Method]:
    """One operation: what it takes (`sends`, for example `sent`), its answers and every error it can give.

    `example` is one of the first of the answers, `broken` one of broken rules.
    """
    examples = []
    if example is not None:
        status, media_type = _parts(next(iter(answers)))
        examples.append(
            OpenApiExample("Answer", example, response_only=True, status_codes=[status], media_type=media_type)
        )
    if sent is not None:
        examples.append(OpenApiExample("Request", sent, request_only=True))
    own_headers = [
        header
        for header, statuses in ((_RETRY_AFTER, {202, 429, 503}), (_CHALLENGE, {401}))
        if statuses & {STATUS[type(error)] for error in errors}
    ]
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        request=sends,
        responses=answers | _error_answers(errors, broken, has_body=sends is not None),
        parameters=[*parameters, *own_headers, _ANSWER_ID],
        examples=examples,
        **more,
    )


def _parts(answer: int | tuple[int, str]) -> tuple[str, str]:
    status, media_type = (answer, "application/json") if isinstance(answer, int) else answer
    return str(status), media_type


def _error_answers(
    errors: Sequence[ActivitiesError], broken: dict[str, list[str]] | None, *, has_body: bool
) -> dict[int, OpenApiResponse]:
    by_status: dict[int, list[tuple[str, dict[str, str]]]] = {}
    for error in errors:
        body = {"error": type(error).__name__, "detail": str(error)}
        if isinstance(error, OutcomePending):
            body["request_id"] = _ID
        by_status.setdefault(STATUS[type(error)], []).append((type(error).__name__, body))
    by_status[500] = [("Internal", {"error": "Internal", "detail": "something went wrong", "request_id": _ID})]
    if has_body:
        by_status[415] = [
            ("UnsupportedMediaType", {"error": "UnsupportedMediaType", "detail": "Unsupported media type in request."})
        ]
        by_status[413] = [
            ("RequestTooLarge", {"error": "RequestTooLarge", "detail": "a request has at most 1048576 bytes"})
        ]
    answers = {
        status: OpenApiResponse(
            TracedErrorSerializer if status in (202, 500) else ErrorSerializer,
            description=" or ".join(f"`{name}`" for name, _ in named),
            examples=[OpenApiExample(name, body) for name, body in named],
        )
        for status, named in by_status.items()
    }
    if broken is not None:
        answers[400] = OpenApiResponse(
            PolymorphicProxySerializer(
                "BadRequest", serializers=[BrokenRulesSerializer, ErrorSerializer], resource_type_field_name=None
            ),
            description="Broken rules, all at once, by field; or a request that cannot be read",
            examples=[
                OpenApiExample("Broken rules", broken),
                OpenApiExample("Unreadable", {"error": "BadRequest", "detail": "the request cannot be read"}),
            ],
        )
    return answers


class MadeOnce(SchemaGenerator):
    """The schema, which is the same for everybody. It takes long to make, and threads that begin to at the same time
    trip over one another."""

    _lock = threading.Lock()
    _made: ClassVar[dict[str, Any] | None] = None

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        with self._lock:
            if MadeOnce._made is None:
                self.api_version = None  # `?version=` would stay in it
                MadeOnce._made = super().get_schema(public=public)  # type: ignore[no-untyped-call]
            return MadeOnce._made


class BrokenRulesExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Messages by any field's name."""

    target_class = BrokenRulesSerializer

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "description": BrokenRulesSerializer.__doc__,
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        }


class TokenExtension(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Either way of showing a token is enough."""

    target_class = "activities.api.authentication.TokenAuthentication"
    name = ["bearer", "cookie"]  # noqa: RUF012 - as the base class has it

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{"bearer": []}, {"cookie": []}]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [
            {
                "type": "http",
                "scheme": "bearer",
                "description": "A chat's token, by the bot's `/token` or `manage.py token issue`; or a service's.",
            },
            {
                "type": "apiKey",
                "in": "cookie",
                "name": COOKIE,
                "description": "Kept by `/api/login/`. Changes with it need CSRF's token in `X-CSRFToken`.",
            },
        ]
