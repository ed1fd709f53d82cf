"""gRPC's health protocol. The library's servicer holds its lock while it sends, and wants it when a call ends: who
watched and went could stop the whole server, without a token."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Response = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """One status for all that the server has, the whole of it included, whose name is empty."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(["", *names])
        self._serves = False
        self._ended = False
        self._changed = threading.Condition()

    def begin(self) -> None:
        self._serves = True
        self._wake()

    def end(self) -> None:
        """It serves no more: whoever watches is told so and let go."""
        self._serves, self._ended = False, True
        self._wake()

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("there is no such service here")
        return Response(status=self._status(request.service))

    def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthListResponse:
        return health_pb2.HealthListResponse(
            statuses={name: Response(status=self._status(name)) for name in self._names}
        )

    def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Keeps its thread until the caller goes or the server ends."""
        gone = threading.Event()

        def go() -> None:
            gone.set()
            self._wake()

        if not context.add_callback(go):
            return
        told: list[int] = []

        def is_new() -> bool:
            return [self._status(request.service)] != told

        while not gone.is_set():
            ended = self._ended  # looked at first: what is told thereafter is the last word
            if is_new():
                told[:] = [self._status(request.service)]
                yield Response(status=told[0])
            if ended:
                return
            with self._changed:
                self._changed.wait_for(lambda: gone.is_set() or self._ended or is_new())

    def _status(self, name: str) -> int:
        if name not in self._names:
            return int(Response.SERVICE_UNKNOWN)
        return int(Response.SERVING if self._serves else Response.NOT_SERVING)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
