"""The bot's process: how it starts, what it says, how it ends, and what is left of its work when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from activities.container import Container, on_repository
from activities.domain import Page
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from grpc_server.server import GrpcServer
from tests.bot.api import ANNA, BORIS, NAME, TOKEN, Api, Fault
from tests.transports.served import SERVICE
from tests.transports.test_processes import Process, manage, serve

ADD = "/add pill today +10d 1 1"


@pytest.fixture
def api() -> Iterator[Api]:
    with Api().serving() as api:
        yield api


def settings_for(api: Api, **more: str) -> dict[str, str]:
    return {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_BASE_URL": api.base_url, **more}


@contextmanager
def running(*arguments: str, **changes: str) -> Iterator[Process]:
    process = Process("runbot", *arguments, last_line="Activities on backend", **changes)
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)


@contextmanager
def data_service() -> Iterator[tuple[Container, dict[str, str]]]:
    """A data service that outlives the bot, and the settings that lead there."""
    parts = on_repository(MemoryRepository())
    server = GrpcServer(parts, "127.0.0.1:0")
    server.start()
    try:
        target = f"127.0.0.1:{server.port}"
        yield (
            parts,
            {
                "ACTIVITIES_BACKEND": "grpc",
                "ACTIVITIES_GRPC_TARGET": target,
                "ACTIVITIES_GRPC_TOKEN": SERVICE,
                "DJANGO_SECRET_KEY": "k" * 50,
            },
        )
    finally:
        server.stop(0)
        parts.close()


def test_without_a_token_or_with_a_wrong_one_or_without_telegram_there_is_one_line(api: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{unused.getsockname()[1]}/bot"
        for changes, reason in (
            ({}, "TELEGRAM_BOT_TOKEN: required"),
            (
                {**settings_for(api), "TELEGRAM_BOT_TOKEN": "42:wrong-secret"},
                "TELEGRAM_BOT_TOKEN: Telegram knows no bot",
            ),
            ({**settings_for(api), "TELEGRAM_BOT_TOKEN": "42:/wrong-secret"}, "TELEGRAM_BOT_TOKEN: expected a token"),
            ({**settings_for(api), "TELEGRAM_API_BASE_URL": away}, f"TELEGRAM_API_BASE_URL {away}: out of reach"),
        ):
            done = manage("runbot", "--local", LOG_LEVEL="DEBUG", **changes)
            told = [line for line in done.stderr.splitlines() if " DEBUG " not in line]
            assert done.returncode == 2
            assert len(told) == 1, done.stderr
            assert reason in told[0]
            assert not done.stdout
            assert "wrong-secret" not in done.stderr
            assert TOKEN not in done.stderr


def test_a_webhook_in_plain_text_beyond_this_machine_is_refused_and_a_taken_port_told(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        for address, reason in (("0.0.0.0:0", "plain text"), (here, "cannot listen there")):
            hook = {"TELEGRAM_WEBHOOK_URL": "https://bot.example", "TELEGRAM_WEBHOOK_ADDRESS": address}
            done = manage("runbot", "--local", **settings_for(api, **hook))
            assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
            assert f"TELEGRAM_WEBHOOK_ADDRESS {address}: " in done.stderr
            assert reason in done.stderr


def test_it_answers_shows_how_it_is_and_ends_politely_with_what_it_has_confirmed(api: Api) -> None:
    with running("--local", **settings_for(api, METRICS_ADDRESS="127.0.0.1:0", LOG_LEVEL="DEBUG")) as process:
        assert f"Telegram @{NAME}" in process.printed
        assert httpx.get(f"http://{process.find('metrics (.*)')}/healthz").text == "ok\n"
        api.say(ADD)
        assert "Added  pill" in api.answers(ANNA["id"])[0]
        api.fail("sendMessage", Fault(500))  # the message in hand takes a second attempt
        api.say("/help", user=BORIS)
        api.wait(lambda: not api._faults["sendMessage"])
        code, errors = process.stop()
    assert code == 0
    assert len(api.texts(BORIS["id"])) == 1
    assert api.unconfirmed == []
    assert TOKEN.partition(":")[2] not in errors
    assert "pill" not in errors


def test_what_was_acted_on_but_not_answered_is_done_once_and_answered_after_a_kill(api: Api) -> None:
    with data_service() as (parts, backend):
        api.fail("sendMessage", Fault())
        with running(**settings_for(api), **backend) as process:
            api.say(ADD)
            api.wait(lambda: api.count("getUpdates") and names(parts))
            process.stop(signal.SIGKILL)
        assert api.texts() == []
        api._faults.clear()
        api.say("/list")  # while it is down
        with running(**settings_for(api), **backend):
            said = api.answers(ANNA["id"], 2)
            api.confirmed()
        assert "Added  pill" in said[0]
        assert "• pill" in said[1]
        assert names(parts) == ["pill"]


def test_what_telegram_has_handed_over_but_nobody_has_handled_comes_again(api: Api) -> None:
    with data_service() as (parts, backend):
        with running(**settings_for(api), **backend) as process:
            api.wait(lambda: api.count("getUpdates"))
            os.kill(process.pid, signal.SIGSTOP)
            polls = api.count("getUpdates")
            api.say(ADD)  # goes out to a process that cannot read it
            api.wait(lambda: api.handed_over)
            process.stop(signal.SIGKILL)
        assert (names(parts), api.texts(), api.count("getUpdates")) == ([], [], polls)
        with running(**settings_for(api), **backend):
            assert "Added  pill" in api.answers(ANNA["id"])[0]
            api.confirmed()
        assert names(parts) == ["pill"]


def test_serve_has_the_bot_on_the_same_store(api: Api) -> None:
    with serve(**settings_for(api)) as process:
        assert process.find("^Telegram +(.*)$") == f"@{NAME}"
        api.say(ADD, user={**ANNA, "id": 1})
        api.answers(1)
        bearer = {"authorization": f"Bearer {process.find('^token: (.*)$')}"}
        url = process.find(r"^HTTP +(http://[^/]+)/")
        (found,) = httpx.get(f"{url}/api/v1/activities/", headers=bearer).json()["results"]
        assert found["name"] == "pill"
        code, errors = process.stop()
    assert code == 0
    assert TOKEN not in errors


def test_serve_lives_on_without_telegram_which_is_told_once(api: Api) -> None:
    api.fail("getMe", *[Fault(500)] * 4)
    with serve(**settings_for(api)) as process:
        assert "out of reach" in process.find("^Telegram +(.*)$")
        assert httpx.get(f"{process.find('^HTTP +(http://[^/]+)/')}/healthz").status_code == 200
        api.say("/help")
        api.answers(ANNA["id"])
        code, errors = process.stop()
    assert code == 0
    assert errors.count("out of reach") == 1


def test_serve_with_a_wrong_token_serves_nothing(api: Api) -> None:
    wrong = settings_for(api, TELEGRAM_BOT_TOKEN="42:wrong")
    done = manage("serve", "--local", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", **wrong)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_stop_that_finds_telegram_silent_is_over_in_ten_seconds(api: Api) -> None:
    with running("--local", **settings_for(api)) as process:
        api.fail("sendMessage", Fault())
        api.say("/help")
        api.wait(lambda: not api._faults["sendMessage"])
        begun = time.monotonic()
        assert process.stop()[0] == 0
        assert time.monotonic() - begun < 10
    assert len(api.unconfirmed) == 1  # it comes again


def names(parts: Container) -> list[str]:
    return [each.name for each in parts.activities.list(ANNA["id"], page=Page(), call=Call()).activities]
