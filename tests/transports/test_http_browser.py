"""The HTTP interface as a browser meets it: the cookie, the pages, the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest
from django.test import Client

from activities.container import container
from activities.domain import Chat, StorageTimeout, StorageUnavailable
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from tests.examples import ODD_NAMES
from tests.transports.served import ACTIVITIES, SERVICE, VITAMIN, Served, bearer, serving, url_of

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"accept": "application/json"}
LOGIN = "/api/login/"
COOKIE = "activities_token"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    """A browser that has nothing yet. Like one, it names the page that it comes from."""
    with served.anonymous() as client:
        client.headers.update({**HTML, "origin": served.base_url})
        yield client


def hidden(page: str, name: str = "csrfmiddlewaretoken") -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found
    return unescape(found[1])


def log_in(browser: httpx.Client, token: str, url: str = LOGIN, **fields: str) -> httpx.Response:
    page = browser.get(url).text
    form = {"csrfmiddlewaretoken": hidden(page), "next": hidden(page, "next"), "token": token}
    return browser.post(LOGIN, data={**form, **fields})


def csrf(page: str) -> dict[str, str]:
    """The header that the scripts of a page of ours send."""
    found = re.search(r'"csrfToken": "([^"]+)"', page)
    assert found
    return {"x-csrftoken": found[1]}


# ------------------------------------------------------------------------------------- the cookie


def test_a_browser_logs_in_by_the_form_and_out_by_the_button(served: Served, browser: httpx.Client) -> None:
    refused = browser.get("/api/v1/chat/")
    assert refused.status_code == 401
    link = re.search(r'href="(/api/login/[^"]*)"', refused.text)
    assert link

    answer = log_in(browser, served.container.access.issue(7), unescape(link[1]))
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/chat/")
    page = browser.get("/api/v1/chat/")
    assert page.status_code == 200
    assert "chat 7" in page.text

    out = browser.post("/api/logout/", data={"csrfmiddlewaretoken": hidden(page.text)})
    assert (out.status_code, out.headers["location"]) == (303, LOGIN)
    assert browser.get("/api/v1/chat/").status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(served: Served, browser: httpx.Client) -> None:
    cookies = log_in(browser, served.container.access.issue(7)).headers.get_list("set-cookie")
    (cookie,) = (cookie for cookie in cookies if cookie.startswith(COOKIE))
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_over_tls_the_cookie_is_for_tls_alone() -> None:
    answer = Client().post(LOGIN, {"token": container().access.issue(7)}, secure=True, headers={"host": "localhost"})
    assert answer.status_code == 303
    assert answer.cookies[COOKIE]["secure"] is True


def test_a_program_logs_in_with_one_request(served: Served) -> None:
    token = served.container.access.issue(7)
    with served.anonymous() as client:
        assert client.post(LOGIN, data={"token": token}).status_code == 303
        assert client.get("/api/v1/chat/").json()["chat_id"] == 7
    with served.anonymous() as client:
        answer = client.post(LOGIN, json={"token": token}, headers=JSON)
        assert (answer.status_code, answer.json()) == (200, {"chat_id": 7})
        assert client.get("/api/v1/chat/").json()["chat_id"] == 7
        assert client.post("/api/logout/", headers=JSON).status_code == 403


@pytest.mark.parametrize(
    ("token", "status"), [("", 400), ("nonsense", 401), ("act_é", 401), ("act_x:y", 401), (SERVICE, 403)]
)
def test_only_a_good_token_of_a_chat_logs_in(served: Served, browser: httpx.Client, token: str, status: int) -> None:
    page = log_in(browser, token)
    assert page.status_code == status
    assert 'role="alert"' in page.text
    assert token == "" or token not in page.text
    with served.anonymous() as client:
        for answer in (
            client.post(LOGIN, json={"token": token}),
            client.post(LOGIN, data={"token": token}, headers=JSON),
        ):
            assert answer.status_code == status
            assert answer.json().keys() == ({"token"} if status == 400 else {"error", "detail"})
    for each in (page, answer):
        assert COOKIE not in each.headers.get("set-cookie", "")
        assert (each.headers.get("www-authenticate") == "Bearer") or status != 401


@pytest.mark.parametrize("body", ['{"token": "\\ud800"}', '{"token": 5}', '{"token": null}', "[]", "{"])
def test_a_token_that_is_none_is_refused(served: Served, body: str) -> None:
    assert served.send_json("POST", LOGIN, body).status_code in (400, 401)


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/api/docs/", "/api/docs/"),
        (url_of("a/b"), url_of("a/b")),
        ("https://elsewhere.example/", ACTIVITIES),
        ("//elsewhere.example/", ACTIVITIES),
        ("/\\elsewhere.example/", ACTIVITIES),
        ("javascript:alert(1)", ACTIVITIES),
        ("/é", ACTIVITIES),
        ("", ACTIVITIES),
    ],
)
def test_a_login_leads_only_to_pages_of_ours(served: Served, browser: httpx.Client, wanted: str, location: str) -> None:
    token = served.container.access.issue(7)
    assert log_in(browser, token, next=wanted).headers["location"] == location
    assert hidden(browser.get(LOGIN, params={"next": wanted}).text, "next") == location


def test_another_site_can_log_nobody_in(served: Served, browser: httpx.Client) -> None:
    form = {"token": served.container.access.issue(7), "csrfmiddlewaretoken": hidden(browser.get(LOGIN).text)}
    for headers in ({"origin": "https://elsewhere.example"}, {"origin": "null"}):
        answer = browser.post(LOGIN, data=form, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "PermissionDenied")
    assert browser.post(LOGIN, data={"token": form["token"]}).status_code == 403


def test_a_change_by_cookie_needs_a_page_of_ours(served: Served, browser: httpx.Client) -> None:
    log_in(browser, served.container.access.issue(8))
    browser.headers.update(JSON)
    for method, url in (
        ("POST", ACTIVITIES),
        ("PUT", url_of("vitamin C")),
        ("PATCH", url_of("vitamin C")),
        ("DELETE", url_of("vitamin C")),
        ("PATCH", "/api/v1/chat/"),
        ("POST", "/api/logout/"),
    ):
        refused = browser.request(method, url, json=VITAMIN)
        assert (refused.status_code, refused.json()["error"]) == (403, "PermissionDenied")
        assert refused.json().keys() == {"error", "detail"}
    proof = csrf(browser.get("/api/v1/chat/", headers=HTML).text)
    assert browser.post(ACTIVITIES, json=VITAMIN, headers=proof).status_code == 201
    elsewhere = {**proof, "origin": "https://elsewhere.example"}
    assert browser.delete(url_of("vitamin C"), headers=elsewhere).status_code == 403
    assert browser.delete(url_of("vitamin C"), headers=proof).status_code == 204


def test_the_header_wins_over_the_cookie_and_needs_no_proof(served: Served, browser: httpx.Client) -> None:
    log_in(browser, served.container.access.issue(9))
    other = bearer(served.container.access.issue(10))
    assert browser.get("/api/v1/chat/", headers={**JSON, **other}).json()["chat_id"] == 10
    assert browser.patch("/api/v1/chat/", json={}, headers={**JSON, **other}).status_code == 200
    assert browser.get("/api/v1/chat/", headers={**JSON, **bearer("nonsense")}).status_code == 401


def test_a_cookie_that_we_did_not_sign_opens_nothing(served: Served, browser: httpx.Client) -> None:
    token = served.container.access.issue(7)
    for value in (token, f"{token}:forged:signature", "", '"'):
        assert browser.get("/api/v1/chat/", headers={"cookie": f"{COOKIE}={value}"}).status_code == 401


# -------------------------------------------------------------------------------------- the pages


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_forms_of_the_pages_work_for_any_name(served: Served, browser: httpx.Client, name: str) -> None:
    log_in(browser, served.container.access.issue(100 + ODD_NAMES.index(name)))
    page = browser.get(ACTIVITIES).text
    fields: dict[str, Any] = {**VITAMIN, "name": name, "csrfmiddlewaretoken": hidden(page)}
    assert browser.post(form_of(page, "POST"), files=parts(fields)).status_code == 201

    page = browser.get(url_of(name)).text
    assert unescape(page).count(f'value="{name}"') == 1
    breadcrumbs = re.findall(r'<li[^>]*><a href="([^"]*)"', page[page.index("breadcrumb") :])
    assert breadcrumbs == [ACTIVITIES, url_of(name)]
    changed = browser.put(form_of(page, "PUT"), files=parts({**fields, "times_per_day": 9}), headers=csrf(page))
    assert changed.status_code == 200
    assert browser.get(url_of(name), headers=JSON).json()["times_per_day"] == 9
    assert browser.delete(form_of(page, "DELETE"), headers=csrf(page)).is_success
    assert browser.get(url_of(name)).status_code == 404


def form_of(page: str, method: str) -> str:
    """Where a page's form for this method goes."""
    found = re.search(f'action="([^"]*)"\\s+(?:data-)?method="{method}"', page)
    assert found
    return unescape(found[1])


