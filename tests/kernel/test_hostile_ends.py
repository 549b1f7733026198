"""How tasks end that do their worst: told truthfully, and with nothing of them left.

A real executor under cgroups, version 1 or 2, whichever this kernel has. The full counts are slow;
the figures of each run are printed (pytest -s).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesosctl.isolation.cgroupfs import parse_mounts
from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import ExecutorLaunch, KillTasks, TaskKill
from tests.integration.played_agent import (
    CGROUP_ROOT,
    FRAMEWORK,
    MIB,
    SLOWNESS,
    Agent,
    playing,
    why_no_cgroups,
)

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

LIMIT_MIB = 16
GRACE_S = 0.5
MOUNTS = parse_mounts(Path("/proc/self/mountinfo").read_text())
VERSION = 1 if "memory" in MOUNTS.v1 else 2
# It keeps all it reads, so it grows until it is ended.
HOG = "tail /dev/zero"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An executor whose containers are cgroups."""
    if problem := why_no_cgroups():
        pytest.skip(problem)
    with playing(tmp_path, "cgroups") as made:
        yield made


def inside(name: str) -> list[int]:
    """The processes in a task's cgroups, of all hierarchies."""
    found: list[int] = []
    tops = [mount.directory for mount in MOUNTS.v1.values()]
    tops += [MOUNTS.unified.directory] if MOUNTS.unified is not None else []
    for top in dict.fromkeys(tops):
        path = Path(top, CGROUP_ROOT, "a1", FRAMEWORK, name, "cgroup.procs")
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:
            continue
    return found


def marked(name: str) -> list[int]:
    """The live processes whose environment names the task, wherever they are by now."""
    mark = f"MESOS_TASK={name}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def watch_ends(agent: Agent) -> dict[str, list[int]]:
    """What is still in a task's cgroups when its terminal update arrives, by name."""
    seen: dict[str, list[int]] = {}
    take = agent.take

    def looking(message: object) -> None:
        for update in getattr(message, "updates", ()):
            if update.is_terminal:
                seen[update.task_id] = inside(update.task_id)
        take(message)  # type: ignore[arg-type]

    agent.take = looking  # type: ignore[method-assign]
    return seen


# --- memory ---------------------------------------------------------------------------------------
# Each kind of end: the script, and what has to be told of it.
Verdict = Callable[[StatusUpdate], bool]


def of_memory(end: StatusUpdate) -> bool:
    """The task as a whole was ended for its memory, with limit and peak."""
    told = end.message.startswith(f"memory limit exceeded: limit {LIMIT_MIB} MiB, peak ")
    return told and (end.state, end.reason) == (TaskState.FAILED, Reason.MEMORY_LIMIT)


def of_a_child(end: StatusUpdate) -> bool:
    """Version 1 kills the one process, and the task speaks for itself; 2 kills all of it."""
    if VERSION == 2:
        return of_memory(end)
    noted = "1 process of it killed for want of memory" in end.message
    return noted and (end.reason, end.exit_code) == (Reason.EXITED, 3)


def of_a_signal(end: StatusUpdate) -> bool:
    """The same signal from somebody else is no want of memory."""
    return (end.reason, end.signal) == (Reason.SIGNALED, 9) and "memory" not in end.message


KINDS: tuple[tuple[str, str, Verdict], ...] = (
    ("main", f"exec {HOG}", of_memory),
    ("child", f"{HOG}; exit 3", of_a_child),
    ("group", f"{HOG} & {HOG} & {HOG} & exec {HOG}", of_memory),
    ("signal", "head -c 8m /dev/zero | tail -c 8m > /dev/null; kill -9 $$", of_a_signal),
)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_every_end_for_want_of_memory_is_told_as_one(agent: Agent, count: int) -> None:
    """Main process, child, all at once, and a kill that is none: wrong for none of them."""
    seen = watch_ends(agent)
    wrong: list[str] = []
    peaks: list[int] = []
    for first in range(0, count, 8):
        batch = range(first, min(first + 8, count))
        names = [f"{KINDS[number % len(KINDS)][0]}-{number}" for number in batch]
        agent.run(*(hog(agent, name) for name in names))
        for name in names:
            end = agent.end(name)
            verdict = next(check for kind, _, check in KINDS if name.startswith(kind))
            if not verdict(end):
                wrong.append(f"{name}: {end.reason} {end.exit_code} {end.signal} {end.message}")
            assert end.usage is not None
            peaks.append(end.usage.mem_peak_bytes)
    print(f"\nends for want of memory: {count - len(wrong)} of {count} told right (v{VERSION})")
    assert wrong == []
    assert max(peaks) <= LIMIT_MIB * MIB and [name for name, left in seen.items() if left] == []


