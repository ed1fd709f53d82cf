"""`manage.py chat`: the commands from a pipe and in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bot.asked import Refused
from bot.chat_files import MOST_BYTES
from bot.console import language_of, read_file, save
from bot.replies import File

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60  # what a test waits at most for anything
CHAT = [sys.executable, "manage.py", "chat", "--local"]


def environment(**changes: str) -> dict[str, str]:
    """A shell with no setting of the product and no locale."""
    ours = ("ACTIVITIES_", "DJANGO_", "LOG_", "LC_", "LANG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {"DJANGO_SECRET_KEY": "x" * 50, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | changes


def piped(lines: bytes | str, *arguments: str, cwd: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *CHAT[2:], *arguments],
        cwd=cwd,
        env=environment(**changes),
        input=lines if isinstance(lines, bytes) else lines.encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_pipe_is_one_command_a_line():
    done = piped('/add "Витамин D₃ 💊" 01.01.2020 01.01.2999 2 0,5\r\n\n   \n/add x 1.1.2020 31.12.2998 1 1\n/list')
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        "Added  Витамин D₃ 💊\n"
        "0.5 each time, 2 times a day, 01.01.2020 – 01.01.2999 (357574 days)\n"
        "\n"
        "Added  x\n"
        "1 each time, once a day, 01.01.2020 – 31.12.2998 (357573 days)\n"
        "\n"
        "Your activities, latest end first (1–2 of 2)\n"
        "  Витамин D₃ 💊   0.5 × 2 a day   01.01.2020 – 01.01.2999\n"
        "  x               1 × 1 a day     01.01.2020 – 31.12.2998\n"
    )


def test_an_empty_pipe_is_nothing_to_say():
    done = piped("")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_bytes_that_are_no_text_are_told_and_the_rest_goes_on():
    done = piped(b"\xef\xbb\xbfhello\n/add \xff today +1d 1 1\n/list\n")
    assert done.stdout.decode().split("\n\n") == [
        "I understand commands. /help shows them all.",
        "I cannot read that line: it is not UTF-8 text.",
        'You have no activities yet.\nAdd one: /add "vitamin C" today +10d 2 0.5\n',
    ]
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_very_long_line_is_answered():
    done = piped(f"/add {'x' * 100_000} today +1d 1 1\n/list\n")
    assert done.stdout.startswith(b"name: xxxxx")
    assert b"100000 characters" in done.stdout
    assert b"You have no activities yet." in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "koi8-r"])
def test_replies_are_utf_8_whatever_the_locale(encoding):
    done = piped("/get Витамин\n", PYTHONIOENCODING=encoding)
    assert "Витамин" in done.stdout.decode()


@pytest.mark.parametrize("chat_id", ["abc", "0", "1.5", "", str(2**63), "1e3"])
def test_a_wrong_chat_id_is_one_line_and_exit_code_2(chat_id):
    done = piped("/list\n", "--chat-id", chat_id)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(r"[^\n]*--chat-id[^\n]*is not a chat id[^\n]*\n", done.stderr.decode())


@pytest.mark.parametrize("arguments", [["--chat-id"], ["--language", "de"], ["--frobnicate"], ["extra"]])
def test_a_wrong_option_is_one_line_and_exit_code_2(arguments):
    done = piped("/list\n", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("chat_id", ["1", "-1001234567890"])
def test_a_chat_of_any_sign_can_be_chosen(chat_id):
    assert piped("/list\n", "--chat-id", chat_id).returncode == 0


def test_the_language_comes_from_the_locale_or_the_option():
    russian = "Я понимаю команды. Все они — в /help.\n"
    assert piped("hello\n", LANG="ru_RU.UTF-8").stdout.decode() == russian
    assert piped("hello\n", "--language", "ru").stdout.decode() == russian


def test_a_language_that_is_chosen_is_spoken_from_then_on():
    done = piped("/language ru\nhello\n/language\n", "--language", "en")
    assert done.stdout.decode().splitlines() == [
        "Теперь я говорю с вами по-русски.",
        "",
        "Я понимаю команды. Все они — в /help.",
        "",
        "Я говорю с вами по-русски.",
        "English: /language en",
    ]


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru"}, "ru"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({}, "en"),
        ({"LC_ALL": "C", "LANG": "ru_RU.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ru_RU", "LANG": "en_US"}, "ru"),
    ],
)
def test_the_locale_is_read_in_the_usual_order(variables, language):
    assert language_of(variables) == language


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        CHAT, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    _, said = process.communicate(b"/help\n/help\n", timeout=SECONDS)
    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_without_an_end_to_talk_to_there_is_nothing_to_do(closed):
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *CHAT]
    done = subprocess.run(command, cwd=ROOT, env=environment(), input=b"/help\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_full_disk_is_one_line_and_exit_code_2():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            CHAT, cwd=ROOT, env=environment(), input=b"/help\n", stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_waiting_pipe_politely(number):
    with subprocess.Popen(
        CHAT, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"I understand commands. /help shows them all.\n"
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        assert process.stderr
        assert process.stderr.read() == b""


def test_a_reader_that_reads_nothing_does_not_keep_the_process():
    with subprocess.Popen(
        CHAT, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=4096
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"/help\n" * 100)
        process.stdin.flush()
        deadline = time.monotonic() + SECONDS
        while waiting_in(process.stdout.fileno()) < 3000:  # a reply more does not fit
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


def waiting_in(pipe: int) -> int:
    """How many bytes nobody has read yet."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


