"""Who may do what: every method of gRPC and every URL of HTTP, on a data service and on an interface service.

A method or a URL that is not in the tables below fails the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, cast

import grpc
import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import URLResolver, get_resolver, path
from django.urls.resolvers import RegexPattern
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from activities.access import Access
from activities.api.authentication import COOKIE, keep_token
from activities.container import Container, on_repository, on_service
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from activities_project.http import HttpServer
from grpc_server.exchange import Asked, decisions_of, reads
from grpc_server.server import ACTIVITIES, GrpcServer, reflects
from grpc_server.services import ActivityServicer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.examples import activity
from tests.transports.served import READER, SECONDS, SERVICE, VITAMIN, bearer
from tests.transports.test_processes import ROOT, Process, environment, manage

# ------------------------------------------------------------------------------------------- who

NOBODY = ("no token", "malformed", "forged", "expired", "revoked", "a service's, mistyped")
OWN = ("own", "own, named", "own, named 0")
CHATLESS = ("service without chat", "service, named 0")
EVERYBODY = (*NOBODY, "another chat's", *OWN, "read-only service", "service", *CHATLESS)

_chats = count(10**6, 2)


def new_chat(data: Container, *, is_empty: bool = False) -> int:
    """A chat that no other case knows, with one activity or none. The next id is nobody's either."""
    chat_id = next(_chats)
    if not is_empty:
        data.activities.create(chat_id, activity=activity(), call=Call())
    return chat_id


def token_of(who: str, chat_id: int, data: Container) -> str | None:
    """What this one shows who wants to get at the chat."""
    if who == "no token":
        return None
    if who in ("malformed", "a service's, mistyped"):
        return "act_nonsense" if who == "malformed" else SERVICE[:-1]
    if who == "another chat's":
        return data.access.issue(chat_id + 1)
    if who in OWN:
        return data.access.issue(chat_id)
    if who == "revoked":
        token = data.access.issue(chat_id)
        data.chats.revoke_tokens(chat_id, call=Call())
        return token
    if who in ("forged", "expired"):
        lifetime = timedelta(days=-1 if who == "expired" else 1)
        key = settings.SECRET_KEY if who == "expired" else "another key"
        return Access(keys=[key], valid_after=lambda *_: 0, lifetime=lifetime).issue(chat_id)
    return READER if who == "read-only service" else SERVICE


def named(who: str, chat_id: int) -> int | None:
    """The chat that this one names when the chat is meant."""
    if who in ("own", "service without chat"):
        return None
    return 0 if who.endswith(" 0") else chat_id


# --------------------------------------------------------------------------------------- the roles


@dataclass(frozen=True)
class Role:
    """A running service, and the data service behind it, which may be itself."""

    data: Container
    server: GrpcServer
    channel: grpc.Channel
    http: httpx.Client


@pytest.fixture(scope="module", params=["data service", "interface service"])
def role(request: pytest.FixtureRequest) -> Iterator[Role]:
    with ExitStack() as stack:

        def served(parts: Container) -> GrpcServer:
            stack.callback(parts.close)
            server = GrpcServer(parts, "127.0.0.1:0")
            server.start()
            stack.callback(server.stop, 0)
            return server

        parts = data = on_repository(MemoryRepository())
        server = served(data)
        if request.param == "interface service":
            parts = on_service(target=f"127.0.0.1:{server.port}", token=SERVICE)
            server = served(parts)
        http = HttpServer(parts, "127.0.0.1:0")
        http.start()
        stack.callback(http.stop)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.port}"))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http.port}", timeout=SECONDS))
        yield Role(data, server, channel, client)


# -------------------------------------------------------------------------------------------- gRPC

