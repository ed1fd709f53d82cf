"""The interface service's end of the channel, and data services that are not well or of another release."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2, error_details_pb2, status_pb2

from activities.container import on_repository, on_service
from activities.domain import (
    LATEST_END_FIRST,
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Chat,
    ChatChanges,
    Create,
    InvalidActivity,
    OutcomePending,
    Page,
    RateLimited,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
    Violation,
)
from activities.ports import Call, Cancelled
from activities.repositories.memory import MemoryRepository
from activities.wire import activity_message, chat_message, list_message, status_of
from activities_project.http import HttpServer
from grpc_server.client import Remote
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc
from tests.examples import activity
from tests.faults.services import eventually
from tests.transports.data_services import TOKEN, fails, in_turn, refused, remote_of, says, scripted
from tests.transports.served import bearer

SECONDS = 30.0
PILL = activity("pill")
ONE = activity_message(PILL).SerializeToString()
UNAVAILABLE = fails(grpc.StatusCode.UNAVAILABLE)
STOPPING = fails(grpc.StatusCode.CANCELLED)

UNKNOWN_FIELD = bytes.fromhex("c2 3e 05") + b"later"
"""Field 1000, text: of a release that is still to come."""


AS_SERVICE = (("authorization", f"Bearer {TOKEN}"),)


def get(remote: Remote) -> Activity:
    return remote.activities.get(1, name="pill", call=Call())


def stream(remote: Remote) -> Iterator[Activity]:
    return remote.activities.stream(1, order=LATEST_END_FIRST, call=Call())


# ------------------------------------------------------------------------------------- again or not

CHAT = chat_message(Chat(1)).SerializeToString()
REPEATED: list[tuple[str, bytes, Callable[[Remote], object]]] = [
    ("ActivityGet", ONE, get),
    ("ActivityList", b"", lambda remote: remote.activities.list(1, page=Page(), call=Call())),
    ("ActivityToday", b"", lambda remote: remote.activities.today(1, page=Page(), call=Call())),
    ("ActivityCreate", ONE, lambda remote: remote.activities.create(1, activity=PILL, call=Call())),
    (
        "ActivityUpdate",
        ONE,
        lambda remote: remote.activities.update(1, name="pill", changes=ActivityChanges(), call=Call()),
    ),
    ("ActivityDelete", b"", lambda remote: remote.activities.delete(1, name="pill", call=Call())),
    ("ChatGet", CHAT, lambda remote: remote.chats.get(1, call=Call())),
    ("ChatUpdate", CHAT, lambda remote: remote.chats.update(1, changes=ChatChanges(), call=Call())),
    ("ChatRevokeTokens", CHAT, lambda remote: remote.chats.revoke_tokens(1, call=Call())),
    ("ChatForget", b"", lambda remote: remote.chats.forget(1, call=Call())),
    ("ChatMove", CHAT, lambda remote: remote.chats.move(1, to_chat_id=2, call=Call())),
]
WRITES = ("ActivityCreate", "ActivityUpdate", "ActivityDelete")


@pytest.mark.parametrize(("rpc", "data", "ask"), REPEATED, ids=[rpc for rpc, _, _ in REPEATED])
def test_what_a_lost_data_service_did_not_answer_is_asked_again_and_writes_under_one_request_id(rpc, data, ask):
    with scripted(**{rpc: in_turn(UNAVAILABLE, STOPPING, says(data))}) as (far, port), remote_of(port) as remote:
        ask(remote)
    assert [each.rpc for each in far.asked] == [rpc] * 3
    assert len({each.request for each in far.asked}) == 1
    ids = {each.metadata.get("x-request-id") for each in far.asked}
    assert len(ids) == 1
    given = ids.pop()
    assert (given is not None) == (rpc in WRITES)
    assert given is None or UUID(str(given)).version == 4


def test_two_writes_without_a_request_id_are_two_and_a_callers_own_id_is_kept():
    own = uuid4()
    with scripted(ActivityCreate=says(ONE)) as (far, port), remote_of(port) as remote:
        for request_id in (None, None, own):
            remote.activities.create(1, activity=PILL, call=Call(request_id=request_id))
    first, second, third = [each.metadata["x-request-id"] for each in far.asked]
    assert first != second
    assert third == str(own)


def test_a_stream_begins_anew_before_its_first_message_and_never_after_it():
    def breaks_off(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ONE
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    answers = in_turn(UNAVAILABLE, breaks_off)
    with scripted(ActivityListStream=answers) as (far, port), remote_of(port) as remote:
        reading = stream(remote)
        assert next(reading) == PILL
        with pytest.raises(StorageUnavailable):
            next(reading)
    assert len(far.asked) == 2


def test_an_answer_is_an_answer_also_when_the_store_behind_it_is_away():
    class Away(MemoryRepository):
        asked = 0

        def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
            self.asked += 1
            raise StorageUnavailable

    store = Away()
    with in_a_row(store) as remote, pytest.raises(StorageUnavailable):
        get(remote)
    assert store.asked == 1  # and not five times five


def test_when_nothing_but_failures_comes_it_is_asked_no_more_than_the_callers_ask():
    with scripted(ActivityGet=UNAVAILABLE) as (far, port), remote_of(port) as remote:
        threads = [threading.Thread(target=pytest.raises, args=(StorageUnavailable, get, remote)) for _ in range(150)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        asked = len(far.asked)
        with pytest.raises(StorageUnavailable):
            get(remote)
        assert len(far.asked) == asked + 1


# ------------------------------------------------------------------------------ away, and not answering


class Silent:
    """A port where somebody takes connections and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        try:
            while True:
                self._taken.append(self._listener.accept()[0])
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._taken:
            each.close()


