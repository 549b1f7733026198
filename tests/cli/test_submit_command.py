"""`mesosctl submit` against a scripted cluster: what is sent, printed, and returned."""

from __future__ import annotations

import io
import json
import re as regex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.explanations import Cause, Explanation
from mesosctl.model.fit import AgentGroup, Fit, Lack
from mesosctl.model.jobs import BatchState, JobView, TaskView
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.batch import (
    Changed,
    JobAccepted,
    KillJobs,
    KillsBegun,
    ListTasks,
    SubmitJob,
    Tasks,
    Watch,
)
from mesosctl.protocol.messages.session import Refusal, Reset

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]


def job(state: str, **counts: int) -> JobView:
    total = sum(counts.values())
    return JobView("12", "sim", BatchState(state), "ann", "*", 0, total, counts)


def accept(cluster: Any, note: str = "", fits: bool = True) -> None:
    cluster.on(
        SubmitJob, lambda re, message: [JobAccepted(re, "12", message.job.count(), note, fits)]
    )


def sent(cluster: Any) -> SubmitJob:
    (message,) = cluster.heard(SubmitJob)
    return message


def test_the_id_alone_is_on_stdout(fake_cluster: Any, capsys: Capture) -> None:
    """Scripts write id=$(mesosctl submit ...)."""
    accept(fake_cluster)
    assert run(["submit", "--", "true"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "12\n" and captured.err == ""
    assert sent(fake_cluster).job.argv == ("true",)


def test_a_person_reads_a_sentence(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the id alone says too little; --parsable still gives it."""
    accept(fake_cluster)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["submit", "-a", "0-199", "--", "true"]) == 0
    assert capsys.readouterr().out == "submitted job 12 (200 tasks)\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["submit", "--parsable", "--", "true"]) == 0
    assert capsys.readouterr().out == "12\n"


def test_options_become_the_job(fake_cluster: Any, tmp_path: Path) -> None:
    """Each option of a submission arrives where the framework reads it."""
    accept(fake_cluster)
    words = "submit -n sim -c 0.5 -m 64M -R web -u bob -p 7 -a 0-9:3%2 -t 1h --grace 0s --once"
    paths = ["-D", str(tmp_path), "-o", "out.%a", "-e", "merge", "-i", "in", "--append"]
    env = ["--env-base", "none", "-E", "A=1", "-E", "B="]
    assert run([*words.split(), *paths, *env, "--", "sleep", "5"]) == 0
    spec = sent(fake_cluster).job
    assert (spec.name, spec.cpus_milli, spec.mem_bytes) == ("sim", 500, 64 * 1024**2)
    assert (spec.role, spec.user, spec.priority, spec.once) == ("web", "bob", 7, True)
    assert (spec.indices, spec.max_running, spec.is_array) == (((0, 9, 3),), 2, True)
    assert (spec.time_limit_s, spec.grace_s) == (3600.0, 0.0)
    assert (spec.cwd, spec.cwd_may_fall_back) == (str(tmp_path), False)
    assert (spec.stdout, spec.stderr, spec.stdin, spec.append) == ("out.%a", "merge", "in", True)
    assert spec.env == {"A": "1", "B": ""}


def test_wishes_become_the_job(fake_cluster: Any) -> None:
    """What few tasks ask for, each in the unit of the wire."""
    accept(fake_cluster)
    words = "submit --disk 2G --gpus 2 --resources ports:[31000-31001];seats:1 -c 2 --whole-cores"
    more = "--ulimit nofile=10:20 --ulimit STACK=unlimited --private tmp --private pids"
    assert run([*words.split(), *more.split(), "--", "true"]) == 0
    spec = sent(fake_cluster).job
    assert spec.more == Resources.parse("disk:2G;gpus:2;ports:[31000-31001];seats:1")
    assert spec.rlimits == {"nofile": (10, 20), "stack": (-1, -1)}
    assert spec.whole_cores and spec.private == ("pids", "tmp")


def test_places_become_one_constraint(fake_cluster: Any) -> None:
    """What is told to the framework, and by it to the master, is one expression."""
    accept(fake_cluster)
    words = ["submit", "--constraint", "rack==r1 || ssd", "--on", "a1", "--on", "a2"]
    assert run([*words, "--not-on", "a3", "--spread", "--", "true"]) == 0
    spec = sent(fake_cluster).job
    assert spec.constraint == "(rack==r1 || ssd) && (agent==a1 || agent==a2) && agent!=a3"
    assert spec.spread


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--resources mem:64", "-m is the option"),
        ("--resources gpus(ads):1", "no say in whose"),
        ("--resources gpus:1 --gpus 1", "both name it"),
        ("--whole-cores -c 1.5", "ask for whole ones"),
        ("--ulimit files=1", "such as nofile"),
        ("--ulimit nofile=many", "NAME=SOFT"),
        ("--private home", "'tmp', 'pids'"),
    ],
)
def test_wishes_that_cannot_be_meant(
    fake_cluster: Any, capsys: Capture, words: str, text: str
) -> None:
    """Said before anything is sent."""
    assert run(["submit", *words.split(), "--", "true"]) == 2
    assert text in capsys.readouterr().err
    assert fake_cluster.heard(SubmitJob) == []


def test_lines_of_stdin_become_tasks(fake_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls | mesosctl submit --each-line -` is the everyday way to many tasks."""
    accept(fake_cluster)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a b\n\n\xff\n")))
    assert run(["submit", "--each-line", "-", "--", "echo", "{}"]) == 0
    assert sent(fake_cluster).job.entries == ("a b", "", "\udcff")


def test_a_lost_answer_is_asked_for_under_the_same_id(fake_cluster: Any, capsys: Capture) -> None:
    """Otherwise a lost answer would be a second job."""
    seen: list[str] = []

    def answer(re: int, message: Any) -> list[Any]:
        seen.append(message.request_id)
        return [Reset("gap")] if len(seen) == 1 else [JobAccepted(re, "12", 1)]

    fake_cluster.on(SubmitJob, answer)
    assert run(["submit", "--", "true"]) == 0
    assert len(seen) == 2 and seen[0] == seen[1]
    assert regex.fullmatch(r"[A-Za-z0-9_][\w.-]*", seen[0])
    assert capsys.readouterr().out == "12\n"


def test_waiting_passes_the_code_on_and_says_what_failed(
    fake_cluster: Any, capsys: Capture
) -> None:
    """A failed task is never 0, and the person learns which and why without another command."""
    accept(fake_cluster)
    ended = Changed(2, (job("failed", ok=1, failed=1),), done=True, exit_code=7)
    failed = TaskView("12.1", "12", 1, "sim", BatchState.FAILED, "Exited", exit_code=7, agent="a1")
    fake_cluster.on(
        Watch, lambda re, _: [Changed(re, (job("running", running=2),)), _with_re(ended, re)]
    )
    fake_cluster.on(ListTasks, lambda re, _: [Tasks(re, (failed,))])
    assert run(["submit", "-W", "-a", "0-1", "--", "true"]) == 7
    captured = capsys.readouterr()
    assert captured.out == "12\n"
    assert captured.err == "task 12.1: failed on a1: exit code 7\n"


def _with_re(push: Changed, re: int) -> Changed:
    return Changed(re, push.jobs, push.tasks, push.done, push.exit_code)


def test_our_own_failure_while_waiting_is_125(fake_cluster: Any, capsys: Capture) -> None:
    """A task's 3 and our own "unreachable" must not be mixed up."""
    fake_cluster.on(SubmitJob, lambda re, _: [Refusal(re, "unavailable", "busy", "try later")])
    assert run(["submit", "-W", "--", "true"]) == 125
    assert capsys.readouterr().err == "mesosctl: busy; try later\n"
    assert run(["submit", "--", "true"]) == 3


def test_a_dry_run_tells_what_explain_would(fake_cluster: Any, capsys: Capture) -> None:
    """The lines are data, and on stdout; that nothing was submitted is said beside them."""
    lack = Lack("mem", 8_192_000, 2_048_000, "a2")
    fit = Fit(2, (AgentGroup("NeverFits", 2, ("a1", "a2"), (lack,)),))
    task = TaskView("12.0", "12", 0, "sim", BatchState.PENDING)
    cause = Cause("NeverFits", "2 agents are too small")
    told = Explanation(task, (cause,), 3, "never", "-m 2G fits a2", fit=fit)
    answer = JobAccepted(1, "", 3, cause.text, False, told)
    fake_cluster.on(SubmitJob, lambda re, message: [replace(answer, re=re)])
    assert run(["submit", "--dry-run", "--", "true"]) == 1
    captured = capsys.readouterr()
    assert "2 agents are too small" in captured.out and "-m 2G fits a2" in captured.out
    assert "never fits: 0 of 2 agents fit now" in captured.out
    assert "would submit 3 tasks" in captured.err and "12" not in captured.out
    assert run(["submit", "--dry-run", "--json", "--", "true"]) == 1
    found = json.loads(capsys.readouterr().out)["submit"]
    assert (found["id"], found["fits"], found["verdict"]) == (None, False, "never")
    assert found["groups"][0]["lacks"][0]["need"] == 8192 * 1024**2


def test_a_dry_run_answers_whether_it_fits(fake_cluster: Any, capsys: Capture) -> None:
    """`--dry-run` says no by its exit code, so that a script can ask."""
    accept(fake_cluster)
    assert run(["submit", "--dry-run", "--", "true"]) == 0
    assert sent(fake_cluster).dry_run
    accept(fake_cluster, "no agent has offered so much yet", fits=False)
    assert run(["submit", "--dry-run", "-W", "-c", "1000", "--", "true"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "no agent has offered so much yet" in captured.err


def test_a_note_is_told_beside_the_id(fake_cluster: Any, capsys: Capture) -> None:
    """A job that fits nowhere is accepted, but not in silence."""
    accept(fake_cluster, "no agent has offered so much yet")
    assert run(["submit", "--json", "--", "true"]) == 0
    captured = capsys.readouterr()
    assert '"id": "12"' in captured.out and captured.out.startswith('{"schema": 1, "submit"')
    assert "job 12: no agent has offered so much yet" in captured.err


@pytest.mark.parametrize("kill", [False, True])
def test_an_interrupt_leaves_the_job_or_ends_it(
    fake_cluster: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    """Ctrl-C detaches with a hint, and kills only when that was asked for."""
    accept(fake_cluster)
    fake_cluster.on(Watch, lambda re, _: [Changed(re, (job("running", running=1),))])
    fake_cluster.on(KillJobs, lambda re, _: [KillsBegun(re, 1, 0, 0)])

    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mesosctl.cli.following.wait_for", interrupted)
    assert run(["submit", "-W", *(["--kill-on-exit"] if kill else []), "--", "true"]) == 130
    err = capsys.readouterr().err
    assert ("job 12 goes on" in err) is not kill
    assert ("job 12 is being ended" in err) is kill
    assert len(fake_cluster.heard(KillJobs)) == kill


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--"], "nothing to execute"),
        ([], "nothing to execute"),
        (["-a", "0-9", "--each-line", "/dev/null", "--", "x"], "--array and --each-line"),
        (["--once", "--restartable", "--", "x"], "--once and --restartable"),
        (["-D", "/tmp", "--sandbox", "--", "x"], "--chdir and --sandbox"),
        (["-c", "0", "--", "x"], "--cpus"),
        (["-c", "nan", "--", "x"], "--cpus"),
        (["-m", "12", "--", "x"], "did you mean 12M?"),
        (["-m", "4K", "--", "x"], "too little"),
        (["-t", "0s", "--", "x"], "--time"),
        (["-n", "a/b", "--", "x"], "not a name"),
        (["-E", "A B=1", "--", "x"], "not a variable's name"),
        (["-E", "MESOS_JOB_ID=1", "--", "x"], "set by mesosctl itself"),
        (["-i", "-", "--", "x"], "--stdin -"),
        (["-o", "", "--", "x"], "the path is empty"),
        (["-a", "0-9%2", "--max-running", "3", "--", "x"], "--max-running 3"),
        (["--each-line", "/dev/null", "--", "x"], "holds no line"),
        (["--wrap", "true", "x"], "--wrap takes one line"),
        (["--constraint", "rack=r1", "--", "x"], "character 5: '=' does not belong there"),
        (["--on", "a1", "--not-on", "a1", "--", "x"], "--on and --not-on both name"),
        (["--on", "", "--", "x"], "is no agent"),
        (["--max-run", "3", "--", "x"], "did you mean --max-running?"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: list[str], says: str
) -> None:
    """The catalogue of bad input: what, why, what to try; nothing is sent anywhere."""
    monkeypatch.setenv("MESOSCTL_CONFIG", "/dev/null")
    monkeypatch.delenv("MESOSCTL_MASTER", raising=False)
    assert run(["submit", *words]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1 and "; " in err


def test_no_master_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """The first thing that a newcomer meets."""
    monkeypatch.setenv("MESOSCTL_CONFIG", "/dev/null")
    monkeypatch.delenv("MESOSCTL_MASTER", raising=False)
    monkeypatch.setattr("mesosctl.cli.settings.runtime_endpoint", lambda: None)
    assert run(["submit", "--", "true"]) == 3
    assert "start one with `mesosctl master`" in capsys.readouterr().err
