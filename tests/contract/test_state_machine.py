"""The use cases against a plain model of the contract, in sequences that nobody thought of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    ChatChanges,
    InvalidActivity,
    Page,
    read_order,
)
from activities.ports import Call
from tests.contract.backends import BACKENDS, Backend, starting

MOST = 3
"""How many activities a chat may have here, so that chats get full."""
CHATS = 2
SEQUENCES = {"use-cases": 200, "postgres": 200}
"""How many sequences; the longer the way, the fewer."""
SEQUENCES_FAR = 25

KEYS = {
    "Café": "café",
    "CAFÉ": "café",
    "straße": "strasse",
    "STRASSE": "strasse",
    "Пилюля": "пилюля",
    "пилюля": "пилюля",
    "%2F": "%2f",
    "a//b": "a//b",
}
"""Names and what makes each unique, by hand."""

# ------------------------------------------------------------------------------------------- the model

Answer = object
"""A dict for an activity, a list for a page or a stream, None for a delete, or `(error's name, what it tells)`."""


@dataclass
class Model:
    """One chat as the contract describes it."""

    zone: str = "UTC"
    activities: dict[str, dict[str, object]] = field(default_factory=dict)
    answers: dict[UUID, tuple[object, Answer, datetime]] = field(default_factory=dict)

    def write(self, request: tuple, request_id: UUID | None, now: datetime) -> Answer:
        """The answer to a request, or the first one's to the second of its id within 24 hours."""
        if request_id is None:
            return self._effect(*request)
        known = self.answers.get(request_id)
        if known is not None and now - known[2] < timedelta(hours=24):
            return known[1] if known[0] == meaning(request) else ("RequestIdReused", {})
        answer = self._effect(*request)
        if not isinstance(answer, tuple) or answer[0] in ("ActivityExists", "ActivityNotFound"):
            self.answers[request_id] = (meaning(request), answer, now)
        return answer

    def _effect(self, kind: str, name: str, fields: dict[str, object]) -> Answer:
        key = KEYS[name]
        found = self.activities.get(key)
        if kind == "create":
            if found is not None:
                return "ActivityExists", {"name": found["name"]}
            if len(self.activities) == MOST:
                return "TooManyActivities", {"limit": str(MOST)}
            self.activities[key] = {"name": name, **fields}
            return self.activities[key]
        if found is None:
            return "ActivityNotFound", {"name": name}
        if kind == "delete":
            del self.activities[key]
            return None
        changed = {**found, **fields}
        if changed["begin_date"] > changed["end_date"]:  # type: ignore[operator]
            return "InvalidActivity", ["end_date" if "end_date" in fields else "begin_date"]
        self.activities[key] = changed
        return changed

    def get(self, name: str) -> Answer:
        return self.activities.get(KEYS[name], ("ActivityNotFound", {"name": name}))

    def ordered(self, order: str, only: Callable[[dict], bool] = lambda each: True) -> list[dict[str, object]]:
        def value(each: dict) -> object:
            return KEYS[each["name"]] if order.endswith("name") else each[order.removeprefix("-")]

        by_name = [self.activities[key] for key in sorted(self.activities) if only(self.activities[key])]
        return sorted(by_name, key=value, reverse=order.startswith("-"))  # type: ignore[arg-type]

    def today(self, order: str, now: datetime) -> list[dict[str, object]]:
        day = now.astimezone(ZoneInfo(self.zone)).date()
        return self.ordered(order, lambda each: each["begin_date"] <= day <= each["end_date"])


def meaning(request: tuple) -> object:
    """What makes two requests the same: a created name is shown as written, any other is looked up by its key."""
    kind, name, fields = request
    return kind, name if kind == "create" else KEYS[name], fields


# --------------------------------------------------------------------------------- the real answer


def written(activity: Activity) -> dict[str, object]:
    return {
        "name": activity.name,
        "begin_date": activity.begin_date,
        "end_date": activity.end_date,
        "times_per_day": activity.times_per_day,
        "quantity_per_time": activity.quantity_per_time,
    }


def answer(ask: Callable[[], object]) -> Answer:
    """The answer of a port in the model's terms."""
    try:
        result = ask()
    except InvalidActivity as error:
        return "InvalidActivity", list(error.by_field)
    except ActivitiesError as error:
        return type(error).__name__, error.details
    if isinstance(result, Activity):
        return written(result)
    if isinstance(result, ActivityPage):
        return [written(each) for each in result.activities], result.total
    return result


# ------------------------------------------------------------------------------------- the machine

chats = st.integers(0, CHATS - 1)
names = st.sampled_from(sorted(KEYS))
days = st.integers(-3, 3)
lengths = st.integers(0, 3)
orders = st.sampled_from(
    [
        sign + name
        for name in ("name", "begin_date", "end_date", "times_per_day", "quantity_per_time")
        for sign in ("", "-")
    ]
)
times = st.integers(1, 3)
quantities = st.sampled_from([Decimal("0.5"), Decimal("0.125"), Decimal(1000)])

_ids = count(10_000)


def neighbours() -> Iterator[tuple[int, int]]:
    """Ids of chats that could be taken for one another: next to each other, of opposite signs, at both ends."""
    while True:
        one, other, last = next(_ids), next(_ids), next(_ids)
        yield from ((one, other), (last, -last), (2**63 - last, last - 2**63))


_chats = neighbours()


