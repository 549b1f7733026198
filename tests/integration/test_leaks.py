"""Thousands of tasks leave the daemons as they were: nothing of any task stays anywhere.

Counted from outside, by what the kernel knows of each process: descriptors (timers and signals of
the loop among them), threads, children that nobody waited for, cgroups, memory, and how often a
daemon at rest wakes up, which is where a timer that was never cancelled shows.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import LOOK_S, ClusterEnv, until

pytestmark = [pytest.mark.integration]
MIB = 1 << 20
GROWTH_BYTES_MAX = 10 * MIB
WARM_UP = 500
REST_S = 4.0
GIVEN_BACK_S = 30.0
# A daemon at rest wakes for heartbeats and for the looks of its keepers, a few times a second.
MORE_WAKINGS_MAX = 5.0


@dataclass
class Held:
    """What one process holds."""

    descriptors: int
    threads: int
    zombies: int
    memory_bytes: int
    wakings: int


def children(pid: int) -> list[int]:
    """Every child, dead ones that were not waited for among them."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def is_zombie(pid: int) -> bool:
    """Whether it is dead and still listed."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "Z"


def held(pid: int) -> Held:
    """What this process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    words = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (memory,) = (line for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return Held(
        len(os.listdir(f"/proc/{pid}/fd")),
        int(words["Threads"]),
        sum(map(is_zombie, children(pid))),
        int(memory.split()[1]) * 1024,
        int(words["voluntary_ctxt_switches"]),
    )


def daemons(env: ClusterEnv) -> dict[str, int]:
    """Each process of the cluster by what it is; executors and spawners with their numbers."""
    found = {"framework": env.framework_pid()}
    found |= {part.name: part.pid for part in env.parts}
    for executor in env.executor_pids():
        found[f"executor {executor}"] = executor
        found |= {f"spawner {child}": child for child in children(executor)}
    return found


def wakings_a_second(pids: dict[str, int]) -> dict[str, float]:
    """How often each of them woke up, over a while in which nothing is asked of them."""
    before = {name: held(pid).wakings for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(REST_S)
    passed = time.monotonic() - began
    return {name: (held(pid).wakings - before[name]) / passed for name, pid in pids.items()}


def containers(env: ClusterEnv) -> list[Path]:
    """The cgroups of tasks: that of the framework stays for as long as its executor does."""
    return [path for path in env.cgroups() if path.parent.name.startswith("F")]


def run_tasks(env: ClusterEnv, count: int) -> None:
    """One array of so many tasks, to its end, and until nothing of it is under way anywhere."""
    size = ["-c", "0.25", "-m", "16M"]
    words = ["submit", "--parsable", "-a", f"0-{count - 1}", *size, "-W", "--", "true"]
    command = env.popen(*words)
    env.finish(command, limit_s=1200)
    until(lambda: not containers(env), "every container is gone")


def check_nothing_stays(env: ClusterEnv, count: int) -> None:
    """Run so many tasks between two looks at all processes."""
    env.start("cpus:4;mem:2G")
    run_tasks(env, WARM_UP)
    until(lambda: len(env.executor_pids()) == 2, "the next executor is kept warm")
    pids = daemons(env)
    before = {name: held(pid) for name, pid in pids.items()}
    wakings = wakings_a_second(pids)
    run_tasks(env, count)
    assert daemons(env) == pids, "all of them are the same processes"

    def excess() -> dict[str, str]:
        found = {}
        for name, pid in pids.items():
            now, then = held(pid), before[name]
            if now.descriptors > then.descriptors:
                found[name] = f"{now.descriptors} descriptors, not {then.descriptors}"
            elif now.threads > then.threads or now.zombies:
                found[name] = f"{now.threads} threads, {now.zombies} zombies"
        return found

    given_back = time.monotonic() + GIVEN_BACK_S
    while (found := excess()) and time.monotonic() < given_back:
        time.sleep(LOOK_S)
    assert not found
    grown = {name: held(pid).memory_bytes - before[name].memory_bytes for name, pid in pids.items()}
    print({name: f"{size / MIB:.1f} MiB" for name, size in grown.items()})
    assert max(grown.values()) <= GROWTH_BYTES_MAX, grown
    after = wakings_a_second(pids)
    print({name: f"{wakings[name]:.1f} -> {rate:.1f}/s" for name, rate in after.items()})
    assert all(rate <= wakings[name] + MORE_WAKINGS_MAX for name, rate in after.items()), after


@pytest.mark.timeout(300)
def test_a_thousand_tasks_leave_nothing_in_any_process(env: ClusterEnv) -> None:
    """A daemon that keeps a descriptor of each task stops working some day, far from the cause."""
    check_nothing_stays(env, 1000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_tasks_leave_nothing_in_any_process(env: ClusterEnv) -> None:
    """As above, with enough of them that a kilobyte of each would show."""
    check_nothing_stays(env, 10_000)