def test_a_data_service_that_is_not_there_is_told_so_before_the_limit_and_used_when_it_comes():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with remote_of(port, limit=SECONDS) as remote:
        began = time.monotonic()
        for ask in (get, lambda remote: list(stream(remote)), lambda remote: remote.ready(Call())):
            with pytest.raises(StorageUnavailable):
                ask(remote)
        assert time.monotonic() - began < SECONDS
        with scripted(port, ActivityGet=says(ONE)):
            eventually(lambda: answered(remote))


def answered(remote: Remote) -> bool:
    try:
        return get(remote) == PILL
    except StorageUnavailable:
        return False


def test_a_data_service_that_takes_connections_and_never_answers_is_late_and_its_successor_is_used():
    silent = Silent()
    with remote_of(silent.port, limit=0.5) as remote:
        for ask in (get, lambda remote: list(stream(remote)), lambda remote: remote.chats.get(1, call=Call()), get):
            with pytest.raises(StorageTimeout):
                ask(remote)
        silent.close()
        with scripted(silent.port, ActivityGet=says(ONE)):
            eventually(lambda: late_or_answered(remote))


def late_or_answered(remote: Remote) -> bool:
    try:
        return answered(remote)
    except StorageTimeout:
        return False


def test_beside_one_that_never_answers_the_other_answers_everything():
    with (
        closing(Silent()) as silent,
        scripted(ActivityGet=says(ONE)) as (far, port),
        remote_of(silent.port, port, limit=SECONDS) as remote,
    ):
        assert [get(remote) for _ in range(20)] == [PILL] * 20
    assert len(far.asked) == 20


def test_two_data_services_share_the_calls():
    with (
        scripted(ActivityGet=says(ONE)) as (first, one),
        scripted(ActivityGet=says(ONE)) as (second, other),
        remote_of(one, other, limit=SECONDS) as remote,
    ):
        eventually(lambda: get(remote) == PILL and bool(first.asked) and bool(second.asked))
        before = len(first.asked), len(second.asked)
        for _ in range(20):
            get(remote)
    assert (len(first.asked) - before[0], len(second.asked) - before[1]) == (10, 10)