def parts(fields: dict[str, Any]) -> dict[str, tuple[None, str]]:
    return {name: (None, str(value)) for name, value in fields.items()}


@pytest.mark.parametrize("url", [ACTIVITIES, "/api/v1/today/", "/api/v1/chat/", LOGIN, "/api/docs/"])
def test_a_page_and_all_that_it_loads_come_from_here(served: Served, url: str) -> None:
    page = served.client.get(url, headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r'(?:<script[^>]* src|<link[^>]* href|<img[^>]* src)="(?!/|data:)[^"]*"', page.text) == []
    for asset in re.findall(r'(?:<script[^>]* src|<link[^>]* href)="(/[^"]*)"', page.text):
        assert served.client.get(asset).status_code == 200


def test_the_root_leads_to_the_documentation(served: Served) -> None:
    assert served.client.get("/").headers["location"] == "/api/docs/"


def test_the_documentation_sends_the_proof_that_changes_by_cookie_need(served: Served, browser: httpx.Client) -> None:
    log_in(browser, served.container.access.issue(11))
    page = browser.get("/api/docs/").text
    url = re.search(r'<script src="([^"]*script=[^"]*)"', page)
    assert url
    script = browser.get(unescape(url[1])).text
    sent = re.search(r'request.headers\["(X-CSRFTOKEN)"\] = "(\w+)"', script, re.IGNORECASE)
    assert sent
    assert browser.patch("/api/v1/chat/", json={}, headers={**JSON, sent[1]: sent[2]}).status_code == 200
    assert '"validatorUrl": null' in script


