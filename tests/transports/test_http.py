"""The HTTP interface over a real socket."""

from __future__ import annotations

import json
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from activities.api.schema import MadeOnce
from activities.bounded_http import MOST_HEAD_BYTES, MOST_PIPELINED
from activities.container import on_repository
from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    NotAuthenticated,
    Order,
    OutcomePending,
    PermissionDenied,
    RateLimited,
    RequestIdReused,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
)
from activities.ports import MAX_REQUEST_BYTES, Call
from activities.repositories.guarded import Guard, GuardedRepository
from activities.repositories.memory import MemoryRepository
from activities.service import STREAM_BATCH, ActivityService
from activities.streams import StreamSlots
from activities_project.http import HttpServer
from tests.examples import ODD_NAMES, activity
from tests.transports.served import (
    ACTIVITIES,
    READER,
    SECONDS,
    SERVICE,
    VITAMIN,
    Served,
    bearer,
    lines,
    serving,
    url_of,
)

ID = "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b"


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """For requests that change nothing in chat 1."""
    with serving() as served:
        served.client.post(ACTIVITIES, json=VITAMIN).raise_for_status()
        yield served


# ------------------------------------------------------------------------------------- operations


def test_an_activity_is_created_read_listed_changed_and_deleted(served: Served) -> None:
    client = served.client

    created = client.post(ACTIVITIES, json=VITAMIN)
    assert (created.status_code, created.json()) == (201, VITAMIN)
    assert created.headers["location"] == f"{served.base_url}/api/v1/activities/vitamin%20C/"
    assert client.get(created.headers["location"]).json() == VITAMIN
    assert client.get(ACTIVITIES).json() == {"count": 1, "next": None, "previous": None, "results": [VITAMIN]}

    changed = client.patch(url_of("vitamin C"), json={"times_per_day": 3})
    assert (changed.status_code, changed.json()) == (200, {**VITAMIN, "times_per_day": 3})

    deleted = client.delete(url_of("vitamin C"))
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(url_of("vitamin C")).status_code == 404


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_goes_through_a_url(shared: Served, name: str) -> None:
    url = url_of(name)
    with shared.anonymous() as client:
        client.headers.update(bearer(shared.container.access.issue(100 + ODD_NAMES.index(name))))
        created = client.post(ACTIVITIES, json={**VITAMIN, "name": name})
        assert created.headers["location"] == shared.base_url + url
        assert client.get(url).json() == {**VITAMIN, "name": name}
        assert client.put(url, json={**VITAMIN, "name": name, "times_per_day": 5}).json()["times_per_day"] == 5
        assert client.patch(url, json={"times_per_day": 6}).json() == {**VITAMIN, "name": name, "times_per_day": 6}
        assert client.delete(url).status_code == 204
        assert client.get(ACTIVITIES).json()["count"] == 0


def test_a_slash_in_a_name_and_its_escape_as_a_name_are_two(served: Served) -> None:
    for name in ("a/b", "a%2Fb"):
        assert served.client.post(ACTIVITIES, json={**VITAMIN, "name": name}).status_code == 201
    served.client.delete(url_of("a/b"))
    assert [each["name"] for each in served.client.get(ACTIVITIES).json()["results"]] == ["a%2Fb"]


def test_a_replacement_sets_all_four_fields_and_adds_nothing(served: Served) -> None:
    client, url = served.client, url_of("vitamin C")
    everything = {"begin_date": "2026-01-01", "end_date": "2026-01-02", "times_per_day": 7, "quantity_per_time": 3}
    assert client.put(url, json=everything).status_code == 404

    client.post(ACTIVITIES, json=VITAMIN)
    assert client.put(url, json={"times_per_day": 7}).json().keys() == {"begin_date", "end_date", "quantity_per_time"}
    assert client.put(url, json=everything).json() == {"name": "vitamin C", **everything}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_name_in_the_body_may_only_repeat_the_one_in_the_url(served: Served, method: str) -> None:
    served.client.post(ACTIVITIES, json=VITAMIN)
    for name in ("vitamin C", " VITAMIN c "):
        repeated = served.client.request(method, url_of("vitamin C"), json={**VITAMIN, "name": name})
        assert (repeated.status_code, repeated.json()["name"]) == (200, "vitamin C")
    other = served.client.request(method, url_of("vitamin C"), json={**VITAMIN, "name": "drops"})
    assert (other.status_code, other.json().keys()) == (400, {"name"})
    empty = served.client.request(method, url_of("vitamin C"), json={**VITAMIN, "name": ""})
    assert [len(messages) for messages in empty.json().values()] == [1]


