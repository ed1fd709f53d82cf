"""The use cases on a repository."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    Delete,
    Order,
    Outcome,
    Page,
    Update,
)
from activities.ports import Call, Repository

STREAM_BATCH = 200
"""How many activities a stream reads in one access."""


class ActivityService:
    """`Activities` on a repository. `clock` gives the present instant with its zone."""

    def __init__(self, repository: Repository, *, clock: Callable[[], datetime]) -> None:
        self._repository = repository
        self._clock = clock

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity:
        return self._write(Create(chat_id=chat_id, activity=activity, request_id=call.request_id), call)

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        return self._repository.get(chat_id, name=name, call=call)

    def list(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._repository.page(chat_id, page=page, call=call)

    def stream(self, chat_id: int, *, order: Order, call: Call) -> Generator[Activity]:
        after: Activity | None = None
        while True:
            batch = self._repository.batch(chat_id, order=order, after=after, size=STREAM_BATCH, call=call)
            yield from batch
            if len(batch) < STREAM_BATCH:
                return
            after = batch[-1]
            call = replace(call, asked_at=monotonic())  # each batch is an access with the whole limit

    def today(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._repository.today(chat_id, now=self._clock(), page=page, call=call)

    def update(self, chat_id: int, *, name: str, changes: ActivityChanges, call: Call) -> Activity:
        return self._write(Update(chat_id=chat_id, name=name, changes=changes, request_id=call.request_id), call)

    def delete(self, chat_id: int, *, name: str, call: Call) -> None:
        self._outcome(Delete(chat_id=chat_id, name=name, request_id=call.request_id), call)

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        return self._repository.apply(commands, now=self._clock(), call=call)

    def _write(self, command: Command, call: Call) -> Activity:
        activity = self._outcome(command, call)
        assert activity is not None  # only a delete leaves nothing
        return activity

    def _outcome(self, command: Command, call: Call) -> Activity | None:
        (outcome,) = self.apply([command], call=call)
        if isinstance(outcome, ActivitiesError):
            raise outcome
        return outcome


class ChatService:
    """`Chats` on a repository. `erase_outcomes` erases what is kept beside it of a chat's commands."""

    def __init__(
        self,
        repository: Repository,
        *,
        clock: Callable[[], datetime],
        erase_outcomes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._erase_outcomes = erase_outcomes

    def get(self, chat_id: int, *, call: Call) -> Chat:
        return self._repository.chat(chat_id, call=call)

    def update(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        return self._repository.update_chat(chat_id, changes=changes, call=call)

    def revoke_tokens(self, chat_id: int, *, call: Call) -> Chat:
        return self._repository.revoke_tokens(chat_id, now=self._clock(), call=call)

    def forget(self, chat_id: int, *, call: Call) -> None:
        self._repository.forget(chat_id, now=self._clock(), call=call)
        self._erase_outcomes(chat_id)

    def move(self, chat_id: int, *, to_chat_id: int, call: Call) -> Chat:
        if to_chat_id == chat_id:
            return self.get(chat_id, call=call)
        chat, _ = self._repository.move(chat_id, to_chat_id=to_chat_id, now=self._clock(), call=call)
        return chat

    def purge(self, call: Call) -> bool:
        """Drops some of what tells nothing any more; returns whether there may be more."""
        return self._repository.purge(now=self._clock(), call=call)
