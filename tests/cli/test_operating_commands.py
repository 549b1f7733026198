"""The commands of operators: agents by many names in one request, questions, what is said."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import AgentId
from mesosctl.model.jobs import BatchState, JobView, TaskView
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.batch import Jobs, ListJobs, ListTasks, Tasks
from mesosctl.protocol.messages.maintenance import (
    DeactivateAgents,
    DeclareGone,
    DrainAgents,
    Reserve,
    UndrainAgents,
    Unreserve,
)
from mesosctl.protocol.messages.query import Agents, AgentView, ListAgents
from mesosctl.protocol.messages.session import Refusal

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]


def view(name: str, state: str, tasks: int = 0, **fields: Any) -> AgentView:
    info = AgentInfo(AgentId(f"A-{name}"), name, Resources.parse("cpus:4;mem:4096"))
    return AgentView(info, state, Resources(), Resources(), tasks, **fields)


def answers(cluster: Any, kind: Any, *views: AgentView) -> None:
    cluster.on(kind, lambda re, _: [Agents(re, views)])


def test_many_agents_are_one_request(fake_cluster: Any, capsys: Capture) -> None:
    """All of them or none: the master cannot promise that for several requests."""
    reason = {"mode": "deactivated", "reason": "kernel"}
    answers(
        fake_cluster,
        DeactivateAgents,
        view("n1", "deactivated", 3, **reason),
        view("n2", "deactivated", 1, **reason),
    )
    assert run(["deactivate", "n1", "n2", "--reason", "kernel"]) == 0
    [sent] = fake_cluster.heard(DeactivateAgents)
    assert (sent.agents, sent.reason) == (("n1", "n2"), "kernel")
    assert sent.request_id
    assert capsys.readouterr().err == (
        "n1: deactivated; 3 tasks there, which go on\nn2: deactivated; 1 task there, which go on\n"
    )
    assert run(["deactivate", "n1", "n2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["agents"]
    assert [(one["name"], one["state"], one["reason"]) for one in told] == [
        ("n1", "deactivated", "kernel"),
        ("n2", "deactivated", "kernel"),
    ]


def test_undrain_says_how_the_agents_are_now(fake_cluster: Any, capsys: Capture) -> None:
    """What a person wants to know is whether it is offered again."""
    answers(fake_cluster, UndrainAgents, view("n1", "registered"))
    assert run(["undrain", "n1"]) == 0
    assert fake_cluster.heard(UndrainAgents)[0].agents == ("n1",)
    assert capsys.readouterr().err == "n1: registered; 0 tasks there\n"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("not-found", 4), ("conflict", 5), ("not-permitted", 5)]
)
@pytest.mark.parametrize("command", ["deactivate", "undrain", "gone"])
def test_refusals_are_one_line_and_an_exit_code(
    fake_cluster: Any, capsys: Capture, command: str, code: str, exit_code: int
) -> None:
    """Scripts tell a misspelt name from a missing right."""
    for kind in (DeactivateAgents, UndrainAgents, DeclareGone):
        fake_cluster.on(kind, lambda re, _: [Refusal(re, code, "no: because", "try that")])
    words = [command, "n1"] + (["-y"] if command == "gone" else [])
    assert run(words) == exit_code
    assert capsys.readouterr().err == "mesosctl: no: because; try that\n"


def test_gone_needs_a_yes(fake_cluster: Any, capsys: Capture) -> None:
    """One careless word must not have every task of a living host run a second time."""
    answers(fake_cluster, ListAgents, view("n1", "unreachable", 7))
    answers(fake_cluster, DeclareGone, view("n1", "gone"))
    assert run(["gone", "n1"]) == 2
    err = capsys.readouterr().err
    assert "n1 (A-n1) is unreachable with 7 tasks" in err and "add -y" in err
    assert fake_cluster.heard(DeclareGone) == []
    assert run(["gone", "n1", "-y", "--reason", "burnt"]) == 0
    assert fake_cluster.heard(DeclareGone)[0].reason == "burnt"
    assert "n1: gone; its tasks are over" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_a_person_is_asked_about_gone(
    fake_cluster: Any,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    """And is warned when the agent is not dead at all."""
    answers(fake_cluster, ListAgents, view("n1", "registered", 1))
    answers(fake_cluster, DeclareGone, view("n1", "gone"))
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(["gone", "n1"]) == code
    assert "with 1 task: it answers, and is told to end them" in capsys.readouterr().err
    assert len(fake_cluster.heard(DeclareGone)) == (code == 0)


def test_agents_shows_why_one_is_out_of_use(fake_cluster: Any, capsys: Capture) -> None:
    """Without -o wide, for that is what whoever looks at the table asks next."""
    held = view("n2", "deactivated", mode="deactivated", reason="kernel")
    answers(fake_cluster, ListAgents, view("n1", "registered"), held, view("n3", "gone"))
    assert run(["agents"]) == 0
    out = capsys.readouterr().out
    assert "kernel" in out and "REASON" in out.splitlines()[0]
    assert "n3" not in out
    assert run(["agents", "--all"]) == 0
    assert "n3" in capsys.readouterr().out
    assert run(["agents", "--state", "gone", "-o", "name"]) == 0
    assert capsys.readouterr().out == "n3\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["deactivate"], "AGENT... is missing"),
        (["gone"], "AGENT... is missing"),
        (["undrain"], "AGENT... is missing"),
        (["deactivate", "n1", "--reason", "two\nlines"], "--reason is one line"),
        (["gone", "n1", "-y", "--reason", "x" * 201], "--reason is one line"),
    ],
)
def test_bad_words_are_one_line(capsys: Capture, words: list[str], says: str) -> None:
    """Nothing is sent for what cannot be meant."""
    assert run(words) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


# --- drain ----------------------------------------------------------------------------------------
def draining(tasks: int, state: str = "draining", **fields: Any) -> AgentView:
    return view("n1", state, tasks, **{"mode": "draining", "reason": "kernel", **fields})


def test_drain_passes_on_the_deadline_and_the_reason(fake_cluster: Any, capsys: Capture) -> None:
    """And ends at once: the drain is the master's."""
    answers(fake_cluster, DrainAgents, draining(3, deadline=1.8e9, deadline_s=7200.0))
    words = ["drain", "n1", "--deadline", "2h", "--reason", "kernel"]
    assert run(words) == 0
    [sent] = fake_cluster.heard(DrainAgents)
    assert (sent.agents, sent.deadline_s, sent.reason) == (("n1",), 7200.0, "kernel")
    assert capsys.readouterr().err == "n1: draining; 3 tasks left there\n"
    assert run([*words, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["agents"]
    assert (told["state"], told["deadline"], told["deadline_s"]) == (
        "draining",
        "2027-01-15T08:00:00.000Z",
        7200.0,
    )


def test_wait_says_how_far_it_is_and_ends_when_it_is_done(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over a time in which the agent does not answer."""
    monkeypatch.setattr("mesosctl.cli.commands.drain.LOOK_S", 0.01)
    answers(fake_cluster, DrainAgents, draining(2))
    looks = [
        draining(2),
        draining(1, deadline_s=0.0, deadline=1.8e9),
        draining(1, "unreachable"),
        draining(0, "drained"),
    ]
    fake_cluster.on(ListAgents, lambda re, _: [Agents(re, (looks.pop(0),))])
    assert run(["drain", "n1", "--wait"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "n1: 2 tasks left",
        "n1: 1 task being ended",
        "n1: does not answer; 1 task known there",
        "n1: drained; 0 tasks left there",
    ]
    assert fake_cluster.heard(ListAgents)[0].agents == ("A-n1",)


def test_wait_notices_that_the_drain_was_ended(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind `drain --wait &&` must not happen to a host in use."""
    monkeypatch.setattr("mesosctl.cli.commands.drain.LOOK_S", 0.01)
    answers(fake_cluster, DrainAgents, draining(2))
    answers(fake_cluster, ListAgents, view("n1", "registered", 2))
    assert run(["drain", "n1", "--wait"]) == 1
    assert "n1 is in use: somebody ended its drain" in capsys.readouterr().err


def test_ctrl_c_leaves_the_drain_alone(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the waiting ends."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mesosctl.cli.commands.drain._look", interrupted)
    answers(fake_cluster, DrainAgents, draining(2))
    assert run(["drain", "n1", "--wait"]) == 130
    assert "the drain goes on" in capsys.readouterr().err
    assert fake_cluster.heard(UndrainAgents) == []


def test_tasks_and_status_say_when_a_task_is_ended(fake_cluster: Any, capsys: Capture) -> None:
    """Told beforehand, in the tables that people look at."""
    drained = {"reason": "Draining", "ends_by": 1.8e9}
    task = TaskView("1.0", "1", 0, "sim", BatchState.RUNNING, agent="n1", **drained)
    job = JobView("1", "sim", BatchState.RUNNING, "me", "*", 0, 1, {"running": 1})
    fake_cluster.on(ListTasks, lambda re, _: [Tasks(re, (task,))])
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, (replace(job, draining=1, ends_by=1.8e9),))])
    assert run(["tasks", "--utc"]) == 0
    out = capsys.readouterr().out
    assert "ENDS BY" in out and "Draining" in out and "2027-01-15T08:00:00Z" in out
    assert run(["status", "1", "--utc"]) == 0
    out = capsys.readouterr().out
    assert "1 task runs on agents that are drained; run again elsewhere at 2027-01-15T" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["drain"], "AGENT... is missing"),
        (["drain", "n1", "--deadline", "soon"], "soon"),
        (["drain", "n1", "--reason", "a\tb"], "--reason is one line"),
    ],
)
def test_bad_words_of_drain_are_one_line(capsys: Capture, words: list[str], says: str) -> None:
    """Nothing is sent for what cannot be meant."""
    assert run(words) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


@pytest.mark.parametrize(("command", "kind"), [("reserve", Reserve), ("unreserve", Unreserve)])
def test_reservations_of_many_agents_are_one_request(
    fake_cluster: Any, capsys: Capture, command: str, kind: Any
) -> None:
    """And the answer says what the agents have now."""
    answers(fake_cluster, kind, view("n1", "registered"))
    assert run([command, "n1", "n2", "cpus:2;mem:1G", "--role", "eng"]) == 0
    [sent] = fake_cluster.heard(kind)
    assert (sent.agents, sent.role, str(sent.resources)) == (("n1", "n2"), "eng", "cpus:2;mem:1024")
    assert sent.request_id
    assert capsys.readouterr().err == "n1: cpus:4;mem:4096\n"
    assert run([command, "n1", "cpus", "--role", "eng"]) == 2
    assert "has no value" in capsys.readouterr().err
    assert run([command, "n1", "cpus:1"]) == 2
    assert "--role" in capsys.readouterr().err
    assert len(fake_cluster.heard(kind)) == 1