def test_a_change_is_checked_as_a_whole(served: Served) -> None:
    served.client.post(ACTIVITIES, json=VITAMIN)
    refused = served.client.patch(url_of("vitamin C"), json={"end_date": "2026-07-19"})
    assert (refused.status_code, refused.json().keys()) == (400, {"end_date"})
    assert served.client.patch(url_of("vitamin C"), json={}).json() == VITAMIN


def test_the_links_of_a_list_lead_through_all_of_it_in_its_order(served: Served) -> None:
    for number in range(5):
        served.client.post(ACTIVITIES, json={**VITAMIN, "name": f"n{number}", "times_per_day": number + 1})

    seen, url, page = [], f"{ACTIVITIES}?limit=2&order=-times_per_day", {}
    while url:
        page = served.client.get(url).json()
        assert page["count"] == 5
        seen += [each["name"] for each in page["results"]]
        url = page["next"]
    assert seen == ["n4", "n3", "n2", "n1", "n0"]

    before = served.client.get(page["previous"]).json()
    assert [each["name"] for each in before["results"]] == ["n2", "n1"]
    assert served.client.get(before["previous"]).json()["previous"] is None
    beyond = served.client.get(ACTIVITIES, params={"limit": 2, "offset": 100}).json()
    assert (beyond["results"], beyond["next"]) == ([], None)
    assert len(served.client.get(beyond["previous"]).json()["results"]) == 2


def test_today_lists_what_is_active_on_the_chats_own_date() -> None:
    repository = MemoryRepository()
    late = datetime(2026, 7, 20, 23, 0, tzinfo=UTC)
    container = replace(on_repository(repository), activities=ActivityService(repository, clock=lambda: late))
    with serving(container=container) as served:
        served.client.post(ACTIVITIES, json={**VITAMIN, "name": "on the 20th", "end_date": "2026-07-20"})
        served.client.post(ACTIVITIES, json={**VITAMIN, "name": "on the 21st", "begin_date": "2026-07-21"})

        def today() -> list[str]:
            return [each["name"] for each in served.client.get("/api/v1/today/").json()["results"]]

        assert today() == ["on the 20th"]
        changed = served.client.patch("/api/v1/chat/", json={"timezone": "Europe/Moscow"})
        assert changed.json() == {"chat_id": 1, "timezone": "Europe/Moscow", "language": "en", "tokens_valid_after": 0}
        assert today() == ["on the 21st"]


def test_an_empty_parameter_is_one_left_out(shared: Served) -> None:
    assert shared.client.get(f"{ACTIVITIES}?limit=&offset=&order=").json() == shared.client.get(ACTIVITIES).json()


def test_a_chat_is_read_and_changed(served: Served) -> None:
    refused = served.client.patch("/api/v1/chat/", json={"timezone": "Mars", "language": "de"})
    assert (refused.status_code, refused.json().keys()) == (400, {"timezone", "language"})
    assert served.client.patch("/api/v1/chat/", json={"language": "ru"}).json()["language"] == "ru"
    assert served.client.get("/api/v1/chat/").json()["language"] == "ru"


def test_forms_work_as_json_does(served: Served) -> None:
    assert served.client.post(ACTIVITIES, data=VITAMIN).json() == VITAMIN
    parts = {name: (None, str(value)) for name, value in {**VITAMIN, "times_per_day": 9}.items()}
    assert served.client.put(url_of("vitamin C"), files=parts).json() == {**VITAMIN, "times_per_day": 9}


# -------------------------------------------------------------------------------------- raw input


def test_all_broken_rules_are_reported_together(served: Served) -> None:
    body = '{"name": "", "begin_date": "2026-02-29", "end_date": 5, "times_per_day": 0, "quantity_per_time": 0.0005}'
    headers = {"x-request-id": "no", "x-chat-id": "one"}
    refused = served.send_json("POST", ACTIVITIES, body, **headers)
    assert refused.status_code == 400
    assert refused.json().keys() == {"chat_id", "x-request-id", *VITAMIN}
    assert all(isinstance(message, str) for messages in refused.json().values() for message in messages)

    query = served.client.get("/api/v1/today/?limit=501&offset=-1&order=size", headers=headers)
    assert query.json().keys() == {"chat_id", "x-request-id", "limit", "offset", "order"}
    assert served.client.get(ACTIVITIES).json()["count"] == 0


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.5", "0.5"),
        ("1e3", "1000"),
        ("1000.0", "1000"),
        ("0.125", "0.125"),
        ("5e-1", "0.5"),
        ("999999.999", "999999.999"),
        ("1000000", "1000000"),
        ('"0.25"', "0.25"),
    ],
)
def test_a_quantity_is_exact_and_a_json_number(served: Served, written: str, read: str) -> None:
    body = '{"name":"n","begin_date":"2026-07-20","end_date":"2026-07-20","times_per_day":1,"quantity_per_time":%s}'
    created = served.send_json("POST", ACTIVITIES, body % written)
    assert created.text.endswith(f'"quantity_per_time":{read}}}')