OPEN, READS, WRITES, FOR_SERVICES = "open to all", "reads", "writes", "for services"
FIELDS: dict[str, Any] = {name: value for name, value in VITAMIN.items() if name != "name"}
RPCS: dict[str, tuple[str, Message]] = {
    "/activities.v1.ActivityService/ActivityCreate": (WRITES, pb.ActivityCreateRequest(name="new", **FIELDS)),
    "/activities.v1.ActivityService/ActivityGet": (READS, pb.ActivityGetRequest(name="vitamin C")),
    "/activities.v1.ActivityService/ActivityList": (READS, pb.ActivityListRequest()),
    "/activities.v1.ActivityService/ActivityListStream": (READS, pb.ActivityListStreamRequest()),
    "/activities.v1.ActivityService/ActivityToday": (READS, pb.ActivityTodayRequest()),
    "/activities.v1.ActivityService/ActivityUpdate": (WRITES, pb.ActivityUpdateRequest(name="vitamin C")),
    "/activities.v1.ActivityService/ActivityDelete": (WRITES, pb.ActivityDeleteRequest(name="vitamin C")),
    "/activities.v1.ChatService/ChatGet": (READS, chats_pb.ChatGetRequest()),
    "/activities.v1.ChatService/ChatUpdate": (WRITES, chats_pb.ChatUpdateRequest()),
    "/activities.v1.ChatService/ChatRevokeTokens": (WRITES, chats_pb.ChatRevokeTokensRequest()),
    "/activities.v1.ChatService/ChatForget": (WRITES, chats_pb.ChatForgetRequest()),
    "/activities.v1.ChatService/ChatMove": (FOR_SERVICES, chats_pb.ChatMoveRequest(to_chat_id=7)),
    "/grpc.health.v1.Health/Check": (OPEN, health_pb2.HealthCheckRequest()),
    "/grpc.health.v1.Health/List": (OPEN, health_pb2.HealthListRequest()),
    "/grpc.health.v1.Health/Watch": (OPEN, health_pb2.HealthCheckRequest()),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (
        OPEN,
        reflection_pb2.ServerReflectionRequest(list_services=""),
    ),
}
"""Each method, who may call it, and a good request, to which the chat is added."""
UNKNOWN = ("/activities.v1.ActivityService/ActivityMerge", "/activities.v2.ActivityService/ActivityGet", "/", "/x")
"""What there is not."""

Answer = tuple[str, str]
"""A code and the error's name."""
GOOD: Answer = ("OK", "")
NOT_AUTHENTICATED: Answer = ("UNAUTHENTICATED", "NotAuthenticated")
DENIED: Answer = ("PERMISSION_DENIED", "PermissionDenied")
NO_CHAT: Answer = ("INVALID_ARGUMENT", "InvalidActivity")


def grpc_answer(decision: str, who: str) -> Answer:
    if decision == OPEN:
        return GOOD
    if who in NOBODY:
        return NOT_AUTHENTICATED
    if who == "another chat's" or (who == "read-only service" and decision != READS):
        return DENIED
    if who in OWN and decision == FOR_SERVICES:
        return DENIED
    return NO_CHAT if who in CHATLESS else GOOD


def ask(channel: grpc.Channel, method: str, request: Message, token: str | None) -> Answer:
    """Calls a method as it is; of a stream of answers the first is enough."""
    service, _, name = method[1:].partition("/")
    try:
        described: MethodDescriptor | None = Default().FindServiceByName(service).FindMethodByName(name)
    except KeyError:
        described = None
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    talks = described is not None and described.client_streaming
    kind: Any = channel.stream_stream if talks else channel.unary_stream
    given = iter([request]) if talks else request
    call = kind(method, type(request).SerializeToString, bytes)(given, metadata=metadata, timeout=SECONDS)
    try:
        next(call, None)
    except grpc.RpcError as error:
        return cast("grpc.Call", error).code().name, reason_of(error)
    finally:
        call.cancel()
    return GOOD


