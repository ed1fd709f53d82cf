"""The admin, as its staff meets it in a browser: a process of its own on PostgreSQL and Redis."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4
from zoneinfo import ZoneInfo

import grpc
import httpx
import psycopg
import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from activities import models
from activities.admin_site import MOST_BY_NAME, WINDOW_SECONDS
from activities.api.guards import PAGE
from activities.bounded_http import NO_PAGE
from activities.domain import name_key
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc
from tests.examples import ODD_NAMES
from tests.integration.traces import traces
from tests.transports.served import SECONDS, SERVICE, VITAMIN, bearer, url_of
from tests.transports.test_headers import inline, is_guarded
from tests.transports.test_processes import Process, manage

PASSWORD = "tests-only-correct-horse"
MOST = 5
"""How many activities a chat may have in this process."""
ACTIVITIES = "/admin/activities/activity/"
CHATS = "/admin/activities/chat/"
FORM = {**{name: str(value) for name, value in VITAMIN.items()}, "name": "Vitamin C"}
SAVED = 302


@dataclass(frozen=True)
class Site:
    """The running product."""

    url: str
    grpc_target: str
    environment: dict[str, str]

    @contextmanager
    def logged_in(self, name: str) -> Iterator[Browser]:
        """A browser of one of the staff."""
        with Browser(self.url) as browser:
            answer = browser.log_in(name)
            assert (answer.status_code, answer.headers["location"]) == (SAVED, "/admin/")
            yield browser

    def api(self, method: str, path: str, chat: int, **fields: Any) -> httpx.Response:
        """What a program gets over HTTP."""
        headers = {**bearer(SERVICE), "x-chat-id": str(chat)}
        return httpx.request(method, self.url + path, headers=headers, json=fields or None, timeout=SECONDS)

    def create(self, chat: int, name: str, **changes: Any) -> None:
        assert self.api("POST", "/api/v1/activities/", chat, **{**VITAMIN, "name": name, **changes}).status_code == 201

    def get(self, chat: int, name: str) -> httpx.Response:
        return self.api("GET", url_of(name), chat)

    def hits(self) -> float:
        """How often the cache had what was looked for."""
        found = re.search(r"^activities_cache_hits_total (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def names(self, chat: int) -> list[str]:
        return [each["name"] for each in self.api("GET", "/api/v1/activities/", chat).json()["results"]]


class Browser(httpx.Client):
    """Keeps cookies, and sends what a form of the page would hold beside its fields."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, timeout=SECONDS, headers={"origin": url})

    def log_in(self, name: str) -> httpx.Response:
        self.get("/admin/login/")
        return self.submit("/admin/login/?next=/admin/", username=name, password=PASSWORD)

    def submit(self, path: str, **fields: Any) -> httpx.Response:
        return self.post(path, data={"csrfmiddlewaretoken": self.cookies.get("csrftoken", ""), **fields})

    def fields(self, path: str) -> dict[str, str]:
        """What a form holds when it is opened."""
        inputs = re.findall(
            r'<input type="(?:text|hidden)" name="(?!csrf)([\w-]+)" value="([^"]*)"', self.get(path).text
        )
        return {name: unescape(value) for name, value in inputs}

    def listed(self, query: str = "", path: str = ACTIVITIES) -> list[str]:
        """The first column of a list."""
        page = self.get(f"{path}?{query}")
        assert page.status_code == 200, page.text
        return [unescape(each) for each in re.findall(r'<th class="field-\w+"><a [^>]*>([^<]*)</a>', page.text)]


def errors(page: httpx.Response) -> dict[str, list[str]]:
    """What a form says of each field; under the empty name, what it says of none."""
    assert page.status_code == 200
    lists = re.findall(r'<ul class="errorlist( nonfield)?"(?: id="id_(\w+)_error")?>(.*?)</ul>', page.text, re.DOTALL)
    return {name: list(map(unescape, re.findall("<li>(.*?)</li>", items))) for _, name, items in lists}


def messages(page: httpx.Response) -> str:
    found = re.search(r'<ul class="messagelist">(.*?)</ul>', page.text, re.DOTALL)
    assert found, page.text
    return unescape(re.sub("<[^>]+>|\\s+", " ", found[1])).strip()


