"""Every error's HTTP answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.response import Response

from activities.api.exchange import answer_id
from activities.api.served import went_wrong
from activities.domain import (
    ActivitiesError,
    ActivityExists,
    ActivityNotFound,
    InvalidActivity,
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
from activities.ports import Cancelled

logger = logging.getLogger(__name__)

STATUS: Mapping[type[ActivitiesError], int] = MappingProxyType(
    {
        InvalidActivity: 400,
        RequestIdReused: 422,
        ActivityNotFound: 404,
        ActivityExists: 409,
        TooManyActivities: 409,
        RateLimited: 429,
        StorageBusy: 503,
        StorageTimeout: 504,
        StorageUnavailable: 503,
        OutcomePending: 202,
        NotAuthenticated: 401,
        PermissionDenied: 403,
    }
)
CLIENT_GONE = 499
"""Nobody reads it; what servers log for a client that went."""


def handle(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase:
    """The answer to whatever a view raises."""
    went_wrong(context["request"], error)
    if isinstance(error, InvalidActivity):
        return Response(error.by_field, status=STATUS[InvalidActivity])
    if isinstance(error, ActivitiesError):
        return _known(error)
    if isinstance(error, exceptions.APIException):
        return _refused(error)
    if isinstance(error, Http404):
        return _refused(exceptions.NotFound())
    if isinstance(error, DjangoPermissionDenied):
        return _refused(exceptions.PermissionDenied())
    if isinstance(error, SuspiciousOperation | BadRequest):
        return Response(_body("BadRequest", "the request cannot be read"), status=400)
    if isinstance(error, Cancelled):
        return HttpResponse(status=CLIENT_GONE)
    request_id = answer_id(context["request"])
    logger.error("unexpected error, request id %s", request_id, exc_info=error)
    return Response(_internal(request_id), status=500)


def _known(error: ActivitiesError) -> Response:
    headers = {}
    if error.seconds_to_wait is not None:
        headers["Retry-After"] = error.seconds_to_wait
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    body = _body(type(error).__name__, str(error))
    if isinstance(error, OutcomePending):
        body["request_id"] = error.details.get("request_id", "")
    return Response(body, status=STATUS[type(error)], headers=headers)


def _refused(error: exceptions.APIException) -> Response:
    """What the framework refuses, under its usual status."""
    header = getattr(error, "auth_header", None)
    return Response(
        _body(type(error).__name__, str(error.detail)),
        status=error.status_code,
        headers={"WWW-Authenticate": header} if header else None,
    )


def _body(name: str, detail: str) -> dict[str, str]:
    return {"error": name, "detail": detail}


def _internal(request_id: str) -> dict[str, str]:
    detail = "something went wrong on our side; whoever runs this finds it in the log under the request id"
    return {**_body("Internal", detail), "request_id": request_id}


# What Django itself answers, outside of the views; it gives the arguments.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    return JsonResponse(_body("BadRequest", "the request cannot be read, or its Host is not one of ours"), status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    return JsonResponse(_body("PermissionDenied", "that is not allowed"), status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001
    return JsonResponse(_body("PermissionDenied", f"CSRF Failed: {reason}"), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    detail = "there is nothing under this URL; ours end with a slash, and a name in one is percent-encoded"
    return JsonResponse(_body("NotFound", detail), status=404)


def internal(request: HttpRequest) -> HttpResponse:
    request_id = answer_id(request)
    logger.exception("unexpected error, request id %s", request_id)  # called while the error is being handled
    return JsonResponse(_internal(request_id), status=500)


def break_off(error: Exception, request: HttpRequest) -> NoReturn:
    """Ends a response that has begun already without its proper end, so that nobody takes it for whole."""
    request_id = answer_id(request)
    if isinstance(error, ActivitiesError):
        logger.warning("stream broken off, request id %s: %s", request_id, error)
    else:
        logger.error("stream broken off, request id %s", request_id, exc_info=error)
    raise error
