"""One call on its way through the server: who may make it, for which chat, until when; and how errors leave."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from activities.access import Access
from activities.domain import ActivitiesError, NotAuthenticated, Reading, StorageUnavailable, read_request_id
from activities.fair_use import HOLD_SECONDS
from activities.ports import Call, Cancellation, Cancelled, traceparent_of
from activities.requests import Request
from activities.streams import StreamSlots
from activities.wire import DOMAIN, given_fields, status_of
from grpc_server.stalls import StalledReaders

logger = logging.getLogger(__name__)

NOT_AGAIN = ("grpc-retry-pushback-ms", "-1")
"""Tells a client's gRPC not to repeat the call by itself: we were reached, and it is for the caller to try again. In a
row of services each would multiply the others' tries."""

WAY_BACK = 0.05
"""The part of the caller's time that is kept for the answer's way back, so that it gets our error, not its own."""
ENDLESS = 10**8
"""Seconds; a longer time is none at all. For a caller that names no deadline gRPC says about 2^63, which is a time
that it does not take itself when it is passed on."""

MOST_HELD = 1000
"""Refusals that are kept back at once; each is a call that takes some memory."""


class Decision(Enum):
    """Who may call a method."""

    OPEN = auto()
    """Everybody, without a token."""
    READS = auto()
    """Whoever has a token for the chat."""
    WRITES = auto()
    """Of these, who may not only read."""
    FOR_SERVICES = auto()
    """Of these, who may act for any chat."""


Method = TypeVar("Method", bound=Callable[..., Any])


def _decided(decision: Decision) -> Callable[[Method], Method]:
    def decide(method: Method) -> Method:
        vars(method)["decision"] = decision
        return method

    return decide


reads = _decided(Decision.READS)
writes = _decided(Decision.WRITES)
for_services = _decided(Decision.FOR_SERVICES)


def decisions_of(service: ServiceDescriptor, servicer: type) -> dict[str, Decision]:
    """Who may call each method of the service, by its path. `TypeError` for one that the servicer lacks or that
    nobody has decided about."""
    found = {}
    for method in service.methods:
        decision = getattr(getattr(servicer, method.name, None), "decision", None)
        if decision is None:
            raise TypeError(
                f"{service.full_name}/{method.name}: nobody has decided who may call it; "
                f"give {servicer.__name__}.{method.name} @reads, @writes or @for_services"
            )
        found[_path(service, method.name)] = decision
    return found


@cache
def use_case_of(path: str) -> str:
    """What a method of ours does, by its path; the same word on every transport."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", path.rpartition("/")[2]).lower().removeprefix("activity_")
    return "stream" if words == "list_stream" else words


def open_to_all(service: ServiceDescriptor) -> dict[str, Decision]:
    """The same for a service of which every method is for everybody."""
    return {_path(service, method.name): Decision.OPEN for method in service.methods}


def _path(service: ServiceDescriptor, method: str) -> str:
    return f"/{service.full_name}/{method}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as read so far, which is what a servicer gets in place of the bare context: whoever asks may call the
    method. `chat_id` and `call` are good once `reading.done()` has returned."""

    reading: Reading
    fields: dict[str, object]
    chat_id: int
    call: Call


