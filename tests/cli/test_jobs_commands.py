"""`jobs`, `tasks` and `status` against a scripted cluster: pages, fields, formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.jobs import BatchState, JobView, TaskView
from mesosctl.protocol.messages.batch import (
    Changed,
    Jobs,
    ListJobs,
    ListTasks,
    Tasks,
    Watch,
)
from mesosctl.protocol.messages.query import FindFramework
from mesosctl.protocol.messages.session import Refusal

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]
JOB = JobView(
    "12",
    "sim",
    BatchState.FAILED,
    "ann",
    "batch",
    5,
    3,
    {"ok": 2, "failed": 1, "running": 0},
    exit_code=7,
    submitted=1_700_000_000.0,
    started=1_700_000_001.5,
    ended=1_700_000_091.5,
    cpus_milli=500,
    mem_bytes=64 * 1024**2,
    command="./sim.sh",
)
TASK = TaskView(
    "12.0",
    "12",
    0,
    "sim",
    BatchState.OK,
    "Exited",
    exit_code=0,
    agent="a1",
    attempt=1,
    submitted=1_700_000_000.0,
    started=1_700_000_001.5,
    ended=1_700_000_003.0,
    cpus_milli=500,
    mem_limit_bytes=64 * 1024**2,
    cpu_user_s=0.25,
    cpu_system_s=0.5,
    mem_peak_bytes=1024**2,
    user="ann",
)
FAILED = TaskView(
    "12.1", "12", 1, "sim", BatchState.OOM, "MemoryLimit", mem_limit_bytes=64 * 1024**2, agent="a2"
)


def test_tasks_as_json(fake_cluster: Any, capsys: Capture) -> None:
    """The form that the project promises to scripts, key by key."""
    fake_cluster.on(ListTasks, lambda re, _: [Tasks(re, (TASK,))])
    assert run(["tasks", "12", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "tasks": [
            {
                "id": "12.0",
                "name": "sim",
                "state": "ok",
                "exit_code": 0,
                "agent": "a1",
                "attempt": 1,
                "job": "12",
                "index": 0,
                "reason": "Exited",
                "ends_by": None,
                "signal": None,
                "duration": 1.5,
                "cpu_s": 0.75,
                "mem_peak": 1024**2,
                "mem_limit": 64 * 1024**2,
                "cpus": 0.5,
                "cpu_user_s": 0.25,
                "cpu_system_s": 0.5,
                "submitted": "2023-11-14T22:13:20.000Z",
                "started": "2023-11-14T22:13:21.500Z",
                "ended": "2023-11-14T22:13:23.000Z",
                "user": "ann",
                "entry": None,
                "again_at": None,
                "message": "",
            }
        ],
    }


def test_lists_are_fetched_page_by_page(fake_cluster: Any, capsys: Capture) -> None:
    """A hundred thousand tasks do not fit into one answer; nobody should notice."""

    def answer(re: int, message: Any) -> list[Any]:
        return [Tasks(re, (FAILED,))] if message.after == "12.0" else [Tasks(re, (TASK,), "12.0")]

    fake_cluster.on(ListTasks, answer)
    assert run(["tasks", "-s", "ok,oom", "-A", "-o", "name"]) == 0
    assert capsys.readouterr().out == "12.0\n12.1\n"
    first, second = fake_cluster.heard(ListTasks)
    assert first.states == ("ok", "oom") and first.everyone and second.after == "12.0"


def test_jobs_asks_for_what_the_options_say(fake_cluster: Any, capsys: Capture) -> None:
    """The default is mine and active; every option widens or narrows it in the framework."""
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, (JOB,))])
    assert run(["jobs", "-o", "jsonl"]) == 0
    item = json.loads(capsys.readouterr().out)
    assert item["counts"] == {"ok": 2, "failed": 1}
    assert (item["id"], item["cpus"], item["duration"]) == ("12", 0.5, 90.0)
    assert run(["jobs", "-a", "-A", "-s", "failed", "-n", "s*", "10-14", "-o", "csv"]) == 0
    assert '"2 ok, 1 failed"' in capsys.readouterr().out
    plain, wide = fake_cluster.heard(ListJobs)
    assert plain == ListJobs()
    assert wide == ListJobs(("10-14",), ("failed",), "s*", True, True)


def test_status_tells_what_failed(fake_cluster: Any, capsys: Capture) -> None:
    """A person who asks after a failed job wants to know which task, where and why."""
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, (JOB,))])
    fake_cluster.on(ListTasks, lambda re, _: [Tasks(re, (FAILED,))])
    assert run(["status", "12", "--utc"]) == 0
    out = capsys.readouterr().out
    assert "job 12 'sim': failed (exit code 7)" in out
    assert "2023-11-14T22:14:51Z after 1m30s" in out
    assert "task 12.1: oom on a2: used more than its memory limit of 64M" in out


def test_status_with_tasks_as_json(fake_cluster: Any, capsys: Capture) -> None:
    """One object holds jobs and tasks, because one question asks for both."""
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, (JOB,))])
    fake_cluster.on(ListTasks, lambda re, _: [Tasks(re, (TASK, FAILED))])
    assert run(["status", "12", "--tasks", "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["status"]
    assert [task["id"] for task in item["task_list"]] == ["12.0", "12.1"]
    assert run(["status", "12", "--tasks", "-o", "csv"]) == 2


def test_status_watches_by_pushes(fake_cluster: Any, capsys: Capture) -> None:
    """Each change is one line, and what did not change is no line."""
    pushes = [
        JobView("12", "sim", BatchState.PENDING, "ann", "*", 0, 1, {"pending": 1}, "Resources"),
        JobView("12", "sim", BatchState.PENDING, "ann", "*", 0, 1, {"pending": 1}, "Resources"),
        JobView("12", "sim", BatchState.OK, "ann", "*", 0, 1, {"ok": 1}),
    ]
    fake_cluster.on(
        Watch, lambda re, _: [Changed(re, (job,), (), job.state == "ok") for job in pushes]
    )
    assert run(["status", "12", "-w"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "job 12 'sim': pending (Resources): 1 pending",
        "job 12 'sim': ok: 1 ok",
    ]


@pytest.mark.parametrize(
    ("code", "exit_code"), [("not-found", 4), ("invalid", 2), ("not-permitted", 5)]
)
def test_a_refusal_is_its_exit_code(
    fake_cluster: Any, capsys: Capture, code: str, exit_code: int
) -> None:
    """Scripts tell "no such job" from "not allowed" by the code alone."""
    fake_cluster.on(ListTasks, lambda re, _: [Refusal(re, code, "no job 99", "see jobs -a")])
    assert run(["tasks", "99"]) == exit_code
    assert capsys.readouterr().err == "mesosctl: no job 99; see jobs -a\n"


def test_a_misspelt_state_is_told_apart(fake_cluster: Any, capsys: Capture) -> None:
    """It would otherwise be an empty list, which reads like good news."""
    assert run(["tasks", "-s", "failedd"]) == 2
    assert "no state 'failedd'" in capsys.readouterr().err


def test_a_framework_that_starts_late_is_waited_for(fake_cluster: Any) -> None:
    """It is the master's child: the first command of a user comes before it has subscribed."""
    found = fake_cluster.machine.script[FindFramework]
    refusals = iter(range(2))

    def answer(re: int, message: Any) -> Any:
        late = next(refusals, None) is not None
        return [Refusal(re, "unavailable", "not there")] if late else found(re, message)

    fake_cluster.on(FindFramework, answer)
    fake_cluster.on(ListJobs, lambda re, _: [Jobs(re, ())])
    assert run(["jobs"]) == 0
    assert len(fake_cluster.heard(FindFramework)) == 3


def test_no_framework_ends_in_time(fake_cluster: Any, capsys: Capture) -> None:
    """A cluster without a queue says so, within the time that the user gave."""
    fake_cluster.on(FindFramework, lambda re, _: [Refusal(re, "unavailable", "none", "start one")])
    assert run(["jobs", "--request-timeout", "300ms"]) == 3
    assert capsys.readouterr().err == "mesosctl: none; start one\n"
