"""The gRPC server: its port, its options, its beginning and end."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
from django.conf import settings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from activities.cli import family, host_and_port, is_loopback
from activities.container import Container
from activities.ports import MAX_REQUEST_BYTES
from activities.tls import Pems, ServerTls
from grpc_server.client import PING_SECONDS as ASKED_EACH
from grpc_server.exchange import Exchanges, decisions_of, open_to_all
from grpc_server.health import HealthServicer
from grpc_server.services import ActivityServicer, ChatServicer
from proto.activities.v1 import activities_pb2, activities_pb2_grpc, chats_pb2, chats_pb2_grpc

THREADS = 64
"""Handler threads; more than there can be streams and conversations, so that other calls always find one."""
MOST_CONVERSATIONS = 16
"""Calls of reflection, of which a tool needs one for a moment, and of those who watch the server's health, at once."""
MOST_CALLS = 4000
"""Calls in the server at once, the most of them waiting for a thread; more are refused unread. Whoever waits behind
that many would have its answer too late."""
MOST_CALLS_OF_A_CONNECTION = 256
"""At once; a client keeps more back until others have ended. An interface service has one connection, and fewer handler
threads than that which use it."""
MOST_CONNECTIONS = 384
"""Of one server; HTTP's beside them, the stores' and some files stay below 1024, which a process may have open by
default. Clients have one each; more are closed at once."""
MOST_METADATA_BYTES = 16 << 10
"""Of a call; a token has some hundred, and tracing adds as many."""
HANDSHAKE_SECONDS = 10
"""How long a client may take for TLS and for the first words of HTTP/2."""
PING_SECONDS = 30
"""After so long a silence the other side is asked whether it is there, as its machine may have lost its power."""
PONG_SECONDS = 10
"""How long it may take to say so."""
LEAST_PING_SECONDS = ASKED_EACH / 2
"""Who asks us more often than that, and we have nothing to send it, costs us more than it needs to. Interface services
ask half as often."""
MOST_PING_STRIKES = 2
"""How often it may do so; then it is told `too_many_pings`, and the connection closed."""
IDLE_SECONDS = 600
"""After so long without a call a connection is closed; a client makes another when it needs one."""
AGE_SECONDS = 3600
"""After about so long a connection is to be made anew, so that a balancer in between spreads them over the servers that
there are now, and those whose certificate has run out go. Nothing is lost: new calls take the new one."""
AGE_GRACE_SECONDS = 600
"""How long calls on the former one may still take; a stream of a full chat takes a second or two."""


ACTIVITIES = activities_pb2.DESCRIPTOR.services_by_name["ActivityService"]
CHATS = chats_pb2.DESCRIPTOR.services_by_name["ChatService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


class GrpcServer:
    """Serves a container at HOST:PORT, which is taken at once; port 0 means any free one.

    Raises `OSError` when the port is not to be had. `shared`: other processes of ours serve the same port.
    """

    def __init__(
        self,
        container: Container,
        address: str,
        *,
        tls: ServerTls | None = None,
        reflected: bool = True,
        shared: bool = False,
    ) -> None:
        decisions = {
            **decisions_of(ACTIVITIES, ActivityServicer),
            **decisions_of(CHATS, ChatServicer),
            **open_to_all(HEALTH),
            **open_to_all(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]),
        }
        self._exchanges = Exchanges(container.access, decisions, conversations=MOST_CONVERSATIONS)
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="grpc"),
            interceptors=[self._exchanges],
            options=[
                # Otherwise a second server on the same port starts without a word and shares the traffic.
                ("grpc.so_reuseport", int(shared)),
                *_bounds(),
            ],
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        activities_pb2_grpc.add_ActivityServiceServicer_to_server(
            ActivityServicer.as_servicer(container=container), self._server
        )
        chats_pb2_grpc.add_ChatServiceServicer_to_server(ChatServicer.as_servicer(container=container), self._server)
        names = (ACTIVITIES.full_name, CHATS.full_name)
        self._health = HealthServicer(names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflected:
            reflection.enable_server_reflection((*names, HEALTH.full_name, reflection.SERVICE_NAME), self._server)
        # gRPC would say less, and print lines of its own: what is wrong with the port is found out beforehand.
        if not shared:
            socket.create_server(host_and_port(address), family=family(address)).close()
        try:
            self.port: int = (
                self._server.add_secure_port(address, _credentials(tls))
                if tls
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as failed:
            raise OSError(f"cannot listen on {address}") from failed

    def start(self) -> None:
        self._server.start()
        self._health.begin()

    def stop(self, grace: float) -> None:
        """Takes no new call, lets those under way end for `grace` seconds, then cancels them."""
        self._health.end()
        self._server.stop(grace).wait()
        self._exchanges.close()


def _bounds() -> list[tuple[str, int]]:
    """What clients may cost, in gRPC's own terms."""
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # Between the two it would refuse at random.
        ("grpc.max_metadata_size", MOST_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MOST_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MOST_CALLS_OF_A_CONNECTION),
        ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", PONG_SECONDS * 1000),  # alone it does not close, but after a minute
        ("grpc.http2.ping_timeout_ms", PONG_SECONDS * 1000),
        # Else a ping without a call may come every two hours only, and clients cannot know.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(LEAST_PING_SECONDS * 1000)),
        ("grpc.http2.max_ping_strikes", MOST_PING_STRIKES),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.max_connection_age_ms", AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", AGE_GRACE_SECONDS * 1000),
    ]


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """What a connection gets: the certificate as it is by then."""
    used = tls.pems()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        former, used = used, tls.pems()
        return None if used is former else _configuration(used)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        renewed,  # type: ignore[arg-type] # the stubs do not know that None means no change
        require_client_authentication=bool(used.ca),
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.chain)], pems.ca or None)


def reflects(host: str) -> bool:
    """Whether a server that listens on `host` tells its methods to whoever asks: a setting, else on loopback alone."""
    if settings.ACTIVITIES_GRPC_REFLECTION == "auto":
        return is_loopback(host)
    return bool(settings.ACTIVITIES_GRPC_REFLECTION == "on")
