"""Bytes that nobody meant, over both transports, to a server in a process of its own: it answers, says nothing that it
should not, goes on, and keeps nothing."""

from __future__ import annotations

import os
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import psutil
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from proto.activities.v1 import chats_pb2 as chats_pb
from proto.activities.v1 import chats_pb2_grpc
from tests.examples import ODD_NAMES
from tests.faults.product import Process
from tests.transports.served import READER, SERVICE, VITAMIN, url_of
from tests.transports.test_access_table import RPCS, UNKNOWN, reason_of

LONG = bool(os.environ.get("TEST_LONG"))
CALLS = 100_000 if LONG else 3_000
WARMING_UP = 1_000
REQUESTS = 20_000 if LONG else 1_500
SECONDS = 20
MOST_GROWTH = 40 << 20
"""Bytes. What is kept lawfully, some activities and answers, is a part of it; a tenth of the bytes sent is more."""


@dataclass(frozen=True)
class Server:
    """A server, its tokens, and how much memory it has."""

    url: str
    target: str
    token: str
    memory: Callable[[], int]

    def still_answers(self) -> None:
        with grpc.insecure_channel(self.target) as channel:
            chats = chats_pb2_grpc.ChatServiceStub(channel)
            metadata = (("authorization", f"Bearer {SERVICE}"),)
            assert chats.ChatGet(chats_pb.ChatGetRequest(chat_id=9), metadata=metadata, timeout=SECONDS).chat_id == 9
        assert httpx.get(f"{self.url}/readyz", timeout=SECONDS).json() == {"status": "ok"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    given = {name: os.environ[name] for name in ("ACTIVITIES_SERVICE_TOKENS", "DJANGO_SECRET_KEY")}
    ports = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    settings_module = "activities_project.settings"
    process = Process(
        {**given, "DJANGO_SETTINGS_MODULE": settings_module},
        tmp_path_factory.mktemp("fuzz") / "log",
        "serve",
        "--local",
        *ports,
        up="grpcurl ",
    )

    def said(pattern: str) -> str:
        found = process.said(pattern)
        assert found is not None
        return found[1]

    memory = psutil.Process(process.pid).memory_info
    try:
        yield Server(
            said(r"HTTP +(http://[^/]+)/"), said(r"gRPC +(\S+)"), said(r"token: (act_\S+)"), lambda: int(memory().rss)
        )
    finally:
        code = process.stop()
    assert code == 0
    assert [line for line in process.log_since(0) if " ERROR " in line or line.startswith("Traceback")] == []


# -------------------------------------------------------------------------------------------- gRPC


def method_of(path: str) -> MethodDescriptor | None:
    service, _, name = path[1:].partition("/")
    try:
        return Default().FindServiceByName(service).FindMethodByName(name)
    except KeyError:
        return None


def reads(path: str, content: bytes) -> bool:
    """Whether the bytes are a request of this method."""
    method = method_of(path)
    if method is not None:
        try:
            GetMessageClass(method.input_type).FromString(content)
        except DecodeError:
            return False
    return True


class Sender:
    """Draws calls and makes them."""

    def __init__(self, channel: grpc.Channel, token: str, seed: int) -> None:
        self.channel, self.token, self.chance = channel, token, random.Random(seed)
        self.codes: Counter[str] = Counter()

    def call(self) -> None:
        chance = self.chance
        path = chance.choice([*RPCS, *RPCS, *RPCS, *UNKNOWN])
        contents = [self.content(path) for _ in range(chance.choice([1, 1, 1, 1, 1, 1, 0, 2, 5]))]
        asks_many = len(contents) != 1 or chance.random() < 0.2
        kind: Any = self.channel.stream_stream if asks_many else self.channel.unary_stream
        call = kind(path, None, None)(
            iter(contents) if asks_many else contents[0], metadata=self.metadata(), timeout=SECONDS
        )
        try:
            next(call, None)
        except grpc.RpcError as error:
            code, said = call.code().name, str(call.details())
            self.check(path, contents, code, reason_of(error), said)
        else:
            code = "OK"
        finally:
            call.cancel()
        self.codes[code] += 1

    def check(self, path: str, contents: list[bytes], code: str, reason: str, said: str) -> None:
        about = (path, contents, code, reason, said)
        assert code not in ("UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE"), about
        assert reason != "Internal", about
        assert "Traceback" not in said, about
        if code == "INTERNAL":
            assert not all(reads(path, each) for each in contents), about

    def content(self, path: str) -> bytes:
        chance = self.chance
        how = chance.randrange(6)
        if how == 0:
            return chance.randbytes(chance.choice([0, 1, 2, 10, 100, 10_000, 300_000]))
        content = self.request(path).SerializeToString()
        if how < 3:
            return mutated(content, chance)
        return content

    def request(self, path: str) -> Message:
        """One that is well-formed, and full of whatever fits its types."""
        method = method_of(path)
        request: Any = GetMessageClass(method.input_type)() if method else chats_pb.ChatGetRequest()
        if path in RPCS and self.chance.random() < 0.5:
            request.CopyFrom(RPCS[path][1])
        for field in request.DESCRIPTOR.fields:
            if field.message_type is None and self.chance.random() < 0.6:
                setattr(request, field.name, self.value(field.cpp_type, field.CPPTYPE_STRING, field.CPPTYPE_DOUBLE))
        if hasattr(request, "chat_id") and self.chance.random() < 0.8:
            request.chat_id = self.chance.choice([0, 1, 2, 2, 2, 3])
        return request  # type: ignore[no-any-return]

    def value(self, kind: int, text: int, number: int) -> Any:
        if kind == text:
            texts = [*ODD_NAMES, *map(str, VITAMIN.values()), "", "\0", "😀" * 1000, "-end_date", "Europe/Moscow", "ru"]
            return self.chance.choice(texts)
        if kind == number:
            return self.chance.choice([0.5, 1e-300, float("nan"), float("-inf"), 1e6, -0.0, 1e308])
        return self.chance.choice([0, 1, 2, 50, 100, 501, 2**31 - 1])

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        chance = self.chance
        tokens = [SERVICE, SERVICE, SERVICE, SERVICE, READER, self.token, self.token[:-1], "", "act_:", "é", "x" * 3000]
        given: list[tuple[str, str | bytes]] = [
            ("authorization", f"{chance.choice(['Bearer', 'Bearer', 'Bearer', 'bearer', 'Basic', ''])} {token}".strip())
            for token in chance.sample(tokens, chance.choice([1, 1, 1, 1, 0, 2]))
            if token.isascii()
        ]
        ids = ["", "x", "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b", "0" * 2000, f"{chance.randrange(2**128):032x}"]
        odd: list[tuple[str, str | bytes]] = [
            *(("x-request-id", each) for each in ids),
            ("x-request-id-bin", chance.randbytes(50)),
            ("authorization-bin", chance.randbytes(50)),
            ("grpc-trace-bin", b"\xff" * 100),
            ("traceparent", "00-zz-zz-01"),
            ("x-chat-id", "7"),
            ("grpc-timeout-x", "1S"),
            ("empty", ""),
            ("large", "x" * 5000),
        ]
        return (*given, *chance.sample(odd, chance.choice([0, 0, 1, 2])))


def mutated(content: bytes, chance: random.Random) -> bytes:
    """With bytes changed, left out, put in, repeated, or without its end."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(6)
        if how == 0:
            data[at : at + 1] = chance.randbytes(1)
        elif how == 1:
            del data[at : at + chance.choice([1, 2, 10])]
        elif how == 2:
            data[at:at] = chance.randbytes(chance.choice([1, 2, 10]))
        elif how == 3:
            data[at:at] = data[max(0, at - 20) : at]
        elif how == 4:
            del data[at:]
        elif data:
            at = chance.randrange(len(data))
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


@pytest.mark.timeout(3600)
def test_any_bytes_to_any_method_have_an_answer_and_leave_nothing_behind(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        sender = Sender(channel, server.token, seed=1)
        for _ in range(WARMING_UP):
            sender.call()
        before = server.memory()
        for _ in range(CALLS):
            sender.call()
        grown = server.memory() - before
    assert sender.codes.keys() >= {
        "OK",
        "INTERNAL",
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
        "NOT_FOUND",
    }
    assert sender.codes["OK"] > CALLS / 20
    server.still_answers()
    assert grown < MOST_GROWTH


GET = "/activities.v1.ActivityService/ActivityGet"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OFTEN = 20_000 if LONG else 1_000
MOST_GROWTH_OF_A_KIND = 8 << 20


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("path", "contents"),
    [
        (GET, [b"\xff"]),
        (GET, []),
        (GET, [b"", b""]),
        (GET, [b"\xff", b"\xff"]),
        (REFLECTION, [b"\xff"]),
        (REFLECTION, [b"\x3a\x00", b"\xff", b"\x3a\x00"]),
        ("/x", [b"\xff"]),
    ],
)
def test_nothing_is_left_of_a_call_that_goes_wrong(server: Server, path: str, contents: list[bytes]) -> None:
    """Nobody needs a token for it."""
    with grpc.insecure_channel(server.target) as channel:
        ask: Any = channel.stream_stream(path, None, None)

        def often() -> None:
            for _ in range(OFTEN):
                with suppress(grpc.RpcError):
                    list(ask(iter(contents), timeout=SECONDS))

        often()
        before = server.memory()
        often()
        grown = server.memory() - before
    server.still_answers()
    assert grown < MOST_GROWTH_OF_A_KIND


def test_names_that_are_watched_are_not_kept(server: Server) -> None:
    """Anybody may watch any name; nobody needs a token for it."""
    size, count = 500_000, 2_000 if LONG else 200
    with grpc.insecure_channel(server.target) as channel:
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch", None, None)

        def come_and_go(number: int) -> None:
            asked = health_pb2.HealthCheckRequest(service=f"{number:0{size}}")
            call = watch(asked.SerializeToString(), timeout=SECONDS)
            with suppress(grpc.RpcError):
                next(call)
            call.cancel()

        for number in range(20):
            come_and_go(number)
        before = server.memory()
        for number in range(20, count):
            come_and_go(number)
        assert server.memory() - before < MOST_GROWTH
    server.still_answers()


# -------------------------------------------------------------------------------------------- HTTP


def requests(token: str) -> list[bytes]:
    """Good ones, to be spoilt."""
    body = b'{"name": "pill", "begin_date": "2026-07-20", "end_date": "2026-07-30", "times_per_day": 1}'
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {SERVICE}\r\nX-Chat-Id: 2\r\n".encode()
    sent = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:])) + b"0\r\n\r\n"
    cookie = f"Host: 127.0.0.1\r\nCookie: activities_token={token}; csrftoken={'p' * 32}\r\n".encode()
    form = b"token=" + token.encode()
    path = url_of("a/b").encode()
    return [
        *(
            b"GET %s HTTP/1.1\r\n%s\r\n" % (url, head)
            for url in (b"/api/v1/activities/?limit=2&order=name", path, b"/")
        ),
        *(b"GET %s HTTP/1.1\r\n%s\r\n" % (url, head) for url in (b"/api/v1/stream/", b"/api/v1/chat/", b"/readyz")),
        *(b"GET %s HTTP/1.0\r\n%s\r\n" % (url, cookie) for url in (b"/api/v1/today/", b"/api/docs/", b"/api/schema/")),
        b"POST /api/v1/activities/ HTTP/1.1\r\n" + head + sent,
        b"PUT " + path + b" HTTP/1.1\r\n" + head + sent,
        b"PATCH /api/v1/chat/ HTTP/1.1\r\n" + head + sent,
        b"POST /api/v1/activities/ HTTP/1.1\r\n"
        + head
        + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks,
        b"POST /api/login/ HTTP/1.1\r\n"
        + cookie
        + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(form), form),
        b"POST /api/v1/activities/ HTTP/1.1\r\n"
        + head
        + b'Content-Type: multipart/form-data; boundary="b"\r\nContent-Length: 62\r\n\r\n'
        + b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\npill\r\n--b--',
    ]


ODDITIES = (
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: x\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(b"Content-Length: 1e3\r\n", b"Content-Length: 5, 6\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
    *(
        b"Host: [::\r\n",
        b"Host: \xff\r\n",
        b"Host:\r\n",
        b"X-Chat-Id: 9\r\n",
        b"X_Chat_Id: 9\r\n",
        b"X-Request-Id: \xe9\r\n",
    ),
    *(
        b"Accept: */*;q=x\r\n",
        b"Accept: text/html\r\n",
        b"Accept: application/json; version=9\r\n",
        b"Accept: ;;,,/\r\n",
    ),
    *(b"Content-Type: multipart/form-data; boundary=\r\n", b"Content-Type: application/json; charset=utf-7\r\n"),
    *(
        b"Content-Type: \xff/\xff\r\n",
        b"Cookie: activities_token=\xff; ;=;\r\n",
        b"Cookie: " + b"a=b; " * 2000 + b"\r\n",
    ),
    *(b"Accept-Language: " + b"x-" * 900 + b"\r\n", b"Range: bytes=0-0\r\n", b"If-Modified-Since: x\r\n", b": x\r\n"),
    *(
        b"Authorization: Bearer \xff\xfe\r\n",
        b"Authorization: \r\n",
        b"Origin: null\r\n",
        b"Referer: http://[\r\n",
        b" x\r\n",
    ),
)
"""Lines of a head."""


def spoilt(request: bytes, chance: random.Random) -> bytes:
    how = chance.randrange(4)
    if how == 0:
        return mutated(request, chance)
    line, _, rest = request.partition(b"\r\n")
    if how == 1:
        return line + b"\r\n" + b"".join(chance.sample(ODDITIES, chance.choice([1, 1, 2]))) + rest
    if how == 2:
        method, _, target = line.partition(b" ")
        odd = [
            b"%00",
            b"%ff",
            b"%",
            b"%zz",
            b"..//",
            b"?",
            b"#",
            b"\xd0\xb0",
            b";",
            b"*",
            b"http://x/",
            b"&a=%80",
            b"[",
            b"%2F",
        ]
        place = chance.randrange(len(target) - 8)
        line = method + b" " + target[:place] + chance.choice(odd) + target[place:]
        return line + b"\r\n" + rest
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + mutated(body, chance)


def statuses_of(server: Server, sent: bytes) -> list[int]:
    """Of what comes back until either side is done."""
    address, received = urlsplit(server.url), b""
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection, suppress(OSError):
        connection.sendall(sent)
        # One more, which ends the connection: whatever was sent before, this or an error is the last answer.
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        connection.settimeout(0.1)  # a head or a body may lack its end: the server waits for it longer than we do
        while chunk := connection.recv(1 << 16):
            received += chunk
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3}) ", received, re.MULTILINE)]


@pytest.mark.timeout(3600)
def test_any_bytes_over_http_have_an_answer_that_is_no_failure(server: Server) -> None:
    chance, good = random.Random(2), requests(server.token)
    statuses: Counter[int] = Counter()
    for request in good:
        statuses.update(statuses_of(server, request))
    assert max(statuses) < 500
    before = server.memory()
    for _ in range(REQUESTS):
        sent = spoilt(chance.choice(good), chance)
        found = statuses_of(server, sent)
        assert not [status for status in found if status >= 500], (sent, found)
        statuses.update(found)
    grown = server.memory() - before
    assert statuses.keys() >= {200, 400, 401, 404}
    server.still_answers()
    assert grown < MOST_GROWTH
