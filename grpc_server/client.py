"""The other end of the wire: the ports, kept by a data service that is reached over gRPC."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NoReturn, cast
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    NotAuthenticated,
    Order,
    Outcome,
    Page,
    PermissionDenied,
    RateLimited,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    Update,
)
from activities.ports import Activities, Call, Cancelled, Chats
from activities.tls import ClientTls
from activities.wire import (
    activity_from,
    chat_from,
    create_request,
    delete_request,
    error_of,
    page_from,
    update_request,
)
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2_grpc
from proto.activities.v1 import chats_pb2 as chats_pb

logger = logging.getLogger(__name__)

PING_SECONDS = 5
"""After so long a silence a data service is asked whether it is there. Servers have to bear that, calls or not."""
PONG_SECONDS = 2
"""How long it may take to say so; then its calls go to another one, and it is connected to anew."""
CONNECT_SECONDS = 20
"""What one try to connect may take, TLS and the first words of HTTP/2 included. Meanwhile calls wait, each until its
deadline: who cannot be reached is told from who does not answer."""
MOST_RECONNECT_SECONDS = 1
"""The longest pause between two tries; the first is a tenth of that."""
READ_AHEAD_BYTES = 64 << 10
"""How much of a stream may have come before its reader asks for it."""

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # All of it is safe to repeat: reads; writes of activities, each with a request id; those of chats, which do no more
    # when they come twice. Streams begin anew as long as no message has come. The pauses, 0.75 s together, bridge the
    # loss of one data service, or its quick restart; no deadline becomes longer by them.
    "methodConfig": [
        {
            "name": [
                {"service": "activities.v1.ActivityService"},
                {"service": "activities.v1.ChatService"},
                {"service": "grpc.health.v1.Health"},
            ],
            "retryPolicy": {
                "maxAttempts": 5,  # the most that gRPC makes
                "initialBackoff": "0.05s",
                "backoffMultiplier": 2,
                "maxBackoff": "1s",
                # A server that stops cancels what it has received and not begun.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    # The calls of all threads may fail at once when a data service dies. After half as many failures that no successes
    # have made good, nothing is repeated: nobody is kept waiting, and who comes back is not run over.
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 1},
}


class Remote:
    """One channel to the data services at `target`, shown our service `token`; `limit` seconds for each call.

    They may be away when it begins, and come and go. Calls go to those that are there in turn.
    """

    def __init__(self, *, target: str, token: str, limit: float = 2.0, tls: ClientTls | None = None) -> None:
        self._channel = _channel(target, tls)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        caller = _Caller(token, limit)
        self._caller = caller
        self.activities: Activities = RemoteActivities(self._channel, caller)
        self.chats: Chats = RemoteChats(self._channel, caller)

    def ready(self, call: Call) -> None:
        """Returns when a data service says that it serves."""
        answer = self._caller.ask(self._health.Check, health_pb2.HealthCheckRequest(), call)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise StorageUnavailable

    def close(self) -> None:
        self._channel.close()


def _channel(target: str, tls: ClientTls | None) -> grpc.Channel:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", PONG_SECONDS * 1000),
        ("grpc.http2.ping_timeout_ms", PONG_SECONDS * 1000),  # without it the former does nothing for a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),  # so gRPC calls it
        ("grpc.initial_reconnect_backoff_ms", MOST_RECONNECT_SECONDS * 100),
        ("grpc.max_reconnect_backoff_ms", MOST_RECONNECT_SECONDS * 1000),
        ("grpc.dns_min_time_between_resolutions_ms", MOST_RECONNECT_SECONDS * 1000),
        ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
        ("grpc.http2.bdp_probe", 0),  # it would make that megabytes
    ]
    if tls is None:
        return grpc.insecure_channel(target, options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    pems = tls.pems
    credentials = grpc.ssl_channel_credentials(pems.ca, pems.key or None, pems.chain or None)
    return grpc.secure_channel(target, credentials, options)


class _Caller:
    """Makes calls with our token, the caller's request id and what is left of its time."""

    def __init__(self, token: str, limit: float) -> None:
        self._authorization = ("authorization", f"Bearer {token}")
        self._limit = limit

    def ask(self, method: grpc.UnaryUnaryMultiCallable[Any, Any], request: object, call: Call) -> Any:
        """The answer to one call; raises the error that the far side raised."""
        deadline = min(call.asked_at + self._limit, call.deadline)
        future = method.future(request, timeout=max(0.0, deadline - time.monotonic()), metadata=self._metadata(call))
        call.cancellation.on_cancel(future.cancel)
        try:
            return future.result()
        except grpc.FutureCancelledError:
            raise Cancelled from None
        except grpc.RpcError as failed:
            _raise(failed)
        finally:
            call.cancellation.forget(future.cancel)

    def write(self, method: grpc.UnaryUnaryMultiCallable[Any, Any], request: object, call: Call) -> Any:
        """The same for what is done only once under its request id, and gets one when its caller has none: a method is
        repeated or it is not, whoever asks."""
        return self.ask(method, request, call if call.request_id else replace(call, request_id=uuid4()))

    def stream(self, method: grpc.UnaryStreamMultiCallable[Any, Any], request: object, call: Call) -> Generator[Any]:
        """The answers to one call as they come, each within the limit; the far side reads no further when the reader
        stops."""
        timeout = None if call.deadline == math.inf else max(0.0, call.deadline - time.monotonic())
        answers: Any = method(request, timeout=timeout, metadata=self._metadata(call))
        call.cancellation.on_cancel(answers.cancel)
        patience = _Patience(self._limit, since=call.asked_at, give_up=answers.cancel)
        try:
            for answer in answers:
                patience.pause()
                yield answer
                patience.resume()
        except grpc.RpcError as failed:
            if call.cancellation.happened:
                raise Cancelled from None
            if patience.is_over:
                raise StorageTimeout from None
            _raise(failed)
        finally:
            patience.close()
            answers.cancel()
            call.cancellation.forget(answers.cancel)

    def _metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        request_id = () if call.request_id is None else (("x-request-id", str(call.request_id)),)
        trace = (("traceparent", call.traceparent),) if call.traceparent else ()
        return (self._authorization, *request_id, *trace)


