"""Who may act for which chat: credentials in, chat out. Every transport asks here and nowhere else."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.core import signing

from activities.domain import Broken, NotAuthenticated, PermissionDenied, read_chat_id

TOKEN_PREFIX = "act_"  # noqa: S105 - what a chat token begins with, so that secret scanners find leaked ones
_SALT = "activities.chat-token"
_SERVICE = re.compile(r"(?P<name>[A-Za-z0-9_.-]+):(?P<secret>[A-Za-z0-9_-]{32,})(?P<read>:read)?")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has proved who they are."""

    name: str
    """`chat`, or the service's name; fit for logs."""
    chat_id: int | None
    """The one chat that it opens; None for a service, which may act for any."""
    read_only: bool = False

    def chat(self, asked: object) -> int:
        """The chat to act for. `asked` is the request's raw chat id; 0, empty and None mean the token's own.

        Raises `Broken` when it is no chat id or a service named none, `PermissionDenied` when it is another's.
        """
        if asked in (None, "", 0, "0"):
            if self.chat_id is None:
                raise Broken("required", example="42")
            return self.chat_id
        chat_id = read_chat_id(asked)
        if self.chat_id not in (None, chat_id):
            raise PermissionDenied(reason="it opens another chat")
        return chat_id

    def must_write(self) -> None:
        """Raises `PermissionDenied` for a token that is for reading only."""
        if self.read_only:
            raise PermissionDenied(reason="it is for reading only")


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A secret under which another service acts for any chat."""

    name: str
    secret: str = field(repr=False)
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> ServiceToken:
        """From `name:secret` or `name:secret:read`; `ValueError`, which never quotes the secret, otherwise."""
        match = _SERVICE.fullmatch(text)
        if match is None:
            raise ValueError(
                "expected name:secret or name:secret:read, where the secret has at least 32 characters of "
                "A-Z a-z 0-9 _ -"
            )
        return cls(match["name"], match["secret"], match["read"] is not None)


class Access:
    """Checks credentials.

    Chat tokens are signed by the newest of `keys` and verified by all of them; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        *,
        keys: Sequence[str],
        services: Sequence[ServiceToken] = (),
        lifetime: timedelta = timedelta(days=90),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signing.Signer(key=keys[0], fallback_keys=list(keys[1:]), salt=_SALT)
        self._services = tuple(services)
        self._lifetime = lifetime
        self._clock = clock

    def issue(self, chat_id: int) -> str:
        """A token that opens this chat alone until its lifetime is over."""
        now = self._clock()
        claims = {"chat": chat_id, "issued": round(now, 3), "expires": int(now + self._lifetime.total_seconds())}
        return TOKEN_PREFIX + self._signer.sign_object(claims)

    def authenticate(self, authorization: str | None) -> Principal:
        """Who shows this `Authorization` header or metadata; raises `NotAuthenticated`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated
        return self.principal(token.strip())

    def principal(self, token: str) -> Principal:
        """Who holds this token; raises `NotAuthenticated`."""
        found = None
        given = token.encode(errors="surrogatepass")
        for service in self._services:  # all of them, so that the time tells nothing
            if hmac.compare_digest(service.secret.encode(), given):
                found = service
        if found is not None:
            return Principal(found.name, None, found.read_only)
        if token.startswith(TOKEN_PREFIX):
            return self._chat_principal(token.removeprefix(TOKEN_PREFIX))
        raise NotAuthenticated

    def _chat_principal(self, signed: str) -> Principal:
        try:
            claims = self._signer.unsign_object(signed)
            chat_id, expires = read_chat_id(claims["chat"]), float(claims["expires"])
        except (signing.BadSignature, ValueError, KeyError, TypeError, Broken):
            raise NotAuthenticated from None
        if self._clock() >= expires:
            raise NotAuthenticated
        return Principal("chat", chat_id)
