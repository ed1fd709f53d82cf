"""What is fetched from elsewhere is used as it was when it was chosen, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# --------------------------------------------------------------------------------------- packages


def wheel(folder: Path, name: str, *needs: str) -> str:
    """Makes a package of nothing; returns how a list names it, with its sum."""
    file, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    needed = "".join(f"Requires-Dist: {each}\n" for each in needs)
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(f"{name}.py", "")
        packed.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of a fresh clone as `make run` sets up, whose product only says that it was started."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "scripts").mkdir()
    for name in ("Makefile", "scripts/set_up.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "manage.py").write_text("import tiny; print('started')")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture(scope="module")
def make_run(clone: Path, index: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """`make run` with a list of requirements."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}

    def make_run(requirements: str) -> subprocess.CompletedProcess[str]:
        (clone / "requirements.txt").write_text(requirements)
        command = ["make", "run", f"PYTHON={sys.executable}"]
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)

    return make_run


def test_make_run_installs_what_has_the_sum_of_its_list_and_nothing_else(
    clone: Path, index: Path, make_run: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    tiny, needy = wheel(index, "tiny"), wheel(index, "needy", "tiny")
    refused = {
        "another sum": tiny[:-64] + "0" * 64,
        "no sum": "tiny==1.0",
        "no sum for one": f"{needy}\ntiny==1.0",
        "not pinned": tiny.replace("==", ">="),
        "needed but not listed": needy,
    }
    for why, requirements in refused.items():
        ended = make_run(requirements)
        assert (ended.returncode, "started" in ended.stdout) == (2, False), why
        assert "Installing requirements.txt failed" in ended.stdout, why
        assert not list(clone.glob(".venv/lib/*/site-packages/tiny.py")), why
        assert not (clone / ".venv" / "run.stamp").exists(), why
    ended = make_run(f"{needy}\n{tiny}")
    assert (ended.returncode, "started" in ended.stdout) == (0, True), ended.stderr


# ------------------------------------------------------------------------------------------ Kafka


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`scripts/services.py`, for which Kafka is two jars."""
    specification = importlib.util.spec_from_file_location("services_here", ROOT / "scripts" / "services.py")
    assert specification is not None
    assert specification.loader is not None
    services = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, specification.name, services)
    specification.loader.exec_module(services)
    for name, folder in (("KAFKA", "kafka"), ("JARS", "kafka/jars"), ("KAFKA_SOURCE", "source")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(services, name, tmp_path / folder)
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}.jar\n" for name in ("one", "two")]
    (tmp_path / "source" / "jars.sha256").write_text("".join(lines))
    return services


def test_jars_are_those_of_the_list_and_no_other(services: ModuleType) -> None:
    def put(**jars: str) -> bool:
        shutil.rmtree(services.JARS)
        services.JARS.mkdir()
        for name, content in jars.items():
            (services.JARS / f"{name}.jar").write_text(content)
        return bool(services.jars_are_right())

    assert put(one="one", two="two")
    assert not put(one="one", two="altered")
    assert not put(one="one")
    assert not put(one="one", two="two", three="three")
    assert not put()


@pytest.mark.parametrize(("content", "right"), [("two", True), ("altered", False)])
def test_jars_that_are_fetched_are_looked_at(
    services: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, right: bool
) -> None:
    fetches = tmp_path / "bin" / "mvn"
    fetches.parent.mkdir()
    fetches.write_text(
        f"#!/bin/sh\nmkdir {services.JARS}; cd {services.JARS}; printf one >one.jar; printf {content} >two.jar\n"
    )
    fetches.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fetches.parent}:{os.environ['PATH']}")
    if right:
        services.fetch_kafka()
        assert services.jars_are_right()
        return
    with pytest.raises(services.Failure, match="not what"):
        services.fetch_kafka()
