"""`ActivityCreate` beside a bare INSERT through the same pgbouncer, as many at once: at least 0.5 of it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Figures, Row, compare
from benchmarks.load import OUTSTANDING, SECONDS, Request, calls_per_second
from benchmarks.servers import ROOT, Database, Server, chat_token, database, ours
from proto.activities.v1 import activities_pb2 as pb


def run() -> list[Row]:
    with database(chats=1000, per_chat=10) as rows, ours(rows) as server:
        requests = _requests(rows.chats)
        return compare(
            "create", lambda: _creates(server, requests), {"bare psycopg INSERT": lambda: _bare_inserts(rows)}
        )


def _creates(server: Server, requests: Iterator[Request]) -> Figures:
    return {"rows/s": calls_per_second(server.address, "ActivityCreate", requests)}


def _bare_inserts(rows: Database) -> Figures:
    program = [sys.executable, "-m", "benchmarks.baselines.insert", str(OUTSTANDING), str(SECONDS), str(rows.chats)]
    done = subprocess.run(program, cwd=ROOT, env=rows.environment, check=True, capture_output=True, text=True)
    return {"rows/s": float(done.stdout)}


def _requests(chats: int) -> Iterator[Request]:
    """New names for ever, over all chats in turn."""
    tokens = [chat_token(chat_id) for chat_id in range(1, chats + 1)]
    for number in itertools.count():
        message = pb.ActivityCreateRequest(
            name=f"New {number}",
            begin_date="2026-07-20",
            end_date="2026-12-31",
            times_per_day=2,
            quantity_per_time=0.5,
        )
        yield message.SerializeToString(), tokens[number % chats]
