"""`ActivityCreate` beside a bare INSERT through the same pgbouncer, as many at once: at least 0.5 of it.

And beside a bare grpcio server that does this INSERT, since a call alone costs more than an INSERT does.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.harness import Figures, Row, compare
from benchmarks.load import OUTSTANDING, SECONDS, Request, calls_per_second
from benchmarks.servers import ROOT, Database, Server, baseline, chat_token, database, ours
from proto.activities.v1 import activities_pb2 as pb

CALLERS = (1, 10, OUTSTANDING)


def run() -> list[Row]:
    with database(chats=1000, per_chat=10) as rows, ours(rows) as server, baseline("bare", rows) as bare:
        requests = _requests(rows.chats)
        return [
            row
            for callers in CALLERS
            for row in compare(
                f"create, {callers} at once",
                partial(_creates, server, requests, callers),
                {
                    "bare psycopg INSERT": partial(_bare_inserts, rows, callers),
                    "bare grpcio + INSERT": partial(_creates, bare, requests, callers),
                },
            )
        ]


def _creates(server: Server, requests: Iterator[Request], callers: int) -> Figures:
    return {"rows/s": calls_per_second(server.address, "ActivityCreate", requests, callers)}


def _bare_inserts(rows: Database, callers: int) -> Figures:
    program = [sys.executable, "-m", "benchmarks.baselines.insert", str(callers), str(SECONDS), str(rows.chats)]
    done = subprocess.run(program, cwd=ROOT, env=rows.environment, check=True, capture_output=True, text=True)
    return {"rows/s": float(done.stdout)}


def _requests(chats: int) -> Iterator[Request]:
    """New names for ever, over all chats in turn."""
    tokens = [chat_token(chat_id) for chat_id in range(1, chats + 1)]
    for number in itertools.count():
        message = pb.ActivityCreateRequest(
            chat_id=1 + number % chats,
            name=f"New {number}",
            begin_date="2026-07-20",
            end_date="2026-12-31",
            times_per_day=2,
            quantity_per_time=0.5,
        )
        yield message.SerializeToString(), tokens[number % chats]