@pytest.mark.parametrize(
    ("field", "written"),
    [
        *(
            ("times_per_day", written)
            for written in ("0", "-1", "101", "1.5", "1.0", "1e3", "true", '""', "null", "[1]")
        ),
        *(("times_per_day", written) for written in ("NaN", "Infinity", "9" * 5000, '"1e1"', "[" * 300 + "]" * 300)),
        *(
            ("quantity_per_time", written)
            for written in ("0", "-1", "0.0005", "1000000.001", "NaN", "-Infinity", "false")
        ),
        *(
            ("quantity_per_time", written)
            for written in ("1e99999999999999999999", "1e-9", "0.12500000000000000000001", "9" * 5000, '"1e3"', "{}")
        ),
        *(("name", written) for written in ('""', '"."', '".."', '"\\ud800"', '"\\u0000"', "5", "1e3", "null", "[]")),
        ("name", '"%s"' % ("x" * 121)),
        ("name", '"%s"' % ("x" * 100_000)),
        *(("begin_date", written) for written in ('"20.07.2026"', '"2025-02-29"', '"1999-12-31"', "20260720", "null")),
        *(("end_date", written) for written in ('"2026-04-31"', '"3000-01-01"', '"2026-07-19"', '"\\udfff"')),
    ],
)
def test_a_wrong_value_is_refused_by_its_fields_name(shared: Served, field: str, written: str) -> None:
    body = ", ".join(
        f'"{name}": {written if name == field else value}'
        for name, value in {
            "name": '"new"',
            "begin_date": '"2026-07-20"',
            "end_date": '"2026-07-20"',
            "times_per_day": "1",
            "quantity_per_time": "1",
        }.items()
    )
    refused = shared.send_json("POST", ACTIVITIES, f"{{{body}}}")
    assert (refused.status_code, refused.json().keys()) == (400, {field})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'"text"', b"5", b"{", b"{'a': 1}", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_body_that_is_no_json_object_is_refused(shared: Served, method: str, body: bytes) -> None:
    refused = shared.send_json(method, ACTIVITIES if method == "POST" else url_of("vitamin C"), body)
    assert refused.status_code == 400
    assert refused.json().keys() == {"error", "detail"}
    assert refused.json()["error"] == "ParseError"


def test_an_empty_body_lacks_every_field(shared: Served) -> None:
    assert shared.send_json("POST", ACTIVITIES, b"").json().keys() == VITAMIN.keys()


def test_unknown_fields_are_passed_over(served: Served) -> None:
    assert served.client.post(ACTIVITIES, json={**VITAMIN, "colour": "red"}).json() == VITAMIN


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=x; charset=base64", 400),
        ("application/x-www-form-urlencoded; charset=hex", 400),
        ("application/x-www-form-urlencoded; charset=idna", 400),
        ("application/json; charset=utf-16", 400),
        ("/", 415),
    ],
)
def test_what_cannot_be_read_is_the_clients_fault(shared: Served, content_type: str, status: int) -> None:
    refused = shared.client.post(f"{ACTIVITIES}?x=%80", content=b"a=%ff&b=\xff", headers={"content-type": content_type})
    assert refused.status_code == status
    assert refused.json()


def test_too_many_parameters_are_the_clients_fault(shared: Served) -> None:
    many = {f"p{number}": "1" for number in range(1001)}
    for refused in (shared.client.get(ACTIVITIES, params=many), shared.client.post(ACTIVITIES, data=many)):
        assert (refused.status_code, refused.json()["error"]) == (400, "BadRequest")