@pytest.fixture(scope="module")
def site(database: None) -> Iterator[Site]:
    url, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    environment = {
        "ACTIVITIES_BACKEND": "postgres",
        "DATABASE_URL": f"{url}/{connection.settings_dict['NAME']}",
        "REDIS_URL": os.environ["REDIS_URL"],
        "DJANGO_SECRET_KEY": os.environ["DJANGO_SECRET_KEY"],
        "ACTIVITIES_SERVICE_TOKENS": os.environ["ACTIVITIES_SERVICE_TOKENS"],
        "ACTIVITIES_MAX_PER_CHAT": str(MOST),
    }
    migrated = manage("migrate", **environment)  # the tests' own process knows neither the admin nor sessions
    assert migrated.returncode == 0, migrated.stderr
    User.objects.create_superuser("head", password=PASSWORD)
    User.objects.create_user("patient", password=PASSWORD)
    User.objects.create_user("newcomer", password=PASSWORD, is_staff=True)
    reader = User.objects.create_user("reader", password=PASSWORD, is_staff=True)
    reader.user_permissions.set(Permission.objects.filter(codename__in=["view_activity", "view_chat"]))
    process = Process("serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", last_line="grpcurl ", **environment)
    try:
        yield Site(process.find(r"^HTTP +(http://[^/]+)/"), process.find(r"^gRPC +(\S+)"), environment)
    finally:
        code, log = process.stop()
    assert code == 0
    assert " ERROR " not in log


@pytest.fixture(scope="module")
def head(site: Site) -> Iterator[Browser]:
    """Who may do everything."""
    with site.logged_in("head") as browser:
        yield browser


_chats = count(os.getpid() * 1000)


@pytest.fixture
def new_chat() -> Callable[[], int]:
    """Gives ids of chats that nobody else has; the cache may be shared with other runs."""
    return lambda: next(_chats)


@pytest.fixture
def chat(new_chat: Callable[[], int]) -> int:
    return new_chat()


def page_of(chat: int, name: str) -> str:
    """Where an activity is changed."""
    row = models.Activity.objects.get(chat=chat, key=name_key(name))
    return f"{ACTIVITIES}{row.pk}/change/"


def changed(**changes: str) -> dict[str, str]:
    """The fields of the change form, filled in."""
    return {**{name: value for name, value in FORM.items() if name != "name"}, **changes}


