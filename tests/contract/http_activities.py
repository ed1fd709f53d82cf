"""The ports over HTTP: what a program in another language would write, so that one suite tests HTTP as well."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

from activities.domain import (
    ERRORS,
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    InvalidActivity,
    Order,
    Outcome,
    Page,
    Update,
    Violation,
)
from activities.ports import Call, Cancelled, Chats


class HttpActivities:
    """`Activities` of a service at `url`, shown a service token. `others` do what HTTP has no operation for."""

    def __init__(self, url: str, token: str, others: Chats) -> None:
        # Many at once are part of the suite, and each has its answer within the server's limit.
        limits = httpx.Limits(max_connections=64)
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=60, limits=limits
        )
        self.chats = HttpChats(self._http, others)

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity:
        body = {"name": activity.name, **_written(vars(activity))}
        return _activity(_ask(self._http, "POST", "activities/", chat_id, call, body=body, status=201))

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        return _activity(_ask(self._http, "GET", _path(name), chat_id, call))

    def list(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return _page(_ask(self._http, "GET", "activities/", chat_id, call, query=_query(page)))

    def today(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return _page(_ask(self._http, "GET", "today/", chat_id, call, query=_query(page)))

    def stream(self, chat_id: int, *, order: Order, call: Call) -> Generator[Activity]:
        headers = _headers(chat_id, call)
        with self._http.stream("GET", "stream/", params={"order": str(order)}, headers=headers) as response:
            if response.status_code != 200:
                response.read()
                raise _error(response)
            assert response.headers["Content-Type"].startswith("application/x-ndjson")
            for line in response.iter_lines():
                if call.cancellation.happened:
                    raise Cancelled
                yield _activity(_read(line))

    def update(self, chat_id: int, *, name: str, changes: ActivityChanges, call: Call) -> Activity:
        return _activity(_ask(self._http, "PATCH", _path(name), chat_id, call, body=_written(changes.given)))

    def delete(self, chat_id: int, *, name: str, call: Call) -> None:
        assert _ask(self._http, "DELETE", _path(name), chat_id, call, status=204) is None

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        return [self._outcome(command, replace(call, request_id=command.request_id)) for command in commands]

    def _outcome(self, command: Command, call: Call) -> Outcome:
        try:
            if isinstance(command, Create):
                return self.create(command.chat_id, activity=command.activity, call=call)
            if isinstance(command, Update):
                return self.update(command.chat_id, name=command.name, changes=command.changes, call=call)
            self.delete(command.chat_id, name=command.name, call=call)
        except ActivitiesError as error:
            return error
        return None

    def close(self) -> None:
        self._http.close()


class HttpChats:
    """`Chats` of the same service."""

    def __init__(self, http: httpx.Client, others: Chats) -> None:
        self._http = http
        self.revoke_tokens, self.move = others.revoke_tokens, others.move

    def get(self, chat_id: int, *, call: Call) -> Chat:
        return Chat(**_ask(self._http, "GET", "chat/", chat_id, call))

    def update(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        given = {"timezone": changes.timezone, "language": changes.language}
        body = {name: value for name, value in given.items() if value is not None}
        return Chat(**_ask(self._http, "PATCH", "chat/", chat_id, call, body=body))

    def forget(self, chat_id: int, *, call: Call) -> None:
        assert _ask(self._http, "DELETE", "chat/", chat_id, call, status=204) is None


def _ask(
    http: httpx.Client,
    method: str,
    path: str,
    chat_id: int,
    call: Call,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
    status: int = 200,
) -> Any:
    """The body of the answer; raises the error that it tells of."""
    if call.cancellation.happened:
        raise Cancelled
    response = http.request(method, path, params=query, json=body, headers=_headers(chat_id, call))
    if response.status_code != status:
        raise _error(response)
    return _read(response.text) if response.content else None


def _headers(chat_id: int, call: Call) -> dict[str, str]:
    headers = {"X-Chat-Id": str(chat_id), "Accept": "*/*"}
    return headers if call.request_id is None else {**headers, "X-Request-Id": str(call.request_id)}


def _path(name: str) -> str:
    return f"activities/{quote(name, safe='')}/"


def _query(page: Page) -> dict[str, str]:
    return {"limit": str(page.limit), "offset": str(page.offset), "order": str(page.order)}


def _written(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields but the name as JSON values."""
    written: dict[str, object] = {}
    for name in ("begin_date", "end_date", "times_per_day", "quantity_per_time"):
        value = fields.get(name)
        if value is not None:
            written[name] = value.isoformat() if isinstance(value, date) else value
            if isinstance(value, Decimal):
                written[name] = float(value)
    return written


def _read(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _activity(body: Mapping[str, Any]) -> Activity:
    assert list(body) == ["name", "begin_date", "end_date", "times_per_day", "quantity_per_time"]
    return Activity(
        body["name"],
        date.fromisoformat(body["begin_date"]),
        date.fromisoformat(body["end_date"]),
        body["times_per_day"],
        Decimal(body["quantity_per_time"]),
    )


def _page(body: Mapping[str, Any]) -> ActivityPage:
    assert list(body) == ["count", "next", "previous", "results"]
    return ActivityPage(tuple(map(_activity, body["results"])), body["count"])


def _error(response: httpx.Response) -> ActivitiesError:
    """The error of an answer, from its status and body."""
    body = response.json()
    if response.status_code == 400:
        return InvalidActivity(
            Violation(field, "other", {"message": message}) for field, messages in body.items() for message in messages
        )
    kind = ERRORS[body["error"]]
    error = kind(**_details(kind.template, body["detail"]))
    assert STATUS[kind.__name__] == response.status_code
    if error.retry_after is not None:
        assert int(response.headers["Retry-After"]) >= 1
    return error


STATUS = {
    "RequestIdReused": 422,
    "ActivityNotFound": 404,
    "ActivityExists": 409,
    "TooManyActivities": 409,
    "RateLimited": 429,
    "StorageBusy": 503,
    "StorageTimeout": 504,
    "StorageUnavailable": 503,
    "OutcomePending": 202,
    "NotAuthenticated": 401,
    "PermissionDenied": 403,
}


def _details(template: str, text: str) -> dict[str, str]:
    """What was put into the template to make this text."""
    pattern = re.sub(r"\\\{([a-z_]+)\\\}", r"(?P<\1>.*)", re.escape(template))
    match = re.fullmatch(pattern, text, re.DOTALL)
    assert match is not None, text
    return match.groupdict()
