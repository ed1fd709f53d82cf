"""A bare grpcio server with as many threads as ours: one ready message, alone, for each row that psycopg reads, or
after one that it inserts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import grpc
import psycopg

from benchmarks.baselines.insert import INSERT
from benchmarks.load import SERVICE
from proto.activities.v1 import activities_pb2 as pb

THREADS = 64
"""As `grpc_server.server.THREADS`."""
READY = pb.Activity(
    name="Activity 7", begin_date="2026-07-20", end_date="2026-12-31", times_per_day=2, quantity_per_time=0.5
)
QUERY = """
    SELECT name, begin_date, end_date, times_per_day, quantity_per_time FROM activities_activity
    WHERE chat_id = %s ORDER BY end_date DESC, key"""


def get(request: pb.ActivityGetRequest, context: grpc.ServicerContext) -> pb.Activity:
    return READY


_own = threading.local()


def create(request: pb.ActivityCreateRequest, context: grpc.ServicerContext) -> pb.Activity:
    if not hasattr(_own, "connection"):
        _own.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None)
    values = [request.chat_id, request.name, request.name, date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5")]
    _own.connection.execute(INSERT, values)
    return READY


def stream(request: pb.ActivityListStreamRequest, context: grpc.ServicerContext) -> Iterator[pb.Activity]:
    # A cursor of the server keeps one transaction open, which pgbouncer bears as long as the stream lasts.
    with (
        psycopg.connect(os.environ["DATABASE_URL"], prepare_threshold=None) as connection,
        connection.cursor("rows") as cursor,
    ):
        cursor.itersize = 200
        for _ in cursor.execute(QUERY, [request.chat_id]):
            yield READY


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    handlers = {
        "ActivityGet": grpc.unary_unary_rpc_method_handler(
            get, pb.ActivityGetRequest.FromString, pb.Activity.SerializeToString
        ),
        "ActivityCreate": grpc.unary_unary_rpc_method_handler(
            create, pb.ActivityCreateRequest.FromString, pb.Activity.SerializeToString
        ),
        "ActivityListStream": grpc.unary_stream_rpc_method_handler(
            stream, pb.ActivityListStreamRequest.FromString, pb.Activity.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
