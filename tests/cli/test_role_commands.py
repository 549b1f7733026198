"""Commands about roles: what is asked of the master, what is said, what is refused at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.query import ListRoles, Roles, RoleView
from mesosctl.protocol.messages.roles import Quota, SetQuotas, SetRoles
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


def test_quotas_of_several_roles_are_one_request(fake_cluster: Any, capsys: Capture) -> None:
    """Two CPUs from one role to another, with a guarantee for one; 0 of a name stays 0."""
    limit, kept = {"cpus": 6000, "gpus": 0}, {"cpus": 2000}
    view = RoleView("ops", 1000, 0, 1, Resources(), 0, limit, kept, {"cpus": 500})
    fake_cluster.on(SetQuotas, lambda re, _: [Roles(re, (view,))])
    words = ["quota", "set", "eng", "none", "ops", "cpus:6;gpus:0"]
    assert run([*words, "--guarantee", "none", "--guarantee", "cpus:2", "--force"]) == 0
    [sent] = fake_cluster.heard(SetQuotas)
    assert sent.quotas == (Quota("eng"), Quota("ops", limit, kept))
    assert sent.force and sent.request_id
    told = "ops: limit cpus:6;gpus:0, guarantee cpus:2; consumed cpus:0.5\n"
    assert capsys.readouterr().err == told
    assert run(["quota", "unset", "ops", "--json"]) == 0
    [_, sent] = fake_cluster.heard(SetQuotas)
    assert sent.quotas == (Quota("ops"),)
    [row] = json.loads(capsys.readouterr().out)["quotas"]
    assert (row["role"], row["limit"], row["consumed"]) == ("ops", "cpus:6;gpus:0", "cpus:0.5")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eng"], "eng has no limit"),
        (["eng", "cpus"], "has no value"),
        (["eng", "cpus(ops):1"], "cpus(ops) cannot be bounded"),
        (["eng", "ports:[1-2]"], "ports cannot be bounded"),
        (["eng", "cpus:1;cpus:2"], "cpus is given twice"),
        (["eng", "cpus:1", "ops", "cpus:1", "--guarantee", "cpus:1"], "once for each role"),
        (["eng", "cpus:1", "--guarantee", "cpus:x"], "is not a number"),
    ],
)
def test_what_is_no_quota_is_refused_before_anybody_is_asked(
    fake_cluster: Any, capsys: Capture, words: list[str], told: str
) -> None:
    """One line, and code 2."""
    assert run(["quota", "set", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err
    assert fake_cluster.heard(SetQuotas) == []


def test_quota_list_shows_only_who_has_one(fake_cluster: Any, capsys: Capture) -> None:
    """A role without a quota is listed by `roles`."""
    view = RoleView("ops", 1000, 0, 1, Resources(), 0, {"cpus": 6000}, {}, {"cpus": 500})
    fake_cluster.on(ListRoles, lambda re, _: [Roles(re, (ENG, view))])
    assert run(["quota", "list", "-o", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["ops,cpus:6,,cpus:0.5"]


def test_roles_lists_them(fake_cluster: Any, capsys: Capture) -> None:
    """Weight and share as people think of them."""
    fake_cluster.on(ListRoles, lambda re, _: [Roles(re, (ENG,))])
    assert run(["roles", "-o", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["roles"]
    assert (row["role"], row["weight"], row["priority"], row["share"]) == ("eng", 2.5, 3, 0.25)
