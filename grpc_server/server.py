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
from grpc_server.exchange import Exchanges, decisions_of, open_to_all
from grpc_server.health import HealthServicer
from grpc_server.services import ActivityServicer, ChatServicer
from proto.activities.v1 import activities_pb2, activities_pb2_grpc, chats_pb2, chats_pb2_grpc

THREADS = 64
"""Handler threads; more than there can be streams and conversations, so that other calls always find one."""
MOST_CONVERSATIONS = 16
"""Calls of reflection, of which a tool needs one for a moment, and of those who watch the server's health, at once."""


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
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ],
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