class _Patience:
    """Calls `give_up`, from a thread of its own, when a reader has waited `limit` seconds for what is next."""

    def __init__(self, limit: float, *, since: float, give_up: Callable[[], object]) -> None:
        self.is_over = False
        self._limit = limit
        self._until = since + limit
        self._give_up = give_up
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="grpc-patience", daemon=True).start()

    def pause(self) -> None:
        """The reader has something."""
        self._until = math.inf

    def resume(self) -> None:
        """The reader waits again."""
        self._until = time.monotonic() + self._limit

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._closed.wait(min(left, self._limit)):  # paused or not, it cannot be over sooner
                return
        self.is_over = True
        self._give_up()


def _raise(failed: grpc.RpcError) -> NoReturn:
    """Raises what the far side raised, or what its silence means."""
    code = cast("grpc.Call", failed).code()
    status = _status(failed)
    error = None if status is None else error_of(status)
    if error is None and code in _BY_CODE:
        error = _BY_CODE[code]()
    if error is None:
        raise failed
    if isinstance(error, NotAuthenticated | PermissionDenied):
        # Ours, not the caller's, whose token was good here.
        logger.error("the data service refuses ACTIVITIES_GRPC_TOKEN: %s", error)
        raise StorageUnavailable from failed
    if isinstance(error, RateLimited):
        logger.error("the data service bounds our ACTIVITIES_GRPC_TOKEN: %s", error)
        raise StorageBusy(**error.details) from failed
    raise error from None


