"""What comes from elsewhere: every package pinned and checked, none by another way. And no secret in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
LISTS = ("requirements", "requirements-dev")

# --------------------------------------------------------------------------------------- packages


@dataclass(frozen=True)
class Pin:
    """A package of a compiled list."""

    version: str
    marker: Marker | None
    hashes: frozenset[str]
    asked_for_by: frozenset[str]

    @property
    def applies(self) -> bool:
        return self.marker is None or self.marker.evaluate()


PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[A-Za-z0-9.!+]+)( ; (?P<marker>.+?))?"
    r"(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)
"""Nothing else: no ranges, no other sums, no addresses, no paths, no options."""


def compiled(name: str) -> dict[str, Pin]:
    """The packages of a list, each line with the comments below it."""
    text = (ROOT / f"{name}.txt").read_text().replace(" \\\n    --hash", " --hash")
    pins: dict[str, Pin] = {}
    for block in re.split(r"\n(?=[^ #])", text.strip()):
        line, *comments = block.splitlines()
        found = PIN.fullmatch(line)
        assert found, f"{name}.txt: {line[:80]}"
        assert found["name"] not in pins
        marker = Marker(found["marker"]) if found["marker"] else None
        origins = frozenset(re.findall(r"^ +# +(?:via )?(\S.*)$", "\n".join(comments), re.MULTILINE))
        pins[found["name"]] = Pin(found["version"], marker, frozenset(found["hashes"].split()), origins)
    return pins


def wanted(name: str) -> dict[str, Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / f"{name}.in").read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line and not line.startswith("-c ")]
    return {canonicalize_name(each.name): each for each in requirements}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_of_pinned_packages_with_their_sums_and_nothing_else(name: str) -> None:
    assert len(compiled(name)) > 20


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_compiled_from_what_is_asked_for(name: str) -> None:
    pins, asked = compiled(name), wanted(name)
    assert {each for each, pin in pins.items() if f"-r {name}.in" in pin.asked_for_by} == asked.keys()
    for each, requirement in asked.items():
        assert requirement.url is None
        assert requirement.specifier.contains(pins[each].version), each
    for each, pin in pins.items():
        others = {origin for origin in pin.asked_for_by if not origin.startswith(("-r ", "-c ", "via"))}
        assert others <= pins.keys(), each


def test_tests_run_on_what_the_product_runs_on() -> None:
    product, tests = map(compiled, LISTS)
    shared = product.keys() & tests.keys()
    assert len(shared) > 5
    assert {name: tests[name].version for name in shared} == {name: product[name].version for name in shared}
    assert {name: tests[name].hashes for name in shared} == {name: product[name].hashes for name in shared}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_installed_is_what_the_list_says(name: str) -> None:
    pins = {each: pin.version for each, pin in compiled(name).items() if pin.applies}
    assert {each: version(each) for each in pins} == pins


def test_what_is_installed_fits_together() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("file", ["Dockerfile", "scripts/set_up.py"])
def test_nothing_is_installed_without_its_sum(file: str) -> None:
    """What the second one says is tried in `tests/integration/test_set_up.py`."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if re.search(r"pip[\"\]]*[, ]+\"?install", line)]
    assert len(lines) == 1
    assert "--require-hashes" in lines[0]


# ---------------------------------------------------------------------------------------- secrets

SECRETS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a chat token": rb"\bact_[A-Za-z0-9_-]{20,}:[A-Za-z0-9_-]{43}\b",
    "a bot's token": rb"(?<![A-Za-z0-9])[0-9]{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    "a forge's token": rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20})\b",
    "a cloud's key": rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
}


def secrets_in(data: bytes) -> list[str]:
    return [what for what, form in SECRETS.items() if re.search(form, data)]


def files() -> list[Path]:
    """Those of the repository; where it came without its history, all that are not hidden or generated."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [each for each in ROOT.rglob("*") if not any(part[0] == "." for part in each.relative_to(ROOT).parts)]
    return [each for each in found if each.is_file() and each.suffix != ".pyc"]


def test_the_repository_holds_no_secret() -> None:
    found = {str(each.relative_to(ROOT)): secrets_in(each.read_bytes()) for each in files()}
    assert len(found) > 100
    assert {name: what for name, what in found.items() if what} == {}


def test_a_secret_would_be_found() -> None:
    from activities.access import Access

    token = Access(keys=["key"], valid_after=lambda *_: 0).issue(-(2**63))
    examples = {
        "a private key": "-----BEGIN EC " + "PRIVATE KEY-----",
        "a chat token": f"'{token}'",
        "a bot's token": "123456789:" + "A_b-c" * 7,
        "a forge's token": "ghp_" + "x1" * 18,
        "a cloud's key": "AKIA" + "A1" * 8,
    }
    assert {what: secrets_in(f"key = {text}\n".encode()) for what, text in examples.items()} == {
        what: [what] for what in SECRETS
    }
