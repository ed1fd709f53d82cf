"""Requests are bounded by all processes together, and by each for itself while Redis is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from activities.access import Access
from proto.activities.v1 import chats_pb2, chats_pb2_grpc
from tests.faults.product import Product
from tests.faults.services import SECONDS, Services

LIMIT = 20
KEY = "a-key-of-these-tests-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def two(services: Services, environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[Product, Product]]:
    settings = {**environment, "DJANGO_SECRET_KEY": KEY, "ACTIVITIES_REQUESTS_PER_MINUTE": str(LIMIT)}
    products = Product(settings, tmp_path / "one"), Product(settings, tmp_path / "other")
    yield products
    for each in products:
        each.stop()


def answered(product: Product, chat_id: int, *, most: int = 3 * LIMIT) -> int:
    """How many requests are answered before the first that is refused."""
    token = Access(keys=[KEY], valid_after=lambda *_: 0).issue(chat_id)
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(product.target) as channel:
        get = chats_pb2_grpc.ChatServiceStub(channel).ChatGet
        for number in range(most):
            call = get.future(chats_pb2.ChatGetRequest(), metadata=metadata, timeout=SECONDS)
            if call.exception() is not None:
                assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                return number
    return most


def test_two_processes_have_one_bound(two: tuple[Product, Product], chat_id: int) -> None:
    one, other = two
    assert answered(one, chat_id, most=LIMIT // 2) == LIMIT // 2
    assert answered(other, chat_id) == LIMIT // 2
    assert answered(one, chat_id) == 0


def test_while_redis_is_paused_each_process_bounds_for_itself(
    services: Services, two: tuple[Product, Product], chat_id: int
) -> None:
    services.pause("redis")
    for each in two:
        assert answered(each, chat_id) == LIMIT
        told = [line for line in each.log_since(0) if "requests are counted in this process alone" in line]
        assert len(told) == 1
