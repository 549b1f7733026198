"""`mesosctl wait`: pushed to, its codes, its patience; and the line that shows progress."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mesosctl.cli import following
from mesosctl.cli.following import Progress
from mesosctl.cli.main import run
from mesosctl.cli.output import Console
from mesosctl.core.session import ServerSessions
from mesosctl.model.jobs import BatchState, JobView, TaskView
from mesosctl.protocol.messages.batch import Changed, Jobs, ListJobs, ListTasks, Tasks, Watch
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.protocol.messages.session import Refusal

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]


def job(state: str, number: int = 12, **counts: int) -> JobView:
    total = sum(counts.values())
    return JobView(str(number), "sim", BatchState(state), "ann", "*", 0, total, counts)


def test_all_ok_is_silent_and_0(fake_cluster: Any, capsys: Capture) -> None:
    """The good case needs no words."""
    fake_cluster.on(Watch, lambda re, _: [Changed(re, (job("ok", ok=3),), done=True)])
    assert run(["wait", "12", "13.0-4"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert fake_cluster.heard(Watch) == [Watch(("12", "13.0-4"))]


def test_many_failures_are_summed_up(fake_cluster: Any, capsys: Capture) -> None:
    """The first few say what went wrong; the rest is one command away."""
    fake_cluster.on(
        Watch, lambda re, _: [Changed(re, (job("failed", failed=9),), done=True, exit_code=9)]
    )
    failed = TaskView("12.0", "12", 0, "sim", BatchState.FAILED, "Exited", exit_code=9)
    fake_cluster.on(ListTasks, lambda re, message: [Tasks(re, (failed,) * message.limit, "12.4")])
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, (job("failed", failed=9),))])
    assert run(["wait", "12"]) == 9
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[0] == "task 12.0: failed: exit code 9"
    assert lines[5].startswith("and 4 more; see mesosctl tasks 12 -s ")


def test_a_timeout_is_124_and_the_jobs_go_on(fake_cluster: Any, capsys: Capture) -> None:
    """The code of timeout(1), so that scripts know it."""
    fake_cluster.on(Watch, lambda re, _: [Changed(re, (job("running", running=1),))])
    assert run(["wait", "12", "--timeout", "50ms"]) == 124
    assert capsys.readouterr().err == "mesosctl: not over after 0.05s; it goes on\n"


def test_an_unknown_job_is_125(fake_cluster: Any, capsys: Capture) -> None:
    """Our own failures are never taken for a task's."""
    fake_cluster.on(Watch, lambda re, _: [Refusal(re, "not-found", "no job 99", "see jobs -a")])
    assert run(["wait", "99"]) == 125
    assert capsys.readouterr().err == "mesosctl: no job 99; see jobs -a\n"
    assert run(["wait"]) == 2


def test_a_framework_that_moved_is_found_again(
    fake_cluster: Any, make_fake_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted batch framework listens on another port; who waits must not be stranded."""
    monkeypatch.setattr(following, "FIND_EVERY_S", 0.05)
    first = make_fake_cluster(fake_cluster)
    second = make_fake_cluster(fake_cluster)
    where = [first]
    fake_cluster.on(
        FindFramework,
        lambda re, message: [
            FrameworkFound(re, "f1", message.name, where[0].address, where[0].keys.public)
        ],
    )

    def answer(re: int, message: Any) -> list[Any]:
        where[0] = second
        threading.Thread(target=first.stop).start()
        return [Changed(re, (job("running", running=1),))]

    first.on(Watch, answer)
    second.on(Watch, lambda re, _: [Changed(re, (job("failed", failed=1),), (), True, 3)])
    second.on(ListTasks, lambda re, _: [Tasks(re, ())])
    assert run(["wait", "12"]) == 3
    assert isinstance(second.machine.sessions, ServerSessions)
    assert len(second.heard(Watch)) == 1


def test_progress_in_a_file_is_whole_lines(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of a build must not fill with carriage returns, nor with a line for each push."""
    progress = Progress(Console())
    progress.take([job("running", running=2)])
    progress.take([job("partial", ok=1, running=1)])
    progress.finish()
    assert capsys.readouterr().err.splitlines() == [
        "0/2 tasks ended: 2 running",
        "1/2 tasks ended: 1 running, 1 ok",
    ]


def test_progress_on_a_terminal_is_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written over, and left whole at the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(Console())
    progress.take([job("running", running=2), job("ok", number=13, ok=1)])
    progress.finish()
    err = capsys.readouterr().err
    assert err.startswith("\r1/3 tasks ended: 2 running, 1 ok") and err.count("\n") == 1
    assert err.endswith("\n")
