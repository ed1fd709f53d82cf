"""The gRPC server over a real channel: what the conformance suite cannot see through the port."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from activities.container import Container, on_repository
from activities.domain import Activity, Create, Order, StorageTimeout, StorageUnavailable
from activities.ports import MAX_REQUEST_BYTES, Call
from activities.repositories.memory import MemoryRepository
from activities.service import STREAM_BATCH
from grpc_server.server import MOST_CONVERSATIONS, THREADS, GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2_grpc
from proto.activities.v1 import chats_pb2 as chats_pb

SECONDS = 30  # what a test waits at most for anything


class Client:
    """Stubs on one channel, with the token of a chat."""

    def __init__(self, port: int, token: str) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.activities = activities_pb2_grpc.ActivityServiceStub(self.channel)
        self.chats = chats_pb2_grpc.ChatServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {token}"),)

    def call(self, method: Callable[..., Any], request: Message, *metadata: tuple[str, str], **options: Any) -> Any:
        return method(request, metadata=(*self.metadata, *metadata), **{"timeout": SECONDS, **options})


@contextmanager
def serving(repository: Any) -> Iterator[tuple[Client, GrpcServer, Container]]:
    container = on_repository(repository)
    server = GrpcServer(container, "127.0.0.1:0")
    server.start()
    client = Client(server.port, container.access.issue(1))
    try:
        yield client, server, container
    finally:
        client.channel.close()
        server.stop(0)
        container.close()


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(MemoryRepository()) as (client, _, _):
        yield client


def creation(name: str = "vitamin C", **changes: Any) -> pb.ActivityCreateRequest:
    fields = {"begin_date": "2026-07-20", "end_date": "2026-07-30", "times_per_day": 2, "quantity_per_time": 0.5}
    return pb.ActivityCreateRequest(name=name, **{**fields, **changes})


def refusal(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def detail(error: grpc.RpcError, kind: type[Message]) -> Any:
    """The error's only detail of that kind."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    found = [each for each in status.details if each.Is(kind.DESCRIPTOR)]
    assert len(found) == 1
    message = kind()
    found[0].Unpack(message)
    return message


