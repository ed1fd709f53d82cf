"""The other end of the wire: the ports, kept by a data service that is reached over gRPC."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NoReturn, cast

import grpc
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

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
"""A stream, which has no deadline, ends when the machine at its other end is gone. Servers of ours allow one a 10 s."""


class Remote:
    """One channel to a data service at `target`, shown our service `token`; `limit` seconds for each call."""

    def __init__(self, *, target: str, token: str, limit: float = 2.0, tls: ClientTls | None = None) -> None:
        self._channel = _secure_channel(target, tls) if tls else grpc.insecure_channel(target, _KEEPALIVE)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        caller = _Caller(token, limit)
        self._caller = caller
        self.activities: Activities = RemoteActivities(self._channel, caller)
        self.chats: Chats = RemoteChats(self._channel, caller)

    def ready(self, call: Call) -> None:
        """Returns when the data service says that it serves."""
        answer = self._caller.ask(self._health.Check, health_pb2.HealthCheckRequest(), call)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise StorageUnavailable

    def close(self) -> None:
        self._channel.close()


def _secure_channel(target: str, tls: ClientTls) -> grpc.Channel:
    pems = tls.pems
    credentials = grpc.ssl_channel_credentials(pems.ca, pems.key or None, pems.chain or None)
    options = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.secure_channel(target, credentials, [*_KEEPALIVE, *options])


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

    def stream(self, method: grpc.UnaryStreamMultiCallable[Any, Any], request: object, call: Call) -> Generator[Any]:
        """The answers to one call as they come; the far side reads no further when the reader stops."""
        timeout = None if call.deadline == math.inf else max(0.0, call.deadline - time.monotonic())
        answers: Any = method(request, timeout=timeout, metadata=self._metadata(call))
        call.cancellation.on_cancel(answers.cancel)
        try:
            yield from answers
        except grpc.RpcError as failed:
            if call.cancellation.happened:
                raise Cancelled from None
            _raise(failed)
        finally:
            answers.cancel()
            call.cancellation.forget(answers.cancel)

    def _metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        given = () if call.request_id is None else (("x-request-id", str(call.request_id)),)
        return (self._authorization, *given)


def _raise(failed: grpc.RpcError) -> NoReturn:
    """Raises what the far side raised, or what its silence means."""
    status = rpc_status.from_call(cast("grpc.Call", failed))
    error = None if status is None else error_of(status)
    if isinstance(error, NotAuthenticated | PermissionDenied):
        # Ours, not the caller's, whose token was good here.
        logger.error("the data service refuses ACTIVITIES_GRPC_TOKEN: %s", error)
        raise StorageUnavailable from failed
    if error is not None:
        raise error from None
    by_code = {
        grpc.StatusCode.DEADLINE_EXCEEDED: StorageTimeout,
        grpc.StatusCode.RESOURCE_EXHAUSTED: StorageBusy,
        grpc.StatusCode.UNAVAILABLE: StorageUnavailable,
        grpc.StatusCode.CANCELLED: StorageUnavailable,  # by the far side, which stops
    }
    code = cast("grpc.Call", failed).code()
    if code in by_code:
        raise by_code[code]() from failed
    raise failed


class RemoteActivities:
    """`Activities` of a data service."""

    def __init__(self, channel: grpc.Channel, caller: _Caller) -> None:
        self._stub = activities_pb2_grpc.ActivityServiceStub(channel)
        self._caller = caller

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity:
        return activity_from(self._caller.ask(self._stub.ActivityCreate, create_request(chat_id, activity), call))

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
        return activity_from(self._caller.ask(self._stub.ActivityUpdate, request, call))

    def delete(self, chat_id: int, *, name: str, call: Call) -> None:
        self._caller.ask(self._stub.ActivityDelete, delete_request(chat_id, name), call)

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
