"""The compose file, checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
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
SECRETS = sorted(set(re.findall(r"\$\{(\w+):\?", FILE.read_text())))
"""What .env has to have."""
DOCKERFILE = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def test_all_of_it_is_there() -> None:
    assert set(SERVICES) >= {"postgres", "pgbouncer", "redis", "kafka", "gateway"}
    assert set(OURS) == {"migrate", "topics", "consumer", "grpc", "web", "interface"}


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
    elif name == "interface":
        assert before["grpc"] == before["redis"] == {"condition": "service_healthy"}
        assert before["topics"] == {"condition": "service_completed_successfully"}
    else:
        assert before["migrate"] == {"condition": "service_completed_successfully"}
        assert before["redis"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", set(SERVICES) - {"migrate", "topics"})
def test_everything_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_nothing_but_loopback_is_published() -> None:
    overlay = yaml.safe_load(OVERLAY.read_text())["services"]
    published = [port for each in (SERVICES, overlay) for service in each.values() for port in service.get("ports", [])]
    assert len(published) == 9
    assert all(re.match(r"127\.0\.0\.1:", port) for port in published)


def test_no_secret_has_a_default_or_stands_in_the_file() -> None:
    text = FILE.read_text()
    named = r"\w*(?:PASSWORD|SECRET_KEY|TOKEN)"
    assert set(re.findall(rf"\$\{{({named})\b", text)) <= {*SECRETS, "KAFKA_PASSWORD"}
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)
    for service in SERVICES.values():
        for name, given in service.get("environment", {}).items():
            if re.fullmatch(named, name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]*\}", given), name
            if "://" in given and name.endswith("_URL") and "@" in given:
                assert re.search(r"://\w+:\$\{\w+:\?[^}]*\}@", given), name


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_runs_as_root_or_can_become_it(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] not in ("", "root", "0")
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", [*OURS, "pgbouncer", "redis"])
def test_what_keeps_nothing_can_write_nothing_but_temporary_files(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []))


def test_each_process_has_credentials_of_its_own() -> None:
    shared = {"DJANGO_SECRET_KEY"}  # which signs the tokens that all of them verify
    servers = {"postgres", "pgbouncer", "redis", "kafka"}
    holders: dict[str, list[str]] = {}
    for name in SERVICES.keys() - servers:
        for secret in set(re.findall(r"\$\{(\w+):\?", str(SERVICES[name].get("environment")))) - shared:
            holders.setdefault(secret, []).append(name)
    assert {secret for secret, names in holders.items() if len(names) > 1} == {"ACTIVITIES_GRPC_TOKEN"}
    assert sorted(holders["ACTIVITIES_GRPC_TOKEN"]) == ["grpc", "interface"]  # the two ends of one connection
    assert set(SECRETS) - holders.keys() - shared == {"POSTGRES_PASSWORD"}


def test_there_are_two_data_services_and_two_consumers_as_natively() -> None:
    for name in ("grpc", "consumer"):
        assert SERVICES[name]["deploy"] == {"replicas": 2}
    assert SERVICES["grpc"]["ports"] == ["127.0.0.1:50061-50062:50061"]
    # A name with several addresses: the client asks each of them in turn.
    assert SERVICES["interface"]["environment"]["ACTIVITIES_GRPC_TARGET"] == "dns:///grpc:50061"


def test_the_gateway_speaks_to_the_interface_service() -> None:
    envoy = yaml.safe_load((ROOT / "deploy" / "envoy" / "envoy.yaml").read_text())
    (cluster,) = envoy["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = group["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "interface", "port_value": 50051}
    assert SERVICES["interface"]["command"][3:5] == ["--grpc", "0.0.0.0:50051"]
    assert "interface" in SERVICES["gateway"]["depends_on"]


def test_what_is_mounted_is_there() -> None:
    overlay = yaml.safe_load(OVERLAY.read_text())["services"]
    for service in (*SERVICES.values(), *overlay.values()):
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            if source not in COMPOSE["volumes"]:
                assert source.startswith("./deploy/")
                assert (ROOT / source).exists()


def test_secrets_are_made_once_for_what_compose_demands(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for source in (FILE, ROOT / "deploy" / "secrets.sh"):
        (tmp_path / source.relative_to(ROOT)).write_bytes(source.read_bytes())
    file = tmp_path / ".env"
    file.write_text("LOG_LEVEL=DEBUG\nPOSTGRES_PASSWORD=chosen\nKAFKA_TOPICS_PASSWORD=")
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "deploy" / "secrets.sh"], check=True, capture_output=True)
    given = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert set(given) == {*SECRETS, "LOG_LEVEL"}
    assert given["POSTGRES_PASSWORD"] == "chosen"
    made = [given[name] for name in SECRETS if name != "POSTGRES_PASSWORD"]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{48}", secret) for secret in made)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_image_runs_as_nobody_on_files_that_it_cannot_write_with_checked_dependencies() -> None:
    last = DOCKERFILE[max(number for number, line in enumerate(DOCKERFILE) if line.startswith("FROM")) :]
    (user,) = [line.split()[1] for line in last if line.startswith("USER")]
    assert any(re.match(rf"RUN useradd .*\b{user}$", line) for line in last)
    assert not [line for line in last if "chown" in line or "chmod" in line]
    copied = [number for number, line in enumerate(last) if line.startswith(("COPY", "ADD"))]
    assert copied
    assert max(copied) < last.index(f"USER {user}")
    installs = [line for line in DOCKERFILE if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    assert all(service["user"] == user for service in OURS.values())


def test_data_are_in_named_volumes_and_written_to_disk() -> None:
    for name in ("postgres", "kafka"):
        assert SERVICES[name]["volumes"][0].split(":")[0] in COMPOSE["volumes"]
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
    broker = "BROKER://127.0.0.1:9095"
    for name in ("topics", "consumer", "interface"):
        servers = OURS[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
        assert inside["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"{broker},INSIDE://{servers}"
    (port,) = outside["ports"]
    published, listening = port.rsplit(":", 1)
    environment = {**inside["environment"], **outside["environment"]}
    assert f"{broker},INSIDE://kafka:9092,OUTSIDE://{published}" == environment["KAFKA_ADVERTISED_LISTENERS"]
    assert environment["KAFKA_LISTENERS"].endswith(f",INSIDE://:9092,OUTSIDE://:{listening}")


def test_compose_itself_reads_it() -> None:
    """Where there is a client; an engine is not asked."""
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return
    ports = {"POSTGRES_PORT": "1", "PGBOUNCER_PORT": "2", "REDIS_PORT": "3", "KAFKA_PORT": "4"}
    ports["REDIS_ADMIN_PASSWORD"] = "x"
    for files in ([FILE], [FILE, OVERLAY]):
        given = [word for file in files for word in ("-f", str(file))]
        read = subprocess.run(
            ["docker", "compose", *given, "config", "--quiet"],
            env={**os.environ, **ports, **dict.fromkeys(SECRETS, "x")},
            capture_output=True,
            text=True,
        )
        assert read.returncode == 0, read.stderr
