"""The servicers. Each method is three moves: read, call, write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import cast

from django_grpc_framework.services import Service
from google.protobuf.empty_pb2 import Empty

from activities.container import Container
from activities.domain import (
    read_activity,
    read_changes,
    read_chat_changes,
    read_chat_id,
    read_name,
    read_order,
    read_page,
)
from activities.wire import activity_message, chat_message, list_message, today_message
from grpc_server.exchange import Exchange
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb


class ActivityServicer(Service):  # type: ignore[misc]
    """`activities.v1.ActivityService` on a container."""

    container = cast("Container", None)  # given to `as_servicer`

    def ActivityCreate(self, request: pb.ActivityCreateRequest, exchange: Exchange) -> pb.Activity:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        activity = read_activity(asked.reading, asked.fields)
        asked.reading.done()
        return activity_message(self.container.activities.create(asked.chat_id, activity=activity, call=asked.call))

    def ActivityGet(self, request: pb.ActivityGetRequest, exchange: Exchange) -> pb.Activity:  # noqa: N802
        asked = exchange.read(request, self.container.access)
        name = asked.reading.take("name", read_name, request.name)
        asked.reading.done()
        return activity_message(self.container.activities.get(asked.chat_id, name=name, call=asked.call))

    def ActivityList(self, request: pb.ActivityListRequest, exchange: Exchange) -> pb.ActivityListResponse:  # noqa: N802
        asked = exchange.read(request, self.container.access)
        page = read_page(asked.reading, asked.fields)
        asked.reading.done()
        return list_message(self.container.activities.list(asked.chat_id, page=page, call=asked.call))

    def ActivityListStream(  # noqa: N802
        self, request: pb.ActivityListStreamRequest, exchange: Exchange
    ) -> Iterator[pb.Activity]:
        asked = exchange.read(request, self.container.access)
        order = asked.reading.take("order", read_order, request.order)
        asked.reading.done()
        activities = self.container.activities.stream(asked.chat_id, order=order, call=asked.call)
        with self.container.streams.hold(), closing(activities):
            yield from map(activity_message, activities)

    def ActivityToday(self, request: pb.ActivityTodayRequest, exchange: Exchange) -> pb.ActivityTodayResponse:  # noqa: N802
        asked = exchange.read(request, self.container.access)
        page = read_page(asked.reading, asked.fields)
        asked.reading.done()
        return today_message(self.container.activities.today(asked.chat_id, page=page, call=asked.call))

    def ActivityUpdate(self, request: pb.ActivityUpdateRequest, exchange: Exchange) -> pb.Activity:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        name = asked.reading.take("name", read_name, request.name)
        changes = read_changes(asked.reading, asked.fields)
        asked.reading.done()
        return activity_message(
            self.container.activities.update(asked.chat_id, name=name, changes=changes, call=asked.call)
        )

    def ActivityDelete(self, request: pb.ActivityDeleteRequest, exchange: Exchange) -> Empty:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        name = asked.reading.take("name", read_name, request.name)
        asked.reading.done()
        self.container.activities.delete(asked.chat_id, name=name, call=asked.call)
        return Empty()


class ChatServicer(Service):  # type: ignore[misc]
    """`activities.v1.ChatService` on a container."""

    container = cast("Container", None)  # given to `as_servicer`

    def ChatGet(self, request: chats_pb.ChatGetRequest, exchange: Exchange) -> chats_pb.Chat:  # noqa: N802
        asked = exchange.read(request, self.container.access)
        asked.reading.done()
        return chat_message(self.container.chats.get(asked.chat_id, call=asked.call))

    def ChatUpdate(self, request: chats_pb.ChatUpdateRequest, exchange: Exchange) -> chats_pb.Chat:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        changes = read_chat_changes(asked.reading, asked.fields)
        asked.reading.done()
        return chat_message(self.container.chats.update(asked.chat_id, changes=changes, call=asked.call))

    def ChatRevokeTokens(self, request: chats_pb.ChatRevokeTokensRequest, exchange: Exchange) -> chats_pb.Chat:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        asked.reading.done()
        return chat_message(self.container.chats.revoke_tokens(asked.chat_id, call=asked.call))

    def ChatForget(self, request: chats_pb.ChatForgetRequest, exchange: Exchange) -> Empty:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True)
        asked.reading.done()
        self.container.chats.forget(asked.chat_id, call=asked.call)
        return Empty()

    def ChatMove(self, request: chats_pb.ChatMoveRequest, exchange: Exchange) -> chats_pb.Chat:  # noqa: N802
        asked = exchange.read(request, self.container.access, writes=True, for_any_chat=True)
        to_chat_id = asked.reading.take("to_chat_id", read_chat_id, request.to_chat_id)
        asked.reading.done()
        return chat_message(self.container.chats.move(asked.chat_id, to_chat_id=to_chat_id, call=asked.call))
