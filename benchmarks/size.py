"""Get, a page and today with 1 000 000 rows over 10 000 chats: at least 0.8 of the rate with 10 000 rows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

from benchmarks.harness import Figures, Row, compare
from benchmarks.load import Request, calls_per_second
from benchmarks.servers import SERVICE_SECRET, Database, Server, database, empty_cache, ours
from proto.activities.v1 import activities_pb2 as pb

PER_CHAT = 100
ASKED = 10_000
"""Different requests of a round, as many in either database: the cache helps none of them."""


def run() -> list[Row]:
    with (
        database(chats=100, per_chat=PER_CHAT) as few,
        database(chats=10_000, per_chat=PER_CHAT) as many,
        ours(few) as beside_few,
        ours(many) as beside_many,
    ):
        return [
            row
            for method, message in MESSAGES.items()
            for row in compare(
                f"{method} of {many.chats * PER_CHAT} rows",
                partial(_calls, beside_many, method, _requests(many, message)),
                {f"of {few.chats * PER_CHAT} rows": partial(_calls, beside_few, method, _requests(few, message))},
            )
        ]


Message = pb.ActivityGetRequest | pb.ActivityListRequest | pb.ActivityTodayRequest
MESSAGES: dict[str, Callable[[int, int], Message]] = {
    "ActivityGet": lambda chat_id, number: pb.ActivityGetRequest(chat_id=chat_id, name=f"Activity {number}"),
    "ActivityList": lambda chat_id, number: pb.ActivityListRequest(chat_id=chat_id, offset=number // 2),
    "ActivityToday": lambda chat_id, _: pb.ActivityTodayRequest(chat_id=chat_id),
}
"""The request for each method about a chat and the number of an activity."""


def _calls(server: Server, method: str, requests: list[Request]) -> Figures:
    empty_cache()
    return {"calls/s": calls_per_second(server.address, method, itertools.cycle(requests))}


def _requests(rows: Database, message: Callable[[int, int], Message]) -> list[Request]:
    """The same number of them whatever the database's size, each about another activity."""
    numbers = random.Random(1).sample(range(rows.chats * PER_CHAT), ASKED)  # noqa: S311 - nothing secret
    return [
        (message(1 + number // PER_CHAT, number % PER_CHAT).SerializeToString(), SERVICE_SECRET) for number in numbers
    ]
