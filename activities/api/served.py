"""Each request of a use case over HTTP is counted, timed and told in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request as RestRequest

from activities.access import Principal
from activities.api.exchange import answer_id
from activities.domain import OutcomePending
from activities.ports import Cancelled
from activities.requests import Request

USE_CASES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("activities", "GET"): "list",
        ("activities", "POST"): "create",
        ("activity", "GET"): "get",
        ("activity", "PUT"): "update",
        ("activity", "PATCH"): "update",
        ("activity", "DELETE"): "delete",
        ("today", "GET"): "today",
        ("stream", "GET"): "stream",
        ("chat", "GET"): "chat_get",
        ("chat", "PATCH"): "chat_update",
        ("chat", "DELETE"): "chat_forget",
        ("login", "POST"): "login",
        ("logout", "POST"): "logout",
    }
)
"""What an URL's methods do, by the URL's name."""
_SERVED, _ERROR = "activities.served", "activities.error"


class Unexplained(Exception):
    """The answer tells of a failure for which no view gave an error."""


class Served:
    """Middleware round everything that may answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        served: Request | None = request.META.get(_SERVED)
        if served is None:
            return response
        error: Exception | None = request.META.get(_ERROR)
        if error is not None or response.status_code >= 400:
            is_ours = response.status_code >= 500 or isinstance(error, OutcomePending)
            served.failed(error or Unexplained(), is_ours=is_ours)
        elif isinstance(response, StreamingHttpResponse):
            response.streaming_content = _watched(cast("Iterable[bytes]", response.streaming_content), served)
        else:
            served.succeeded()
        return response

    def process_view(self, request: HttpRequest, *_view: Any) -> None:
        assert request.resolver_match is not None
        method = "GET" if request.method == "HEAD" else str(request.method)
        use_case = USE_CASES.get((request.resolver_match.url_name or "", method))
        if use_case is not None:
            request.META[_SERVED] = Request("http", use_case, request_id=answer_id(request))


def asked_by(request: RestRequest, principal: Principal) -> None:
    """Notes who asks."""
    served: Request | None = request.META.get(_SERVED)
    if served is not None:
        served.who = principal.name


def went_wrong(request: RestRequest, error: Exception) -> None:
    """Notes the error that is being answered."""
    request.META[_ERROR] = error


def _watched(content: Iterable[bytes], served: Request) -> Iterator[bytes]:
    try:
        yield from content
    except GeneratorExit:  # nobody reads on
        served.failed(Cancelled())
        raise
    except Exception as error:
        served.failed(error)
        raise
    served.succeeded()
