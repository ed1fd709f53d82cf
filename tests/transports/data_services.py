"""Data services that answer bytes as a test says, for what a real one would never send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from grpc_server.client import Remote

TOKEN = "service-secret-0123456789abcdefghij"

Answer = Callable[[bytes, grpc.ServicerContext], Any]
"""Bytes, or an iterator of them for a stream."""


@dataclass
class Asked:
    """One call that came: the rpc's name, the request, and what came beside it."""

    rpc: str
    request: bytes
    metadata: dict[str, str | bytes]


@dataclass
class Scripted(grpc.GenericRpcHandler):
    """Answers each rpc by its name; `asked` are the calls so far."""

    answers: dict[str, Answer]
    asked: list[Asked] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        rpc = details.method.rpartition("/")[2]
        if rpc not in self.answers:
            return None

        def behaviour(request: bytes, context: grpc.ServicerContext) -> Any:
            with self._lock:
                self.asked.append(Asked(rpc, request, dict(context.invocation_metadata())))
            return self.answers[rpc](request, context)

        if rpc.endswith("Stream"):
            return grpc.unary_stream_rpc_method_handler(behaviour)
        return grpc.unary_unary_rpc_method_handler(behaviour)


@contextmanager
def scripted(port: int = 0, /, **answers: Answer) -> Iterator[tuple[Scripted, int]]:
    """A server that answers so, and its port."""
    handler = Scripted(answers)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([handler])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield handler, bound
    finally:
        server.stop(0).wait()


@contextmanager
def remote_of(*ports: int, limit: float = 2.0) -> Iterator[Remote]:
    """What an interface service has of the data services at these ports."""
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    with closing(Remote(target=target, token=TOKEN, limit=limit)) as remote:
        yield remote


def says(data: bytes) -> Answer:
    return lambda _request, _context: data


def refused(status: status_pb2.Status) -> Answer:
    def answer(_request: bytes, context: grpc.ServicerContext) -> None:
        context.abort_with_status(rpc_status.to_status(status))

    return answer


def fails(code: grpc.StatusCode) -> Answer:
    """As gRPC itself fails, without a word of ours."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> None:
        context.abort(code, "for a reason of its own")

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Each of them once; the last one from then on."""
    left = list(answers)
    lock = threading.Lock()

    def answer(request: bytes, context: grpc.ServicerContext) -> Any:
        with lock:
            now = left.pop(0) if len(left) > 1 else left[0]
        return now(request, context)

    return answer
