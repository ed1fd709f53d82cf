"""`asker CHATS`: creates through the queue, one at a time; prints how many milliseconds each took."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing, suppress
from datetime import date
from decimal import Decimal
from uuid import uuid4

import django

from activities.domain import Activity, OutcomePending, StorageUnavailable
from activities.ports import Activities, Call

ROUND_TRIPS = 1000
WARMING_UP = 100


def main(chats: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "activities_project.settings")
    django.setup()
    from activities.container import container

    with closing(container()) as parts:
        for _ in range(10):  # the consumer may not have its partitions yet
            with suppress(OutcomePending, StorageUnavailable):
                create(parts.activities, 1)
                break
        took = [create(parts.activities, 1 + number % chats) for number in range(WARMING_UP + ROUND_TRIPS)]
    print(json.dumps(took[WARMING_UP:]))


def create(activities: Activities, chat_id: int) -> float:
    """Milliseconds."""
    activity = Activity(f"New {uuid4()}", date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5"))
    began = time.perf_counter()
    activities.create(chat_id, activity=activity, call=Call())
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main(int(sys.argv[1]))
