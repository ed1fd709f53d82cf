"""What a command does to a store's state: the rules that need to know what is there. For every store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol
from uuid import UUID

from activities.domain import (
    NAME_LENGTH,
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    Command,
    Create,
    InvalidActivity,
    Outcome,
    RequestIdReused,
    TooManyActivities,
    Update,
    is_final,
    name_key,
)
from activities.ports import QUEUE_LIFETIME

TOKEN_LIFETIME = timedelta(days=90)
PURGE_BATCH = 100
"""How many of a kind a purge drops at most, so that it takes and locks little."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an id was used for, and the answer."""

    fingerprint: str
    outcome: Outcome

    @property
    def answer(self) -> Outcome:
        """The outcome once more. An error is made anew: one that was raised holds on to the frames it went through."""
        if isinstance(self.outcome, InvalidActivity):
            return InvalidActivity(self.outcome.violations)
        if isinstance(self.outcome, ActivitiesError):
            return type(self.outcome)(**self.outcome.details)
        return self.outcome


class State(Protocol):
    """What commands look at and change, and nobody else meanwhile."""

    def find(self, chat_id: int, key: str) -> Activity | None: ...

    def count(self, chat_id: int) -> int:
        """How many activities a chat has."""
        ...

    def put(self, chat_id: int, activity: Activity) -> None: ...

    def drop(self, chat_id: int, key: str) -> None: ...

    def record(self, chat_id: int, known_as: UUID) -> Record | None: ...

    def remember(self, chat_id: int, known_as: UUID, record: Record) -> None: ...

    def forgotten_at(self, chat_id: int) -> datetime | None:
        """When all that a chat had was erased, or moved away."""
        ...


def apply_once(command: Command, state: State, *, max_activities: int) -> Outcome:
    """The effect and its record, or the record of the first time."""
    if command.accepted_at is not None:
        forgotten_at = state.forgotten_at(command.chat_id)
        if forgotten_at is not None and command.accepted_at < forgotten_at:
            # As if it had been carried out and erased. Nothing is remembered of it, since the name is in its answer.
            return ActivityNotFound(name=command.activity.name if isinstance(command, Create) else command.name)
    for known_as in (command.request_id, command.delivery_id):
        record = None if known_as is None else state.record(command.chat_id, known_as)
        if record is not None:
            return record.answer if record.fingerprint == command.fingerprint else RequestIdReused()
    outcome = _outcome(command, state, max_activities)
    keeps = command.request_id if is_final(outcome) and command.request_id else command.delivery_id
    if keeps is None:
        return outcome
    record = Record(command.fingerprint, outcome)
    state.remember(command.chat_id, keeps, record)
    return record.answer


def _outcome(command: Command, state: State, max_activities: int) -> Outcome:
    try:
        return _effect(command, state, max_activities)
    except ActivitiesError as error:
        return error.with_traceback(None)


def _effect(command: Command, state: State, max_activities: int) -> Activity | None:
    chat_id = command.chat_id
    if isinstance(command, Create):
        existing = state.find(chat_id, command.activity.key)
        if existing is not None:
            raise ActivityExists(name=existing.name)
        if state.count(chat_id) >= max_activities:
            raise TooManyActivities(limit=str(max_activities))
        state.put(chat_id, command.activity)
        return command.activity
    activity = state.find(chat_id, name_key(command.name))
    if activity is None:
        raise ActivityNotFound(name=command.name)
    if isinstance(command, Update):
        changed = command.changes.applied_to(activity)
        state.put(chat_id, changed)
        return changed
    state.drop(chat_id, activity.key)
    return None


def purged_until(now: datetime, token_lifetime: timedelta) -> int:
    """Nothing has to be known any more of a chat that was left and has its `tokens_valid_after` no later than this.

    That is later than when it was left, and later than when any of its revoked tokens was issued.
    """
    return int((now - max(token_lifetime, QUEUE_LIFETIME)).timestamp())


def joined(coming: Mapping[str, Activity], there: Mapping[str, Activity]) -> dict[str, Activity | None]:
    """What becomes of activities, by key, that come to others: None where the same one is there already.

    One whose name another has gets a number behind it, and a place for that at the end of a long name.
    """
    taken = {*coming, *there}
    result: dict[str, Activity | None] = {}
    for key, activity in coming.items():
        end: Activity | None = activity
        if key in there:
            end = (
                None if there[key] == activity else next(each for each in _numbered(activity) if each.key not in taken)
            )
        if end is not None:
            taken.add(end.key)
        result[key] = end
    return result


def _numbered(activity: Activity) -> Iterator[Activity]:
    for number in count(2):
        suffix = f" ({number})"
        yield replace(activity, name=activity.name[: NAME_LENGTH - len(suffix)] + suffix)