def history() -> list[tuple[str, int]]:
    """What was noted, newest first: of what, and 1 for an addition, 2 for a change, 3 for a deletion."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT object_repr, action_flag FROM django_admin_log ORDER BY id DESC")
        return list(cursor.fetchall())


@contextmanager
def locked(statement: str, *parameters: object) -> Iterator[None]:
    """While somebody else holds the locks of a statement."""
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(statement, parameters)
        yield
        other.rollback()


# ------------------------------------------------------------------------------------- who may in


@pytest.mark.parametrize("path", ["/admin", "/admin/", ACTIVITIES, f"{ACTIVITIES}add/", CHATS, "/admin/auth/user/"])
def test_strangers_are_sent_to_the_login(site: Site, path: str) -> None:
    with Browser(site.url) as browser:
        answer = browser.get(path, follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/admin/login/")


def test_nothing_is_stored_for_strangers(site: Site, chat: int) -> None:
    with Browser(site.url) as browser:
        browser.get("/admin/login/")
        answer = browser.submit(f"{ACTIVITIES}add/", chat=str(chat), **FORM)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (302, "/admin/login/")
        assert browser.post("/admin/login/", data={"username": "head", "password": PASSWORD}).status_code == 403
    assert site.names(chat) == []


def test_who_is_not_of_the_staff_cannot_log_in(site: Site) -> None:
    with Browser(site.url) as browser:
        answer = browser.log_in("patient")
        assert answer.status_code == 200
        assert "staff account" in answer.text
        assert browser.get("/admin/").status_code == 302


def test_the_session_is_for_the_admin_alone(site: Site) -> None:
    with Browser(site.url) as browser:
        cookies = browser.log_in("newcomer").headers.get_list("set-cookie")
    (cookie,) = (cookie for cookie in cookies if cookie.startswith("activities_admin="))
    assert {"HttpOnly", "Path=/admin/", "SameSite=Lax"} <= set(cookie.split("; "))


def test_cookies_that_are_set_over_tls_are_for_tls_alone() -> None:
    assert Client().get("/api/login/", secure=True, headers={"host": "localhost"}).cookies["csrftoken"]["secure"]
    assert not Client().get("/api/login/", headers={"host": "localhost"}).cookies["csrftoken"]["secure"]


def test_staff_without_permissions_sees_and_changes_nothing(site: Site, chat: int) -> None:
    site.create(chat, "pill")
    with site.logged_in("newcomer") as browser:
        for path in (ACTIVITIES, CHATS, page_of(chat, "pill")):
            assert browser.get(path).status_code == 403
        assert browser.submit(page_of(chat, "pill"), **changed()).status_code == 403
        assert browser.submit(f"{ACTIVITIES}add/", chat=str(chat), **FORM).status_code == 403
    assert site.names(chat) == ["pill"]


def test_staff_that_may_read_reads_only(site: Site, chat: int) -> None:
    site.create(chat, "pill", times_per_day=1)
    page = page_of(chat, "pill")
    with site.logged_in("reader") as browser:
        assert browser.listed(f"q={chat}") == ["pill"]
        assert browser.get(page).status_code == 200
        assert browser.submit(page, **changed()).status_code == 403
        assert browser.submit(page.replace("change", "delete"), post="yes").status_code == 403
        assert browser.submit(f"{CHATS}{chat}/change/", timezone="Asia/Tokyo", language="ru").status_code == 403
        browser.submit(
            ACTIVITIES, action="delete_selected", _selected_action=page.rsplit("/", 3)[1], post="yes", index="0"
        )
    assert site.get(chat, "pill").json()["times_per_day"] == 1


def test_records_of_handled_requests_are_out_of_reach(head: Browser) -> None:
    assert head.get("/admin/activities/handledrequest/").status_code == 404
    assert "andled" not in head.get("/admin/").text


# ------------------------------------------------------------------------------------- activities


def test_staff_adds_changes_and_deletes(site: Site, head: Browser, chat: int) -> None:
    assert head.submit(f"{ACTIVITIES}add/", chat=str(chat), **FORM).status_code == SAVED
    assert site.get(chat, "vitamin c").json() == {**VITAMIN, "name": "Vitamin C"}

    page = page_of(chat, "vitamin c")
    edited = {**head.fields(page), "end_date": "2026-12-31", "times_per_day": "3"}
    assert head.submit(page, **edited).status_code == SAVED
    assert site.get(chat, "vitamin c").json()["end_date"] == "2026-12-31"
    assert site.get(chat, "vitamin c").json()["times_per_day"] == 3
    assert "Changed Last day and Times per day." in head.get(page.replace("change", "history")).text

    assert head.submit(page.replace("change", "delete"), post="yes").status_code == SAVED
    assert site.get(chat, "vitamin c").status_code == 404
    assert history()[:3] == [("activity", 3), ("activity", 2), ("activity", 1)]


def test_names_are_any_that_the_domain_takes(site: Site, head: Browser, new_chat: Callable[[], int]) -> None:
    for name in ODD_NAMES:
        chat = new_chat()
        assert head.submit(f"{ACTIVITIES}add/", **{**FORM, "chat": str(chat), "name": name}).status_code == SAVED
        assert head.listed(urlencode({"q": chat})) == [name]
        assert head.submit(page_of(chat, name), **changed(times_per_day="7")).status_code == SAVED
        assert site.get(chat, name).json()["times_per_day"] == 7


BROKEN = {
    "name": "..",
    "begin_date": "2026-02-30",
    "end_date": "30.07.2026",
    "times_per_day": "101",
    "quantity_per_time": "0.0001",
}


def test_every_broken_rule_is_told_at_its_field_in_the_domains_words(site: Site, head: Browser, chat: int) -> None:
    told = errors(head.submit(f"{ACTIVITIES}add/", chat=str(chat), **BROKEN))
    assert told == site.api("POST", "/api/v1/activities/", chat, **BROKEN).json()
    assert told.keys() == BROKEN.keys()
    empty = errors(head.submit(f"{ACTIVITIES}add/", chat="0", name=" "))
    assert empty.keys() == {"chat", *BROKEN}
    for field, value in BROKEN.items():
        assert errors(head.submit(f"{ACTIVITIES}add/", **{**FORM, "chat": str(chat), field: value})).keys() == {field}
    assert site.names(chat) == []
    assert not models.Chat.objects.filter(chat_id=chat).exists()


def test_a_change_keeps_every_rule_too(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    told = errors(head.submit(page, **changed(begin_date="2026-08-01", times_per_day="0")))
    assert told == {
        "end_date": ["end_date 2026-07-30 is before begin_date 2026-08-01; for example 2026-08-01 or later"],
        "times_per_day": ["'0' is not from 1 to 100; for example 2"],
    }
    for field, value in BROKEN.items():
        if field != "name":
            assert errors(head.submit(page, **changed(**{field: value}))).keys() == {field}
    assert site.get(chat, "pill").json() == {**VITAMIN, "name": "pill"}


def test_a_taken_name_is_told_at_the_name(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "VITAMIN C")
    before = history()
    answer = head.submit(f"{ACTIVITIES}add/", chat=str(chat), **FORM)
    assert errors(answer) == {"name": ["there is an activity VITAMIN C already"]}
    assert 'value="2026-07-20"' in answer.text  # what was typed is still there
    assert site.names(chat) == ["VITAMIN C"]
    assert history() == before


def test_a_full_chat_takes_no_more(site: Site, head: Browser, chat: int) -> None:
    for number in range(MOST):
        site.create(chat, f"pill {number}")
    told = errors(head.submit(f"{ACTIVITIES}add/", chat=str(chat), **FORM))
    assert told == {"": [f"this chat has {MOST} activities, the most there may be; delete one first"]}
    assert len(site.names(chat)) == MOST


def test_what_changed_elsewhere_meanwhile_is_kept(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    shown = head.fields(page)
    site.api("PATCH", url_of("pill"), chat, begin_date="2026-07-01", quantity_per_time=7)

    assert head.submit(page, **{**shown, "times_per_day": "9", "end_date": "2026-07-10"}).status_code == SAVED
    assert site.get(chat, "pill").json() == {
        "name": "pill",
        "begin_date": "2026-07-01",
        "end_date": "2026-07-10",
        "times_per_day": 9,
        "quantity_per_time": 7,
    }


def test_what_was_deleted_meanwhile_is_told(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    site.api("DELETE", url_of("pill"), chat)
    for path in (page, page.replace("change", "delete")):
        answer = head.submit(path, **changed())
        assert answer.status_code == 302
        assert "Perhaps it was deleted?" in messages(head.get(answer.headers["location"]))


def test_a_name_and_its_chat_cannot_be_forged(site: Site, head: Browser, new_chat: Callable[[], int]) -> None:
    chat, other = new_chat(), new_chat()
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    assert not {"chat", "name", "key"} & head.fields(page).keys()
    forged = changed(chat=str(other), name="powder", key="powder", id="1", times_per_day="9")
    assert head.submit(page, **forged).status_code == SAVED
    assert site.get(chat, "pill").json()["times_per_day"] == 9
    assert (site.names(chat), site.names(other)) == (["pill"], [])


def test_a_change_is_seen_by_the_next_get_though_it_was_cached(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    request = pb.ActivityGetRequest(chat_id=chat, name="pill")
    metadata = [("authorization", f"Bearer {SERVICE}")]
    with grpc.insecure_channel(site.grpc_target) as channel:
        get = activities_pb2_grpc.ActivityServiceStub(channel).ActivityGet
        assert get(request, metadata=metadata, timeout=SECONDS).times_per_day == 2
        hits = site.hits()
        assert get(request, metadata=metadata, timeout=SECONDS).times_per_day == 2
        assert site.hits() == hits + 1

        head.submit(page, **changed(times_per_day="3"))
        assert get(request, metadata=metadata, timeout=SECONDS).times_per_day == 3
        assert site.get(chat, "pill").json()["times_per_day"] == 3

        head.submit(page.replace("change", "delete"), post="yes")
        with pytest.raises(grpc.RpcError) as caught:
            get(request, metadata=metadata, timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert site.get(chat, "pill").status_code == 404


def test_a_storage_that_does_not_answer_in_time_is_told_in_the_form(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    page = page_of(chat, "pill")
    with locked("SELECT 1 FROM activities_activity WHERE chat_id = %s FOR UPDATE", chat):
        (told,) = errors(head.submit(page, **changed(times_per_day="9")))[""]
        assert "did not answer in time" in told
        answer = head.submit(page.replace("change", "delete"), post="yes")
        assert "Not deleted: the storage did not answer in time" in messages(head.get(answer.headers["location"]))
    assert site.get(chat, "pill").json()["times_per_day"] == 2


# -------------------------------------------------------------------------------- many of them


def choose(*names: str, chat: int, **fields: str) -> dict[str, Any]:
    """The fields of a list's form with these rows ticked."""
    rows = models.Activity.objects.filter(chat=chat, name__in=names)
    return {"action": "delete_selected", "index": "0", "_selected_action": [str(row.pk) for row in rows], **fields}