def test_a_stream_that_stands_still_ends_at_the_limit_however_slow_its_reader_was():
    goes_on = threading.Event()

    def stands_still(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ONE
        yield ONE
        goes_on.wait(SECONDS)

    limit = 0.5
    with scripted(ActivityListStream=stands_still) as (_, port), remote_of(port, limit=limit) as remote:
        reading = stream(remote)
        next(reading)
        threading.Event().wait(2 * limit)  # the reader's own time is nobody's fault
        assert next(reading) == PILL
        with pytest.raises(StorageTimeout):
            next(reading)
        goes_on.set()


# -------------------------------------------------------------------------------------------- errors


def status(code: int, reason: str, message: str = "as only they know", domain: str = "activities") -> status_pb2.Status:
    made = status_pb2.Status(code=code, message=message)
    made.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    return made


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (status_of(OutcomePending(request_id="x")), OutcomePending(request_id="x")),
        (status_of(RateLimited(retry_after="7")), StorageBusy(retry_after="7")),  # we are noisy, not who asked us
        (status(code_pb2.NOT_FOUND, "ChatNotFound"), ActivityNotFound(message="as only they know")),
        (status(code_pb2.ALREADY_EXISTS, "Twin"), ActivityExists(message="as only they know")),
        (status(code_pb2.FAILED_PRECONDITION, "Full"), TooManyActivities(message="as only they know")),
        (status(code_pb2.RESOURCE_EXHAUSTED, "Tired"), StorageBusy(message="as only they know")),
        (status(code_pb2.DEADLINE_EXCEEDED, "Late"), StorageTimeout(message="as only they know")),
        (
            status(code_pb2.INVALID_ARGUMENT, "Strange"),
            InvalidActivity([Violation("request", "other", {"message": "as only they know"})]),
        ),
        (status(code_pb2.UNAUTHENTICATED, "TokenTooOld"), StorageUnavailable()),  # ours, not the caller's
        (status(code_pb2.PERMISSION_DENIED, "NotHere"), StorageUnavailable()),
        (status(code_pb2.RESOURCE_EXHAUSTED, "quota", domain="between.example"), StorageBusy()),
    ],
    ids=lambda value: "" if isinstance(value, status_pb2.Status) else type(value).__name__,
)
def test_an_error_is_passed_on_and_a_newer_ones_nearest_with_its_message(told, error):
    with (
        scripted(ActivityGet=refused(told)) as (far, port),
        remote_of(port) as remote,
        pytest.raises(ActivitiesError) as raised,
    ):
        get(remote)
    assert raised.value == error
    assert error.details.get("message", "") in str(raised.value)
    assert len(far.asked) == 1


