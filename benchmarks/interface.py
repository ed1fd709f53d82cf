"""`ActivityGet` by an interface service on a data service: beside the data service asked directly, and beside a server
that passes bytes on to it and does nothing else."""

from __future__ import annotations

from benchmarks.get import gets
from benchmarks.harness import Row, compare
from benchmarks.servers import baseline, database, our_interface, ours


def run() -> list[Row]:
    with (
        database(chats=100, per_chat=100) as rows,
        ours(rows) as data,
        our_interface(rows, data) as interface,
        baseline("pass_through", rows, data.address) as passing,
    ):
        return compare(
            "get by an interface", gets(interface), {"data service": gets(data), "bytes passed on": gets(passing)}
        )
