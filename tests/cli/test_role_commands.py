"""Commands about roles: what is asked of the master, what is said, what is refused at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.query import ListRoles, Roles, RoleView
from mesosctl.protocol.messages.roles import SetRoles
from mesosctl.protocol.messages.session import Refusal

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]
ENG = RoleView("eng", 2500, 3, 1, Resources.parse("cpus:2"), 250)


def test_role_set_is_one_request(fake_cluster: Any, capsys: Capture) -> None:
    """Many roles, one decision; what is not named is left as it is."""
    fake_cluster.on(SetRoles, lambda re, _: [Roles(re, (ENG,))])
    assert run(["role", "set", "eng", "eng/web", "--weight", "2.5"]) == 0
    [sent] = fake_cluster.heard(SetRoles)
    assert (sent.roles, sent.weight_milli, sent.priority) == (("eng", "eng/web"), 2500, None)
    assert sent.request_id
    assert capsys.readouterr().err == "eng: weight 2.5, priority 3; 1 framework\n"
    assert run(["role", "set", "eng", "--priority", "-4", "--json"]) == 0
    [_, sent] = fake_cluster.heard(SetRoles)
    assert (sent.weight_milli, sent.priority) == (None, -4)
    assert json.loads(capsys.readouterr().out)["roles"][0]["weight"] == 2.5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--weight"),
        (["--weight", "0"], "not a weight"),
        (["--weight", "heavy"], "is not a number"),
        (["--weight", "-1"], "negative"),
        (["--priority", "x"], "not a valid integer"),
    ],
)
def test_what_is_no_weight_is_refused_before_anybody_is_asked(
    fake_cluster: Any, capsys: Capture, words: list[str], told: str
) -> None:
    """One line, and code 2."""
    assert run(["role", "set", "eng", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err
    assert fake_cluster.heard(SetRoles) == []


def test_a_refusal_is_one_line_and_code_5(fake_cluster: Any, capsys: Capture) -> None:
    """As every command of operators has it."""
    fake_cluster.on(SetRoles, lambda re, _: [Refusal(re, "not-permitted", "key me is not")])
    assert run(["role", "set", "eng", "--weight", "1"]) == 5
    assert capsys.readouterr().err == "mesosctl: key me is not\n"


def test_roles_lists_them(fake_cluster: Any, capsys: Capture) -> None:
    """Weight and share as people think of them."""
    fake_cluster.on(ListRoles, lambda re, _: [Roles(re, (ENG,))])
    assert run(["roles", "-o", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["roles"]
    assert (row["role"], row["weight"], row["priority"], row["share"]) == ("eng", 2.5, 3, 0.25)
