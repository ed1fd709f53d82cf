"""`ActivityGet` with the row in Redis and a chat's token: at least 0.3 of a bare server, 2.5 of the naive build."""

from __future__ import annotations

import itertools

from benchmarks.harness import Figures, Measure, Row, compare
from benchmarks.load import calls_per_second
from benchmarks.servers import Server, baseline, chat_token, database, ours
from proto.activities.v1 import activities_pb2 as pb

CHAT = 1


def run() -> list[Row]:
    with (
        database(chats=100, per_chat=100) as rows,
        ours(rows) as activities,
        baseline("bare", rows) as bare,
        baseline("naive", rows) as naive,
    ):
        return compare("get", gets(activities), {"bare grpcio": gets(bare), "naive build": gets(naive)})


def gets(server: Server) -> Measure:
    message = pb.ActivityGetRequest(chat_id=CHAT, name="activity 7").SerializeToString()
    request = (message, chat_token(CHAT))

    def measure() -> Figures:
        return {"calls/s": calls_per_second(server.address, "ActivityGet", itertools.repeat(request))}

    return measure
