"""What every answer tells a browser not to do with it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from activities.api.guards import PAGE
from activities.bounded_http import GUARDS, MOST_HEAD_BYTES, NO_PAGE
from activities.monitoring import MonitoringServer
from activities.ports import MAX_REQUEST_BYTES
from tests.transports.served import ACTIVITIES, SECONDS, Served, serving

HTML = {"accept": "text/html"}
JSON = {"accept": "application/json", "content-type": "application/json"}
STYLE = "/static/activities/pages.css"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def is_guarded(answer: httpx.Response, policy: str) -> bool:
    """Whether each header is there, once."""
    expected = {**GUARDS, "Content-Security-Policy": policy}
    assert {name: answer.headers.get_list(name) for name in expected} == {
        name: [value] for name, value in expected.items()
    }
    return True


def inline(page: str) -> list[str]:
    """What of a page its policy would not run or show: code and styles that have no URL."""
    scripts = [attributes for attributes in re.findall(r"<script([^>]*)>", page) if "src=" not in attributes]
    return [
        *(each for each in scripts if 'type="application/json"' not in each),
        *re.findall(r"<style|<[^>]* style=|<[^>]* on\w+=|javascript:", page),
    ]


@pytest.mark.parametrize("path", ["/api/login/", "/api/docs/", ACTIVITIES, f"{ACTIVITIES}none/", "/api/v1/chat/"])
@pytest.mark.parametrize("known", [True, False])
def test_a_page_runs_nothing_but_files_of_ours(served: Served, path: str, known: bool) -> None:
    with served.anonymous() as stranger:
        page = (served.client if known else stranger).get(path, headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert is_guarded(page, PAGE)
    assert page.headers["cache-control"] == "no-store"
    assert inline(page.text) == []


def test_what_the_policy_would_not_run_is_found() -> None:
    for page in (
        "<script>x</script>",
        '<p style="x">',
        "<style>x</style>",
        '<a onclick="x">',
        '<a href="javascript:x">',
    ):
        assert inline(page)
    assert inline('<script src="/x.js"></script><script type="application/json" id="a">{}</script>') == []


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", ACTIVITIES, b"", 200),
        ("GET", "/api/v1/stream/", b"", 200),
        ("POST", ACTIVITIES, b"{}", 400),
        ("GET", f"{ACTIVITIES}none/", b"", 404),
        ("PUT", ACTIVITIES, b"", 405),
        ("GET", "/api/schema/", b"", 200),
        ("GET", "/nowhere", b"", 404),
        ("GET", "/static/nowhere", b"", 404),
        ("GET", "/admin/", b"", 404),
        ("GET", "/metrics", b"", 200),
        ("GET", "/healthz", b"", 200),
        ("GET", "/readyz", b"", 200),
        ("GET", "/%ff", b"", 400),  # the front's own answer
        ("POST", ACTIVITIES, b" " * (MAX_REQUEST_BYTES + 1), 413),
    ],
)
def test_an_answer_that_is_no_page_is_none_and_nobody_keeps_it(
    served: Served, method: str, path: str, content: bytes, status: int
) -> None:
    answer = served.client.request(method, path, content=content, headers=JSON)
    assert answer.status_code == status
    assert is_guarded(answer, NO_PAGE)
    assert answer.headers["cache-control"] == "no-store"


def test_the_script_of_a_page_is_guarded_too(served: Served) -> None:
    script = served.client.get("/api/docs/?script=")
    assert script.headers["content-type"].startswith("application/javascript")
    assert is_guarded(script, NO_PAGE)
    assert script.headers["cache-control"] == "no-store"  # it has the browser's proof in it


def test_a_foreign_host_and_a_redirection_are_guarded_too(served: Served) -> None:
    assert is_guarded(served.client.get("/healthz", headers={"host": "elsewhere.example"}), NO_PAGE)
    assert is_guarded(served.client.get("/"), PAGE)


def test_a_file_may_be_kept(served: Served) -> None:
    style = served.client.get(STYLE)
    assert is_guarded(style, NO_PAGE)
    assert "max-age" in style.headers["cache-control"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"no request\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nX: " + b"x" * 6 * MOST_HEAD_BYTES, b"431")],
)
def test_what_the_protocol_refuses_is_guarded_too(served: Served, sent: bytes, status: bytes) -> None:
    port = httpx.URL(served.base_url).port
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        with suppress(ConnectionError):  # it may be refused before all is sent
            connection.sendall(sent)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 " + status)
    for name, value in {**GUARDS, "Content-Security-Policy": NO_PAGE, "Cache-Control": "no-store"}.items():
        assert f"\r\n{name.lower()}: {value}\r\n".encode() in answer


def test_a_process_without_http_of_its_own_guards_its_answers() -> None:
    server = MonitoringServer("127.0.0.1:0", ails=lambda: "ill")
    server.start()
    try:
        for path, status in (("/metrics", 200), ("/healthz", 503), ("/nowhere", 404)):
            answer = httpx.get(f"http://127.0.0.1:{server.port}{path}")
            assert answer.status_code == status
            assert is_guarded(answer, NO_PAGE)
    finally:
        server.stop()


def test_monitoring_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.bounded_http.HEAD_SECONDS", 0.05)
    server = MonitoringServer("127.0.0.1:0", ails=lambda: None)
    server.start()
    try:
        for begun in (b"", b"GET /metrics HT", b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), SECONDS) as slow:
                slow.sendall(begun)
                while slow.recv(65536):
                    pass
    finally:
        server.stop()
