"""`python -m benchmarks [NAME ...]`: runs benchmarks and prints their table; all of them without a name.

Needs the services' environment (`scripts/services.py run`). BENCH_JSON=FILE writes the same as JSON.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import consume, create, get, interface, neighbour, roundtrip, size, stream
from benchmarks.harness import Row, table, write_json

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "get": get.run,
    "create": create.run,
    "stream": stream.run,
    "size": size.run,
    "consume": consume.run,
    "roundtrip": roundtrip.run,
    "neighbour": neighbour.run,
    "interface": interface.run,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"benchmarks: no {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        print("benchmarks: PostgreSQL, pgbouncer, Redis and Kafka are not there: use make bench", file=sys.stderr)
        return 2
    rows = [row for name in names or BENCHMARKS for row in BENCHMARKS[name]()]
    print(table(rows))
    if os.environ.get("BENCH_JSON"):
        write_json(rows, Path(os.environ["BENCH_JSON"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
