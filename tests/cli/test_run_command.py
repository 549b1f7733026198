"""`mesosctl run`: the task that it launches, and what it refuses; the rest is tested end to end."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from mesosctl.cli.commands.run import completed, filled_path, make_task
from mesosctl.cli.joboptions import JobOptions
from mesosctl.cli.main import run
from mesosctl.cli.work import Work
from mesosctl.errors import UsageError
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.resources import Resources

Capture = pytest.CaptureFixture[str]
WORK = Work(("wc", "-l"), name="wc")


@pytest.fixture(autouse=True)
def _in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_options_become_the_task(tmp_path: Path) -> None:
    """The same options as in submit, on a task instead of a job."""
    job = JobOptions("x", 500, 64 * 1024**2, env=(("A", "1"),), env_base="none", time=5.0, grace=0)
    task = make_task(WORK, job)
    assert (task.name, task.resources) == ("x", Resources.of(500, 64 * 1024**2))
    assert (task.time_limit_s, task.grace_s) == (5.0, 0)
    assert task.command.env == {"A": "1", "MESOS_SUBMIT_DIR": str(tmp_path)}
    assert (task.command.cwd, task.command.cwd_may_fall_back) == (str(tmp_path), True)


def test_a_pipe_is_passed_on_and_a_terminal_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cat x | run -- wc` works, and a run in the foreground does not eat what is typed."""

    def stdin_of(given: str | None, flags: int, path: str = os.devnull) -> str:
        before = os.dup(0)
        opened = os.open(path, flags)
        try:
            os.dup2(opened, 0)
            monkeypatch.setattr("sys.stdin", io.StringIO())
            return make_task(WORK, JobOptions(stdin=given)).command.stdin
        finally:
            os.dup2(before, 0)
            os.close(before)
            os.close(opened)

    Path("data").write_text("x")
    assert stdin_of(None, os.O_RDONLY, "data") == "stream"
    assert stdin_of(None, os.O_RDONLY) == ""
    assert stdin_of("-", os.O_RDONLY) == "stream"
    assert stdin_of("none", os.O_RDONLY, "data") == ""
    assert stdin_of("in.txt", os.O_RDONLY, "data") == str(tmp_path / "in.txt")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert make_task(WORK, JobOptions()).command.stdin == ""


def test_a_script_from_stdin_leaves_none() -> None:
    """What has been read as the script cannot be read again by the task."""
    work = Work((), b"cat\n", from_stdin=True)
    assert make_task(work, JobOptions()).command.stdin == ""
    with pytest.raises(UsageError, match="both the script and the task's stdin"):
        make_task(work, JobOptions(stdin="-"))


def test_the_place_completes_the_task(tmp_path: Path) -> None:
    """The agent's name and the attempt are known only when an offer is taken."""
    job = JobOptions(stdout="%x.%N.out", stderr="merge", cpus=500, mem=64 * 1024**2)
    task = make_task(WORK, job)
    offer = Offer(
        OfferId("o"), FrameworkId("f1"), AgentId("s1"), "node1", "web", Resources.of(1000)
    )
    from dataclasses import replace

    placed = replace(task, task_id=TaskId("run.2"))
    done = completed(placed, offer, "f1", job, "tcp://h:5050", "ann")
    assert done.command.stdout == str(tmp_path / "wc.node1.out")
    assert done.command.stderr == "merge"
    expected = {"MESOS_AGENT": "node1", "MESOS_ATTEMPT": "2", "MESOS_CPUS": "0.5"}
    expected |= {"MESOS_MEM": "64", "MESOS_ROLE": "web", "MESOS_MASTER": "tcp://h:5050"}
    assert expected.items() <= done.command.env.items()


def test_placeholders_cannot_make_directories() -> None:
    """A name is a part of a path, never a path."""
    assert filled_path("/a/%u%%x.%z", {"u": "../b", "x": "n", "%": "%"}) == "/a/.._b%x.%z"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "-it", "--", "bash"], 2, "a terminal cannot be passed on"),
        (["run"], 2, "nothing to execute"),
        (["run", "-a", "0-9", "--", "x"], 2, "no such option"),
        (["run", "--", "true"], 125, "no master is known"),
        (["run", "-m", "1", "--", "x"], 2, "did you mean 1M?"),
    ],
)
def test_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: list[str], code: int, says: str
) -> None:
    """Usage stays 2; what else is ours is 125, for the other codes are the task's."""
    monkeypatch.setenv("MESOSCTL_CONFIG", "/dev/null")
    monkeypatch.delenv("MESOSCTL_MASTER", raising=False)
    monkeypatch.setattr("mesosctl.cli.settings.runtime_endpoint", lambda: None)
    assert run(words) == code
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
