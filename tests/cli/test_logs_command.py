"""`mesosctl logs` against a scripted cluster: order, credit, tails, what is missing, following."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.jobs import BatchState, JobView, TaskView
from mesosctl.protocol.messages.batch import Changed, LocateLogs, LogSource, LogSources, Watch
from mesosctl.protocol.messages.session import Refusal, Reset
from mesosctl.protocol.messages.streams import ReadStream, StreamChunk, StreamCredit

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]


def view(index: int, state: str = "ok", code: int | None = 0, attempt: int = 1) -> TaskView:
    started = 5.0 if attempt else None
    return TaskView(
        f"12.{index}",
        "12",
        index,
        "sim",
        BatchState(state),
        exit_code=code,
        attempt=attempt,
        started=started,
        agent="a1",
    )


def source(cluster: Any, task: TaskView, problem: str = "") -> LogSource:
    if problem:
        return LogSource(task, problem=problem)
    wire_id = f"{task.id}.{task.attempt}"
    return LogSource(task, "f1", wire_id, cluster.address, cluster.keys.public)


def locates(cluster: Any, *tasks: TaskView) -> None:
    cluster.on(LocateLogs, lambda re, _: [LogSources(re, tuple(source(cluster, t) for t in tasks))])


def says(cluster: Any, **content: bytes) -> None:
    """Each stream's bytes: "out" and "err" follow the index of the task, as in out0=b"..."."""

    def answer(re: int, message: Any) -> list[Any]:
        index = message.task_id.split(".")[1]
        data = content.get(f"{message.name[3:]}{index}", b"")
        return [
            StreamChunk(message.stream, 0, data),
            StreamChunk(message.stream, len(data), b"", True),
        ]

    cluster.on(ReadStream, answer)
    cluster.on(StreamCredit, lambda re, _: [])


