"""Servers that go and come back under load: right answers or an error that says so, and no restart of ours."""

from __future__ import annotations

import psycopg
import pytest

from tests.faults.load import load
from tests.faults.product import Product
from tests.faults.services import ANSWER_SECONDS, Services, eventually


@pytest.mark.parametrize("server", ["postgres", "pgbouncer"])
@pytest.mark.parametrize("how", ["kill", "terminate", "pause"])
def test_what_was_answered_is_there_after_a_server_was_away(
    server: str, how: str, services: Services, product: Product, chat_id: int, environment: dict[str, str]
) -> None:
    with load(product.activities, chat_id) as callers:
        eventually(callers.everyone_has_more())
        getattr(services, how)(server)
        eventually(lambda: callers.refusals > 0)
        services.mend()
        eventually(callers.everyone_has_more())
    assert max(each.slowest for each in callers.callers) < ANSWER_SECONDS
    with psycopg.connect(environment["DATABASE_DIRECT_URL"]) as direct:
        for each in callers.callers:
            rows = direct.execute("SELECT name FROM activities_activity WHERE chat_id = %s", [each.chat_id])
            assert {name for (name,) in rows} == each.kept
