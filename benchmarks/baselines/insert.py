"""`insert THREADS SECONDS CHATS`: bare INSERTs, a thread and a connection for each; prints how many a second."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import psycopg

INSERT = """
    INSERT INTO activities_activity (chat_id, key, name, begin_date, end_date, times_per_day, quantity_per_time)
    VALUES (%s, %s, %s, %s, %s, %s, %s)"""


def main(threads: int, seconds: float, chats: int) -> float:
    """Rows a second."""
    ready = threading.Barrier(threads)

    def insert(thread: int) -> float:
        run = uuid.uuid4().hex
        inserted = 0
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None) as connection:
            ready.wait()
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                name = f"bare {run} {inserted}"
                chat_id = 1 + (thread + inserted * threads) % chats
                values = [chat_id, name, name, date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5")]
                connection.execute(INSERT, values)
                inserted += 1
            return inserted / (time.monotonic() - began)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(insert, range(threads)))


if __name__ == "__main__":
    print(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
