"""The durable store: PostgreSQL, through pgbouncer. Uniqueness and limits are the database's own answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

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
    TooManyActivities,
    Update,
    Violation,
    name_key,
    revoked_at,
)
from activities.ports import RECORD_LIFETIME, Call
from activities.repositories.commands import (
    PURGE_BATCH,
    TOKEN_LIFETIME,
    Record,
    apply_once,
    joined,
    purged_until,
)
from activities.repositories.database import Database, Row, Statement, Transaction

DROP_EVERY = 100
"""After how many new records old ones are looked for."""
_COLUMNS = "name, begin_date, end_date, times_per_day, quantity_per_time"


class PostgresRepository:
    """Activities and chats in PostgreSQL. A single access is one message there and back where SQL allows."""

    def __init__(
        self,
        *,
        max_activities: int = 10_000,
        token_lifetime: timedelta = TOKEN_LIFETIME,
        database: Database | None = None,
    ) -> None:
        self._max_activities = max_activities
        self._token_lifetime = token_lifetime
        self._database = database or Database()
        self._remembered = 0

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        if len(commands) == 1 and commands[0].request_id is commands[0].delivery_id is None:
            return [self._single(commands[0], call)]
        with self._database.transaction(call, writes=True) as transaction:
            state = _State(commands, transaction, now)
            outcomes = [apply_once(command, state, max_activities=self._max_activities) for command in commands]
            transaction.ask(*state.changes(), *self._drop_old_records(state.remembered, now), last=True)
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

    def revoke_tokens(self, chat_id: int, *, now: datetime, call: Call) -> Chat:
        text = f"""
            INSERT INTO activities_chat (chat_id, tokens_valid_after) VALUES (%s, %s)
            ON CONFLICT (chat_id) DO UPDATE SET tokens_valid_after = {_REVOKED}
            RETURNING timezone, language, tokens_valid_after"""
        (rows,) = self._database.ask(call, (text, [chat_id, revoked_at(now)]), writes=True)
        return _chat(chat_id, rows)

    def forget(self, chat_id: int, *, now: datetime, call: Call) -> Sequence[str]:
        with self._database.transaction(call, writes=True) as transaction:
            _, gone, _, _ = transaction.ask(
                _alone([chat_id]),
                ("DELETE FROM activities_activity WHERE chat_id = %s RETURNING key", [chat_id]),
                ("DELETE FROM activities_handledrequest WHERE chat_id = %s", [chat_id]),
                _leave(chat_id, now),
            )
            self._purge(transaction, now)
        return [key for (key,) in gone]

    def move(self, chat_id: int, *, to_chat_id: int, now: datetime, call: Call) -> tuple[Chat, Sequence[str]]:
        both = sorted((chat_id, to_chat_id))
        here: dict[str, Activity] = {}
        there: dict[str, Activity] = {}
        with self._database.transaction(call, writes=True) as transaction:
            _, _, rows = transaction.ask(
                _alone(both),
                ("SELECT FROM activities_chat WHERE chat_id = ANY(%s) ORDER BY chat_id FOR UPDATE", [both]),
                (
                    f"SELECT chat_id, {_COLUMNS} FROM activities_activity WHERE chat_id = ANY(%s) "
                    "ORDER BY chat_id, key FOR UPDATE",
                    [both],
                ),
            )
            for owner, *row in rows:
                activity = Activity(*row)
                (here if owner == chat_id else there)[activity.key] = activity
            ends = joined(here, there)
            *_, chats = transaction.ask(
                *_move(chat_id, to_chat_id, ends), _leave(chat_id, now), _find_chat(to_chat_id), last=True
            )
        return _chat(to_chat_id, chats), [*here]

    def purge(self, *, now: datetime, call: Call) -> bool:
        with self._database.transaction(call, writes=True) as transaction:
            return self._purge(transaction, now)

    def ping(self, *, call: Call) -> None:
        self._database.ask(call, ("SELECT 1", []))

    def close(self) -> None:
        self._database.close()

    def _single(self, command: Command, call: Call) -> Outcome:
        """A command alone and without an id: one message."""
        try:
            return self._read(command, self._database.ask(call, *self._effect(command), writes=True))
        except ActivitiesError as error:
            if isinstance(error, _OUTCOMES):
                return error
            raise

    def _drop_old_records(self, remembered: int, now: datetime) -> list[Statement]:
        """Now and then, two for each new one: so there are soon none but those that still count."""
        self._remembered += remembered  # that others add theirs at the same time does not matter
        if self._remembered < DROP_EVERY:
            return []
        most, self._remembered = 2 * self._remembered, 0
        return [_drop_records(now, most)]

    def _purge(self, transaction: Transaction, now: datetime) -> bool:
        """Ends the transaction. It waits for nobody."""
        records, left = transaction.ask(
            _drop_records(now, PURGE_BATCH), _left_until(purged_until(now, self._token_lifetime))
        )
        # A message of its own: only now is it seen whether somebody created something before the chat was ours alone.
        transaction.ask(*_drop_left([chat_id for chat_id, alone in left if alone]), last=True)
        return PURGE_BATCH in (len(records), len(left))

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
            _alone([chat_id]),
            (chat, [chat_id]),
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


class _State:
    """What some commands look at, read in one message, and what they change, written in one.

    Meanwhile the chats are theirs alone among those who create or bring an id, the activities among all.
    """

    def __init__(self, commands: Sequence[Command], transaction: Transaction, now: datetime) -> None:
        self._now = now
        self._stored: dict[tuple[int, str], Activity] = {}
        self._records: dict[tuple[int, UUID], Record] = {}
        self._new_records: dict[tuple[int, UUID], Record] = {}
        self._counts: Counter[int] = Counter()
        places = {(each.chat_id, _key(each)) for each in commands}
        ids = {(each.chat_id, known) for each in commands for known in (each.request_id, each.delivery_id) if known}
        creating = {each.chat_id for each in commands if isinstance(each, Create)}
        # LIMIT keeps the planner from reading a whole table for many places. They are sorted like the chats: the rows
        # are locked in this order.
        activities = f"""
            SELECT asked.*, {_COLUMNS} FROM unnest(%s::bigint[], %s::text[]) AS asked (chat_id, key), LATERAL (
                SELECT {_COLUMNS} FROM activities_activity AS known
                WHERE known.chat_id = asked.chat_id AND known.key = asked.key LIMIT 1 FOR UPDATE
            ) AS found"""
        records = """
            SELECT asked.*, fingerprint, outcome FROM unnest(%s::bigint[], %s::uuid[]) AS asked (chat_id, id), LATERAL (
                SELECT fingerprint, outcome FROM activities_handledrequest
                WHERE chat_id = asked.chat_id AND request_id = asked.id AND handled_at > %s LIMIT 1
            ) AS found"""
        counts = "SELECT chat_id, count(*) FROM activities_activity WHERE chat_id = ANY(%s) GROUP BY chat_id"
        queued = {each.chat_id for each in commands if each.accepted_at is not None}
        forgotten = "SELECT chat_id, forgotten_at FROM activities_chat WHERE chat_id = ANY(%s)"
        _, stored, known, counted, *left = transaction.ask(
            _alone(sorted({each.chat_id for each in commands})),
            (activities, _columns(sorted(places), 2)),
            (records, [*_columns(ids, 2), now - RECORD_LIFETIME]),
            (counts, [list(creating)]),
            *([(forgotten, [list(queued)])] if queued else []),
        )
        self._forgotten: dict[int, datetime | None] = dict(*left)
        for chat_id, key, *row in stored:
            self._stored[chat_id, key] = Activity(*row)
        for chat_id, known_as, fingerprint, outcome in known:
            self._records[chat_id, known_as] = Record(fingerprint, _read_down(outcome))
        self._counts.update(dict(counted))
        self._current: dict[tuple[int, str], Activity] = dict(self._stored)

    def find(self, chat_id: int, key: str) -> Activity | None:
        return self._current.get((chat_id, key))

    def count(self, chat_id: int) -> int:
        return self._counts[chat_id]

    def put(self, chat_id: int, activity: Activity) -> None:
        self._counts[chat_id] += (chat_id, activity.key) not in self._current
        self._current[chat_id, activity.key] = activity

    def drop(self, chat_id: int, key: str) -> None:
        self._counts[chat_id] -= 1
        del self._current[chat_id, key]

    def record(self, chat_id: int, known_as: UUID) -> Record | None:
        return self._records.get((chat_id, known_as))

    def remember(self, chat_id: int, known_as: UUID, record: Record) -> None:
        self._records[chat_id, known_as] = self._new_records[chat_id, known_as] = record

    def forgotten_at(self, chat_id: int) -> datetime | None:
        return self._forgotten.get(chat_id)

    def changes(self) -> list[Statement]:
        """What makes the database as it is here."""
        new = [(place, now) for place, now in self._current.items() if place not in self._stored]
        changed = [(place, now) for place, now in self._current.items() if self._stored.get(place, now) != now]
        gone = [place for place in self._stored if place not in self._current]
        statements: list[Statement] = []
        if gone:
            delete = """
                DELETE FROM activities_activity USING unnest(%s::bigint[], %s::text[]) AS gone (chat_id, key)
                WHERE activities_activity.chat_id = gone.chat_id AND activities_activity.key = gone.key"""
            statements.append((delete, _columns(gone, 2)))
        if changed:
            update = f"""
                UPDATE activities_activity
                SET name = new.name, begin_date = new.begin_date, end_date = new.end_date,
                    times_per_day = new.times_per_day, quantity_per_time = new.quantity_per_time
                FROM {_ACTIVITIES}
                WHERE activities_activity.chat_id = new.chat_id AND activities_activity.key = new.key"""
            statements.append((update, [_as_json(changed)]))
        if new:
            chats = "INSERT INTO activities_chat (chat_id) SELECT unnest(%s::bigint[]) ON CONFLICT DO NOTHING"
            create = f"INSERT INTO activities_activity (chat_id, key, {_COLUMNS}) SELECT * FROM {_ACTIVITIES}"
            statements += [(chats, [sorted({chat_id for (chat_id, _), _ in new})]), (create, [_as_json(new)])]
        if self._new_records:
            statements.append(self._remember_all())
        return statements

    @property
    def remembered(self) -> int:
        """How many records are new."""
        return len(self._new_records)

    def _remember_all(self) -> Statement:
        rows = [
            (chat_id, known_as, record.fingerprint, _written_down(record.outcome))
            for (chat_id, known_as), record in self._new_records.items()
        ]
        text = """
            INSERT INTO activities_handledrequest (chat_id, request_id, fingerprint, outcome, handled_at)
            SELECT *, %s FROM unnest(%s::bigint[], %s::uuid[], %s::text[], %s::jsonb[])
            ON CONFLICT (chat_id, request_id) DO UPDATE
            SET fingerprint = EXCLUDED.fingerprint, outcome = EXCLUDED.outcome, handled_at = EXCLUDED.handled_at"""
        return text, [self._now, *_columns(rows, 4)]


_ACTIVITIES = """jsonb_to_recordset(%s) AS new (
    chat_id bigint, key text, name text, begin_date date, end_date date, times_per_day smallint,
    quantity_per_time numeric
)"""


def _as_json(activities: Iterable[tuple[tuple[int, str], Activity]]) -> str:
    """Rows for `_ACTIVITIES`."""
    return json.dumps(
        [{"chat_id": chat_id, "key": key, **_fields(activity)} for (chat_id, key), activity in activities],
        ensure_ascii=False,
    )


def _fields(activity: Activity) -> dict[str, object]:
    return {
        "name": activity.name,
        "begin_date": activity.begin_date.isoformat(),
        "end_date": activity.end_date.isoformat(),
        "times_per_day": activity.times_per_day,
        "quantity_per_time": str(activity.quantity_per_time),
    }


def _key(command: Command) -> str:
    return command.activity.key if isinstance(command, Create) else name_key(command.name)


def _columns(rows: Iterable[tuple[object, ...]], count: int) -> list[list[object]]:
    """Rows turned, for `unnest`."""
    turned = [list(column) for column in zip(*rows, strict=True)]
    return turned or [[] for _ in range(count)]


def _alone(chats: Sequence[int]) -> Statement:
    """Keeps others who create, bring an id, forget or move out of these chats until the transaction's end.

    So no two take a chat's last place, and whoever comes with the same id while the first is under way waits for it.
    The chats are sorted, so that no two wait for one another.
    """
    text = "SELECT pg_advisory_xact_lock(hashtextextended('activities.chat', chat)) FROM unnest(%s::bigint[]) AS chat"
    return text, [list(chats)]


_REVOKED = "GREATEST(activities_chat.tokens_valid_after + 1, EXCLUDED.tokens_valid_after)"
"""As `Chat.with_tokens_revoked` has it."""


def _leave(chat_id: int, now: datetime) -> Statement:
    """Of the chat itself, only when it was left and since when tokens are good remains."""
    text = f"""
        INSERT INTO activities_chat (chat_id, tokens_valid_after, forgotten_at) VALUES (%s, %s, %s)
        ON CONFLICT (chat_id) DO UPDATE
        SET timezone = DEFAULT, language = DEFAULT, tokens_valid_after = {_REVOKED},
            forgotten_at = EXCLUDED.forgotten_at"""
    return text, [chat_id, revoked_at(now), now]


def _drop_records(now: datetime, most: int) -> Statement:
    text = """
        DELETE FROM activities_handledrequest WHERE (chat_id, request_id) IN (
            SELECT chat_id, request_id FROM activities_handledrequest
            WHERE handled_at <= %s ORDER BY handled_at LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING 1"""
    return text, [now - RECORD_LIFETIME, most]


def _left_until(until: int) -> Statement:
    """Locks a batch of chats that were left, and tells of which each that it is ours as `_alone` has it."""
    text = """
        SELECT chat_id, pg_try_advisory_xact_lock(hashtextextended('activities.chat', chat_id)) FROM (
            SELECT chat_id FROM activities_chat WHERE forgotten_at IS NOT NULL AND tokens_valid_after <= %s
            ORDER BY tokens_valid_after LIMIT %s FOR UPDATE SKIP LOCKED
        ) AS left_chat"""
    return text, [until, PURGE_BATCH]


def _drop_left(chats: list[int]) -> list[Statement]:
    """Drops these chats, which were left; of one that is used again, that it was."""
    if not chats:
        return []
    drop = """
        DELETE FROM activities_chat AS chat WHERE chat_id = ANY(%s) AND timezone = 'UTC' AND language = 'en'
        AND NOT EXISTS (SELECT FROM activities_activity WHERE activities_activity.chat_id = chat.chat_id)"""
    return [(drop, [chats]), ("UPDATE activities_chat SET forgotten_at = NULL WHERE chat_id = ANY(%s)", [chats])]


def _move(chat_id: int, to_chat_id: int, ends: Mapping[str, Activity | None]) -> list[Statement]:
    """Moves settings, activities and records; `ends` is what becomes of each activity."""
    settings = """
        INSERT INTO activities_chat AS there (chat_id, timezone, language)
        SELECT %s, timezone, language FROM activities_chat WHERE chat_id = %s
        ON CONFLICT (chat_id) DO UPDATE
        SET timezone = COALESCE(NULLIF(there.timezone, 'UTC'), EXCLUDED.timezone),
            language = COALESCE(NULLIF(there.language, 'en'), EXCLUDED.language)"""
    known = [key for key, end in ends.items() if end is None]
    renamed = [(key, end.key, end.name) for key, end in ends.items() if end is not None and end.key != key]
    rename = """
        UPDATE activities_activity SET chat_id = %s, key = new.key, name = new.name
        FROM unnest(%s::text[], %s::text[], %s::text[]) AS new (former, key, name)
        WHERE activities_activity.chat_id = %s AND activities_activity.key = new.former"""
    handled_there = """
        DELETE FROM activities_handledrequest WHERE chat_id = %s
        AND request_id IN (SELECT request_id FROM activities_handledrequest WHERE chat_id = %s)"""
    return [
        (settings, [to_chat_id, chat_id]),
        ("DELETE FROM activities_activity WHERE chat_id = %s AND key = ANY(%s)", [chat_id, known]),
        (rename, [to_chat_id, *_columns(renamed, 3), chat_id]),
        ("UPDATE activities_activity SET chat_id = %s WHERE chat_id = %s", [to_chat_id, chat_id]),
        (handled_there, [chat_id, to_chat_id]),
        ("UPDATE activities_handledrequest SET chat_id = %s WHERE chat_id = %s", [to_chat_id, chat_id]),
    ]


def _find(chat_id: int, name: str) -> Statement:
    return f"SELECT {_COLUMNS} FROM activities_activity WHERE chat_id = %s AND key = %s", [chat_id, name_key(name)]


def _find_chat(chat_id: int) -> Statement:
    return "SELECT timezone, language, tokens_valid_after FROM activities_chat WHERE chat_id = %s", [chat_id]


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
    if isinstance(outcome, InvalidActivity):
        broken = [[each.field, each.code, dict(each.params)] for each in outcome.violations]
        written = {"error": type(outcome).__name__, "violations": broken}
    elif isinstance(outcome, ActivitiesError):
        written = {"error": type(outcome).__name__, "details": outcome.details}
    elif outcome is not None:
        written = _fields(outcome)
    return json.dumps(written)


def _read_down(text: str) -> Outcome:
    """The outcome that `_written_down` wrote. Django has the driver leave JSON as text."""
    written = json.loads(text)
    if "violations" in written:
        return InvalidActivity(Violation(*each) for each in written["violations"])
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
