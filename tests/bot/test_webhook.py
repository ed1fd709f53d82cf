"""Updates that Telegram brings."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.bounded_http import MOST_HEAD_BYTES
from activities.tls import ServerTls
from bot.replies import Reply, Text
from bot.webhook import Webhook
from tests.bot.api import ANNA, TOKEN, Api, Fault
from tests.bot.test_telegram import Script, talking
from tests.transports.certificates import Authority


def webhook(*, path: str = "", tls: ServerTls | None = None, key: str = "key") -> Webhook:
    """One on a free port, whose public address is that port."""
    made = Webhook("http://x", "127.0.0.1:0", token=TOKEN, key=key, tls=tls)
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{made.port}{path}{made.url.removeprefix('http://x')}"
    return made


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(second=0.02).serving() as api:
        yield api


def test_an_update_is_answered_200_once_it_is_handled(api: Api) -> None:
    go_on = threading.Event()

    def answer(line: str) -> Iterator[Reply]:
        go_on.wait(20)
        yield Reply((Text(line),))

    with talking(api, commands=Script(answer), webhook=webhook()):
        api.wait(lambda: len(api.commands) == 2)
        update = {**api.message_of("/list"), "update_id": 9}
        answers: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: answers.append(api.bring(update))) for _ in range(2)]
        for thread in threads:
            thread.start()
        api.wait(lambda: api.count("sendChatAction"))
        assert answers == []
        go_on.set()
        for thread in threads:
            thread.join()
        assert [each.status_code for each in answers] == [200, 200]
        assert api.texts() == ["/list"]
    assert api.count("getUpdates") == 0


def test_whoever_does_not_know_path_and_secret_gets_nothing(api: Api) -> None:
    script = Script()
    hook = webhook()
    with talking(api, commands=script, webhook=hook):
        api.wait(lambda: len(api.commands) == 2)
        update, root = {"update_id": 1, **api.message_of("/list")}, hook.url.rpartition("/")[0]
        right = {"x-telegram-bot-api-secret-token": hook.secret}
        assert api.bring(update, **{"x-telegram-bot-api-secret-token": "wrong"}).status_code == 403
        assert httpx.post(hook.url, json=update).status_code == 403
        assert httpx.get(hook.url, headers=right).status_code == 404
        for path in ("/", "/telegram", f"/{hook.secret}"):
            assert httpx.post(root + path, json=update, headers=right).status_code == 404
        assert httpx.post(hook.url, content=b"{" * (1 << 21), headers=right).status_code == 413
        for content in (b"no json", b"[]", b"{}", b'{"update_id": "x"}'):
            assert httpx.post(hook.url, content=content, headers=right).status_code == 400
        assert api.bring(update).status_code == 200
    assert [line for line, _ in script.asked] == ["/list"]
    assert TOKEN.partition(":")[2] not in hook.url


def test_path_and_secret_stay_and_depend_on_the_key() -> None:
    hooks = [webhook(), webhook(), webhook(key="another")]
    for each in hooks:
        each.close()
    paths = [each.url.rpartition("/")[2] for each in hooks]
    assert paths[0] == paths[1] != paths[2]
    assert hooks[0].secret == hooks[1].secret != hooks[2].secret
    assert len({*paths, *(each.secret for each in hooks)}) == 4


def test_tls_of_ours(api: Api, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue()
    hook = webhook(tls=ServerTls(certificate=str(pair.certificate), key=str(pair.key)))
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with talking(api, webhook=hook):
        api.wait(lambda: len(api.commands) == 2)
        headers = {"x-telegram-bot-api-secret-token": hook.secret}
        update: dict[str, Any] = {"update_id": 1, **api.message_of("/help")}
        assert httpx.post(hook.url, json=update, headers=headers, verify=trusted).status_code == 200
    assert len(api.texts(ANNA["id"])) == 1


def test_a_webhook_that_was_there_before_is_taken_away_to_poll(api: Api) -> None:
    api.webhook = {"url": "https://elsewhere.example", "secret_token": "x"}
    api.fail("deleteWebhook", Fault(502))
    with talking(api):
        api.say("/help")
        api.answers(ANNA["id"])


def test_who_is_slow_or_sends_too_much_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = webhook()
    with talking(api, webhook=hook):
        api.wait(lambda: len(api.commands) == 2)
        with socket.create_connection(("127.0.0.1", hook.port), 20) as endless:
            with suppress(ConnectionError):  # it may be refused before all is sent
                endless.sendall(b"POST / HTTP/1.1\r\nX: " + b"x" * 8 * MOST_HEAD_BYTES)
            assert endless.recv(12) == b"HTTP/1.1 431"
        monkeypatch.setattr("activities.bounded_http.HEAD_SECONDS", 0.05)
        with socket.create_connection(("127.0.0.1", hook.port), 20) as slow:
            slow.sendall(b"POST / HTTP/1.1\r\nHo")
            assert slow.recv(1) == b""
