"""What `serve` says when it is up."""

from __future__ import annotations

from io import StringIO

import pytest

from activities_project.management.commands.serve import Command


@pytest.mark.parametrize(("token", "line"), [("act_1", "token: act_1"), ("", "token: manage.py token issue")])
def test_a_token_is_shown_on_this_machine_alone(token: str, line: str) -> None:
    command = Command(stdout=StringIO())
    command._say_where(token, "http://127.0.0.1:8000", "127.0.0.1:50051", "-plaintext ", "")
    said = command.stdout.getvalue()
    assert line in said
    assert said.count(f"Bearer {token or 'TOKEN'}'") == 2