class Exchanges(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Asks `access` before each method that is not open to all, and gives errors the form that the contract promises.

    A method that `decisions` lack is not served. Of those open to all, at most so many `conversations` go on at once:
    they last as long as their client likes, without a token, and each keeps a thread.

    Requests are read here and not by gRPC. When one does not parse, that answers twice, and keeps what belongs to the
    call for ever.
    """

    def __init__(self, access: Access, decisions: Mapping[str, Decision], *, conversations: int) -> None:
        self._access = access
        self._decisions = decisions
        self._conversations = StreamSlots(conversations)
        self._held = _Held()
        self._readers = StalledReaders()

    def close(self) -> None:
        self._held.close()

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = continuation(handler_call_details)
        decision = self._decisions.get(handler_call_details.method)
        if handler is None or decision is None:
            return None
        parse = handler.request_deserializer
        admit: Admit = _as_it_is
        served = None
        if decision is not Decision.OPEN:
            served = Request("grpc", use_case_of(handler_call_details.method))
            refused = self._access.refusal(_value(handler_call_details.invocation_metadata, "authorization"))
            if refused is not None:
                served.failed(refused)
                return self._held.handler(refused)
            # Here, and not in the handler: what waits for a free thread waits on the caller's time.
            admit = partial(_read, self._access, decision, time.monotonic(), served)
        if not handler.response_streaming:
            return grpc.unary_unary_rpc_method_handler(
                partial(_answer, handler.unary_unary, parse, admit, served),
                response_serializer=handler.response_serializer,
            )
        place = self._conversations.hold if decision is Decision.OPEN else nullcontext
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                partial(
                    _answer_stream, handler.stream_stream, partial(map, parse), admit, served, place, self._readers
                ),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            partial(_answer_stream, handler.unary_stream, parse, admit, served, place, self._readers),
            response_serializer=handler.response_serializer,
        )


class _Held:
    """Answers calls a moment later, without a thread for each: who asks again at once, whatever the answer, would
    otherwise keep the handlers busy with refusals."""

    def __init__(self) -> None:
        self._answerer = ThreadPoolExecutor(1, thread_name_prefix="held")
        self._places = threading.BoundedSemaphore(MOST_HELD)

    def handler(self, error: ActivitiesError) -> grpc.RpcMethodHandler[Any, Any]:
        """For a call of any kind, whose request nobody reads. On the wire an answer without a message is the same for
        calls with one answer and with many, and those with many need not keep a thread."""

        def behaviour(_request: bytes, context: grpc.ServicerContext, send: Callable[[None], None]) -> None:
            remaining = context.time_remaining()
            hold = HOLD_SECONDS if remaining is None else min(HOLD_SECONDS, remaining / 2)
            if self._places.acquire(blocking=False):
                self._answerer.submit(self._refuse_at, time.monotonic() + hold, error, context, send)
            else:
                _refuse(error, context, send)

        behaviour.experimental_non_blocking = True  # type: ignore[attr-defined] # where grpcio looks for it
        return grpc.unary_stream_rpc_method_handler(behaviour)

    def close(self) -> None:
        self._answerer.shutdown()

    def _refuse_at(
        self, until: float, error: ActivitiesError, context: grpc.ServicerContext, send: Callable[[None], None]
    ) -> None:
        time.sleep(max(0.0, until - time.monotonic()))  # nearly all are held equally long: the first is due first
        self._places.release()
        _refuse(error, context, send)


def _refuse(error: ActivitiesError, context: grpc.ServicerContext, send: Callable[[None], None]) -> None:
    status = _status(error)
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata(status.trailing_metadata)
    send(None)


Admit = Callable[[Any, grpc.ServicerContext], Any]
"""What a method gets for its request beside it; raises when whoever asks may not call it."""


def _answer(
    behaviour: Callable[..., Any],
    parse: Callable[[Any], Any],
    admit: Admit,
    served: Request | None,
    raw: Any,
    context: grpc.ServicerContext,
) -> Any:
    try:
        request = parse(raw)
        answer = behaviour(request, admit(request, context))
    except Exception as error:
        _failed(served, error)
        _abort(error, context)
    if served is not None:
        served.succeeded()
    return answer


def _answer_stream(
    behaviour: Callable[..., Any],
    parse: Callable[[Any], Any],
    admit: Admit,
    served: Request | None,
    place: Callable[[], AbstractContextManager[None]],
    readers: StalledReaders,
    raw: Any,
    context: grpc.ServicerContext,
) -> Iterator[Any]:
    try:
        request = parse(raw)
        with place():
            answers = behaviour(request, admit(request, context))
            yield from answers if served is None else readers.watched(answers, context.cancel)
    except grpc.RpcError:
        raise  # the caller has gone while more requests were awaited
    except GeneratorExit:  # nobody reads on
        _failed(served, Cancelled())
        raise
    except Exception as error:
        _failed(served, error)
        _abort(error, context)
    if served is not None:
        served.succeeded()


def _failed(served: Request | None, error: BaseException) -> None:
    if served is not None:
        served.failed(error, is_ours=False if isinstance(error, DecodeError) else None)


def _as_it_is(_: Any, context: grpc.ServicerContext) -> grpc.ServicerContext:
    return context


def _read(
    access: Access,
    decision: Decision,
    asked_at: float,
    served: Request,
    request: Message,
    context: grpc.ServicerContext,
) -> Asked:
    """Who asks for what. Raises what the check of the token raises; broken rules wait in the reading."""
    reading, metadata = Reading(), context.invocation_metadata()
    request_id = _value(metadata, "x-request-id")
    call = Call(
        asked_at,
        _deadline(context),
        None if request_id is None else reading.take("x-request-id", read_request_id, request_id),
        _cancellation(context),
        traceparent_of(_value(metadata, "traceparent")),
    )
    principal = access.authenticate(_value(metadata, "authorization"), call=call)
    served.who = principal.name
    served.request_id = str(call.request_id or "")
    if decision is not Decision.READS:
        principal.must_write()
    if decision is Decision.FOR_SERVICES:
        principal.must_be_service()
    fields = given_fields(request)
    return Asked(reading, fields, reading.take("chat_id", principal.chat, fields["chat_id"]), call)


def _value(metadata: Iterable[tuple[str, str | bytes]], name: str) -> str | None:
    """What came under this name first."""
    for key, value in metadata:
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def _deadline(context: grpc.ServicerContext) -> float:
    remaining = context.time_remaining()
    endless = remaining is None or remaining > ENDLESS
    return math.inf if endless else time.monotonic() + remaining * (1 - WAY_BACK)


def _cancellation(context: grpc.ServicerContext) -> Cancellation:
    cancellation = Cancellation()
    if not context.add_callback(cancellation.cancel):
        cancellation.cancel()  # the caller went while the call waited for a thread
    return cancellation


def _abort(error: Exception, context: grpc.ServicerContext) -> None:
    """Ends the call; always raises."""
    if isinstance(error, ActivitiesError):
        context.abort_with_status(_status(error))
    if isinstance(error, Cancelled):
        context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")
    if isinstance(error, DecodeError):
        context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")  # as gRPC says it
    reference = str(uuid.uuid4())
    logger.error("unexpected error, request id %s", reference, exc_info=error)
    context.abort_with_status(rpc_status.to_status(_internal(reference)))


def _status(error: ActivitiesError) -> grpc.Status:
    """The error as gRPC sends it, with the headers that HTTP has for it: a gateway passes them on."""
    status = rpc_status.to_status(status_of(error))
    headers = []
    if error.seconds_to_wait is not None:
        headers.append(("retry-after", error.seconds_to_wait))
    if isinstance(error, NotAuthenticated):
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, StorageUnavailable):
        headers.append(NOT_AGAIN)
    metadata = (*status.trailing_metadata, *headers)
    return status._replace(trailing_metadata=metadata)  # type: ignore[attr-defined,no-any-return] # a named tuple


def _internal(reference: str) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.INTERNAL, message=f"internal error, request id {reference}")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="Internal", domain=DOMAIN))
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=reference))
    return status