def _status(failed: grpc.RpcError) -> status_pb2.Status | None:
    """What the far side told beside the code, where that can be read."""
    try:
        return rpc_status.from_call(cast("grpc.Call", failed))
    except (DecodeError, ValueError):
        return None


_BY_CODE = {
    grpc.StatusCode.DEADLINE_EXCEEDED: StorageTimeout,
    grpc.StatusCode.RESOURCE_EXHAUSTED: StorageBusy,
    grpc.StatusCode.UNAVAILABLE: StorageUnavailable,
    grpc.StatusCode.CANCELLED: StorageUnavailable,  # by the far side, which stops
    grpc.StatusCode.UNAUTHENTICATED: NotAuthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}
"""What a code means that comes without a reason of ours: from gRPC itself, or from what is between."""


class RemoteActivities:
    """`Activities` of a data service."""

    def __init__(self, channel: grpc.Channel, caller: _Caller) -> None:
        self._stub = activities_pb2_grpc.ActivityServiceStub(channel)
        self._caller = caller

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity:
        return activity_from(self._caller.write(self._stub.ActivityCreate, create_request(chat_id, activity), call))

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        request = pb.ActivityGetRequest(chat_id=chat_id, name=name)
        return activity_from(self._caller.ask(self._stub.ActivityGet, request, call))

    def list(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        request = pb.ActivityListRequest(chat_id=chat_id, limit=page.limit, offset=page.offset, order=str(page.order))
        return page_from(self._caller.ask(self._stub.ActivityList, request, call))

    def stream(self, chat_id: int, *, order: Order, call: Call) -> Generator[Activity]:
        request = pb.ActivityListStreamRequest(chat_id=chat_id, order=str(order))
        with closing(self._caller.stream(self._stub.ActivityListStream, request, call)) as messages:
            yield from map(activity_from, messages)

    def today(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        request = pb.ActivityTodayRequest(chat_id=chat_id, limit=page.limit, offset=page.offset, order=str(page.order))
        return page_from(self._caller.ask(self._stub.ActivityToday, request, call))

    def update(self, chat_id: int, *, name: str, changes: ActivityChanges, call: Call) -> Activity:
        request = update_request(chat_id, name, changes)
        return activity_from(self._caller.write(self._stub.ActivityUpdate, request, call))

    def delete(self, chat_id: int, *, name: str, call: Call) -> None:
        self._caller.write(self._stub.ActivityDelete, delete_request(chat_id, name), call)

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        """One call for each command: the wire has no call for several."""
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


class RemoteChats:
    """`Chats` of a data service."""

    def __init__(self, channel: grpc.Channel, caller: _Caller) -> None:
        self._stub = chats_pb2_grpc.ChatServiceStub(channel)
        self._caller = caller

    def get(self, chat_id: int, *, call: Call) -> Chat:
        return chat_from(self._caller.ask(self._stub.ChatGet, chats_pb.ChatGetRequest(chat_id=chat_id), call))

    def update(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        request = chats_pb.ChatUpdateRequest(chat_id=chat_id, timezone=changes.timezone, language=changes.language)
        return chat_from(self._caller.ask(self._stub.ChatUpdate, request, call))

    def revoke_tokens(self, chat_id: int, *, call: Call) -> Chat:
        request = chats_pb.ChatRevokeTokensRequest(chat_id=chat_id)
        return chat_from(self._caller.ask(self._stub.ChatRevokeTokens, request, call))

    def forget(self, chat_id: int, *, call: Call) -> None:
        self._caller.ask(self._stub.ChatForget, chats_pb.ChatForgetRequest(chat_id=chat_id), call)

    def move(self, chat_id: int, *, to_chat_id: int, call: Call) -> Chat:
        request = chats_pb.ChatMoveRequest(chat_id=chat_id, to_chat_id=to_chat_id)
        return chat_from(self._caller.ask(self._stub.ChatMove, request, call))
