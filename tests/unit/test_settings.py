"""Settings: what is wrong stops the start with its name; what is made is made once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured
from environs import Env

from activities_project.environment import (
    SECRETS,
    checked,
    made_once,
    number,
    one_of,
    read_file,
    secret,
    secrets_of,
    value,
    whole,
    words,
)

ROOT = Path(__file__).resolve().parents[2]


def started(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that reads the settings and ends."""
    ours = ("ACTIVITIES_", "DATABASE_", "DJANGO_", "KAFKA_", "LOG_", "REDIS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "manage.py", "check", *options],
        cwd=ROOT,
        env={**environment, "ACTIVITIES_BACKEND": "memory", "DJANGO_SECRET_KEY": "k" * 50, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("ACTIVITIES_BACKEND", "mysql", "expected postgres, memory, grpc or kafka"),
        ("ACTIVITIES_STORAGE_SLOTS", "many", "expected a number from 1 to 1000 like 10"),
        ("ACTIVITIES_STORAGE_SECONDS", "nan", "expected seconds from 0.01 to 60 like 2"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one:9092, two", "expected HOST:PORT, separated by commas"),
        ("KAFKA_REPLICATION_FACTOR", "0", "expected a number from 1 to 100 like 1"),
        ("ACTIVITIES_SERVICE_TOKENS", "bot:not-to-be-shown", "expected name:secret"),
        ("ACTIVITIES_SERVICE_TOKENS", "chat:" + "not-to-be-shown" * 3, "expected name:secret"),
        (
            "ACTIVITIES_SERVICE_TOKENS",
            f"a:{'not-to-be-shown' * 3},b:{'not-to-be-shown' * 3}:read",
            "expected name:secret",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(name, value, hint):
    process = started(**{name: value})
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"manage.py: {name}: {hint}")
    assert "not-to-be-shown" not in line


def test_a_missing_secret_key_stops_the_start():
    process = started(ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY="")
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith("manage.py: DJANGO_SECRET_KEY: ")


@pytest.mark.parametrize(
    "key",
    ["django-insecure-8f!x", "changeme", "CHANGE-ME", "please change me!", "secret", "<your-secret-key>", "default"],
)
@pytest.mark.parametrize("name", ["DJANGO_SECRET_KEY", "DJANGO_SECRET_KEY_FALLBACKS"])
def test_a_key_that_everybody_knows_stops_the_start(name, key):
    with pytest.raises(ImproperlyConfigured):
        with_setting(name, key)


def with_setting(name: str, value: str) -> object:
    """Reads one as the settings do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        if name == "DJANGO_SECRET_KEY":
            return checked(Env(), name, secret, default="", expected="expected another")
        return checked(Env(), name, secrets_of, default="", expected="expected another")


def test_a_short_key_is_a_key():
    for key in ("k", "test", "tests-only", "a-key-for-tests-only", "x" * 50, "5ecret-of-ours", "дайте войти"):
        assert with_setting("DJANGO_SECRET_KEY", key) == key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_SECRET_KEY", "change-me"),
        ("DJANGO_SECRET_KEY_FALLBACKS", "a-former-key,secret"),
        ("ACTIVITIES_SERVICE_TOKENS", "bot:change-me-change-me-change-me-change-me"),
        ("HTTP_TRUSTED_PROXIES", "proxy.example"),
        ("DJANGO_ADMIN_PATH", "api/admin"),
        ("DJANGO_ADMIN_PATH", "staff?x"),
        ("DJANGO_HSTS_SECONDS", "a year"),
    ],
)
def test_an_unsafe_setting_stops_the_start_with_one_line_that_names_it_and_not_its_value(name, value):
    process = started(**{name: value})
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"manage.py: {name}: ")
    assert f"{value} " not in f"{line} "


@pytest.mark.parametrize("key", ["", "  "])
def test_no_key_stops_the_start(key):
    assert started(ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY=key).returncode == 2


PRODUCTION = {
    "DJANGO_SECRET_KEY": "Zb7-9pQkX2mVw4Tn8sLrJ6hGd3Fc5yAe1uRiWoNqBtMxKzPvHjEgSaDfCl0",
    "DATABASE_URL": "postgres://activities:not-asked@127.0.0.1:1/activities",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
}


@pytest.mark.parametrize(
    ("backend", "way"),
    [
        ("postgres", {"TLS_CERTIFICATE_FILE": "/tmp/chain.pem", "TLS_KEY_FILE": "/tmp/key.pem"}),
        ("postgres", {"HTTP_TRUSTED_PROXIES": "10.0.0.1"}),
        ("memory", {}),
        ("grpc", {}),
        ("kafka", {}),
    ],
)
def test_django_finds_nothing_unsafe_in_production(backend, way):
    process = started("--deploy", "--fail-level", "WARNING", ACTIVITIES_BACKEND=backend, **PRODUCTION, **way)
    assert process.returncode == 0, process.stderr
    assert "no issues" in process.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "expected HOST:PORT, separated by commas, like 127.0.0.1:9092"),
        ("REDIS_URL", "expected redis://:PASSWORD@HOST:PORT/0, or rediss:// for TLS"),
    ],
)
def test_what_the_queue_needs_is_needed_where_it_is_used(name, hint):
    needed = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "REDIS_URL": "redis://127.0.0.1/0"}
    assert started(ACTIVITIES_BACKEND="kafka", **needed).returncode == 0
    process = started(ACTIVITIES_BACKEND="kafka", **{**needed, name: ""})
    assert (process.returncode, process.stderr) == (2, f"manage.py: {name}: {hint}\n")


SECRET = "not-to-be-shown"
DATABASE = f"postgres://activities:{SECRET}@127.0.0.1:6432/activities"
SASL = {"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_USERNAME": "interface", "KAFKA_PASSWORD": SECRET}
FILE = str(ROOT / "README.md")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"DATABASE_URL": f"{DATABASE}?sslmode=verify-full&options=-c"},
            "DATABASE_URL: expected no parameters but ssl",
        ),
        ({"DATABASE_URL": f"{DATABASE}?sslmode=require&sslmode=disable"}, "DATABASE_URL: expected no parameters but s"),
        ({"DATABASE_URL": f"{DATABASE}?sslmode=always"}, "DATABASE_URL: sslmode: expected one of disable, allow,"),
        ({"DATABASE_URL": f"{DATABASE}?sslrootcert={FILE}"}, "DATABASE_URL: sslmode: expected one of disable, allow"),
        ({"DATABASE_URL": f"{DATABASE}?sslmode=verify-full"}, "DATABASE_URL: sslrootcert: expected the file of a CA"),
        ({"DATABASE_URL": f"{DATABASE}?sslmode=verify-ca&sslrootcert=/none"}, "DATABASE_URL: sslrootcert: there is n"),
        ({"DATABASE_URL": f"{DATABASE}?sslmode=require&sslkey={FILE}"}, "DATABASE_URL: expected both of sslcert and"),
        ({"DATABASE_URL": f"postgres://u:12/{SECRET}?{SECRET}@h/db"}, "DATABASE_URL: expected no parameters but ssl"),
        ({"DATABASE_URL": f"postgres://u:{SECRET}@h:port/db"}, "DATABASE_URL: expected postgres://USER:PASSWORD@H"),
        ({"REDIS_URL": "rediss://h/0?ssl_cert_reqs=none"}, "REDIS_URL: expected redis://:PASSWORD@HOST:PORT/0, or r"),
        ({"REDIS_URL": "redis://h/0", "REDIS_CA_FILE": FILE}, "REDIS_CA_FILE: of no use without REDIS_URL=rediss://"),
        ({"REDIS_URL": "rediss://h/0", "REDIS_CA_FILE": FILE}, f"REDIS_CA_FILE: {FILE}: expected certificates in PEM"),
        ({"REDIS_URL": "rediss://h/0", "REDIS_CA_FILE": "/none"}, "REDIS_CA_FILE: /none: No such file or directory"),
        ({"REDIS_URL": "rediss://h/0", "REDIS_KEY_FILE": FILE}, "REDIS_CERTIFICATE_FILE: expected a file, since RED"),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "tls"}, "KAFKA_SECURITY_PROTOCOL: expected one of plaintext, ssl, sasl"),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "ssl"}, "KAFKA_USERNAME: of no use without KAFKA_SECURITY_PROTOCOL=sa"),
        ({**SASL, "KAFKA_PASSWORD": ""}, "KAFKA_PASSWORD: expected one, since KAFKA_SECURITY_PROTOCOL is sasl_ssl"),
        ({**SASL, "KAFKA_USERNAME": ""}, "KAFKA_USERNAME: expected one, since KAFKA_SECURITY_PROTOCOL is sasl_ssl"),
        ({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM: expected one of SCRAM-SHA-512, SCRAM-"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_MECHANISM: of no use without KAFKA_SECURITY_PROTOCOL=sasl_"),
        ({"KAFKA_CA_FILE": FILE}, "KAFKA_CA_FILE: of no use without KAFKA_SECURITY_PROTOCOL=sasl_ssl or ssl"),
        ({**SASL, "KAFKA_CA_FILE": FILE}, f"KAFKA_CA_FILE: {FILE}: expected certificates in PEM"),
    ],
)
def test_links_that_would_not_be_what_was_meant_stop_the_start_with_one_line_and_no_secret(settings, told):
    process = started(
        **{"ACTIVITIES_BACKEND": "postgres", "DATABASE_URL": DATABASE, "REDIS_URL": "redis://h/0"} | settings
    )
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"manage.py: {told}")
    assert SECRET not in line


@pytest.mark.parametrize("protocol", ["plaintext", "SASL_SSL", "sasl_plaintext", "ssl"])
def test_links_that_are_as_they_should_be_start(protocol):
    kafka = SASL if protocol.lower().startswith("sasl") else {}
    links = {"DATABASE_URL": f"{DATABASE}?sslmode=require", "REDIS_URL": f"rediss://user:{SECRET}@h:6380/0"}
    process = started(ACTIVITIES_BACKEND="postgres", **links, **{**kafka, "KAFKA_SECURITY_PROTOCOL": protocol})
    assert process.returncode == 0, process.stderr


def test_a_secret_may_stand_in_a_file(tmp_path, monkeypatch):
    file = tmp_path / "secret"
    file.write_text("of a file\n")
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URL_FILE", str(file))
    assert checked(Env(), "REDIS_URL", str, default="", expected="") == "of a file"
    monkeypatch.setenv("REDIS_URL", "given")
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL_FILE: expected nothing, since REDIS_URL is set"):
        value(Env(), "REDIS_URL")


@pytest.mark.parametrize(
    ("content", "told"), [(None, "No such file or directory"), (b" \n", "it is empty"), (b"\xff", "it is no text")]
)
def test_a_secret_s_file_that_is_of_no_use_stops_the_start(tmp_path, content, told):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    process = started(ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY="", DJANGO_SECRET_KEY_FILE=str(file))
    assert (process.returncode, process.stderr) == (2, f"manage.py: DJANGO_SECRET_KEY_FILE: {file}: {told}\n")


def test_every_secret_is_read_by_its_file_too(tmp_path):
    """Of each variable that holds one."""
    for place, name in enumerate(SECRETS):
        (tmp_path / name).write_text(str(place))
    files = {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}
    with patch.dict(os.environ, files):
        for name in SECRETS:
            os.environ.pop(name, None)
        assert [value(Env(), name) for name in SECRETS] == [str(place) for place in range(len(SECRETS))]


def test_good_settings_start():
    process = started(ACTIVITIES_SERVICE_TOKENS=f"bot:{'s' * 32}, watcher:{'r' * 32}:read", LOG_LEVEL="DEBUG")
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (whole(1, 10), "0"),
        (whole(1, 10), "11"),
        (whole(1, 10), "1.5"),
        (number(0.5, 10), "nan"),
        (number(0.5, 10), "inf"),
        (number(0.5, 10), "0.4"),
        (one_of("a", "b"), "A"),
    ],
)
def test_what_is_not_expected_is_told_by_name_and_not_quoted(monkeypatch, read, text):
    monkeypatch.setenv("SOME_SETTING", text)
    with pytest.raises(ImproperlyConfigured) as raised:
        checked(Env(), "SOME_SETTING", read, default="1", expected="expected something")
    assert str(raised.value) == "SOME_SETTING: expected something"


def test_what_is_expected_is_read_typed(monkeypatch):
    monkeypatch.setenv("SOME_SETTING", " 7 ")
    assert checked(Env(), "SOME_SETTING", whole(1, 10), default="1", expected="") == 7
    monkeypatch.delenv("SOME_SETTING")
    assert checked(Env(), "SOME_SETTING", number(0, 1), default="0.5", expected="") == 0.5
    monkeypatch.setenv("SOME_SETTING", " ")
    assert checked(Env(), "SOME_SETTING", whole(1, 10), default="1", expected="") == 1
    assert words(" a, b ,,c") == ["a", "b", "c"]
    assert words("") == []


# --------------------------------------------------------------------------------------- the file


def test_a_file_sets_what_the_environment_does_not(tmp_path, monkeypatch):
    file = tmp_path / ".env"
    file.write_text('# a comment\nSOME_SETTING=7\nexport OTHER_SETTING="of two words"\n')
    monkeypatch.setenv("SOME_SETTING", "8")
    env = Env()
    read_file(env, file)
    assert (env.str("SOME_SETTING"), env.str("OTHER_SETTING")) == ("8", "of two words")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"SOME_SETTING=\xff", ".env: it cannot be read as UTF-8 text"),
        (b"# first\nSOME_SETTING='never closed\n", ".env: expected NAME=value in line 2"),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path, content, told):
    file = tmp_path / ".env"
    file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured) as raised:
        read_file(Env(), file)
    assert str(raised.value) == told


def test_no_file_is_no_settings(tmp_path):
    read_file(Env(), tmp_path / ".env")


# ------------------------------------------------------------------------------------- the secret


MAKE = "import sys; from pathlib import Path; from activities_project.environment import made_once; " + (
    "sys.stdin.read(); print(made_once(Path(sys.argv[1])))"
)


def test_of_many_processes_that_make_the_secret_one_does_and_all_have_it(tmp_path):
    path = tmp_path / ".local" / "secret_key"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for process in processes:  # they have started and wait for the end of their input
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    secrets = {process.communicate(timeout=60)[0] for process in processes}
    assert secrets == {path.read_text() + "\n"}
    assert len(path.read_text()) >= 50
    assert os.listdir(path.parent) == ["secret_key"]  # noqa: PTH208 - no draft is left


def test_only_its_owner_reads_the_secret_whatever_the_umask(tmp_path):
    umask = os.umask(0)
    try:
        path = tmp_path / ".local" / "secret_key"
        secret = made_once(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert made_once(path) == secret


def test_a_secret_that_is_there_is_read_from_a_place_that_cannot_be_written(tmp_path):
    path = tmp_path / "secret_key"
    path.write_text("made before")
    before = path.parent.stat().st_mtime_ns
    assert made_once(path) == "made before"
    assert path.parent.stat().st_mtime_ns == before


def test_a_secret_that_cannot_be_kept_stops_the_start(tmp_path):
    (tmp_path / ".local").write_text("no folder")
    with pytest.raises(ImproperlyConfigured, match="secret_key: the key cannot be kept there"):
        made_once(tmp_path / ".local" / "secret_key")


def test_an_empty_secret_stops_the_start(tmp_path):
    (tmp_path / "secret_key").touch()
    with pytest.raises(ImproperlyConfigured, match="secret_key: it is empty; delete it"):
        made_once(tmp_path / "secret_key")


def test_an_interrupt_before_the_command_is_there_says_nothing():
    interrupted = "import runpy, signal, django.core.management as management; " + (
        "management.execute_from_command_line = lambda _: signal.raise_signal(signal.SIGINT); "
        "runpy.run_path('manage.py', run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", interrupted], cwd=ROOT, capture_output=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (130, b"", b"")
