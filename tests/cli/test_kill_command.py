"""`mesosctl kill`: signals, confirmation, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesosctl.cli.commands.kill import parse_signal
from mesosctl.cli.main import run
from mesosctl.errors import UsageError
from mesosctl.model.jobs import BatchState, JobView
from mesosctl.protocol.messages.batch import Jobs, KillJobs, KillsBegun, ListJobs

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]


def has_tasks(cluster: Any, running: int) -> None:
    counts = {"ok": 500, "running": running}
    job = JobView("12", "sim", BatchState.RUNNING, "ann", "*", 0, 500 + running, counts)
    cluster.on(ListJobs, lambda re, _: [Jobs(re, (job,))])
    cluster.on(KillJobs, lambda re, _: [KillsBegun(re, running, 2, 1)])


def test_signals_by_name_and_number() -> None:
    """Everything that kill(1) takes."""
    assert [parse_signal(text) for text in ("TERM", "sigusr1", "2")] == [15, 10, 2]
    for text in ("0", "65", "NOPE", "", "-1", "1.5"):
        with pytest.raises(UsageError, match="not a signal"):
            parse_signal(text)


def test_many_selectors_are_one_request(fake_cluster: Any, capsys: Capture) -> None:
    """And what was over before is a note, not an error."""
    has_tasks(fake_cluster, 3)
    words = "kill 12 13.0-9 --grace 0s --state running,pending --reason oops"
    assert run(words.split()) == 0
    expected = KillJobs(("12", "13.0-9"), ("running", "pending"), None, 0.0, "oops")
    assert fake_cluster.heard(KillJobs) == [expected]
    captured = capsys.readouterr()
    assert captured.err == "tasks: 3 being ended, 2 cancelled, 1 over before\n"
    assert run(["kill", "12", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["kill"]
    assert told == {"ending": 3, "cancelled": 2, "already_ended": 1}


@pytest.mark.parametrize("selector", ["all", "name:sim*"])
def test_many_tasks_need_a_yes(fake_cluster: Any, capsys: Capture, selector: str) -> None:
    """One careless word must not end a thousand tasks, also not in a script."""
    has_tasks(fake_cluster, 21)
    assert run(["kill", selector]) == 2
    assert "name 21 tasks; add -y" in capsys.readouterr().err
    assert fake_cluster.heard(KillJobs) == []
    assert run(["kill", selector, "-y"]) == 0
    assert len(fake_cluster.heard(KillJobs)) == 1


def test_few_tasks_or_a_number_need_none(fake_cluster: Any) -> None:
    """What was named one by one, or is little, is meant."""
    has_tasks(fake_cluster, 20)
    assert run(["kill", "all"]) == 0
    has_tasks(fake_cluster, 1000)
    assert run(["kill", "12"]) == 0
    assert len(fake_cluster.heard(KillJobs)) == 2


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_a_person_is_asked(
    fake_cluster: Any,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    """Only a clear yes is one."""
    import io

    has_tasks(fake_cluster, 21)
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(["kill", "all"]) == code
    assert "This ends 21 tasks. Sure?" in capsys.readouterr().err
    assert len(fake_cluster.heard(KillJobs)) == (code == 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kill"], "SEL... is missing"),
        (["kill", "1", "-s", "NOPE"], "not a signal"),
        (["kill", "1", "-s", "INT", "--grace", "1s"], "--signal ends nothing"),
        (["kill", "1", "--grace", "2h"], "--grace is over 1h"),
    ],
)
def test_bad_input_is_one_line(capsys: Capture, words: list[str], says: str) -> None:
    """Nothing is sent for what cannot be meant."""
    assert run(words) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
