"""What tasks note about themselves, and the verdict over all their notes.

Rules: a task appends to a file of its own, so that two of it meet there whatever the cluster says,
and holds a lock for as long as any process of it lives. The verdict compares the union of the files
with what the frameworks answer; it believes neither alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesosctl.model.jobs import BatchState, TaskView

# Arguments: the directory, the task's name there, seconds to last, the exit code.
SCRIPT = """#!/bin/bash
exec 9>>"$1/$2.lock"
log=$1/$2.log
note() {
    read -r up rest </proc/uptime
    printf '%s %s %s %s %s\\n' "$1" "$MESOS_ATTEMPT" "$MESOS_AGENT" "$up" "$EPOCHREALTIME" >>"$log"
}
flock -n 9 || note overlap
note start
sleep "$3"
note end
exit "$4"
"""


@dataclass(frozen=True, slots=True)
class Order:
    """A task as it was ordered, and what may become of it."""

    name: str
    seconds: float
    exit_code: int
    once: bool = False
    restartable: bool = False


@dataclass(slots=True)
class Notes:
    """What one task noted: agent and seconds since the host's start, by attempt."""

    starts: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    overlaps: list[int] = field(default_factory=list)
    torn: int = 0


def write_script(directory: Path) -> Path:
    """Make the script that every task runs."""
    path = directory / "task.sh"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def read_notes(directory: Path) -> dict[str, Notes]:
    """The union of all files, by the name of the task."""
    return {path.stem: _read(path) for path in sorted(directory.glob("*.log"))}


def _read(path: Path) -> Notes:
    notes = Notes()
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if len(words) != 5 or words[0] not in ("start", "end", "overlap"):
            notes.torn += 1
            continue
        attempt, since_boot = int(words[1]), float(words[3])
        if words[0] == "start":
            notes.starts.setdefault(attempt, []).append((words[2], since_boot))
        elif words[0] == "end":
            notes.ends[attempt] = since_boot
        else:
            notes.overlaps.append(attempt)
    return notes


def judge(
    orders: Iterable[Order], notes: Mapping[str, Notes], answers: Mapping[str, TaskView]
) -> Iterator[str]:
    """Everything that is wrong, one line each. `answers` are the frameworks', by task name."""
    known = dict.fromkeys(order.name for order in orders)
    for name in notes:
        if name not in known:
            yield f"{name}: ran, but nobody ordered it"
    for order in orders:
        noted = notes.get(order.name, Notes())
        answer = answers.get(order.name)
        if answer is None:
            yield f"{order.name}: was acknowledged, and its framework does not know it"
            continue
        for problem in itertools.chain(_lives(order, noted), _end(order, noted, answer)):
            yield f"{order.name} ({answer.id}): {problem}"


def _lives(order: Order, noted: Notes) -> Iterator[str]:
    """One attempt after the other, each of them once."""
    if noted.torn:
        yield f"{noted.torn} lines that nobody wrote"
    for attempt, starts in noted.starts.items():
        if len(starts) > 1:
            yield f"attempt {attempt} ran {len(starts)} times: {starts}"
    if order.once and len(noted.starts) > 1:
        yield f"--once, and started {len(noted.starts)} times"
    if order.restartable:
        return
    for attempt in noted.overlaps:
        yield f"attempt {attempt} began while another was alive"
    for before, after in itertools.pairwise(sorted(noted.starts)):
        ended = noted.ends.get(before)
        if ended is not None and ended > noted.starts[after][0][1]:
            yield f"attempt {after} began before attempt {before} ended"


def _end(order: Order, noted: Notes, answer: TaskView) -> Iterator[str]:
    """What the framework says is what the files show."""
    wanted = BatchState.FAILED if order.exit_code else BatchState.OK
    if answer.state is BatchState.LOST and order.once:
        return
    if answer.state is not wanted:
        yield f"is {answer.state} ({answer.reason}: {answer.message}), not {wanted}"
        return
    if answer.exit_code != order.exit_code:
        yield f"its exit code is {answer.exit_code}, not {order.exit_code}"
    if answer.attempt not in noted.ends:
        yield f"attempt {answer.attempt} is said to have ended, but it did not note its end"
    later = [attempt for attempt in noted.starts if attempt > answer.attempt]
    if later and not order.restartable:
        yield f"attempts {later} were started after attempt {answer.attempt} had ended"
