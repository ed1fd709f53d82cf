"""The servicers. Each method is three moves: read, call, write; above it stands who may call it."""

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
from grpc_server.exchange import Asked, for_services, reads, writes
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb


class ActivityServicer(Service):  # type: ignore[misc]
    """`activities.v1.ActivityService` on a container."""

    container = cast("Container", None)  # given to `as_servicer`

    @writes
    def ActivityCreate(self, request: pb.ActivityCreateRequest, asked: Asked) -> pb.Activity:  # noqa: N802
        activity = read_activity(asked.reading, asked.fields)
        asked.reading.done()
        return activity_message(self.container.activities.create(asked.chat_id, activity=activity, call=asked.call))

    @reads
    def ActivityGet(self, request: pb.ActivityGetRequest, asked: Asked) -> pb.Activity:  # noqa: N802
        name = asked.reading.take("name", read_name, request.name)
        asked.reading.done()
        return activity_message(self.container.activities.get(asked.chat_id, name=name, call=asked.call))

    @reads
    def ActivityList(self, request: pb.ActivityListRequest, asked: Asked) -> pb.ActivityListResponse:  # noqa: N802
        page = read_page(asked.reading, asked.fields)
        asked.reading.done()
        return list_message(self.container.activities.list(asked.chat_id, page=page, call=asked.call))

    @reads
    def ActivityListStream(  # noqa: N802
        self, request: pb.ActivityListStreamRequest, asked: Asked
    ) -> Iterator[pb.Activity]:
        order = asked.reading.take("order", read_order, request.order)
        asked.reading.done()
        activities = self.container.activities.stream(asked.chat_id, order=order, call=asked.call)
        with self.container.streams.hold(), closing(activities):
            yield from map(activity_message, activities)

    @reads
    def ActivityToday(self, request: pb.ActivityTodayRequest, asked: Asked) -> pb.ActivityTodayResponse:  # noqa: N802
        page = read_page(asked.reading, asked.fields)
        asked.reading.done()
        return today_message(self.container.activities.today(asked.chat_id, page=page, call=asked.call))

    @writes
    def ActivityUpdate(self, request: pb.ActivityUpdateRequest, asked: Asked) -> pb.Activity:  # noqa: N802
        name = asked.reading.take("name", read_name, request.name)
        changes = read_changes(asked.reading, asked.fields)
        asked.reading.done()
        return activity_message(
            self.container.activities.update(asked.chat_id, name=name, changes=changes, call=asked.call)
        )

    @writes
    def ActivityDelete(self, request: pb.ActivityDeleteRequest, asked: Asked) -> Empty:  # noqa: N802
        name = asked.reading.take("name", read_name, request.name)
        asked.reading.done()
        self.container.activities.delete(asked.chat_id, name=name, call=asked.call)
        return Empty()


class ChatServicer(Service):  # type: ignore[misc]
    """`activities.v1.ChatService` on a container."""

    container = cast("Container", None)  # given to `as_servicer`

    @reads
    def ChatGet(self, request: chats_pb.ChatGetRequest, asked: Asked) -> chats_pb.Chat:  # noqa: N802
        asked.reading.done()
        return chat_message(self.container.chats.get(asked.chat_id, call=asked.call))

    @writes
    def ChatUpdate(self, request: chats_pb.ChatUpdateRequest, asked: Asked) -> chats_pb.Chat:  # noqa: N802
        changes = read_chat_changes(asked.reading, asked.fields)
        asked.reading.done()
        return chat_message(self.container.chats.update(asked.chat_id, changes=changes, call=asked.call))

    @writes
    def ChatRevokeTokens(self, request: chats_pb.ChatRevokeTokensRequest, asked: Asked) -> chats_pb.Chat:  # noqa: N802
        asked.reading.done()
        return chat_message(self.container.chats.revoke_tokens(asked.chat_id, call=asked.call))

    @writes
    def ChatForget(self, request: chats_pb.ChatForgetRequest, asked: Asked) -> Empty:  # noqa: N802
        asked.reading.done()
        self.container.chats.forget(asked.chat_id, call=asked.call)
        return Empty()

    @for_services
    def ChatMove(self, request: chats_pb.ChatMoveRequest, asked: Asked) -> chats_pb.Chat:  # noqa: N802
        to_chat_id = asked.reading.take("to_chat_id", read_chat_id, request.to_chat_id)
        asked.reading.done()
        return chat_message(self.container.chats.move(asked.chat_id, to_chat_id=to_chat_id, call=asked.call))