def test_an_error_whose_details_cannot_be_read_is_known_by_its_code():
    def garbage(_request: bytes, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")

    with scripted(ActivityGet=garbage) as (_, port), remote_of(port) as remote, pytest.raises(StorageBusy):
        get(remote)


# --------------------------------------------------------------------------------- one release apart


def test_fields_of_a_newer_data_service_are_passed_over():
    page = list_message(ActivityPage((PILL,), 1)).SerializeToString()
    answers = {"ActivityGet": says(ONE + UNKNOWN_FIELD), "ActivityList": says(page + UNKNOWN_FIELD)}
    answers |= {
        "ChatGet": says(chat_message(Chat(1, language="de", timezone="UTC")).SerializeToString() + UNKNOWN_FIELD)
    }
    answers |= {"ActivityDelete": says(Empty().SerializeToString() + UNKNOWN_FIELD)}
    with scripted(**answers) as (_, port), remote_of(port) as remote:
        assert get(remote) == PILL
        assert remote.activities.list(1, page=Page(), call=Call()) == ActivityPage((PILL,), 1)
        assert remote.chats.get(1, call=Call()).language == "de"
        remote.activities.delete(1, name="pill", call=Call())


def test_a_total_that_an_older_data_service_does_not_tell_is_none():
    page = pb.ActivityListResponse(activities=[activity_message(PILL)] * 2).SerializeToString()
    with scripted(ActivityList=says(page)) as (_, port), remote_of(port) as remote:
        assert remote.activities.list(1, page=Page(), call=Call()) == ActivityPage((PILL, PILL), 0)


def test_an_answer_that_is_no_activity_is_nobodys_wrong_request():
    backwards = pb.Activity(name="pill", begin_date="2026-07-20", end_date="2026-07-19", quantity_per_time=1)
    for data in (b"", backwards.SerializeToString()):
        with scripted(ActivityGet=says(data)) as (_, port), interface_on(port) as channel:
            stub = activities_pb2_grpc.ActivityServiceStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                stub.ActivityGet(pb.ActivityGetRequest(chat_id=1, name="pill"), metadata=AS_SERVICE, timeout=SECONDS)
            assert raised.value.code() is grpc.StatusCode.INTERNAL


def test_a_data_service_without_a_method_of_ours_is_an_error_of_ours():
    with scripted() as (_, port), interface_on(port) as channel:
        stub = activities_pb2_grpc.ActivityServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ActivityToday(pb.ActivityTodayRequest(chat_id=1), metadata=AS_SERVICE, timeout=SECONDS)
        assert raised.value.code() is grpc.StatusCode.INTERNAL


def test_fields_of_a_newer_interface_service_are_passed_over():
    with served(MemoryRepository()) as data, grpc.insecure_channel(f"127.0.0.1:{data.port}") as channel:
        request = pb.ActivityCreateRequest(chat_id=1, name="pill", begin_date="2026-07-20", end_date="2026-07-30")
        request.times_per_day, request.quantity_per_time = 2, 0.5
        create = channel.unary_unary("/activities.v1.ActivityService/ActivityCreate", bytes, bytes)
        answer = create(request.SerializeToString() + UNKNOWN_FIELD, metadata=AS_SERVICE, timeout=SECONDS)
        assert pb.Activity.FromString(answer) == activity_message(PILL)


# ------------------------------------------------------------------------------------------- streams

MANY = 20_000


class Counting(MemoryRepository):
    """Counts what it gives to streams."""

    def __init__(self) -> None:
        super().__init__(max_activities=MANY)
        self.given = 0

    def batch(self, *args: Any, **options: Any) -> Any:
        batch = super().batch(*args, **options)
        self.given += len(batch)
        return batch


class Endless(MemoryRepository):
    """Has always more for a stream than any buffer on the way takes."""

    def batch(self, *args: Any, size: int, **options: Any) -> Any:
        return [PILL] * size


@contextmanager
def served(store: MemoryRepository) -> Iterator[GrpcServer]:
    """A data service on this store."""
    parts = on_repository(store)
    server = GrpcServer(parts, "127.0.0.1:0")
    server.start()
    try:
        yield server
    finally:
        server.stop(0)
        parts.close()


@contextmanager
def interface_on(port: int) -> Iterator[grpc.Channel]:
    """A channel to an interface service on the data service at this port; what comes waits where it was sent."""
    parts = on_service(target=f"127.0.0.1:{port}", token=TOKEN)
    server = GrpcServer(parts, "127.0.0.1:0")
    server.start()
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=small) as channel:
            yield channel
    finally:
        server.stop(0)
        parts.close()


@contextmanager
def in_a_row(store: MemoryRepository) -> Iterator[Remote]:
    """What an interface service has of an interface service on a data service on this store."""
    with served(store) as data, closing(on_service(target=f"127.0.0.1:{data.port}", token=TOKEN)) as parts:
        server = GrpcServer(parts, "127.0.0.1:0")
        server.start()
        try:
            with remote_of(server.port, limit=SECONDS) as remote:
                yield remote
        finally:
            server.stop(0)


