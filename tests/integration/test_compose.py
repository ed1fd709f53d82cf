"""The compose file, checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "docker-compose.yml"
OVERLAY = ROOT / "deploy" / "compose.services.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "DJANGO_SECRET_KEY")


def test_all_of_it_is_there() -> None:
    assert set(SERVICES) >= {"postgres", "pgbouncer", "redis", "kafka"}
    assert set(OURS) == {"migrate", "topics", "consumer", "grpc", "web"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists_and_takes_its_options(name: str) -> None:
    command, *options = OURS[name]["command"]
    found = load_command_class(get_commands()[command], command)
    found.create_parser("manage.py", command).parse_args(options)


@pytest.mark.parametrize("name", OURS)
def test_the_stores_are_ready_and_migrated_before_anything_serves(name: str) -> None:
    before = OURS[name]["depends_on"]
    if name == "migrate":
        assert before == {"pgbouncer": {"condition": "service_healthy"}}
    elif name == "topics":
        assert before == {"kafka": {"condition": "service_healthy"}}
    else:
        assert before["migrate"] == {"condition": "service_completed_successfully"}
        assert before["redis"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", set(SERVICES) - {"migrate", "topics"})
def test_everything_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_nothing_but_loopback_is_published() -> None:
    overlay = yaml.safe_load(OVERLAY.read_text())["services"]
    published = [port for each in (SERVICES, overlay) for service in each.values() for port in service.get("ports", [])]
    assert len(published) == 6
    assert all(re.match(r"127\.0\.0\.1:", port) for port in published)


def test_no_secret_has_a_default() -> None:
    text = FILE.read_text()
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)


def test_data_are_in_named_volumes_and_written_to_disk() -> None:
    for name in ("postgres", "redis", "kafka"):
        (volume,) = SERVICES[name]["volumes"]
        assert volume.split(":")[0] in COMPOSE["volumes"]
    assert "fsync=off" not in FILE.read_text().replace(" ", "")
    assert "synchronous_commit" not in " ".join(SERVICES["postgres"]["command"])


def test_kafka_is_the_same_with_an_engine_and_without() -> None:
    kafka = SERVICES["kafka"]
    _, version = kafka["image"].split(":")
    source = ROOT / "deploy" / "kafka"
    assert f"<version>{version}</version>" in (source / "pom.xml").read_text()
    assert f"kafka_2.13-{version}.jar\n" in (source / "jars.sha256").read_text()
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert kafka["environment"]["KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS"] == "0"


def test_kafka_is_kept_where_the_volume_is_and_tells_each_side_an_address_that_it_reaches() -> None:
    inside, outside = SERVICES["kafka"], yaml.safe_load(OVERLAY.read_text())["services"]["kafka"]
    assert inside["environment"]["KAFKA_LOG_DIRS"] == inside["volumes"][0].split(":")[1]
    for service in OURS.values():
        servers = service["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
        assert inside["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"INSIDE://{servers}"
    (port,) = outside["ports"]
    published, listening = port.rsplit(":", 1)
    environment = {**inside["environment"], **outside["environment"]}
    assert f"INSIDE://kafka:9092,OUTSIDE://{published}" == environment["KAFKA_ADVERTISED_LISTENERS"]
    assert environment["KAFKA_LISTENERS"].endswith(f",INSIDE://:9092,OUTSIDE://:{listening}")


def test_compose_itself_reads_it() -> None:
    """Where there is a client; an engine is not asked."""
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return
    ports = {"POSTGRES_PORT": "1", "PGBOUNCER_PORT": "2", "REDIS_PORT": "3", "KAFKA_PORT": "4"}
    for files in ([FILE], [FILE, OVERLAY]):
        given = [word for file in files for word in ("-f", str(file))]
        read = subprocess.run(
            ["docker", "compose", *given, "config", "--quiet"],
            env={**os.environ, **ports, **dict.fromkeys(SECRETS, "x")},
            capture_output=True,
            text=True,
        )
        assert read.returncode == 0, read.stderr