def fields_of(error: grpc.RpcError) -> list[str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return [each.field for each in detail(error, error_details_pb2.BadRequest).field_violations]


class Hanging(MemoryRepository):
    """A store whose `get` hangs until it is let go or its deadline is there, and counts who is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.most_inside = 0
        self._count = threading.Lock()

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        with self._count:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        self.entered.release()
        try:
            if not self.let_go.wait(call.deadline - time.monotonic()):
                raise StorageTimeout
            return super().get(chat_id, name=name, call=call)
        finally:
            with self._count:
                self.inside -= 1


def test_eleven_accesses_of_which_ten_hang() -> None:
    hanging = Hanging()
    with serving(hanging) as (client, _, _), ThreadPoolExecutor(11) as threads:

        def ask() -> tuple[grpc.RpcError, float]:
            began = time.monotonic()
            error = refusal(lambda: client.call(client.activities.ActivityGet, pb.ActivityGetRequest(name="pill")))
            return error, time.monotonic() - began

        first_ten = [threads.submit(ask) for _ in range(10)]
        for _ in range(10):
            assert hanging.entered.acquire(timeout=SECONDS)
        eleventh = threads.submit(ask)

        timeouts = [each.result() for each in first_ten]
        busy, waited = eleventh.result()
        assert [detail(error, error_details_pb2.ErrorInfo).reason for error, _ in timeouts] == ["StorageTimeout"] * 10
        assert {error.code() for error, _ in timeouts} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert detail(busy, error_details_pb2.ErrorInfo).reason == "StorageBusy"
        assert busy.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(busy, error_details_pb2.RetryInfo).retry_delay.seconds == 1
        for seconds in (waited, *(each for _, each in timeouts)):
            assert 1.7 <= seconds < 3

        hanging.let_go.set()
        answer = refusal(lambda: client.call(client.activities.ActivityGet, pb.ActivityGetRequest(name="pill")))
        assert answer.code() is grpc.StatusCode.NOT_FOUND
        assert hanging.most_inside == 10


def test_the_callers_own_deadline_reaches_the_storage() -> None:
    hanging = Hanging()
    with serving(hanging) as (client, _, _):
        error = refusal(
            lambda: client.call(client.activities.ActivityGet, pb.ActivityGetRequest(name="pill"), timeout=0.5)
        )
        hanging.let_go.set()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # It is our answer, sent before the caller gave up by itself.
    assert detail(error, error_details_pb2.ErrorInfo).reason == "StorageTimeout"


def test_a_call_that_is_cancelled_while_it_waits_never_enters_the_storage() -> None:
    hanging = Hanging()
    with serving(hanging) as (client, _, container):
        request = pb.ActivityGetRequest(name="pill")
        calls = [
            client.activities.ActivityGet.future(request, metadata=client.metadata, timeout=SECONDS) for _ in range(10)
        ]
        for _ in range(10):
            assert hanging.entered.acquire(timeout=SECONDS)
        waiting = client.activities.ActivityGet.future(request, metadata=client.metadata, timeout=SECONDS)
        waiting.cancel()
        hanging.let_go.set()
        for call in calls:
            assert call.code() is grpc.StatusCode.NOT_FOUND
        container.close()  # whatever was let in has ended now
        assert not hanging.entered.acquire(blocking=False)


class Counting(MemoryRepository):
    """A store that counts the batches of its streams."""

    def __init__(self) -> None:
        super().__init__(max_activities=100_000)
        self.batches = 0

    def fill(self, count: int) -> None:
        begin, end = date(2026, 1, 1), date(2026, 12, 31)
        wishes = [
            Create(chat_id=1, activity=Activity(f"activity {number:05}", begin, end, 1, Decimal(1)))
            for number in range(count)
        ]
        self.apply(wishes, now=datetime.now(UTC), call=Call())

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        self.batches += 1
        return super().batch(chat_id, order=order, after=after, size=size, call=call)


def test_a_stream_arrives_while_it_is_read_and_stops_when_it_is_cancelled() -> None:
    counting = Counting()
    counting.fill(50_000)
    with serving(counting) as (client, server, _):
        stream = client.call(client.activities.ActivityListStream, pb.ActivityListStreamRequest(order="name"))
        assert next(stream).name == "activity 00000"
        stream.cancel()
        server.stop(SECONDS)  # returns when the handler has ended
        # What the transport had room for was read, the rest of the 250 batches was not.
        assert counting.batches < 50_000 / STREAM_BATCH / 2


def test_streams_leave_threads_for_other_calls(settings: Any) -> None:
    settings.ACTIVITIES_MAX_STREAMS = 2
    counting = Counting()
    counting.fill(50_000)
    with serving(counting) as (client, _, _):
        request = pb.ActivityListStreamRequest()
        open_streams = [client.call(client.activities.ActivityListStream, request) for _ in range(2)]
        for stream in open_streams:
            next(stream)
        error = refusal(lambda: next(client.call(client.activities.ActivityListStream, request)))
        assert detail(error, error_details_pb2.ErrorInfo).reason == "StorageBusy"
        assert client.call(client.activities.ActivityList, pb.ActivityListRequest(limit=1)).total == 50_000
        open_streams[0].cancel()
        freed = until(lambda: first_of(client.call(client.activities.ActivityListStream, request)))
        assert freed.name


def test_conversations_leave_threads_for_calls(client: Client) -> None:
    over = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        over.wait(SECONDS)

    ask = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo
    try:
        conversations = [ask(questions()) for _ in range(THREADS)]
        answered = [conversation for conversation in conversations if first_of(conversation)]
        assert len(answered) == MOST_CONVERSATIONS
        assert client.call(client.chats.ChatGet, chats_pb.ChatGetRequest()).timezone == "UTC"
        refused = next(each for each in conversations if each not in answered)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(refused, error_details_pb2.ErrorInfo).reason == "StorageBusy"
        answered[0].cancel()
        assert until(lambda: first_of(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))))
    finally:
        over.set()
        for conversation in conversations:
            conversation.cancel()


def first_of(stream: Any) -> Any:
    try:
        return next(stream)
    except grpc.RpcError:
        return None


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` returns as soon as it is true; asks again and again, without a pause, for a bounded time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
    raise AssertionError("it did not come true")


def test_every_broken_rule_is_named_at_once(client: Client) -> None:
    request = pb.ActivityCreateRequest(chat_id=0, name=" ", begin_date="31.04.2026", end_date="2026-02-30")
    error = refusal(lambda: client.call(client.activities.ActivityCreate, request, ("x-request-id", "seven")))
    assert fields_of(error) == [
        "x-request-id",
        "name",
        "begin_date",
        "end_date",
        "times_per_day",
        "quantity_per_time",
    ]
    assert detail(error, error_details_pb2.ErrorInfo).domain == "activities"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"times_per_day": 0}, "times_per_day"),
        ({"times_per_day": 101}, "times_per_day"),
        ({"quantity_per_time": 0}, "quantity_per_time"),
        ({"quantity_per_time": -1}, "quantity_per_time"),
        ({"quantity_per_time": float("nan")}, "quantity_per_time"),
        ({"quantity_per_time": float("inf")}, "quantity_per_time"),
        ({"quantity_per_time": 0.0005}, "quantity_per_time"),
        ({"quantity_per_time": 1000000.001}, "quantity_per_time"),
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "x" * 100_000}, "name"),
        ({"begin_date": ""}, "begin_date"),
        ({"begin_date": "2025-02-29"}, "begin_date"),
        ({"end_date": "2026-04-31"}, "end_date"),
        ({"end_date": "💊" * 50_000}, "end_date"),
        ({"end_date": "2026-07-19"}, "end_date"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_nothing_is_stored(
    client: Client, changes: dict[str, Any], field: str
) -> None:
    error = refusal(lambda: client.call(client.activities.ActivityCreate, creation(**changes)))
    assert fields_of(error) == [field]
    assert client.call(client.activities.ActivityList, pb.ActivityListRequest()).total == 0


def test_a_request_that_is_too_large_is_refused_by_its_size(client: Client) -> None:
    request = creation(name="x" * 10_000_000)
    error = refusal(lambda: client.call(client.activities.ActivityCreate, request))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(MAX_REQUEST_BYTES) in str(error.details())


def test_an_empty_request_id_is_none_that_is_good(client: Client) -> None:
    error = refusal(lambda: client.call(client.activities.ActivityCreate, creation(), ("x-request-id", "")))
    assert fields_of(error) == ["x-request-id"]


def test_an_unset_optional_field_is_kept_and_a_set_one_is_checked(client: Client) -> None:
    client.call(client.activities.ActivityCreate, creation())
    update = client.activities.ActivityUpdate
    changed = client.call(update, pb.ActivityUpdateRequest(name="VITAMIN C", times_per_day=3))
    assert changed == pb.Activity(
        name="vitamin C", begin_date="2026-07-20", end_date="2026-07-30", times_per_day=3, quantity_per_time=0.5
    )
    error = refusal(lambda: client.call(update, pb.ActivityUpdateRequest(name="vitamin C", times_per_day=0)))
    assert fields_of(error) == ["times_per_day"]
    assert client.call(update, pb.ActivityUpdateRequest(name="vitamin C")) == changed


@pytest.mark.parametrize(
    "rpc", ["ActivityCreate", "ActivityGet", "ActivityList", "ActivityToday", "ActivityUpdate", "ActivityDelete"]
)
def test_without_a_token_there_is_no_answer(client: Client, rpc: str) -> None:
    request = getattr(pb, f"{rpc}Request")()
    error = refusal(lambda: getattr(client.activities, rpc)(request, timeout=SECONDS))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert detail(error, error_details_pb2.ErrorInfo).reason == "NotAuthenticated"


def test_a_chats_token_opens_no_other_chat(client: Client) -> None:
    error = refusal(lambda: client.call(client.activities.ActivityList, pb.ActivityListRequest(chat_id=2)))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert client.call(client.activities.ActivityList, pb.ActivityListRequest(chat_id=1)).total == 0


def test_a_service_must_name_the_chat_and_a_reading_one_cannot_write(client: Client) -> None:
    full = (("authorization", "Bearer service-secret-0123456789abcdefghij"),)
    reading = (("authorization", "Bearer reading-secret-0123456789abcdefghij"),)
    stub = client.activities
    assert fields_of(refusal(lambda: stub.ActivityList(pb.ActivityListRequest(), metadata=full))) == ["chat_id"]
    assert stub.ActivityCreate(creation(chat_id=7), metadata=full).name == "vitamin C"
    assert stub.ActivityList(pb.ActivityListRequest(chat_id=7), metadata=reading).total == 1
    error = refusal(
        lambda: stub.ActivityDelete(pb.ActivityDeleteRequest(chat_id=7, name="vitamin C"), metadata=reading)
    )
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_is_not_there_says_so(client: Client) -> None:
    raw = client.channel.unary_unary("/activities.v1.ChatService/ChatMerge", bytes, bytes)
    error = refusal(lambda: raw(b"", metadata=client.metadata, timeout=SECONDS))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_do_not_parse_are_refused_and_the_next_call_is_served(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    raw = client.channel.unary_unary("/activities.v1.ActivityService/ActivityGet", bytes, bytes)
    error = refusal(lambda: raw(b"\xff\xff\xff", metadata=client.metadata, timeout=SECONDS))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [(logging.INFO, None)]
    assert client.call(client.chats.ChatGet, chats_pb.ChatGetRequest()).timezone == "UTC"


class Failing(MemoryRepository):
    """A store with a bug."""

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        raise RuntimeError("SELECT secret FROM wherever")

    def ping(self, *, call: Call) -> None:
        raise StorageUnavailable


def test_what_is_unexpected_is_logged_and_tells_the_caller_only_a_reference(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Failing()) as (client, _, _):
        error = refusal(lambda: client.call(client.activities.ActivityGet, pb.ActivityGetRequest(name="pill")))
    assert error.code() is grpc.StatusCode.INTERNAL
    reference = detail(error, error_details_pb2.RequestInfo).request_id
    assert error.details() == f"internal error, request id {reference}"
    assert any(reference in record.message and record.exc_info for record in caplog.records)


def test_health_and_reflection_answer(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "activities.v1.ActivityService", "activities.v1.ChatService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection.ServerReflectionInfo(iter([question]), timeout=SECONDS)
    names = {each.name for each in answer.list_services_response.service}
    assert {"activities.v1.ActivityService", "activities.v1.ChatService", "grpc.health.v1.Health"} <= names


def test_a_stopping_server_finishes_what_it_has_and_takes_nothing_new() -> None:
    hanging = Hanging()
    with serving(hanging) as (client, server, _):
        under_way = client.activities.ActivityGet.future(
            pb.ActivityGetRequest(name="pill"), metadata=client.metadata, timeout=SECONDS
        )
        assert hanging.entered.acquire(timeout=SECONDS)
        stopping = threading.Thread(target=server.stop, args=(SECONDS,))
        stopping.start()
        refused = until(lambda: code_of_new_call(client) is grpc.StatusCode.UNAVAILABLE)
        hanging.let_go.set()
        assert refused
        assert under_way.code() is grpc.StatusCode.NOT_FOUND
        stopping.join()


def code_of_new_call(client: Client) -> grpc.StatusCode:
    try:
        client.call(client.chats.ChatGet, chats_pb.ChatGetRequest())
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_port_that_is_taken_is_not_shared(client: Client) -> None:
    with serving(MemoryRepository()) as (_, server, container), pytest.raises(OSError, match="in use"):
        GrpcServer(container, f"127.0.0.1:{server.port}")
