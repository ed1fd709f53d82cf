"""`pass_through TARGET`: a bare grpcio server with as many threads as ours, which passes the bytes of a get on to the
data service at `TARGET`, with the caller's token, and its answer back."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.load import SERVICE, TIMEOUT

THREADS = 64
"""As `grpc_server.server.THREADS`."""


def main(target: str) -> None:
    behind = grpc.insecure_channel(target).unary_unary(f"/{SERVICE}/ActivityGet", bytes, bytes)

    def get(request: bytes, context: grpc.ServicerContext) -> bytes:
        token = tuple(each for each in context.invocation_metadata() if each[0] == "authorization")
        answer: bytes = behind(request, metadata=token, timeout=TIMEOUT)
        return answer

    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    handlers = {"ActivityGet": grpc.unary_unary_rpc_method_handler(get)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
