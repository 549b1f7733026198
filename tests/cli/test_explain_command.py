"""`mesosctl explain` against a scripted cluster: what people read, what programs get."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.constraints import Where
from mesosctl.model.explanations import Cause, Change, Explanation
from mesosctl.model.fit import AgentGroup, Fit, Footing, Lack, Need, QuotaRoom, Rival
from mesosctl.model.jobs import BatchState, TaskView
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.batch import LocateLogs, LogSource, LogSources
from mesosctl.protocol.messages.explain import Explained, ExplainTasks
from mesosctl.protocol.messages.session import Refusal

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]
NEED = Need(Resources.parse("cpus:1;mem:8192"), Where("ssd"))
LACK = Lack("mem", 8_192_000, 6_349_000, "a2")
FIT = Fit(
    5,
    (
        AgentGroup("Resources", 3, ("a1", "a2", "a3"), (LACK,)),
        AgentGroup("Filtered", 1, ("a5",), left_s=3.5),
        AgentGroup("Draining", 1, ("a4",), text="draining: kernel"),
    ),
    (Rival("Share", Footing("web", 220, "cpus"), Footing("batch", 610, "mem")),),
    (QuotaRoom("batch", "mem", 16_384_000, 1_024_000, 8_192_000),),
)


def waits() -> Explanation:
    """A task that waits, with all that can be said of one."""
    task = TaskView("12.0", "12", 0, "sim", BatchState.PENDING, submitted=time.time() - 250)
    causes = (Cause("Share", "web is offered first"), Cause("Resources", "3 agents lack mem"))
    return Explanation(task, causes, 2, "idle", "-m 6.2G fits a2 now", 3, 40, NEED, FIT)


def ended(**more: Any) -> Explanation:
    """A task that failed."""
    task = TaskView(
        "12.1",
        "12",
        1,
        "sim",
        BatchState.FAILED,
        "Exited",
        exit_code=127,
        agent="a1",
        attempt=2,
        started=100.0,
        ended=103.0,
        cpu_user_s=1.0,
        cpu_system_s=0.5,
        mem_peak_bytes=2**20,
        mem_limit_bytes=2**29,
        **more,
    )
    return Explanation(task, (Cause("Exited", "it ended with exit code 127"),), advice="see PATH")


def explained(cluster: Any, *found: Explanation, left_out: int = 0) -> None:
    """Have the batch framework say this."""
    cluster.on(ExplainTasks, lambda re, message: [Explained(re, tuple(found), left_out)])
    problem = "its agent does not answer"
    cluster.on(
        LocateLogs,
        lambda re, message: [
            LogSources(re, tuple([LogSource(one.task, problem=problem) for one in found]))
        ],
    )


def test_a_person_reads_all_causes(fake_cluster: Any, capsys: Capture) -> None:
    """The first line names the task and the words, the last one what would help."""
    explained(fake_cluster, waits())
    assert run(["explain", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("12.0 'sim' pending 4m10s - Share, Resources")
    assert lines[0].endswith("(and 1 more like it)")
    assert lines[1:3] == ["  web is offered first", "  3 agents lack mem"]
    assert "of 5 agents fit now" in lines[3]
    assert lines[4] == "  queue: 3 jobs with 40 tasks before it"
    assert lines[5] == "  To get it running: -m 6.2G fits a2 now"


def test_the_history_is_told_on_request(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest change first, each with how long ago; programs always get it."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    changes = (
        Change(now - 3700, "NoAgents", "there are no agents"),
        Change(now - 240.2, "Share", "web is offered first"),
    )
    explained(fake_cluster, replace(waits(), history=changes))
    assert run(["explain", "12"]) == 0
    assert "NoAgents" not in capsys.readouterr().out
    assert run(["explain", "12", "--history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[5:8] == [
        "  changes of its reason that were seen:",
        "    1h1m ago - NoAgents: there are no agents",
        "    4m ago - Share: web is offered first",
    ]
    assert run(["explain", "12", "-o", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["explain"]
    assert [change["reason"] for change in row["history"]] == ["NoAgents", "Share"]
    explained(fake_cluster, ended())
    assert run(["explain", "12.1", "--history"]) == 0
    assert "no change of its reason was seen" in capsys.readouterr().out


def test_programs_get_the_numbers(fake_cluster: Any, capsys: Capture) -> None:
    """Bytes and decimals, one key for one thing."""
    explained(fake_cluster, waits())
    assert run(["explain", "12", "-o", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["explain"]
    assert (row["id"], row["reason"], row["verdict"]) == ("12.0", "Share", "idle")
    assert row["need"] == {"cpus": 1.0, "mem": 8192 * 2**20} and row["constraint"] == "ssd"
    assert (row["agents"], row["fit_now"], row["fit_idle"]) == (5, 1, 4)
    assert row["groups"][0]["lacks"] == [
        {"name": "mem", "need": 8192 * 2**20, "most": 6349 * 2**20, "agent": "a2"}
    ]
    assert row["groups"][1]["left_s"] == 3.5
    assert row["rivals"][0]["theirs"]["share"] == 0.22
    assert row["quota"][0]["room"] == 1024 * 2**20
    assert (row["jobs_before"], row["tasks_before"]) == (3, 40)


def test_an_end_is_told_with_why_its_stderr_is_not_there(
    fake_cluster: Any, capsys: Capture
) -> None:
    """Output that cannot be read never makes an explanation fail."""
    explained(fake_cluster, ended())
    assert run(["explain", "12.1"]) == 0
    out = capsys.readouterr().out
    assert "12.1 'sim' failed after 3s on a1 - Exited" in out
    assert "it used cpu time 1.5s, memory 1M of 512M, attempt 2" in out
    assert "[its agent does not answer]" in out and "What may help: see PATH" in out
    assert run(["explain", "12.1", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["explain"]
    assert (row["exit_code"], row["signal"], row["mem_peak"]) == (127, None, 2**20)
    assert row["stderr"] == ["[its agent does not answer]"] and "groups" not in row


def test_tables_for_other_programs(fake_cluster: Any, capsys: Capture) -> None:
    """-o csv and -o name as in every listing: a row for each cause."""
    explained(fake_cluster, waits(), left_out=3)
    assert run(["explain", "12", "-o", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1] == "12.0,pending,idle,Share,web is offered first"
    assert "3 more jobs are not explained" in captured.err


def test_what_is_not_there_has_its_own_code(fake_cluster: Any, capsys: Capture) -> None:
    """4, as everywhere; 2 when nothing is named."""
    fake_cluster.on(ExplainTasks, lambda re, message: [Refusal(re, "not-found", "no job 99")])
    assert run(["explain", "99"]) == 4
    assert "no job 99" in capsys.readouterr().err
    assert run(["explain"]) == 2
