"""The durable store: PostgreSQL, through pgbouncer. Uniqueness and limits are the database's own answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from activities.domain import (
    ERRORS,
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    InvalidActivity,
    Order,
    Outcome,
    Page,
    RequestIdReused,
    TooManyActivities,
    Update,
    name_key,
)
from activities.ports import RECORD_LIFETIME, Call
from activities.repositories.database import Database, Row, Statement, Transaction

_COLUMNS = "name, begin_date, end_date, times_per_day, quantity_per_time"


class PostgresRepository:
    """Activities and chats in PostgreSQL. A single access is one message there and back where SQL allows."""

    def __init__(self, *, max_activities: int = 10_000, database: Database | None = None) -> None:
        self._max_activities = max_activities
        self._database = database or Database()

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        if len(commands) == 1 and commands[0].request_id is None:
            return [self._single(commands[0], call)]
        with self._database.transaction(call, writes=True) as transaction:
            outcomes = [self._apply_once(command, transaction, now) for command in commands]
            transaction.ask(last=True)
            return outcomes

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        (rows,) = self._database.ask(call, _find(chat_id, name))
        if not rows:
            raise ActivityNotFound(name=name)
        return _activity(rows[0])

    def page(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return _page(self._database.ask(call, *_cut("chat_id = %s", [chat_id], page)))

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        condition = "chat_id = %s"
        parameters: list[object] = [chat_id]
        if after is not None:
            beyond, more = _beyond(order, after)
            condition, parameters = f"{condition} AND {beyond}", [*parameters, *more]
        text = f"SELECT {_COLUMNS} FROM activities_activity WHERE {condition} ORDER BY {_order_by(order)} LIMIT %s"
        (rows,) = self._database.ask(call, (text, [*parameters, size]))
        return [_activity(row) for row in rows]

    def today(self, chat_id: int, *, now: datetime, page: Page, call: Call) -> ActivityPage:
        with self._database.transaction(call, writes=False) as transaction:
            (chats,) = transaction.ask(_find_chat(chat_id))
            today = _chat(chat_id, chats).date_at(now)
            active = "chat_id = %s AND begin_date <= %s AND end_date >= %s"
            return _page(transaction.ask(*_cut(active, [chat_id, today, today], page), last=True))

    def chat(self, chat_id: int, *, call: Call) -> Chat:
        (rows,) = self._database.ask(call, _find_chat(chat_id))
        return _chat(chat_id, rows)

    def update_chat(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        given = [changes.timezone, changes.language]
        text = """
            INSERT INTO activities_chat (chat_id, timezone, language)
            VALUES (%s, COALESCE(%s, 'UTC'), COALESCE(%s, 'en'))
            ON CONFLICT (chat_id) DO UPDATE
            SET timezone = COALESCE(%s, activities_chat.timezone), language = COALESCE(%s, activities_chat.language)
            RETURNING timezone, language, tokens_valid_after"""
        (rows,) = self._database.ask(call, (text, [chat_id, *given, *given]), writes=True)
        return _chat(chat_id, rows)

    def ping(self, *, call: Call) -> None:
        self._database.ask(call, ("SELECT 1", []))

    def close(self) -> None:
        self._database.close()

    def _single(self, command: Command, call: Call) -> Outcome:
        """A command alone and without a request id: one message."""
        try:
            return self._read(command, self._database.ask(call, *self._effect(command), writes=True))
        except ActivitiesError as error:
            if isinstance(error, _OUTCOMES):
                return error
            raise

    def _apply_once(self, command: Command, transaction: Transaction, now: datetime) -> Outcome:
        """The effect and its record, or the record of the first time.

        Whoever comes with the same id while the first is under way waits for the claim's row.
        """
        if command.request_id is None:
            return self._outcome(command, transaction)
        position = [command.chat_id, command.request_id]
        claim = """
            INSERT INTO activities_handledrequest AS known (chat_id, request_id, fingerprint, outcome, handled_at)
            VALUES (%s, %s, %s, 'null', %s)
            ON CONFLICT (chat_id, request_id) DO UPDATE
            SET fingerprint = EXCLUDED.fingerprint, handled_at = EXCLUDED.handled_at WHERE known.handled_at <= %s
            RETURNING 1"""
        found = "SELECT fingerprint, outcome FROM activities_handledrequest WHERE chat_id = %s AND request_id = %s"
        claimed, records = transaction.ask(
            (claim, [*position, command.fingerprint, now, now - RECORD_LIFETIME]),
            (found, position),
        )
        if not claimed:
            ((fingerprint, outcome),) = records
            return _read_down(outcome) if fingerprint == command.fingerprint else RequestIdReused()
        outcome = self._outcome(command, transaction)
        if isinstance(outcome, ActivitiesError) and not isinstance(outcome, ActivityExists | ActivityNotFound):
            forget = "DELETE FROM activities_handledrequest WHERE chat_id = %s AND request_id = %s"
            transaction.later((forget, position))
        else:
            keep = "UPDATE activities_handledrequest SET outcome = %s WHERE chat_id = %s AND request_id = %s"
            transaction.later((keep, [_written_down(outcome), *position]), _drop_old_records(now))
        return outcome

    def _outcome(self, command: Command, transaction: Transaction) -> Outcome:
        try:
            return self._read(command, transaction.ask(*self._effect(command)))
        except ActivitiesError as error:
            if isinstance(error, _OUTCOMES):
                return error
            raise

    def _effect(self, command: Command) -> list[Statement]:
        """The command as statements: the effect when its rules allow it, and what tells why when they do not."""
        if isinstance(command, Create):
            return self._create(command.chat_id, command.activity)
        if isinstance(command, Update):
            changes = command.changes
            given = [changes.begin_date, changes.end_date, changes.times_per_day, changes.quantity_per_time]
            update = f"""
                UPDATE activities_activity
                SET begin_date = COALESCE(%s, begin_date), end_date = COALESCE(%s, end_date),
                    times_per_day = COALESCE(%s, times_per_day), quantity_per_time = COALESCE(%s, quantity_per_time)
                WHERE chat_id = %s AND key = %s AND COALESCE(%s, begin_date) <= COALESCE(%s, end_date)
                RETURNING {_COLUMNS}"""
            where = [command.chat_id, name_key(command.name), changes.begin_date, changes.end_date]
            text, position = _find(command.chat_id, command.name)
            # What is found stays as it is until the update has looked at it.
            return [(f"{text} FOR NO KEY UPDATE", position), (update, [*given, *where])]
        delete = "DELETE FROM activities_activity WHERE chat_id = %s AND key = %s RETURNING 1"
        return [(delete, [command.chat_id, name_key(command.name)])]

    def _create(self, chat_id: int, activity: Activity) -> list[Statement]:
        chat = "INSERT INTO activities_chat (chat_id) VALUES (%s) ON CONFLICT DO NOTHING"
        # One create at a time in a chat, so that no two take its last place.
        alone = "SELECT 1 FROM activities_chat WHERE chat_id = %s FOR NO KEY UPDATE"
        create = f"""
            INSERT INTO activities_activity (chat_id, key, {_COLUMNS})
            SELECT %s, %s, %s, %s, %s, %s, %s
            WHERE %s > (
                SELECT count(*) FROM (SELECT 1 FROM activities_activity WHERE chat_id = %s LIMIT %s) AS places
            )
            ON CONFLICT (chat_id, key) DO NOTHING
            RETURNING {_COLUMNS}"""
        values = [activity.begin_date, activity.end_date, activity.times_per_day, activity.quantity_per_time]
        most = self._max_activities
        return [
            (chat, [chat_id]),
            (alone, [chat_id]),
            _find(chat_id, activity.name),
            (create, [chat_id, activity.key, activity.name, *values, most, chat_id, most]),
        ]

    def _read(self, command: Command, answers: list[list[Row]]) -> Activity | None:
        """What the statements of `_effect` did; raises why they did nothing."""
        if isinstance(command, Create):
            _, _, existing, created = answers
            if created:
                return _activity(created[0])
            if existing:
                raise ActivityExists(name=existing[0][0])
            raise TooManyActivities(limit=str(self._max_activities))
        if isinstance(command, Update):
            current, updated = answers
            if updated:
                return _activity(updated[0])
            if current:
                command.changes.applied_to(_activity(current[0]))  # raises: the change was refused for its dates
            raise ActivityNotFound(name=command.name)
        (deleted,) = answers
        if not deleted:
            raise ActivityNotFound(name=command.name)
        return None


_OUTCOMES = (ActivityExists, ActivityNotFound, TooManyActivities, InvalidActivity)
"""Errors that answer a command, rather than tell that the store failed."""


def _find(chat_id: int, name: str) -> Statement:
    return f"SELECT {_COLUMNS} FROM activities_activity WHERE chat_id = %s AND key = %s", [chat_id, name_key(name)]


def _find_chat(chat_id: int) -> Statement:
    return "SELECT timezone, language, tokens_valid_after FROM activities_chat WHERE chat_id = %s", [chat_id]


def _drop_old_records(now: datetime) -> Statement:
    """Two for each new one, so that there are soon none but those that still count."""
    text = """
        DELETE FROM activities_handledrequest WHERE (chat_id, request_id) IN (
            SELECT chat_id, request_id FROM activities_handledrequest
            WHERE handled_at <= %s ORDER BY handled_at LIMIT 2 FOR UPDATE SKIP LOCKED
        )"""
    return text, [now - RECORD_LIFETIME]


def _cut(condition: str, parameters: list[Any], page: Page) -> tuple[Statement, Statement]:
    table = f"FROM activities_activity WHERE {condition}"
    rows = f"SELECT {_COLUMNS} {table} ORDER BY {_order_by(page.order)} LIMIT %s OFFSET %s"
    return (rows, [*parameters, page.limit, page.offset]), (f"SELECT count(*) {table}", parameters)


def _page(answers: list[list[Row]]) -> ActivityPage:
    rows, ((total,),) = answers
    return ActivityPage(tuple(map(_activity, rows)), total)


def _column(order: Order) -> str:
    return "key" if order.field == "name" else order.field


def _order_by(order: Order) -> str:
    first = f"{_column(order)} {'DESC' if order.descending else 'ASC'}"
    return first if order.field == "name" else f"{first}, key ASC"


def _beyond(order: Order, after: Activity) -> tuple[str, list[object]]:
    """The condition for what comes after an activity in an order."""
    column, sign = _column(order), "<" if order.descending else ">"
    if order.field == "name":
        return f"key {sign} %s", [after.key]
    value = getattr(after, order.field)
    # The first half is implied by the second, and lets an index find where to begin.
    return f"{column} {sign}= %s AND ({column} {sign} %s OR key > %s)", [value, value, after.key]


def _activity(row: Row) -> Activity:
    return Activity(*row)


def _chat(chat_id: int, rows: list[Row]) -> Chat:
    return Chat(chat_id, *rows[0]) if rows else Chat(chat_id)


def _written_down(outcome: Outcome) -> str:
    """An outcome as JSON; the shape is the table's, not a wire's."""
    written: dict[str, object] = {}
    if isinstance(outcome, ActivitiesError):
        written = {"error": type(outcome).__name__, "details": outcome.details}
    elif outcome is not None:
        written = {
            "name": outcome.name,
            "begin_date": outcome.begin_date.isoformat(),
            "end_date": outcome.end_date.isoformat(),
            "times_per_day": outcome.times_per_day,
            "quantity_per_time": str(outcome.quantity_per_time),
        }
    return json.dumps(written)


def _read_down(text: str) -> Outcome:
    """The outcome that `_written_down` wrote. Django has the driver leave JSON as text."""
    written = json.loads(text)
    if "error" in written:
        return ERRORS[written["error"]](**written["details"])
    if not written:
        return None
    return Activity(
        written["name"],
        date.fromisoformat(written["begin_date"]),
        date.fromisoformat(written["end_date"]),
        written["times_per_day"],
        Decimal(written["quantity_per_time"]),
    )