def test_no_parameter_disturbs_the_schema_or_its_page(served: Served) -> None:
    for path in ("/api/schema/", "/api/docs/"):
        for query in ("version=%00", "version=1", "lang=%00"):
            assert served.client.get(f"{path}?{query}").status_code == 200


def test_the_schema_tells_all_of_every_operation(served: Served) -> None:
    schema = served.client.get("/api/schema/?format=json").json()
    operations = {
        operation["operationId"]: operation for path in schema["paths"].values() for operation in path.values()
    }
    assert operations.keys() == {
        "listActivities", "createActivity", "getActivity", "replaceActivity", "updateActivity", "deleteActivity",
        "listToday", "streamActivities", "getChat", "updateChat", "forgetChat",
        "login", "loginPage", "logout", "health", "ready",
    }  # fmt: skip
    for operation_id, operation in operations.items():
        assert operation["summary"]
        assert operation["description"]
        for status, answer in operation["responses"].items():
            if status not in ("204", "303"):
                (content, *_) = answer["content"].values()
                assert "schema" in content
                assert content.get("examples"), (operation_id, status)
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"]
    assert operations["listActivities"]["security"] == [{"bearer": []}, {"cookie": []}]
    assert operations["createActivity"]["responses"].keys() >= {"201", "400", "401", "403", "409", "422", "503", "504"}
    assert "409" not in operations["getActivity"]["responses"]


@pytest.mark.parametrize(("error", "status"), [(StorageTimeout(), 504), (StorageUnavailable(), 503)])
def test_a_page_tells_that_the_store_does_not_answer(error: Exception, status: int) -> None:
    class Away(MemoryRepository):
        def chat(self, chat_id: int, *, call: Call) -> Chat:
            raise error

    with serving(Away()) as served:
        page = served.client.get(ACTIVITIES, headers={"accept": "text/html"})
    assert page.status_code == status
    assert ("retry-after" in page.headers) == (status == 503)
