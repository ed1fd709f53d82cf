"""Who may act for which chat: credentials in, chat out. Every transport asks here and nowhere else."""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from django.core import signing

from activities.domain import Broken, NotAuthenticated, PermissionDenied, RateLimited, read_chat_id
from activities.fair_use import FairUse
from activities.ports import Call, Chats
from activities.repositories.windows import MemoryWindows

TOKEN_PREFIX = "act_"  # noqa: S105 - what a chat token begins with, so that secret scanners find leaked ones
REMEMBER_SECONDS = 1.0
"""For how long a process remembers that a token is not revoked."""
MOST_REMEMBERED = 10_000
"""Of how many chats."""
LONGEST_TOKEN = 4096
"""In characters, of any kind: what is longer is not even looked at. A chat's has about 150."""
_SALT = "activities.chat-token"
_SERVICE = re.compile(rf"(?P<name>[A-Za-z0-9_.-]+):(?P<secret>[A-Za-z0-9_-]{{32,{LONGEST_TOKEN}}})(?P<read>:read)?")


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

    def must_be_service(self) -> None:
        """Raises `PermissionDenied` for a chat's own token."""
        if self.chat_id is not None:
            raise PermissionDenied(reason="it opens one chat alone")

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
                f"A-Z a-z 0-9 _ -, and at most {LONGEST_TOKEN}"
            )
        return cls(match["name"], match["secret"], match["read"] is not None)


class Revocations:
    """Since when each chat's tokens are good, as `chats` say, or said within the last second."""

    def __init__(
        self,
        chats: Chats,
        *,
        most: int = MOST_REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chats = chats
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, tuple[float, int]] = {}

    def valid_after(self, chat_id: int, call: Call) -> int:
        """In Unix seconds. Raises what `chats` raises."""
        now = self._clock()  # before the question: what is answered may be over when the answer comes
        known = self._known.get(chat_id)
        if known is not None and now < known[0]:
            return known[1]
        valid_after = self._chats.get(chat_id, call=call).tokens_valid_after
        with self._lock:
            self._known.pop(chat_id, None)  # so that the oldest are first
            if len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            self._known[chat_id] = now + REMEMBER_SECONDS, valid_after
        return valid_after


class Access:
    """Checks credentials, and that nobody asks too often.

    Chat tokens are signed by the newest of `keys` and verified by all of them; `valid_after` tells since when a chat's
    are good, in Unix seconds, and `clock` what time it is. Without `fair_use` everybody may ask as often as they like.
    """

    def __init__(
        self,
        *,
        keys: Sequence[str],
        valid_after: Callable[[int, Call], int],
        services: Sequence[ServiceToken] = (),
        lifetime: timedelta = timedelta(days=90),
        fair_use: FairUse | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signing.Signer(key=keys[0], fallback_keys=list(keys[1:]), salt=_SALT)
        self._valid_after = valid_after
        self._services = tuple(services)
        self.lifetime = lifetime
        self.fair_use = fair_use or FairUse(MemoryWindows(), per_chat=0)
        self._clock = clock

    def issue(self, chat_id: int, *, valid_after: int = 0) -> str:
        """A token that opens this chat alone until its lifetime is over.

        `valid_after` is the chat's: when its tokens were revoked in this very second, the new one bears that time,
        which is yet to come. Without it, such a token would be worthless from the start.
        """
        now = self._clock()
        issued = max(int(now * 1000) / 1000, valid_after)  # rounded up, it could outlive a revocation
        claims = {"chat": chat_id, "issued": issued, "expires": int(now + self.lifetime.total_seconds())}
        return TOKEN_PREFIX + self._signer.sign_object(claims)

    def authenticate(self, authorization: str | None, *, call: Call) -> Principal:
        """Who shows this `Authorization` header or metadata, as `principal` has it."""
        token = _bearer(authorization)
        if token is None:
            raise NotAuthenticated
        try:
            return self.principal(token, call=call)
        except RateLimited as refused:
            self.fair_use.remember(token, refused)
            raise

    def refusal(self, authorization: str | None) -> RateLimited | None:
        """Why whoever shows this header need not be looked at yet; cheap, and None for all but a noisy caller."""
        token = _bearer(authorization)
        return None if token is None else self.fair_use.refusal(token)

    def principal(self, token: str, *, call: Call) -> Principal:
        """Who holds this token, which counts as a request of theirs.

        Raises `NotAuthenticated`, `RateLimited`, and the store's errors when it cannot tell whether a chat's token is
        revoked.
        """
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated
        found = None
        given = token.encode(errors="surrogatepass")
        for service in self._services:  # all of them, so that the time tells nothing
            if hmac.compare_digest(service.secret.encode(), given):
                found = service
        if found is not None:
            self.fair_use.by_service(found.name)
            return Principal(found.name, None, found.read_only)
        if token.startswith(TOKEN_PREFIX):
            return self._chat_principal(token.removeprefix(TOKEN_PREFIX), call)
        raise NotAuthenticated

    def _chat_principal(self, signed: str, call: Call) -> Principal:
        try:
            chat_id, issued, expires = _claims(self._signer.unsign_object(signed))
        except (signing.BadSignature, ValueError, KeyError, TypeError, OverflowError, Broken):
            raise NotAuthenticated from None
        # Today's lifetime bounds those that were issued when it was longer: so it is known when all of them have ended.
        ends = min(expires, issued + self.lifetime.total_seconds())
        if self._clock() < ends and issued >= self._valid_after(chat_id, call):  # so that NaN is neither
            self.fair_use.by_token(chat_id)
            return Principal("chat", chat_id)
        raise NotAuthenticated


def _bearer(authorization: str | None) -> str | None:
    """The token in an `Authorization` header, however it is spelt; None when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _claims(claims: dict[str, object]) -> tuple[int, float, float]:
    """The chat, and when the token was issued and expires, in Unix seconds; raises what tells that it is no token."""
    chat_id, issued, expires = claims["chat"], claims["issued"], claims["expires"]
    if type(chat_id) is not int or type(issued) not in (int, float) or type(expires) not in (int, float):
        raise TypeError("claims of another kind")
    return read_chat_id(chat_id), float(cast("float", issued)), float(cast("float", expires))
