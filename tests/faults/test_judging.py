"""The verdict finds what it is there for: a judge that never objects proves nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mesosctl.model.jobs import BatchState, TaskView
from tests.faults.judging import Notes, Order, judge, read_notes, write_script

ORDER = Order("t", 1.0, 0)
ANSWER = TaskView("1.0", "1", 0, "t", BatchState.OK, exit_code=0, attempt=1)
GOOD = Notes({1: [("a1", 10.0)]}, {1: 11.0})
TWICE = Notes({1: [("a1", 10.0)], 2: [("a2", 12.0)]}, {1: 11.0, 2: 13.0})


def verdict(notes: Notes, order: Order = ORDER, **answer: Any) -> list[str]:
    return list(judge([order], {"t": notes}, {"t": dataclasses.replace(ANSWER, **answer)}))


def test_what_is_right_is_not_objected_to() -> None:
    """One attempt, or a second after the first one's end, or after its death without an end."""
    assert verdict(GOOD) == []
    assert verdict(TWICE, attempt=2) == []
    assert verdict(dataclasses.replace(TWICE, ends={2: 13.0}), attempt=2) == []
    failing = dataclasses.replace(ORDER, exit_code=3)
    assert verdict(GOOD, failing, state=BatchState.FAILED, exit_code=3) == []


@pytest.mark.parametrize(
    ("notes", "answer", "word"),
    [
        (Notes({1: [("a1", 10.0), ("a2", 12.0)]}, {1: 13.0}), {}, "ran 2 times"),
        (dataclasses.replace(GOOD, overlaps=[1]), {}, "while another was alive"),
        (dataclasses.replace(TWICE, ends={1: 12.5, 2: 13.0}), {"attempt": 2}, "before attempt 1"),
        (TWICE, {"attempt": 1}, "were started after"),
        (GOOD, {"state": BatchState.LOST, "exit_code": 125}, "is lost"),
        (GOOD, {"state": BatchState.RUNNING, "exit_code": None}, "is running"),
        (GOOD, {"exit_code": 4}, "exit code is 4"),
        (Notes(), {}, "did not note its end"),
        (dataclasses.replace(GOOD, torn=1), {}, "nobody wrote"),
    ],
)
def test_what_is_wrong_is_found(notes: Notes, answer: dict[str, Any], word: str) -> None:
    """Each way in which a task can be lost, doubled or lied about."""
    found = verdict(notes, **answer)
    assert any(word in problem for problem in found), found


def test_once_and_restartable_are_judged_by_their_own_promises() -> None:
    """A second start breaks the one, two at once do not break the other."""
    once = dataclasses.replace(ORDER, once=True)
    assert "started 2 times" in "".join(verdict(TWICE, once, attempt=2))
    assert verdict(Notes(), once, state=BatchState.LOST, exit_code=125) == []
    restartable = dataclasses.replace(ORDER, restartable=True)
    both = dataclasses.replace(TWICE, ends={1: 20.0, 2: 13.0}, overlaps=[2])
    assert verdict(both, restartable, attempt=2) == []


def test_a_job_that_its_framework_forgot_is_found() -> None:
    """So is one that ran without having been ordered."""
    assert "does not know it" in next(judge([ORDER], {"t": GOOD}, {}))
    assert "nobody ordered" in next(judge([], {"t": GOOD}, {}))


def test_the_script_notes_what_the_verdict_reads(tmp_path: Path) -> None:
    """Two of it at once are noticed by the second, and by nobody after both have ended."""
    script = write_script(tmp_path)
    files = tmp_path / "files"
    files.mkdir()

    def start(attempt: int, seconds: str) -> subprocess.Popen[bytes]:
        variables = {**os.environ, "MESOS_ATTEMPT": str(attempt), "MESOS_AGENT": "a1"}
        words = [script, files, "t", seconds, "3"]
        return subprocess.Popen(words, env=variables, start_new_session=True)

    first = start(1, "1000")
    while not (files / "t.log").exists() or not read_notes(files)["t"].starts:
        assert first.poll() is None
    assert start(2, "0").wait() == 3
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    notes = read_notes(files)["t"]
    assert (sorted(notes.starts), sorted(notes.ends), notes.overlaps) == ([1, 2], [2], [2])
    assert notes.torn == 0
