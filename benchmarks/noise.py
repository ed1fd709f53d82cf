"""`noise ADDRESS TOKEN`: asks over gRPC or HTTP as fast as it can, whatever the answers, until its input ends."""

from __future__ import annotations

import http.client
import sys
import threading
from urllib.parse import urlsplit

import grpc

from benchmarks.load import SERVICE, TIMEOUT
from proto.activities.v1 import activities_pb2 as pb

OUTSTANDING = 16
"""Calls under way at any time."""


def over_grpc(address: str, token: str) -> None:
    channel = grpc.insecure_channel(address)
    get = channel.unary_unary(f"/{SERVICE}/ActivityGet", bytes, bytes)
    message = pb.ActivityGetRequest(name="activity 7").SerializeToString()

    def ask(_: object = None) -> None:
        get.future(message, metadata=(("authorization", f"Bearer {token}"),), timeout=TIMEOUT).add_done_callback(ask)

    for _ in range(OUTSTANDING):
        ask()


def over_http(address: str, token: str) -> None:
    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=TIMEOUT)
        while True:
            connection.request("GET", "/api/v1/activities/activity%207/", headers={"Authorization": f"Bearer {token}"})
            connection.getresponse().read()

    for _ in range(OUTSTANDING):
        threading.Thread(target=ask, daemon=True).start()


if __name__ == "__main__":
    (over_http if sys.argv[1].startswith("http") else over_grpc)(*sys.argv[1:])
    sys.stdin.read()