def hog(agent: Agent, name: str) -> ExecutorLaunch:
    """One task of the kind that its name begins with."""
    script = next(text for kind, text, _ in KINDS if name.startswith(kind))
    return agent.launch(name, "sh", "-c", script, mem=LIMIT_MIB, cpus_milli=500)


# --- kills ----------------------------------------------------------------------------------------
DEAF = "trap '' TERM HUP INT; while :; do sleep 1; done"
BOMB = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError:
        open(os.environ["UP"], "w").close()
"""
HOSTILE = {
    "setsid": f'setsid sh -c "{DEAF}" & touch $UP; {DEAF}',
    "daemon": f'(setsid sh -c "(setsid sh -c \\"{DEAF}\\" &); exit" &); touch $UP; {DEAF}',
    "deaf": f"touch $UP; {DEAF}",
    "bomb": f'exec {sys.executable} -I -S -c "$BOMB"',
    "nohup": "nohup sleep 1000 > /dev/null 2>&1 & nohup sleep 1000 > /dev/null & touch $UP; wait",
}


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_nothing_of_a_hostile_task_outlives_its_kill(agent: Agent, count: int) -> None:
    """Sessions, double forks, deaf ears and bombs: gone within a second of the deadline."""
    seen = watch_ends(agent)
    late_s: list[float] = []
    kinds = list(HOSTILE)
    for first in range(0, count, len(kinds)):
        names = [f"{kind}-{first}" for kind in kinds]
        agent.run(*(hostile(agent, name) for name in names))
        up = [agent.base / name / "up" for name in names]
        agent.until(lambda up=up: all(path.exists() for path in up), "the tasks do not come up")
        assert all(inside(name) for name in names)
        asked_s = time.time()
        agent.send(KillTasks(FRAMEWORK, tuple(TaskKill(TaskId(name)) for name in names)))
        for name in names:
            end = agent.end(name)
            assert end.state is TaskState.KILLED, f"{name}: {end.message}"
            late_s.append(end.at - asked_s - GRACE_S)
        # Not before: to look at a bomb means to wait until it has forked.
        assert [pid for name in names for pid in marked(name)] == []
    print(f"\nkilled {len(late_s)}, the last {max(late_s):.3f} s after its deadline (v{VERSION})")
    assert max(late_s) <= 1.0 * SLOWNESS
    assert len(seen) == count and [name for name, left in seen.items() if left] == []


def hostile(agent: Agent, name: str) -> ExecutorLaunch:
    """One task of the kind that its name begins with."""
    return agent.launch(
        name,
        *("sh", "-c", HOSTILE[name.partition("-")[0]]),
        env={"UP": str(agent.base / name / "up"), "BOMB": BOMB},
        cpus_milli=500 if name.startswith("bomb") else 1000,
        pids_max=64,
        grace_s=GRACE_S,
    )


def test_the_limit_of_processes_stops_a_bomb(agent: Agent) -> None:
    """It never has more than it may, and another task of the framework does not notice."""
    agent.run(agent.launch("other", "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; exit 4"))
    agent.run(hostile(agent, "bomb-0"))
    agent.until((agent.base / "bomb-0" / "up").exists, "the bomb does not reach its limit")
    counts = []
    for _ in range(50):
        agent.pump(0.002)
        counts.append(len(dict.fromkeys(inside("bomb-0"))))
    assert 50 <= max(counts) <= 64
    (agent.base / "other" / "go").touch()
    assert agent.end("other").exit_code == 4
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("bomb-0"), grace_s=0.0),)))
    assert agent.end("bomb-0").state is TaskState.KILLED
    assert marked("bomb-0") == []