def reason_of(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(cast("grpc.Call", error))
    info = error_details_pb2.ErrorInfo()
    for each in status.details if status else ():
        if each.Is(info.DESCRIPTOR):
            each.Unpack(info)
    return str(info.reason)


@pytest.mark.parametrize("method", RPCS)
def test_a_method_answers_whom_it_may(role: Role, method: str) -> None:
    decision, request = RPCS[method]
    answers = {}
    for who in EVERYBODY:
        chat_id = new_chat(role.data)
        asked = type(request)()
        asked.CopyFrom(request)
        if decision != OPEN:
            asked.chat_id = named(who, chat_id) or 0  # type: ignore[attr-defined]
        answers[who] = ask(role.channel, method, asked, token_of(who, chat_id, role.data))
    assert answers == {who: grpc_answer(decision, who) for who in EVERYBODY}


@pytest.mark.parametrize("method", UNKNOWN)
def test_a_method_that_there_is_not_is_nobodys(role: Role, method: str) -> None:
    chat_id = new_chat(role.data)
    for who in EVERYBODY:
        answer = ask(role.channel, method, Empty(), token_of(who, chat_id, role.data))
        assert answer == ("UNIMPLEMENTED", ""), who


def registered(server: GrpcServer) -> set[str]:
    """Every method for which the server has a handler, whoever gave it one."""
    state = server._server._state  # type: ignore[attr-defined]
    generic = [each._method_handlers for each in state.generic_handlers]
    return {method for handlers in [state.registered_method_handlers, *generic] for method in handlers}


def told(channel: grpc.Channel) -> set[str]:
    """Every method that the server tells of."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=SECONDS)
    names = [each.name for each in answer.list_services_response.service]
    return {f"/{name}/{method.name}" for name in names for method in Default().FindServiceByName(name).methods}


def undecided(found: Collection[str], table: Collection[str], what: str) -> list[str]:
    """What to do so that table and product are of one mind."""
    new = [f"{each} is new: say in {what} who may ask it and what it answers" for each in found if each not in table]
    gone = [f"{each} is gone: take it out of {what}" for each in table if each not in found]
    return sorted(new + gone)


def test_every_method_is_decided_about(role: Role) -> None:
    assert undecided(registered(role.server), RPCS, "RPCS") == []
    assert undecided(told(role.channel), RPCS, "RPCS") == []


def test_a_service_that_nobody_has_decided_about_is_noticed_and_not_served() -> None:
    container = on_repository(MemoryRepository())
    server = GrpcServer(container, "127.0.0.1:0")
    answering = grpc.unary_unary_rpc_method_handler(lambda request, context: b"all there is")
    bare: Any = server._server
    bare.add_registered_method_handlers("new.Service", {"Dump": answering})
    bare.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("old.Service", {"Dump": answering})])
    assert undecided(registered(server), RPCS, "RPCS") == [
        "/new.Service/Dump is new: say in RPCS who may ask it and what it answers",
        "/old.Service/Dump is new: say in RPCS who may ask it and what it answers",
    ]
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            for service in ("new.Service", "old.Service"):
                assert ask(channel, f"/{service}/Dump", Empty(), SERVICE) == ("UNIMPLEMENTED", "")
    finally:
        server.stop(0)
        container.close()


def test_a_server_with_a_method_that_nobody_has_decided_about_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(ActivityServicer):
        def ActivityGet(self, request: pb.ActivityGetRequest, asked: Asked) -> pb.Activity:  # noqa: N802
            return pb.Activity()

    with pytest.raises(TypeError, match=r"ActivityService/ActivityGet: .* @reads, @writes or @for_services"):
        decisions_of(ACTIVITIES, Careless)
    monkeypatch.setattr("grpc_server.server.ActivityServicer", Careless)
    with pytest.raises(TypeError, match="ActivityGet"):
        GrpcServer(on_repository(MemoryRepository()), "127.0.0.1:0")
    monkeypatch.setattr(Careless, "ActivityGet", reads(Careless.ActivityGet))
    assert decisions_of(ACTIVITIES, Careless).keys() == {each for each in RPCS if "ActivityService" in each}


@pytest.mark.parametrize(
    ("setting", "host", "is_on"),
    [
        ("auto", "127.0.0.1", True),
        ("auto", "::1", True),
        ("auto", "localhost", True),
        ("auto", "0.0.0.0", False),
        ("auto", "10.0.0.1", False),
        ("on", "0.0.0.0", True),
        ("off", "127.0.0.1", False),
    ],
)
def test_reflection_is_for_this_machine_unless_told_otherwise(
    settings: Any, setting: str, host: str, is_on: bool
) -> None:
    settings.ACTIVITIES_GRPC_REFLECTION = setting
    container = on_repository(MemoryRepository())
    server = GrpcServer(container, "127.0.0.1:0", reflected=reflects(host))
    has_it = any("ServerReflection" in method for method in registered(server))
    server.stop(0)
    container.close()
    assert has_it is is_on


# -------------------------------------------------------------------------------------------- HTTP

READING = ("GET", "HEAD", "OPTIONS")
SAFE = (*READING, "TRACE")
"""By which nothing changes, so that nobody can be made to change it."""
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "CONNECT", "LINK")
"""The last ones stand for all that nobody expects."""


@dataclass(frozen=True)
class Url:
    """A path, and what it answers to the methods that it has when all is well."""

    path: str
    statuses: Mapping[str, int]
    error: str = ""
    """What those of them are about that are errors."""
    refusal: str = "MethodNotAllowed"
    """The error in the answer to another method; none where that is no JSON."""


class ForChats(Url):
    """Needs a token: to read or, with an unsafe method, to write."""


class Open(Url):
    """Asks for no token; nothing of a chat is to be had."""


class Page(Open):
    """The same; unsafe requests are refused before anybody looks at the method."""


URLS: dict[str, Url] = {
    "": Page("/", dict.fromkeys(READING, 302), refusal=""),
    "api/v1/activities/": ForChats("/api/v1/activities/", {"GET": 200, "HEAD": 200, "POST": 201}),
    "api/v1/activities/<name:name>/": ForChats(
        "/api/v1/activities/vitamin%20C/", {"GET": 200, "HEAD": 200, "PUT": 200, "PATCH": 200, "DELETE": 204}
    ),
    "api/v1/today/": ForChats("/api/v1/today/", {"GET": 200, "HEAD": 200}),
    "api/v1/stream/": ForChats("/api/v1/stream/", {"GET": 200, "HEAD": 200}),
    "api/v1/chat/": ForChats("/api/v1/chat/", {"GET": 200, "HEAD": 200, "PATCH": 200, "DELETE": 204}),
    "api/login/": Open("/api/login/", {"GET": 200, "HEAD": 200, "POST": 400}, error="token"),
    "api/logout/": Open("/api/logout/", {"POST": 204}),
    "api/schema/": Open("/api/schema/", {"GET": 200, "HEAD": 200}),
    "api/docs/": Open("/api/docs/", {"GET": 200, "HEAD": 200}, refusal=""),
    "api/schema/gateway/": Page("/api/schema/gateway/", {"GET": 200, "HEAD": 200, "OPTIONS": 200}, refusal=""),
    "api/docs/gateway/": Open("/api/docs/gateway/", {"GET": 200, "HEAD": 200}, refusal=""),
    "healthz": Open("/healthz", {"GET": 200, "HEAD": 200}),
    "readyz": Open("/readyz", {"GET": 200, "HEAD": 200}),
    "metrics": Page("/metrics", dict.fromkeys(SAFE, 200)),
    "^admin(?:/.*)?$": Open("/admin/", dict.fromkeys(METHODS, 404)),
}
"""Each route of Django's."""
BESIDE = {
    "static": Open("/static/rest_framework/css/bootstrap.min.css", {"GET": 200, "HEAD": 200}, refusal=""),
    "nothing": Open("/nowhere/", dict.fromkeys(METHODS, 404), error="NotFound"),
}
"""What is answered without a route."""
BODY = {**VITAMIN, "name": "vitamin c"}
"""Is good for every operation: for the others than a create it repeats the name, or has nothing that they know."""


@dataclass(frozen=True)
class Said:
    """What an answer says of access: its status, the error's name or the fields that are wrong, the challenge."""

    status: int
    error: str = ""
    challenge: str | None = None

    @classmethod
    def by(cls, answer: httpx.Response) -> Said:
        error = ""
        if answer.is_error and answer.headers.get("content-type") == "application/json" and answer.text:
            body = answer.json()
            error = body.get("error") or ", ".join(body)
        return cls(answer.status_code, error, answer.headers.get("www-authenticate"))


def of(method: str, said: Said) -> Said:
    """As this method hears it: an answer to HEAD has no body."""
    return Said(said.status, "", said.challenge) if method == "HEAD" else said


STRANGER = Said(401, "NotAuthenticated", "Bearer")
FORBIDDEN = Said(403, "PermissionDenied")
NOT_ALLOWED = Said(405, "MethodNotAllowed")


def http_answer(url: Url, method: str, who: str) -> Said:
    if isinstance(url, ForChats):
        if who in NOBODY:
            return of(method, STRANGER)
        if who == "read-only service" and method not in READING:
            return FORBIDDEN
        if method not in url.statuses:
            return NOT_ALLOWED
        if who == "another chat's":
            return of(method, FORBIDDEN)
        if who in CHATLESS:
            return of(method, Said(400, "chat_id"))
    elif isinstance(url, Page) and method not in SAFE:
        return FORBIDDEN
    if method not in url.statuses:
        return of(method, Said(405, url.refusal))
    status = url.statuses[method]
    return of(method, Said(status, url.error if status >= 400 else ""))


def shown(who: str, chat_id: int, data: Container) -> dict[str, str]:
    """The headers of whoever wants to get at the chat."""
    token, chat = token_of(who, chat_id, data), named(who, chat_id)
    return {**({} if token is None else bearer(token)), **({} if chat is None else {"x-chat-id": str(chat)})}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", [*URLS, *BESIDE])
def test_a_url_answers_whom_it_may(role: Role, route: str, method: str) -> None:
    url = (URLS | BESIDE)[route]
    body = BODY if isinstance(url, ForChats) and method in url.statuses and method not in SAFE else None
    answers = {}
    for who in EVERYBODY:
        chat_id = new_chat(role.data, is_empty=method == "POST")
        headers = {"accept": "application/json", **shown(who, chat_id, role.data)}
        if url.path.startswith("/api/docs/"):
            headers["accept"] = "*/*"
        answers[who] = Said.by(role.http.request(method, url.path, json=body, headers=headers))
    assert answers == {who: http_answer(url, method, who) for who in EVERYBODY}


@pytest.mark.parametrize("route", [route for route, url in URLS.items() if isinstance(url, ForChats)])
def test_the_page_of_a_url_is_for_the_same(role: Role, route: str) -> None:
    url = URLS[route]
    statuses = {}
    for who in EVERYBODY:
        chat_id = new_chat(role.data)
        headers = {"accept": "text/html", **shown(who, chat_id, role.data)}
        answer = role.http.get(url.path, headers=headers)
        statuses[who] = (answer.status_code, answer.headers.get("www-authenticate"))
        assert "vitamin C" not in answer.text or answer.status_code == 200
    expected = {who: http_answer(url, "GET", who) for who in EVERYBODY}
    assert statuses == {who: (said.status, said.challenge) for who, said in expected.items()}


def routes(resolver: URLResolver, before: str = "") -> Iterator[str]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from routes(each, before + str(each.pattern))
        else:
            yield before + str(each.pattern)


def test_every_url_is_decided_about() -> None:
    assert undecided(list(routes(get_resolver())), URLS, "URLS") == []


class Careless(APIView):
    """Whoever wrote it has thought of nothing."""

    def get(self, request: Request) -> Response:
        return Response("everything")

    post = get


def test_a_url_that_nobody_has_decided_about_is_noticed() -> None:
    patterns = [*get_resolver().url_patterns, path("api/v1/dump/", Careless.as_view())]
    assert undecided(list(routes(URLResolver(RegexPattern("^/"), patterns))), URLS, "URLS") == [
        "api/v1/dump/ is new: say in URLS who may ask it and what it answers"
    ]


def test_a_view_whose_writer_thought_of_nothing_needs_a_token_that_may_do_it() -> None:
    ask, view = APIRequestFactory(), Careless.as_view()
    statuses = {
        (method, token): view(getattr(ask, method)("/", **({"HTTP_AUTHORIZATION": f"Bearer {token}"}))).status_code
        for method in ("get", "post")
        for token in ("", READER, SERVICE)
    }
    assert statuses == {
        ("get", ""): 401,
        ("get", READER): 200,
        ("get", SERVICE): 200,
        ("post", ""): 401,
        ("post", READER): 403,
        ("post", SERVICE): 200,
    }


def test_the_schema_asks_for_a_token_where_one_is_needed(role: Role) -> None:
    """Which is what Swagger's "Authorize" sends, and where."""
    schema = role.http.get("/api/schema/?format=json").json()
    assert schema["components"]["securitySchemes"].keys() == {"bearer", "cookie"}
    needed = {
        (path, method.upper()): operation.get("security", [])
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    }
    both: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
    assert needed == {
        ("/" + route.replace("<name:name>", "{name}"), method): both if isinstance(url, ForChats) else []
        for route, url in URLS.items()
        if isinstance(url, ForChats) or route in ("api/login/", "api/logout/", "healthz", "readyz")
        for method in url.statuses
        if method != "HEAD"
    }


# -------------------------------------------------------------------------------------- the cookie

PROOF = "p" * 32
"""What CSRF's cookie holds and its header repeats."""
COOKIES = ("forged", "expired", "revoked", "another chat's", "own", "unsigned", "signed for something else")


def cookie_of(who: str, chat_id: int, data: Container) -> str:
    """What a browser keeps."""
    if who == "unsigned":
        return data.access.issue(chat_id)
    response = HttpResponse()
    if who == "signed for something else":
        response.set_signed_cookie(COOKIE, data.access.issue(chat_id), salt="something else")
    else:
        token = token_of(who, chat_id, data)
        assert token is not None
        keep_token(HttpRequest(), response, token)
    return response.cookies[COOKIE].value


def cookie_answer(url: Url, method: str, who: str, *, proven: bool) -> Said:
    if who not in ("own", "another chat's"):
        return of(method, STRANGER)
    if method not in SAFE and not proven:
        return FORBIDDEN
    return http_answer(url, method, who)


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", [route for route, url in URLS.items() if isinstance(url, ForChats)])
def test_a_cookie_counts_like_its_token(role: Role, route: str, method: str, proven: bool) -> None:
    url = URLS[route]
    answers = {}
    for who in COOKIES:
        chat_id = new_chat(role.data, is_empty=method == "POST")
        cookies = f"{COOKIE}={cookie_of(who, chat_id, role.data)}; csrftoken={PROOF}"
        headers = {"accept": "application/json", "x-chat-id": str(chat_id), "cookie": cookies}
        if proven:
            headers["x-csrftoken"] = PROOF
        body = BODY if method in url.statuses and method not in SAFE else None
        answers[who] = Said.by(role.http.request(method, url.path, json=body, headers=headers))
    assert answers == {who: cookie_answer(url, method, who, proven=proven) for who in COOKIES}


def test_only_a_chats_good_token_logs_in(role: Role) -> None:
    answers = {}
    for who in EVERYBODY:
        token = token_of(who, new_chat(role.data), role.data)
        answers[who] = Said.by(
            role.http.post("/api/login/", json={"token": token}, headers={"accept": "application/json"})
        )
        role.http.cookies.clear()
    assert answers == {
        **dict.fromkeys(NOBODY, STRANGER),
        **dict.fromkeys((*OWN, "another chat's"), Said(200)),
        **dict.fromkeys(("read-only service", "service", *CHATLESS), FORBIDDEN),
        "no token": Said(400, "token"),
    }


# --------------------------------------------------------------------------------------- the admin

STAFF, SIGN_IN = "its staff", "everybody, to become its staff"
ADMIN: dict[str, tuple[str, str]] = {
    "admin": ("/admin", "everybody"),
    "admin/": ("/admin/", STAFF),
    "admin/login/": ("/admin/login/", SIGN_IN),
    "admin/logout/": ("/admin/logout/", STAFF),
    "admin/password_change/": ("/admin/password_change/", STAFF),
    "admin/password_change/done/": ("/admin/password_change/done/", STAFF),
    "admin/autocomplete/": ("/admin/autocomplete/", STAFF),
    "admin/jsi18n/": ("/admin/jsi18n/", STAFF),
    "admin/r/<path:content_type_id>/<path:object_id>/": ("/admin/r/1/1/", STAFF),
    "admin/auth/user/<id>/password/": ("/admin/auth/user/1/password/", STAFF),
    "admin/^(?P<app_label>auth|activities)/$": ("/admin/activities/", STAFF),
    "admin/(?P<url>.*)$": ("/admin/whatever/", STAFF),
}
ADMIN |= {
    f"admin/{model}/{rest}": (f"/admin/{model}/{rest.replace('<path:object_id>', '1')}", STAFF)
    for model in ("auth/group", "auth/user", "activities/activity", "activities/chat")
    for rest in ("", "add/", *(f"<path:object_id>/{each}" for each in ("history/", "delete/", "change/", "")))
}
"""Each route of the admin, a path there, and for whom it is."""
LIST_ROUTES = """
import django; django.setup()
import json
from django.urls import get_resolver
from tests.transports.test_access_table import routes
print(json.dumps(list(routes(get_resolver()))))
"""


@pytest.fixture(scope="module")
def durable(database: None) -> dict[str, str]:
    """The settings of a data service on PostgreSQL, whose tables are made."""
    given = {
        "ACTIVITIES_BACKEND": "postgres",
        "DATABASE_URL": f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{connection.settings_dict['NAME']}",
        **{name: os.environ[name] for name in ("REDIS_URL", "DJANGO_SECRET_KEY", "ACTIVITIES_SERVICE_TOKENS")},
    }
    assert manage("migrate", **given).returncode == 0
    return given


@pytest.fixture(scope="module")
def durable_http(durable: dict[str, str]) -> Iterator[httpx.Client]:
    process = Process("serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", last_line="grpcurl ", **durable)
    try:
        url = process.find(r"^HTTP +(http://[^/]+)/")
        with httpx.Client(base_url=url, timeout=SECONDS) as client:
            yield client
    finally:
        process.stop()


def test_every_url_of_the_admin_is_decided_about(durable: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES],
        cwd=ROOT,
        env={**environment(**durable), "DJANGO_SETTINGS_MODULE": "activities_project.settings"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    ours = URLS.keys() - {"^admin(?:/.*)?$"}
    assert undecided(json.loads(listed.stdout), ours | ADMIN.keys(), "URLS or ADMIN") == []


@pytest.mark.parametrize("route", ADMIN)
def test_no_token_is_the_admins(durable_http: httpx.Client, route: str) -> None:
    url, whose = ADMIN[route]
    also = ["/admin/"] if route == "admin/logout/" else []  # who is not logged in need not be logged out
    for token in (None, SERVICE, READER, on_repository(MemoryRepository()).access.issue(1)):
        headers = {} if token is None else bearer(token)
        proof = {"cookie": f"csrftoken={PROOF}", "x-csrftoken": PROOF}
        for method in ("GET", "POST", "PUT", "DELETE"):
            unproven = durable_http.request(method, url, headers=headers)
            answer = durable_http.request(method, url, headers=headers | proof)
            if method != "GET":
                assert unproven.status_code == 403, (method, token)
            if whose == STAFF:
                assert answer.status_code == 302, (method, token)
                assert answer.headers["location"].startswith(("/admin/login/?next=", *also)), (method, token)
            else:
                assert answer.status_code in (200, 301, 302, 405), (method, token)


@pytest.mark.parametrize("route", [route for route, url in URLS.items() if isinstance(url, ForChats)])
def test_a_url_on_postgres_answers_whom_it_may(durable_http: httpx.Client, route: str) -> None:
    data, url = on_repository(MemoryRepository()), URLS[route]
    is_there = "<name" not in route  # the chats have nothing
    answers = {}
    for who in EVERYBODY:
        chat_id = next(_chats)
        answers[who] = Said.by(durable_http.get(url.path, headers=shown(who, chat_id, data)))
    expected = {who: http_answer(url, "GET", who) for who in EVERYBODY}
    # The chat's tokens were revoked in another store.
    expected["revoked"] = expected["own"]
    if not is_there:
        expected = {
            who: Said(404, "ActivityNotFound") if said.status == 200 else said for who, said in expected.items()
        }
    assert answers == expected