def full() -> Counting:
    store = Counting()
    with closing(on_repository(store)) as parts:
        parts.activities.apply(
            [Create(chat_id=1, activity=activity(f"activity {number}")) for number in range(MANY)], call=Call()
        )
    return store


def test_whoever_reads_slowly_makes_the_data_service_wait():
    store = full()
    with served(store) as data, interface_on(data.port) as channel:
        reading = streamed(channel)
        for _ in range(10):
            next(reading)
        seen = -1
        while seen != store.given:
            seen = store.given
            threading.Event().wait(0.5)
        assert seen < MANY / 3
        assert len(list(reading)) == MANY - 10


def streamed(channel: grpc.Channel) -> Any:
    stub = activities_pb2_grpc.ActivityServiceStub(channel)
    return stub.ActivityListStream(pb.ActivityListStreamRequest(chat_id=1), metadata=AS_SERVICE, timeout=SECONDS)


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_a_reader_who_leaves_frees_the_place_at_the_data_service(over, settings):
    settings.ACTIVITIES_MAX_STREAMS = 1
    with served(Endless()) as data:
        settings.ACTIVITIES_MAX_STREAMS = 16
        with remote_of(data.port) as other, ExitStack() as leaving:
            if over == "grpc":
                reading = streamed(leaving.enter_context(interface_on(data.port)))
                next(reading)
                leave = reading.cancel
            else:
                client = leaving.enter_context(http_on(data.port))
                response = leaving.enter_context(client.stream("GET", "/api/v1/stream/"))
                reading = response.iter_lines()  # kept: dropping it would close the connection
                next(reading)
                leave = response.close
            with pytest.raises(StorageBusy):
                next(stream(other))
            leave()
            eventually(lambda: is_free(other))


def is_free(remote: Remote) -> bool:
    with closing(stream(remote)) as reading:  # type: ignore[type-var]
        try:
            next(reading)
        except StorageBusy:
            return False
        return True


@contextmanager
def http_on(port: int) -> Iterator[httpx.Client]:
    """A client of an interface service's HTTP on the data service at this port."""
    with closing(on_service(target=f"127.0.0.1:{port}", token=TOKEN)) as parts:
        server = HttpServer(parts, "127.0.0.1:0")
        server.start()
        headers = {**bearer(TOKEN), "x-chat-id": "1"}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=SECONDS) as client:
                yield client
        finally:
            server.stop()


def test_a_stream_whose_data_service_dies_is_no_short_list():
    def dies(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield ONE
        died.wait(SECONDS)
        context.abort(grpc.StatusCode.UNAVAILABLE, "as when the connection is lost")

    died = threading.Event()
    with scripted(ActivityListStream=dies) as (_, port), interface_on(port) as channel, http_on(port) as client:
        reading = streamed(channel)
        with client.stream("GET", "/api/v1/stream/") as response:
            read = response.iter_lines()
            assert next(reading).name == "pill"
            assert '"pill"' in next(read)
            died.set()
            with pytest.raises(grpc.RpcError) as raised:
                next(reading)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(httpx.RemoteProtocolError):
                next(read)


WAITS: list[Callable[[Remote, Call], object]] = [
    lambda remote, call: remote.activities.get(1, name="pill", call=call),
    lambda remote, call: next(remote.activities.stream(1, order=LATEST_END_FIRST, call=call)),
]


@pytest.mark.parametrize("ask", WAITS, ids=["get", "stream"])
def test_a_caller_who_leaves_ends_the_wait_for_a_data_service(ask):
    call = Call()
    with closing(Silent()) as silent, remote_of(silent.port, limit=SECONDS) as remote:
        began = time.monotonic()
        threading.Timer(0.1, call.cancellation.cancel).start()
        with pytest.raises(Cancelled):
            ask(remote, call)
        assert time.monotonic() - began < SECONDS / 2