class UseCases(RuleBasedStateMachine):
    """Drives the use cases of several chats; a subclass names the backend."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        # Chats that no other sequence has; the clock never goes back, so that old answers are old.
        self.ids = next(_chats)
        self.models = [Model() for _ in range(CHATS)]
        self.sent: list[tuple[int, tuple, UUID]] = []

    @property
    def now(self) -> datetime:
        return self.backend.clock.now

    @property
    def day(self) -> date:
        return self.now.date()

    # Writes

    @rule(
        chat=chats, name=names, begin=days, length=lengths, times=times, quantity=quantities, repeatable=st.booleans()
    )
    def create(self, *, chat, name, begin, length, times, quantity, repeatable):
        begin_date = self.day + timedelta(begin)
        fields = {
            "begin_date": begin_date,
            "end_date": begin_date + timedelta(length),
            "times_per_day": times,
            "quantity_per_time": quantity,
        }
        self.write(chat, ("create", name, fields), repeatable=repeatable)

    @rule(
        chat=chats,
        name=names,
        begin=st.none() | days,
        end=st.none() | days,
        times=st.none() | times,
        quantity=st.none() | quantities,
        repeatable=st.booleans(),
    )
    def update(self, *, chat, name, begin, end, times, quantity, repeatable):
        if begin is not None and end is not None:
            begin, end = sorted([begin, end])
        given = {
            "begin_date": None if begin is None else self.day + timedelta(begin),
            "end_date": None if end is None else self.day + timedelta(end),
            "times_per_day": times,
            "quantity_per_time": quantity,
        }
        fields = {name: value for name, value in given.items() if value is not None}
        self.write(chat, ("update", name, fields), repeatable=repeatable)

    @rule(chat=chats, name=names, repeatable=st.booleans())
    def delete(self, chat, name, repeatable):
        self.write(chat, ("delete", name, {}), repeatable=repeatable)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 1000))
    def repeat(self, which):
        chat, request, request_id = self.sent[which % len(self.sent)]
        self.send(chat, request, request_id)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 1000), chat=chats, name=names, kind=st.sampled_from(["update", "delete"]))
    def reuse(self, which, chat, name, kind):
        """The id of one request comes with another, or in another chat, where it is as good as new."""
        _, _, request_id = self.sent[which % len(self.sent)]
        self.send(chat, (kind, name, {}), request_id)

    def write(self, chat: int, request: tuple, *, repeatable: bool) -> None:
        request_id = UUID(int=next(_ids)) if repeatable else None
        if request_id is not None:
            self.sent.append((chat, request, request_id))
        self.send(chat, request, request_id)

    def send(self, chat: int, request: tuple, request_id: UUID | None) -> None:
        kind, name, fields = request
        port, chat_id, call = self.backend.activities, self.ids[chat], Call(request_id=request_id)
        asks: dict[str, Callable[[], object]] = {
            "create": lambda: port.create(chat_id, activity=Activity(name, **fields), call=call),
            "update": lambda: port.update(chat_id, name=name, changes=ActivityChanges(**fields), call=call),
            "delete": lambda: port.delete(chat_id, name=name, call=call),
        }
        assert answer(asks[kind]) == self.models[chat].write(request, request_id, self.now)

    # Reads

    @rule(chat=chats, name=names)
    def get(self, chat, name):
        found = answer(lambda: self.backend.activities.get(self.ids[chat], name=name, call=Call()))
        assert found == self.models[chat].get(name)

    @rule(chat=chats, order=orders, limit=st.integers(1, MOST), offset=st.integers(0, MOST))
    def list_page(self, chat, order, limit, offset):
        page = Page(limit, offset, read_order(order))
        found = answer(lambda: self.backend.activities.list(self.ids[chat], page=page, call=Call()))
        expected = self.models[chat].ordered(order)
        assert found == (expected[offset : offset + limit], len(expected))

    @rule(chat=chats, order=orders, limit=st.integers(1, MOST), offset=st.integers(0, MOST))
    def today(self, chat, order, limit, offset):
        page = Page(limit, offset, read_order(order))
        found = answer(lambda: self.backend.activities.today(self.ids[chat], page=page, call=Call()))
        expected = self.models[chat].today(order, self.now)
        assert found == (expected[offset : offset + limit], len(expected))

    @rule(chat=chats, order=orders)
    def stream(self, chat, order):
        found = self.backend.activities.stream(self.ids[chat], order=read_order(order), call=Call())
        assert list(map(written, found)) == self.models[chat].ordered(order)

    # The world

    @rule(chat=chats, zone=st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Moscow"]))
    def move(self, chat, zone):
        self.models[chat].zone = zone
        self.backend.chats.update(self.ids[chat], changes=ChatChanges(timezone=zone), call=Call())

    @precondition(lambda self: not self.backend.is_queued)  # the broker's clock says what was accepted before
    @rule(chat=chats)
    def forget(self, chat):
        self.models[chat] = Model()
        self.backend.chats.forget(self.ids[chat], call=Call())

    @rule(hours=st.integers(1, 30))
    def wait(self, hours):
        self.backend.clock.now += timedelta(hours=hours)

    @invariant()
    def every_chat_counts_its_own(self):
        for chat_id, model in zip(self.ids, self.models, strict=True):
            page = self.backend.activities.list(chat_id, page=Page(limit=1), call=Call())
            assert page.total == len(model.activities) <= MOST


@pytest.fixture(scope="module", params=BACKENDS)
def named_backend(request: pytest.FixtureRequest) -> Iterator[tuple[str, Backend]]:
    with starting(request, MOST) as backend:
        yield request.param, backend


def test_the_use_cases_do_what_the_model_does(named_backend):
    name, backend = named_backend
    machine = type("UseCasesOnBackend", (UseCases,), {"backend": backend})
    examples = SEQUENCES.get(name, SEQUENCES_FAR)
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=50))