# ------------------------------------------------------------------------------------------- files


def test_an_export_is_two_files_in_the_current_folder_and_comes_back(tmp_path):
    exported = piped('/add "Витамин D₃" today +1d 1 0.5\n/export\n', cwd=tmp_path)
    assert (exported.returncode, exported.stderr) == (0, b"")
    as_csv, as_json = sorted(tmp_path.iterdir(), key=lambda path: path.suffix)
    assert re.fullmatch(r"activities-\d{4}-\d\d-\d\d\.json", as_json.name)
    assert as_csv == as_json.with_suffix(".csv")
    assert [path.stat().st_mode & 0o777 for path in (as_csv, as_json)] == [0o600] * 2
    assert f"\nSaved as {as_json}\n" in exported.stdout.decode()
    assert exported.stdout.decode().endswith(f"\nSaved as {as_csv}\n")
    imported = piped(f"/import {as_json.name}\n/list\n/forget_me yes\n/import {as_csv}", cwd=tmp_path)
    said = imported.stdout.decode().split("\n\n")
    assert said[0] == "Imported 1 activity."
    assert "Витамин D₃" in said[1]
    assert said[2].startswith("Everything I kept of this chat is erased")
    assert said[3] == "Imported 1 activity.\n"


def test_a_folder_that_takes_no_files_is_told(tmp_path):
    done = piped("/export\n/list\n", cwd=Path("/proc"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(r"\nI could not save activities-[0-9-]+\.json \(.*\)\.\n", done.stdout.decode())
    assert b"You have no activities yet." in done.stdout


def test_no_file_is_overwritten_nor_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere")
    assert [save(File("a.json", text)).name for text in (b"1", b"2")] == ["a-2.json", "a-3.json"]
    assert [(tmp_path / name).read_bytes() for name in ("a-2.json", "a-3.json")] == [b"1", b"2"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_could_not_be_written_whole_is_not_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(File("a.json", bytes(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_no_further_than_it_may_be_long(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert len(read_file(str(path))) == MOST_BYTES + 1


def test_a_home_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.json").write_bytes(b"{}")
    assert read_file("~/a.json") == b"{}"


@pytest.mark.parametrize(
    "name", ["pipe", "/dev/zero", "/dev/stdin", ".", "nothing", "", "a\0b", "x" * 5000, "\ud800", "a/b"]
)
def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "a").touch()
    with pytest.raises(Refused):
        read_file(name)


class Terminal:
    """The chat in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(ours, (40, 120))
        self.process = subprocess.Popen(
            [*CHAT, *arguments], cwd=ROOT, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._ours = ours
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str) -> None:
        """Returns when the terminal shows the text after what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while text not in self._seen:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self._seen!r}"
            shown = os.read(self._ours, 65536).decode(errors="replace")
            self._seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        self._seen = self._seen.partition(text)[2]

    def ended(self) -> int:
        """The exit code. What is still shown is read, so that writing it does not block."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self._ours], [], [], 0.05)[0]:
                try:
                    os.read(self._ours, 65536)
                except OSError:  # the other end is closed
                    return self.process.wait(SECONDS)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_a_terminal_has_a_prompt_history_and_completion(terminal):
    terminal.wait_for("I keep your daily activities")
    terminal.wait_for("\n>")
    terminal.type('/add "vitamin C" today +10d 2 0.5\r')
    terminal.wait_for("Added  vitamin C")
    terminal.wait_for("\n>")
    terminal.type("\x1b[A\r")  # the line before, once more
    terminal.wait_for("You already have vitamin C, just like that.")
    terminal.wait_for("\n>")
    terminal.type("/ge\t")
    terminal.wait_for("/get")
    terminal.type(" vit\t")
    terminal.wait_for('"vitamin C"')
    terminal.type("\r")
    terminal.wait_for("0.5 each time, 2 times a day")


def test_a_terminal_completes_zones_and_speaks_the_language_that_was_chosen(terminal):
    terminal.wait_for("\n>")
    terminal.type("/timez\t")
    terminal.wait_for("/timezone")
    terminal.type(" europe/mos\t")
    terminal.wait_for("Europe/Moscow")
    terminal.type("\r")
    terminal.wait_for("Your time zone is Europe/Moscow now")
    terminal.wait_for("\n>")
    terminal.type("/language ru\r")
    terminal.wait_for("Теперь я говорю с вами по-русски.")
    terminal.wait_for("\n>")
    terminal.type("hello\r")
    terminal.wait_for("Я понимаю команды.")


@pytest.mark.parametrize("keys", ["\x04", "\x03"])
def test_ctrl_d_and_ctrl_c_leave_politely(terminal, keys):
    terminal.wait_for("\n>")
    terminal.type(keys)
    assert terminal.ended() == 0


def test_sigterm_leaves_a_terminal_politely(terminal):
    terminal.wait_for("\n>")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 0
