"""What every answer of Django's tells browsers not to do with it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from activities.bounded_http import GUARDS, NO_PAGE

PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The content security policy of pages: all that they load is ours and has a URL, so nothing that somebody managed to
write into one is run. Images may be in the style sheets, as Swagger's are."""

Answer = Callable[[HttpRequest], HttpResponseBase]


def guard(get_response: Answer) -> Answer:
    """Middleware: headers by which pages keep to themselves, and that nobody keeps what does not say how long."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        for name, value in GUARDS.items():
            response[name] = value
        is_page = response.get("Content-Type", "").startswith("text/html")
        response["Content-Security-Policy"] = PAGE if is_page else NO_PAGE
        response.setdefault("Cache-Control", "no-store")
        return response

    return middleware


def cookies_go_the_way_they_came(get_response: Answer) -> Answer:
    """Middleware: a cookie is sent over TLS alone, unless it was set in plain text: it would never come back."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        for cookie in response.cookies.values():
            cookie["secure"] = request.is_secure()
        return response

    return middleware
