"""Credentials over HTTP: a token in the `Authorization` header, or a chat's token in a browser's cookie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from activities.access import Principal
from activities.api.exchange import call_of, container_of, principal_of
from activities.api.served import asked_by
from activities.domain import Broken, NotAuthenticated, PermissionDenied

if TYPE_CHECKING:  # it imports this module, by the settings
    from rest_framework.views import APIView

COOKIE = "activities_token"
_SALT = "activities.cookie"


class TokenAuthentication(BaseAuthentication):
    """The header wins. A cookie, which a browser sends by itself, proves no intent: changes by it need CSRF's token."""

    def authenticate(self, request: Request) -> tuple[Principal, None]:
        access, call = container_of(request).access, call_of(request)
        header = request.headers.get("authorization")
        try:
            if header is not None:
                principal = access.authenticate(header, call=call)
            else:
                principal = access.principal(kept_token(request), call=call)
        except NotAuthenticated as error:
            raise exceptions.NotAuthenticated(str(error)) from None
        except Exception:
            request._not_authenticated()  # type: ignore[attr-defined] # the page about this asks once more who is there
            raise
        asked_by(request, principal)
        if header is None:
            must_come_from_our_pages(request)
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class WritesAllowed(BasePermission):
    """A token that is for reading only does not write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user:  # the page about a refused request asks what else could be done
            return False
        if request.method not in SAFE_METHODS:
            try:
                principal_of(request).must_write()
            except PermissionDenied as error:
                raise exceptions.PermissionDenied(str(error)) from None
        return True


def read_token(raw: object) -> str:
    """A token as text; whether it is good, `Access` says."""
    if raw is None or raw == "":
        raise Broken("required", example="act_...")
    if not isinstance(raw, str):
        raise Broken("not_text", example="act_...")
    return raw.strip()


def must_come_from_our_pages(request: Request) -> None:
    """Raises DRF's `PermissionDenied` for a change that lacks CSRF's token."""
    SessionAuthentication().enforce_csrf(request)


def keep_token(request: HttpRequest | Request, response: HttpResponseBase, token: str) -> None:
    """Keeps the token in the browser until it is closed: signed, out of reach of scripts and of other sites."""
    response.set_signed_cookie(COOKIE, token, salt=_SALT, httponly=True, samesite="Strict", secure=request.is_secure())


def kept_token(request: HttpRequest | Request) -> str:
    """The token that the browser keeps; empty when it keeps none."""
    return request.get_signed_cookie(COOKIE, default=None, salt=_SALT) or ""


def drop_token(response: HttpResponseBase) -> None:
    """Makes the browser forget its token."""
    response.delete_cookie(COOKIE, samesite="Strict")
