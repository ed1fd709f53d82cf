"""The trace that a caller is in goes along to the data service and into the queue, unless it is none."""

from __future__ import annotations

from uuid import uuid4

import pytest

from activities.container import on_service
from activities.domain import Chat, Create
from activities.ports import traceparent_of
from activities.wire import chat_message
from kafka_worker.messages import TRACEPARENT, record_of
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.examples import activity
from tests.transports.data_services import TOKEN, says, scripted
from tests.transports.served import bearer
from tests.transports.test_interface import side

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CHAT = chat_message(Chat(1, language="en", timezone="UTC")).SerializeToString()


@pytest.mark.parametrize(("sent", "arrives"), [(TRACE, TRACE), ("00-zz-01", None), ("", None), (None, None)])
def test_an_interface_service_passes_it_on(sent: str | None, arrives: str | None) -> None:
    with scripted(ChatGet=says(CHAT)) as (far, port), side(on_service(target=f"127.0.0.1:{port}", token=TOKEN)) as near:
        headers = bearer(near.parts.access.issue(1)) | ({} if sent is None else {"traceparent": sent})
        assert near.client.get("/api/v1/chat/", headers=headers).status_code == 200
        method = near.channel.unary_unary("/activities.v1.ChatService/ChatGet", bytes, chats_pb.Chat.FromString)
        method(b"", metadata=tuple(headers.items()), timeout=30)
        near.parts.close()
    assert len(far.asked) >= 2
    assert {asked.metadata.get("traceparent") for asked in far.asked} == {arrives}


def test_it_goes_into_the_queue() -> None:
    create = Create(chat_id=1, activity=activity("pill"))
    assert (TRACEPARENT, TRACE.encode()) in record_of(create, uuid4(), TRACE).headers
    assert TRACEPARENT not in dict(record_of(create, uuid4()).headers)


@pytest.mark.parametrize(
    "raw",
    [
        TRACE.upper(),
        TRACE + "-00",
        "ff" + TRACE[2:],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
        TRACE + "\n",
    ],
)
def test_what_is_no_trace_is_left_out(raw: str) -> None:
    assert traceparent_of(raw) == ""