def test_a_name_in_a_url_is_read_like_any_other(shared: Served) -> None:
    assert shared.client.get(url_of(" VITAMIN C ")).json()["name"] == "vitamin C"
    for name in ("\0", "x" * 121, " "):
        refused = shared.client.get(url_of(name))
        assert (refused.status_code, refused.json().keys()) == (400, {"name"})


# ----------------------------------------------------------------------------------------- access


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer act_é"])
def test_without_a_good_token_nothing_is_answered(shared: Served, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"authorization": authorization.encode("latin-1")}
    with shared.anonymous() as client:
        for url in (ACTIVITIES, url_of("vitamin C"), "/api/v1/today/", "/api/v1/stream/?order=x", "/api/v1/chat/"):
            refused = client.get(url, headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert refused.json().keys() == {"error", "detail"}
            assert refused.json()["error"] == "NotAuthenticated"


def test_a_chats_token_opens_that_chat_alone(shared: Served) -> None:
    assert shared.client.get(ACTIVITIES, headers={"x-chat-id": "1"}).json()["count"] == 1
    refused = shared.client.get(f"{ACTIVITIES}?limit=x", headers={"x-chat-id": "2"})
    assert (refused.status_code, refused.json()["error"]) == (403, "PermissionDenied")


def test_a_service_names_the_chat_that_it_acts_for(shared: Served) -> None:
    with shared.anonymous() as client:
        client.headers.update(bearer(SERVICE))
        assert client.get(ACTIVITIES).json().keys() == {"chat_id"}
        assert client.get(ACTIVITIES, headers={"x-chat-id": "0"}).json().keys() == {"chat_id"}
        assert client.get(ACTIVITIES, headers={"x-chat-id": "1"}).json()["count"] == 1
        assert client.get(ACTIVITIES, headers={"x-chat-id": "-100123"}).json()["count"] == 0


def test_a_header_that_wsgi_would_take_for_another_is_left_out(shared: Served) -> None:
    answer = shared.client.get("/api/v1/chat/", headers={**bearer(SERVICE), "X_Chat_Id": "5", "X-Chat-Id": "7"})
    assert answer.json()["chat_id"] == 7
    answer = shared.client.get("/api/v1/chat/", headers={**bearer(SERVICE), "X_Chat_Id": "5"})
    assert (answer.status_code, list(answer.json())) == (400, ["chat_id"])


def test_a_token_for_reading_writes_nothing(shared: Served) -> None:
    headers = {**bearer(READER), "x-chat-id": "1"}
    with shared.anonymous() as client:
        assert client.get(url_of("vitamin C"), headers=headers).json() == VITAMIN
        for method, url in (
            ("POST", ACTIVITIES),
            ("PUT", url_of("vitamin C")),
            ("PATCH", url_of("vitamin C")),
            ("DELETE", url_of("vitamin C")),
            ("PATCH", "/api/v1/chat/"),
        ):
            refused = client.request(method, url, headers=headers)
            assert (refused.status_code, refused.json()["error"]) == (403, "PermissionDenied")


def test_one_chats_answers_are_kept_by_no_cache(shared: Served) -> None:
    assert shared.client.get(ACTIVITIES).headers["cache-control"] == "no-store"


# ------------------------------------------------------------------------------------ request ids


def test_a_write_under_a_request_id_is_done_once(served: Served) -> None:
    headers = {"x-request-id": ID}
    first, second = (served.client.post(ACTIVITIES, json=VITAMIN, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (201, VITAMIN)
    other = served.client.post(ACTIVITIES, json={**VITAMIN, "name": "drops"}, headers=headers)
    assert (other.status_code, other.json()["error"]) == (422, "RequestIdReused")


def test_every_answer_has_a_request_id(served: Served) -> None:
    for url in (ACTIVITIES, "/api/v1/stream/", "/nowhere", "/healthz"):
        assert served.client.get(url, headers={"x-request-id": ID}).headers["x-request-id"] == ID
        made = served.client.get(url, headers={b"x-request-id": "é".encode()}).headers["x-request-id"]
        assert str(uuid.UUID(made)) == made


def test_an_id_made_for_the_answer_makes_no_two_requests_one(served: Served) -> None:
    statuses = [served.client.post(ACTIVITIES, json=VITAMIN).status_code for _ in range(2)]
    assert statuses == [201, 409]


# ----------------------------------------------------------------------------------------- errors


class Failing(MemoryRepository):
    """A store that answers reads of single activities with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (RequestIdReused(), 422, None),
        (ActivityNotFound(name="a"), 404, None),
        (ActivityExists(name="a"), 409, None),
        (TooManyActivities(limit="10"), 409, None),
        (RateLimited(), 429, "60"),
        (RateLimited(retry_after="7"), 429, "7"),
        (StorageBusy(), 503, "1"),
        (StorageTimeout(), 504, None),
        (StorageUnavailable(), 503, "2"),
        (OutcomePending(request_id=ID), 202, "1"),
        (NotAuthenticated(), 401, None),
        (PermissionDenied(reason="of a reason"), 403, None),
    ],
)
def test_each_error_has_its_status(error: ActivitiesError, status: int, retry_after: str | None) -> None:
    with serving(Failing(error)) as served:
        answer = served.client.get(url_of("a"))
    pending = {"request_id": ID} if isinstance(error, OutcomePending) else {}
    assert answer.status_code == status
    assert answer.json() == {"error": type(error).__name__, "detail": str(error), **pending}
    assert answer.headers.get("retry-after") == retry_after


def test_what_is_unexpected_is_logged_under_its_id_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Failing(RuntimeError("secret SQL"))) as served:
        answer = served.client.get(url_of("a"), headers={"x-request-id": ID})
    assert answer.status_code == 500
    assert answer.json().keys() == {"error", "detail", "request_id"}
    assert (answer.json()["error"], answer.json()["request_id"]) == ("Internal", ID)
    assert "SQL" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = (record for record in caplog.records if ID in record.getMessage() and record.exc_info)
    assert record.exc_info
    assert "secret SQL" in str(record.exc_info[1])


def test_whoever_finds_no_slot_is_told_so_in_time_and_the_one_whose_access_hung_too() -> None:
    """The numbers of the guard are its own tests' matter; here it has one slot and little patience."""
    entered, release = threading.Event(), threading.Event()

    class Hanging(MemoryRepository):
        def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
            entered.set()
            assert release.wait(SECONDS)
            raise StorageTimeout

    guard = Guard(slots=1, limit=0.3)
    repository = GuardedRepository(Hanging(), guard)
    container = replace(
        on_repository(MemoryRepository()),
        activities=ActivityService(repository, clock=lambda: datetime.now(UTC)),
        ready=lambda call: repository.ping(call=call),
    )
    try:
        with serving(container=container) as served, ThreadPoolExecutor(1) as thread:
            hung = thread.submit(served.client.get, url_of("a"))
            assert entered.wait(SECONDS)
            busy = served.client.get(url_of("a"))
            assert (busy.status_code, busy.json()["error"]) == (503, "StorageBusy")
            ready = served.client.get("/readyz")
            assert (ready.status_code, ready.json()["error"]) == (503, "StorageBusy")
            assert served.client.get("/healthz").json() == {"status": "ok"}
            release.set()
            assert hung.result().status_code == 504
    finally:
        release.set()
        guard.close()


# ----------------------------------------------------------------------------------------- stream


class Slots(StreamSlots):
    """Tells when a place came back."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.returned = threading.Event()

    @contextmanager
    def hold(self) -> Iterator[None]:
        try:
            with super().hold():
                yield
        finally:
            self.returned.set()


class Batches(MemoryRepository):
    """A store that does `before(number)` before it gives a stream its batch of that number, and keeps the call."""

    def __init__(self, before: Callable[[int, Call], object]) -> None:
        super().__init__()
        self._before = before
        self._given = 0

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        self._given += 1
        self._before(self._given, call)
        return super().batch(chat_id, order=order, after=after, size=size, call=call)


@contextmanager
def streaming(before: Callable[[int, Call], object], *, activities: int) -> Iterator[tuple[Served, Slots]]:
    """A server with one place for streams and so many activities."""
    slots = Slots(1)
    container = replace(on_repository(Batches(before)), streams=slots)
    with serving(container=container) as served:
        for number in range(activities):
            container.activities.create(1, activity=activity(f"n{number:03}"), call=Call())
        yield served, slots


def test_a_stream_gives_every_activity_a_line(served: Served) -> None:
    for name in ("b", "a", 'ü"\\'):
        served.client.post(ACTIVITIES, json={**VITAMIN, "name": name})
    answer = served.client.get("/api/v1/stream/?order=name", headers={"accept": "text/html"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert lines(answer.text) == [{**VITAMIN, "name": name} for name in ("a", "b", 'ü"\\')]


def test_an_empty_stream_is_empty(served: Served) -> None:
    answer = served.client.get("/api/v1/stream/")
    assert (answer.status_code, answer.text) == (200, "")


def test_a_stream_sends_what_it_has_read_before_it_reads_on() -> None:
    gate = threading.Event()
    with streaming(lambda number, call: number == 1 or gate.wait(SECONDS), activities=STREAM_BATCH + 5) as (served, _):
        received = ""
        with served.client.stream("GET", "/api/v1/stream/?order=name") as answer:
            for text in answer.iter_text():
                received += text
                if received.count("\n") == STREAM_BATCH:
                    gate.set()  # all of the first batch came while the second could not be read
        assert gate.is_set()
        assert [each["name"] for each in lines(received)] == [f"n{number:03}" for number in range(STREAM_BATCH + 5)]


@pytest.mark.parametrize("error", [StorageUnavailable(), RuntimeError("boom")])
def test_a_failure_on_the_way_ends_the_response_without_its_proper_end(error: Exception) -> None:
    def fail(number: int, call: Call) -> None:
        if number == 2:
            raise error

    with streaming(fail, activities=STREAM_BATCH) as (served, slots):
        with served.client.stream("GET", "/api/v1/stream/") as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        assert slots.returned.wait(SECONDS)
        assert served.client.get("/api/v1/chat/").status_code == 200


def test_a_failure_before_the_first_line_has_its_status() -> None:
    def fail(number: int, call: Call) -> None:
        if number == 1:
            raise StorageUnavailable

    with streaming(fail, activities=0) as (served, _):
        refused = served.client.get("/api/v1/stream/")
        assert (refused.status_code, refused.json()["error"]) == (503, "StorageUnavailable")
        assert served.client.get("/api/v1/stream/").status_code == 200  # its place is free again


def test_a_reader_who_leaves_frees_the_place_and_ends_the_reading(caplog: pytest.LogCaptureFixture) -> None:
    gone = threading.Event()

    def wait_for_the_end_of_the_caller(number: int, call: Call) -> None:
        if number == 2:
            call.cancellation.on_cancel(gone.set)
            assert gone.wait(SECONDS)

    with streaming(wait_for_the_end_of_the_caller, activities=2 * STREAM_BATCH + 5) as (served, slots):
        with served.client.stream("GET", "/api/v1/stream/") as answer:
            received = answer.iter_bytes()  # kept: dropping it would close the connection
            next(received)
            busy = httpx.get(f"{served.base_url}/api/v1/stream/", headers=dict(served.client.headers))
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
            slots.returned.clear()
        assert gone.wait(SECONDS)
        assert slots.returned.wait(SECONDS)
        assert served.client.get("/api/v1/stream/").status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# ------------------------------------------------------------------------------- round the product


def test_probes_answer_without_a_token(shared: Served) -> None:
    with shared.anonymous() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok"}
        assert "django_http_responses_total_by_status" in client.get("/metrics").text


@pytest.mark.parametrize("error", [StorageBusy(), StorageTimeout(), StorageUnavailable()])
def test_a_process_whose_storage_does_not_answer_is_not_ready(error: ActivitiesError) -> None:
    class Away(MemoryRepository):
        def ping(self, *, call: Call) -> None:
            raise error

    with serving(Away()) as served:
        answer = served.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json().keys() == {"error", "detail"}


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login/", "/admin/auth/user/1/"])
def test_the_admin_says_where_it_is(shared: Served, path: str) -> None:
    for method in ("GET", "POST"):
        answer = shared.client.request(method, path)
        assert answer.status_code == 404
        assert "ACTIVITIES_BACKEND=postgres" in answer.text


def test_what_django_refuses_itself_is_json_too(shared: Served) -> None:
    answers = {
        404: shared.client.get("/api/v1/activities/no/such/"),
        405: shared.client.post("/api/v1/today/"),
        400: shared.client.get("/healthz", headers={"host": "elsewhere.example"}),
        403: shared.client.post("/metrics"),
        406: shared.client.get(ACTIVITIES, headers={"accept": "image/png"}),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in answers.values():
        assert answer.json().keys() == {"error", "detail"}
    assert shared.client.request("TRACE", ACTIVITIES).status_code == 405


def test_a_failure_outside_of_the_views_is_told_in_the_same_way(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", fail)
    answer = shared.client.get("/healthz")
    assert (answer.status_code, answer.json()["error"]) == (500, "Internal")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "boom" not in answer.text


def test_a_foreign_host_is_one_line_in_the_log(shared: Served, caplog: pytest.LogCaptureFixture) -> None:
    shared.client.get("/healthz", headers={"host": "elsewhere.example"})
    (record,) = [each for each in caplog.records if each.name.startswith("django.")]
    assert "elsewhere.example" in record.getMessage()
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)


def test_many_who_ask_for_the_schema_at_once_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeOnce, "_made", None)
    with serving() as served, ThreadPoolExecutor(8) as readers:
        texts = list(readers.map(lambda query: served.client.get(f"/api/schema/{query}").text, ["", "?version=1"] * 4))
        assert served.client.get("/api/schema/").status_code == 200
    assert len(set(texts)) == 1


def test_the_schema_is_made_once(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeOnce, "_made", None)
    made: list[object] = []

    def parse(generator: object, *_: object) -> dict[str, object]:
        made.append(generator)
        return {}

    monkeypatch.setattr(MadeOnce, "parse", parse)
    for _ in range(2):
        assert shared.client.get("/api/schema/").status_code == 200
    assert len(made) == 1


# ----------------------------------------------------------------------------------- the server


@contextmanager
def connection(served: Served) -> Iterator[socket.socket]:
    """For requests that no client sends."""
    parts = urlsplit(served.base_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=SECONDS) as connected:
        yield connected


def everything(connected: socket.socket) -> bytes:
    """What the server says until it closes."""
    received = b""
    while chunk := connected.recv(65536):
        received += chunk
    return received


def test_a_head_without_end_is_not_collected(shared: Served) -> None:
    with connection(shared) as connected:
        answer = b"HTTP/1.1 431 "  # what was sent after it was closed may have taken it away
        with suppress(ConnectionError):
            connected.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * (64 * MOST_HEAD_BYTES))
            answer = everything(connected)
        assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHo"])
def test_who_sends_no_head_is_not_waited_for(shared: Served, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr("activities.bounded_http.HEAD_SECONDS", 0.05)
    with connection(shared) as connected:
        connected.sendall(begun)
        assert everything(connected) == b""


def test_requests_under_way_when_the_server_stops_are_cut_off_after_their_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("activities_project.http.STOP_SECONDS", 1)
    entered, let_go = threading.Event(), threading.Event()

    class Hanging(MemoryRepository):
        def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
            entered.set()
            call.cancellation.on_cancel(let_go.set)
            assert let_go.wait(SECONDS)
            return super().get(chat_id, name=name, call=call)

    parts = on_repository(Hanging())
    server = HttpServer(parts, "127.0.0.1:0")
    server.start()
    served = Served(parts, f"http://127.0.0.1:{server.port}", httpx.Client())
    token = parts.access.issue(1).encode()
    with connection(served) as half_sent, connection(served) as waiting:
        half_sent.sendall(b"POST /api/v1/activities/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
        waiting.sendall(
            b"GET /api/v1/activities/pill/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
        )
        assert entered.wait(SECONDS)
        server.stop()
        assert everything(half_sent).startswith(b"HTTP/1.1 503 ")
    assert let_go.is_set()
    parts.close()
    assert all(record.exc_info is None for record in caplog.records)


def test_what_is_slow_to_come_is_not_waited_for(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities_project.http.BODY_SECONDS", 0.05)
    with connection(shared) as connected:
        connected.sendall(b"POST /api/v1/activities/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
        assert everything(connected).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_too_large_is_refused(shared: Served) -> None:
    refused = shared.send_json("POST", ACTIVITIES, b" " * (MAX_REQUEST_BYTES + 1))
    assert (refused.status_code, refused.json()["error"]) == (413, "RequestTooLarge")
    with connection(shared) as connected:
        connected.sendall(
            b"POST /api/v1/activities/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n{"
        )
        assert everything(connected).startswith(b"HTTP/1.1 413 ")


def test_a_connection_between_requests_is_not_kept_open_by_bytes_that_are_none(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection(shared) as connected:
        monkeypatch.setattr("activities.bounded_http.HEAD_SECONDS", 0.5)
        connected.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with suppress(ConnectionError):
            while True:  # until the server closes
                connected.settimeout(0.05)
                with suppress(TimeoutError):
                    if not connected.recv(65536):
                        break
                connected.settimeout(SECONDS)
                connected.sendall(b"\r\n")


def is_answered(connected: socket.socket) -> bool:
    """Whether a request on this connection is, which stays open."""
    connected.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    received = b""
    while not received.endswith(b"}"):
        received += connected.recv(65536) or b"}"
    return received.startswith(b"HTTP/1.1 200 ")


def test_one_connection_more_takes_the_place_of_one_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.bounded_http.MOST_CONNECTIONS", 3)
    for name in ("HEAD_SECONDS", "KEEP_ALIVE_SECONDS"):  # by which it would be closed as well
        monkeypatch.setattr(f"activities.bounded_http.{name}", 10 * SECONDS)
    with serving() as served, ExitStack() as stack:
        idle = [stack.enter_context(connection(served)) for _ in range(3)]
        for each in (*idle, idle[0]):
            assert is_answered(each)
        assert served.client.get("/healthz").status_code == 200
        with suppress(ConnectionResetError):
            assert everything(idle[1]) == b""  # the idlest
        assert is_answered(idle[0])


def test_a_request_under_way_is_not_cut_off_for_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.bounded_http.MOST_CONNECTIONS", 1)
    entered, let_go = threading.Event(), threading.Event()

    class Hanging(MemoryRepository):
        def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
            entered.set()
            assert let_go.wait(SECONDS)
            return super().get(chat_id, name=name, call=call)

    with serving(Hanging()) as served, ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(served.client.get, url_of("pill"))
        assert entered.wait(SECONDS)
        with connection(served) as refused, suppress(ConnectionResetError):
            assert everything(refused) == b""
        let_go.set()
        assert under_way.result().status_code == 404


def test_requests_sent_ahead_are_answered_in_turn_and_bounded(shared: Served) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with connection(shared) as connected:
        connected.sendall(request * 9 + last)
        assert everything(connected).count(b"HTTP/1.1 200 OK") == 10
    with connection(shared) as connected, suppress(ConnectionError):
        connected.sendall(request * 10_000 + last)
        assert everything(connected).count(b"HTTP/1.1 200 OK") <= MOST_PIPELINED + 1


class Endless(MemoryRepository):
    """A store whose streams have no end."""

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        return [activity("💊" * 120)] * size


def test_a_reader_who_takes_nothing_loses_the_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("activities.bounded_http.LOOK_SECONDS", 0.1)
    slots = Slots(1)
    with serving(container=replace(on_repository(Endless()), streams=slots)) as served, connection(served) as stalled:
        token = served.container.access.issue(1).encode()
        stalled.sendall(
            b"GET /api/v1/stream/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
        )
        assert stalled.recv(12) == b"HTTP/1.1 200"
        assert slots.returned.wait(SECONDS)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_slow_reader_keeps_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.bounded_http.LOOK_SECONDS", 0.2)
    slots = Slots(1)
    with serving(container=replace(on_repository(Endless()), streams=slots)) as served:
        with served.client.stream("GET", "/api/v1/stream/") as answer:
            taken = 0
            for chunk in answer.iter_raw(65536):
                taken += len(chunk)
                if taken > 64 << 20:  # which takes several looks
                    break
            assert not slots.returned.is_set()
        assert slots.returned.wait(SECONDS)


# -------------------------------------------------------------------------------- behind a proxy

FORWARDED = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7", "host": "localhost"}


def test_nobody_is_believed_to_be_a_proxy(shared: Served) -> None:
    answer = shared.client.get("/api/login/", headers=FORWARDED)
    assert "strict-transport-security" not in answer.headers
    assert "Secure" not in answer.headers["set-cookie"]


def test_a_trusted_proxy_says_how_it_was_reached(settings: Any) -> None:
    settings.HTTP_TRUSTED_PROXIES = "10.0.0.0/8,127.0.0.1"
    with serving() as served:
        answer = served.client.get("/api/login/", headers=FORWARDED)
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert "Secure" in answer.headers["set-cookie"]
        created = served.client.post(ACTIVITIES, json=VITAMIN, headers=FORWARDED)
        assert created.headers["location"] == "https://localhost/api/v1/activities/vitamin%20C/"
    settings.HTTP_TRUSTED_PROXIES = "10.0.0.0/8"
    with serving() as served:
        assert "Secure" not in served.client.get("/api/login/", headers=FORWARDED).headers["set-cookie"]


def test_a_body_in_pieces_of_one_byte_is_put_together(served: Served) -> None:
    body = json.dumps({**VITAMIN, "name": "in pieces"}).ljust(20_000).encode()
    pieces = (body[at : at + 1] for at in range(len(body)))
    answer = served.client.post(ACTIVITIES, content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 201
    assert answer.json()["name"] == "in pieces"
