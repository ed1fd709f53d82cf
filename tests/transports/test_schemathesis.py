"""The schema against the running server: no server error, and no answer that the schema does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.transports.served import ACTIVITIES, VITAMIN, serving

CONFIG = """
[generation]
deterministic = true
max-examples = {examples}
# Headers that we do not know are passed over, as everywhere.
allow-extra-parameters = false

[[operations]]
# Not every rule can be said in a schema: that two dates are in order, what a name may hold, which time zones there are.
include-operation-id = [
    "createActivity", "getActivity", "replaceActivity", "updateActivity", "deleteActivity", "updateChat", "login"
]
checks.positive_data_acceptance.enabled = false

[cache]
enabled = false
"""


# To forget the chat makes the token worthless that the others need.
@pytest.mark.parametrize(("choice", "operations"), [("--exclude-operation-id", 15), ("--include-operation-id", 1)])
@pytest.mark.parametrize("shows", ["a chat's token", "no token"])
def test_every_answer_is_one_of_the_schemas(tmp_path: Path, choice: str, operations: int, shows: str) -> None:
    """All of schemathesis' checks and phases; the same requests on each run."""
    tmp_path.joinpath("schemathesis.toml").write_text(
        CONFIG.replace("{examples}", "30" if shows == "a chat's token" else "5")
    )
    with serving() as served:
        served.client.post(ACTIVITIES, json=VITAMIN).raise_for_status()
        token = served.container.access.issue(1)
        header = ("--header", f"Authorization: Bearer {token}") if shows == "a chat's token" else ()
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.base_url}/api/schema/?format=json"),
                *(*header, "--no-color", choice, "forgetChat"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Tested: {operations}" in run.stdout