def test_tasks_come_in_their_order(fake_cluster: Any, capsys: Capture) -> None:
    """Bytes as they are, one task after the other, stdout by default."""
    locates(fake_cluster, view(0), view(1))
    says(fake_cluster, out0=b"zero", out1=b"one\n", err0=b"no")
    assert run(["logs", "12"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("zeroone\n", "")
    assert [m.task_id for m in fake_cluster.heard(ReadStream)] == ["12.0.1", "12.1.1"]


def test_credit_is_given_back_for_what_was_printed(fake_cluster: Any, capsys: Capture) -> None:
    """That is what holds an agent back when we are slow."""
    locates(fake_cluster, view(0))
    fake_cluster.on(ReadStream, lambda re, asked: [StreamChunk(asked.stream, 0, b"x" * 1000)])
    # The end comes only after the credit: one that is under way when the command ends may be lost.
    fake_cluster.on(StreamCredit, lambda re, given: [StreamChunk(given.stream, 1000, b"", True)])
    assert run(["logs", "12.0"]) == 0
    assert [m.taken for m in fake_cluster.heard(StreamCredit)] == [1000]
    assert 0 < fake_cluster.heard(ReadStream)[0].credit <= 1024 * 1024


def test_the_streams_can_be_chosen(fake_cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """--err prints stderr where it can be piped, --all keeps both apart."""
    locates(fake_cluster, view(0))
    says(fake_cluster, out0=b"out\n", err0=b"err\n")
    assert run(["logs", "12", "--err"]) == 0
    assert capfd.readouterr() == ("err\n", "")
    assert run(["logs", "12", "--all"]) == 0
    assert capfd.readouterr() == ("out\n", "err\n")
    assert run(["logs", "12", "--all", "--err"]) == 2


def test_lines_can_be_tagged_and_counted(fake_cluster: Any, capsys: Capture) -> None:
    """The tail is taken at the agent; the last line is whole even without its newline."""
    locates(fake_cluster, view(0), view(1))
    says(fake_cluster, out0=b"a\nb", out1=b"c\n")
    assert run(["logs", "12", "--tag", "-n", "5"]) == 0
    assert capsys.readouterr().out == "12.0: a\n12.0: b\n12.1: c\n"
    assert {m.tail_lines for m in fake_cluster.heard(ReadStream)} == {5}


def test_what_is_missing_is_said_and_is_1(fake_cluster: Any, capsys: Capture) -> None:
    """The rest is printed all the same."""
    sources = (
        source(fake_cluster, view(0, "pending", None, 0), "it has not been started"),
        source(fake_cluster, view(1)),
    )
    fake_cluster.on(LocateLogs, lambda re, _: [LogSources(re, sources)])
    says(fake_cluster, out1=b"one\n")
    assert run(["logs", "12"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "one\n"
    assert captured.err == "mesosctl: task 12.0: no output: it has not been started\n"


def test_the_agents_reason_is_passed_on(fake_cluster: Any, capsys: Capture) -> None:
    """A sandbox that is gone, or a stdout that went to a file, is explained by the agent."""
    locates(fake_cluster, view(0))
    fake_cluster.on(
        ReadStream, lambda re, m: [StreamChunk(m.stream, 0, b"", True, "stdout went to /tmp/x")]
    )
    assert run(["logs", "12"]) == 1
    assert "no output: stdout went to /tmp/x" in capsys.readouterr().err


def test_an_exit_code_is_passed_on_when_asked_for(fake_cluster: Any) -> None:
    """Then, and only then, the code is the task's and our own failure 125."""
    locates(fake_cluster, view(0, "failed", 7), view(1))
    says(fake_cluster)
    assert run(["logs", "12", "--exit-code"]) == 7
    assert run(["logs", "12"]) == 0
    fake_cluster.on(LocateLogs, lambda re, _: [Refusal(re, "not-found", "no job 99")])
    assert run(["logs", "99", "--exit-code"]) == 125
    assert run(["logs", "99"]) == 4


def test_a_broken_connection_goes_on_where_it_was(fake_cluster: Any, capsys: Capture) -> None:
    """Nothing twice, nothing left out."""
    locates(fake_cluster, view(0))

    def answer(re: int, message: Any) -> list[Any]:
        if message.offset == 0:
            return [StreamChunk(message.stream, 0, b"half"), Reset("gap")]
        rest = b"half and half"[message.offset :]
        return [StreamChunk(message.stream, message.offset, rest, True)]

    fake_cluster.on(ReadStream, answer)
    fake_cluster.on(StreamCredit, lambda re, _: [])
    assert run(["logs", "12"]) == 0
    assert capsys.readouterr().out == "half and half"


def test_an_admission_that_ran_out_is_renewed_once(fake_cluster: Any, capsys: Capture) -> None:
    """A long list takes longer than the minute for which an agent lets us in."""
    locates(fake_cluster, view(0))
    refusals = iter(["first", "again"])

    def answer(re: int, message: Any) -> list[Any]:
        if (text := next(refusals, "")) == "first":
            return [Refusal(re, "not-permitted", text)]
        return [StreamChunk(message.stream, 0, b"x", True)]

    fake_cluster.on(ReadStream, answer)
    assert run(["logs", "12"]) == 0
    assert capsys.readouterr().out == "x"
    assert [m.attempt for m in fake_cluster.heard(LocateLogs)] == [None, 1]
    fake_cluster.on(ReadStream, lambda re, _: [Refusal(re, "not-permitted", "go away")])
    assert run(["logs", "12"]) == 1
    assert "no output: go away" in capsys.readouterr().err


def test_following_waits_for_the_start_and_the_end(fake_cluster: Any, capsys: Capture) -> None:
    """A pending task says why it waits; later attempts are followed too; the end ends it."""
    waiting = JobView(
        "12", "sim", BatchState.PENDING, "ann", "*", 0, 1, {"pending": 1}, "Resources"
    )
    running = JobView("12", "sim", BatchState.RUNNING, "ann", "*", 0, 1, {"running": 1})
    ended = JobView("12", "sim", BatchState.FAILED, "ann", "*", 0, 1, {"failed": 1})
    fake_cluster.on(
        Watch,
        lambda re, _: [
            Changed(re, (waiting,), (view(0, "pending", None, 0),)),
            Changed(re, (running,), (view(0, "running", None, 1),)),
            Changed(re, (running,), (view(0, "running", None, 2),)),
            Changed(re, (ended,), (view(0, "failed", 3, 2),), True, 3),
        ],
    )
    attempts = iter((1, 2))
    fake_cluster.on(
        LocateLogs,
        lambda re, _: [
            LogSources(re, (source(fake_cluster, view(0, "running", None, next(attempts))),))
        ],
    )
    fake_cluster.on(
        ReadStream, lambda re, m: [StreamChunk(m.stream, 0, m.task_id.encode() + b"\n", True)]
    )
    assert run(["logs", "-f", "12", "--exit-code"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "12.0.1\n12.0.2\n"
    assert captured.err.splitlines() == [
        "job 12 is pending: Resources",
        "task 12.0 was started again: attempt 2",
    ]
    assert all(m.follow for m in fake_cluster.heard(ReadStream))


def test_followed_tasks_are_mixed_by_whole_lines(fake_cluster: Any, capsys: Capture) -> None:
    """Half a line of one task must not be glued to half a line of another."""
    job = JobView("12", "sim", BatchState.OK, "ann", "*", 0, 2, {"ok": 2})
    fake_cluster.on(Watch, lambda re, _: [Changed(re, (job,), (view(0), view(1)), True)])
    locates(fake_cluster, view(0), view(1))

    def answer(re: int, message: Any) -> list[Any]:
        first = [StreamChunk(message.stream, 0, b"be")]
        if message.stream == 1:
            return first
        ends = [StreamChunk(n, 2, b"gin\nend", True) for n in (1, message.stream)]
        return [*first, *ends]

    fake_cluster.on(ReadStream, answer)
    fake_cluster.on(StreamCredit, lambda re, _: [])
    assert run(["logs", "-f", "12", "--tag"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["12.0: begin", "12.0: end", "12.1: begin", "12.1: end"]


def test_a_task_that_never_ran_is_told_of(fake_cluster: Any, capsys: Capture) -> None:
    """Following a job whose command could not be started must not look like an empty log."""
    job = JobView("12", "sim", BatchState.CANCELLED, "ann", "*", 0, 1, {"cancelled": 1})
    never = view(0, "cancelled", 125, 0)
    fake_cluster.on(Watch, lambda re, _: [Changed(re, (job,), (never,), True, 125)])
    assert run(["logs", "-f", "12"]) == 1
    assert capsys.readouterr().err == "mesosctl: task 12.0: cancelled on a1\n"