def test_the_chosen_ones_are_deleted_after_a_confirmation(site: Site, head: Browser, chat: int) -> None:
    for name in ("one", "two", "three"):
        site.create(chat, name)
        assert site.get(chat, name).status_code == 200  # now it is in the cache
    chosen = choose("one", "two", chat=chat)
    assert "Are you sure" in head.submit(ACTIVITIES, **chosen).text
    assert len(site.names(chat)) == 3

    answer = head.submit(ACTIVITIES, **chosen, post="yes")
    assert messages(head.get(answer.headers["location"])) == "Deleted 2 of 2 activities."
    assert [site.get(chat, name).status_code for name in ("one", "two", "three")] == [404, 404, 200]
    assert history()[:2] == [("activity", 3), ("activity", 3)]


def test_what_could_not_be_deleted_is_not_said_to_be(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    before = history()
    with locked("SELECT 1 FROM activities_activity WHERE chat_id = %s FOR UPDATE", chat):
        answer = head.submit(ACTIVITIES, **choose("pill", chat=chat), post="yes")
        told = messages(head.get(answer.headers["location"]))
    assert "Not all were deleted: the storage did not answer in time" in told
    assert "Deleted 0 of 1 activities." in told
    assert site.get(chat, "pill").status_code == 200
    assert history() == before


@pytest.fixture
def crowd(chat: int) -> Iterator[int]:
    """A chat with more activities than a list counts, made past the rules."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO activities_chat (chat_id) VALUES (%s)", [chat])
        cursor.execute(
            "INSERT INTO activities_activity "
            "(chat_id, key, name, begin_date, end_date, times_per_day, quantity_per_time) "
            "SELECT %s, 'pill ' || n, 'pill ' || n, '2026-01-01', '2026-01-01', 1, 1 "
            "FROM generate_series(1, 10010) n",
            [chat],
        )
        yield chat
        cursor.execute("DELETE FROM activities_activity WHERE chat_id = %s", [chat])


def test_a_long_list_is_counted_so_far_and_no_further(head: Browser, crowd: int) -> None:
    page = head.get(f"{ACTIVITIES}?q={crowd}").text
    assert "The first 10000 of them; search or filter to see others" in page
    assert len(head.listed(f"q={crowd}&p=200")) == 50
    assert head.listed(f"q={crowd}+pill+10003") == ["pill 10003"]


def test_nobody_deletes_thousands_with_one_click(head: Browser, crowd: int) -> None:
    chosen = choose("pill 1", chat=crowd, select_across="1")
    for fields in (chosen, {**chosen, "post": "yes"}):
        answer = head.submit(f"{ACTIVITIES}?q={crowd}", **fields)
        assert "At most 1000" in messages(head.get(answer.headers["location"]))
    assert models.Activity.objects.filter(chat=crowd).count() == 10010


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("{chat}", ["2 Straße", "café", "Витамин D", "100%"]),
        ("{chat} витамин", ["Витамин D"]),
        ("{chat} STRASSE", ["2 Straße"]),
        ("{chat} CAFE\N{COMBINING ACUTE ACCENT}", ["café"]),
        ('{chat} "2"', ["2 Straße"]),
        ("{chat} %", ["100%"]),
        ("{chat} _", []),
        ("{other}", ["pill"]),
        ("{beginning}", []),
        ("{chat}{chat}{chat} of nobody", []),
        ("\0", None),
    ],
)
def test_searching(site: Site, head: Browser, new_chat: Callable[[], int], query: str, found: list[str] | None) -> None:
    chat, other = new_chat(), new_chat()
    for name in ("100%", "Витамин D", "café", "2 Straße"):
        site.create(chat, name)
    site.create(other, "pill")
    listed = head.listed(urlencode({"q": query.format(chat=chat, other=other, beginning=str(chat)[:-1])}))
    assert found is None or listed == found


def test_searching_by_a_name_alone_looks_into_every_chat(
    site: Site, head: Browser, new_chat: Callable[[], int]
) -> None:
    mark = f"mark {new_chat()}"
    for _ in range(2):
        site.create(new_chat(), f"The {mark}")
    assert head.listed(urlencode({"q": f"the MARK {mark[5:]}"})) == [f"The {mark}"] * 2


def test_today_is_each_chats_own(site: Site, head: Browser, new_chat: Callable[[], int]) -> None:
    """Where the day begins first it is always at least a day later than where it begins last."""
    first, last = new_chat(), new_chat()
    site.api("PATCH", "/api/v1/chat/", first, timezone="Pacific/Kiritimati")
    site.api("PATCH", "/api/v1/chat/", last, timezone="Etc/GMT+12")
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).date()
    periods = {"begins": (0, 2), "ended": (-30, -1), "far": (5, 9)}
    for chat in (first, last):
        for name, (begin, end) in periods.items():
            dates = {"begin_date": today + timedelta(days=begin), "end_date": today + timedelta(days=end)}
            site.create(chat, name, **{field: str(day) for field, day in dates.items()})
    listed = {
        (chat, state): head.listed(f"q={chat}&today={state}")
        for chat in (first, last)
        for state in ("active", "ended", "coming")
    }
    assert listed == {
        (first, "active"): ["begins"],
        (first, "ended"): ["ended"],
        (first, "coming"): ["far"],
        (last, "active"): ["ended"],
        (last, "ended"): [],
        (last, "coming"): ["far", "begins"],
    }
    column = re.findall(r'<td class="field-today">([^<]*)', head.get(f"{ACTIVITIES}?q={last}").text)
    assert column == ["to come", "active", "to come"]


def test_filters(site: Site, head: Browser, new_chat: Callable[[], int]) -> None:
    chat, russian = new_chat(), new_chat()
    site.api("PATCH", "/api/v1/chat/", russian, language="ru")
    soon = datetime.now(UTC).date() + timedelta(days=3)
    site.create(chat, "soon", begin_date=str(soon), end_date="2999-12-31", times_per_day=1)
    site.create(chat, "over soon", begin_date="2001-01-01", end_date=str(soon), times_per_day=5)
    site.create(chat, "long ago", begin_date="2001-01-01", end_date="2002-01-01", times_per_day=10)
    site.create(russian, "таблетка")

    def listed(query: str) -> list[str]:
        return head.listed(f"q={chat}&{query}")

    assert listed("begin_date=next") == ["soon"]
    assert listed("end_date=next") == ["over soon"]
    assert listed("begin_date=past") == []
    assert [listed(f"times={times}") for times in ("1", "2", "4-9", "10-")] == [
        ["soon"],
        [],
        ["over soon"],
        ["long ago"],
    ]
    assert listed("language=ru") == []
    assert head.listed(f"q={russian}&language=ru") == ["таблетка"]
    assert listed("times=nonsense") == ["long ago", "over soon", "soon"]


def test_lists_are_ordered_as_the_columns_say(site: Site, head: Browser, chat: int) -> None:
    for times, name in enumerate(("b", "Ä", "C", "a"), 1):
        site.create(chat, name, times_per_day=times)
    assert head.listed(f"q={chat}") == ["a", "C", "Ä", "b"]  # the newest first
    assert head.listed(f"q={chat}&o=1") == ["a", "b", "C", "Ä"]  # as everywhere else: by the name's key
    assert head.listed(f"q={chat}&o=5") == ["b", "Ä", "C", "a"]


def test_a_list_that_takes_too_long_is_given_up(site: Site, head: Browser, chat: int) -> None:
    with locked("LOCK TABLE activities_activity IN ACCESS EXCLUSIVE MODE"):
        answer = head.get(ACTIVITIES)
    assert answer.status_code == 503
    assert "did not answer in time" in answer.text


def test_an_address_that_the_database_cannot_read_is_told(head: Browser) -> None:
    assert head.get(f"{ACTIVITIES}?name__contains=%00").status_code == 400


# -------------------------------------------------------------------------------------------- chats


def test_a_chat_is_changed(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    answer = head.submit(f"{CHATS}{chat}/change/", timezone="Asia/Tokyo", language="ru")
    assert answer.status_code == SAVED
    stored = site.api("GET", "/api/v1/chat/", chat).json()
    assert (stored["timezone"], stored["language"]) == ("Asia/Tokyo", "ru")
    assert history()[0] == ("chat", 2)


def test_a_chat_keeps_its_rules(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    before = site.api("GET", "/api/v1/chat/", chat).json()
    told = errors(head.submit(f"{CHATS}{chat}/change/", timezone="Europe/Nowhere", language="tlh"))
    assert told == site.api("PATCH", "/api/v1/chat/", chat, timezone="Europe/Nowhere", language="tlh").json()
    assert told.keys() == {"timezone", "language"}
    forged = {"chat_id": str(chat + 500), "tokens_valid_after": "9999999999"}
    assert head.submit(f"{CHATS}{chat}/change/", timezone="UTC", language="en", **forged).status_code == SAVED
    assert site.api("GET", "/api/v1/chat/", chat).json() == before
    assert not models.Chat.objects.filter(chat_id=chat + 500).exists()


def test_a_chat_is_neither_added_nor_deleted_here(site: Site, head: Browser, chat: int) -> None:
    site.create(chat, "pill")
    assert head.get(f"{CHATS}add/").status_code == 403
    assert head.submit(f"{CHATS}{chat}/delete/", post="yes").status_code == 403
    assert 'value="delete_selected"' not in head.get(CHATS).text
    head.submit(CHATS, action="delete_selected", _selected_action=str(chat), index="0", post="yes")
    assert site.names(chat) == ["pill"]


def test_nothing_that_the_staff_did_outlives_a_forgotten_chat(site: Site, head: Browser, chat: int) -> None:
    """Of names and of the chat itself; that something was done stays."""
    before, first, second = len(history()), f"Метотрексат {uuid4().hex}", f"Second {uuid4().hex}"
    for name in (first, second):
        assert head.submit(f"{ACTIVITIES}add/", chat=str(chat), **{**FORM, "name": name}).status_code == SAVED
    for times in ("3", "4"):
        page = page_of(chat, first)
        assert head.submit(page, **{**head.fields(page), "times_per_day": times}).status_code == SAVED
    assert head.submit(f"{CHATS}{chat}/change/", timezone="Europe/Moscow", language="ru").status_code == SAVED
    page = page_of(chat, first)
    assert head.submit(page.replace("change", "delete"), post="yes").status_code == SAVED
    assert head.submit(ACTIVITIES, **choose(second, chat=chat), post="yes").status_code == SAVED
    assert head.submit(f"{ACTIVITIES}add/", chat=str(chat), **{**FORM, "name": first}).status_code == SAVED
    assert head.get("/admin/").status_code == 200
    assert [kind for kind, _ in history()[: len(history()) - before]] == [*["activity"] * 3, "chat", *["activity"] * 4]

    database = psycopg.connect(**connection.get_connection_params())
    with database as direct, redis.Redis.from_url(os.environ["REDIS_URL"]) as stored:
        direct.read_only = True
        assert "activities_activity" in traces(direct, stored, first)
        assert site.api("DELETE", "/api/v1/chat/", chat).status_code == 204
        for text in (first, second, name_key(first), first.split()[1]):
            assert traces(direct, stored, text) == []
        assert traces(direct, stored, str(chat)) == ["activities_chat"]


def test_chats_are_found(site: Site, head: Browser, new_chat: Callable[[], int]) -> None:
    group, person = -new_chat(), new_chat()
    site.api("PATCH", "/api/v1/chat/", group, timezone="Antarctica/Troll", language="ru")
    site.api("PATCH", "/api/v1/chat/", person, timezone="America/New_York")
    assert head.listed(f"q={group}", CHATS) == [str(group)]
    assert str(group) in head.listed("q=troll", CHATS)
    assert head.listed("q=troll&language=en", CHATS) == []
    assert str(person) in head.listed(f"q={quote('new york')}", CHATS)
    assert head.listed(f"q={group}0", CHATS) == []


# --------------------------------------------------------------------------------------- the entrance


def test_who_fails_too_often_is_told_to_wait(site: Site) -> None:
    User.objects.create_user("besieged", password=PASSWORD, is_staff=True)
    with Browser(site.url) as browser:
        browser.get("/admin/login/")
        for _ in range(MOST_BY_NAME):
            failed = browser.submit("/admin/login/", username="besieged", password="wrong")
            assert (failed.status_code, "besieged" in failed.text) == (200, True)
        refused = browser.submit("/admin/login/", username="besieged", password=PASSWORD)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
        assert "Too many attempts" in refused.text
        assert "besieged" not in refused.text
        assert inline(refused.text) == []
        assert browser.log_in("head").status_code == SAVED  # others get in


@pytest.mark.parametrize(
    "path", ["", "activities/activity/", "activities/activity/add/", "activities/chat/", "auth/user/add/", "jsi18n/"]
)
def test_pages_of_the_admin_run_nothing_but_files_of_ours(head: Browser, path: str) -> None:
    page = head.get(f"/admin/{path}")
    is_page = page.headers["content-type"].startswith("text/html")
    assert page.status_code == 200
    assert is_guarded(page, PAGE if is_page else NO_PAGE)
    assert not is_page or ("no-store" in page.headers["cache-control"] and inline(page.text) == [])


def test_a_session_is_new_with_the_login_and_over_with_the_logout(site: Site) -> None:
    with Browser(site.url) as browser:
        browser.get("/admin/login/")
        browser.cookies.set("activities_admin", "chosenbysomebodyelse0123456789ab", "127.0.0.1", "/admin/")
        answer = browser.log_in("head")
        (cookie,) = (each for each in answer.headers.get_list("set-cookie") if each.startswith("activities_admin="))
        assert "chosenbysomebodyelse" not in cookie
        (csrf,) = (each for each in answer.headers.get_list("set-cookie") if each.startswith("csrftoken="))
        assert {"HttpOnly", "SameSite=Strict"} <= set(csrf.split("; "))
        kept = cookie.split(";")[0].split("=")[1]
        assert browser.get("/admin/logout/").status_code == 405
        assert browser.get("/admin/").status_code == 200
        assert browser.submit("/admin/logout/").status_code == 200
        stolen = httpx.get(f"{site.url}/admin/", cookies={"activities_admin": kept})
        assert stolen.headers["location"].startswith("/admin/login/")


def test_the_admin_can_be_elsewhere(site: Site) -> None:
    environment = {**site.environment, "DJANGO_ADMIN_PATH": "staff/door"}
    process = Process("serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", last_line="grpcurl ", **environment)
    try:
        url = process.find(r"^HTTP +(http://[^/]+)/")
        assert httpx.get(f"{url}/admin/").status_code == 404
        assert httpx.get(f"{url}/staff/door").headers["location"] == "/staff/door/"
        with Browser(url) as browser:
            browser.get("/staff/door/login/")
            form = {"username": "head", "password": PASSWORD}
            answer = browser.submit("/staff/door/login/?next=/staff/door/", **form)
            assert answer.headers["location"] == "/staff/door/"
            assert browser.get("/staff/door/").status_code == 200
    finally:
        process.stop()
