"""--lost-after with real processes: ended on a host that is cut off, then started elsewhere.

Each task holds a lock on a file of its own and writes its attempt and the time into another again
and again, so that two attempts at once show in the files whatever the cluster itself says.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mesosctl.limits import AGENT_TIMEOUT_S, LEASE_MIN_S, LEASE_SLACK_S
from tests.integration.conftest import ClusterEnv, parent_of, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]
SCRIPT = """
exec 9>>"$1/$MESOS_ARRAY_INDEX.lock"
flock -n 9 || echo overlap >> "$1/$MESOS_ARRAY_INDEX.log"
turns=$((MESOS_ATTEMPT == 1 ? 6000 : 10))
for turn in $(seq $turns); do
    echo "$MESOS_ATTEMPT $(cut -d ' ' -f 1 /proc/uptime)" >> "$1/$MESOS_ARRAY_INDEX.log"
    sleep 0.1 9>&-
done
"""
# Everything together, and what a loaded host takes.
LIMIT_S = AGENT_TIMEOUT_S + LEASE_MIN_S + LEASE_SLACK_S + 60


def beats(cluster: ClusterEnv, index: int) -> dict[int, list[float]]:
    """When each attempt of a task was alive, in seconds since the host was booted."""
    path: Path = cluster.files / f"{index}.log"
    found: dict[int, list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        assert line != "overlap", f"two attempts of task {index} at once"
        attempt, _, at = line.partition(" ")
        found.setdefault(int(attempt), []).append(float(at))
    return found


def executor_of(cluster: ClusterEnv, agent_pid: int) -> int:
    """The executor below this agent that has been given tasks."""
    return next(
        pid
        for pid in cluster.named("lease_guard")
        for pid in [parent_of(pid)]
        if parent_of(pid) == agent_pid
    )


def test_a_task_whose_host_is_cut_off_moves_and_never_overlaps(env: ClusterEnv) -> None:
    """One agent is stopped; of the other, the executor is killed as well: the guard is left."""
    env.master()
    stopped = env.agent("cpus:1;mem:512M", name="stopped")
    env.wait_for_framework()
    killed = env.agent("cpus:1;mem:512M", name="killed")
    script = env.base / "task.sh"
    script.write_text(SCRIPT)
    lease = ["--lost-after", f"{LEASE_MIN_S:g}s", "-c", "1", "-m", "64M", "-a", "0-1"]
    job = env.popen("submit", "--parsable", "-W", *lease, str(script), str(env.files))
    until(lambda: beats(env, 0) and beats(env, 1), "both tasks run")
    until(lambda: len(env.named("lease_guard")) == 2, "both executors have a guard")
    where = {task["index"]: task["agent"] for task in env.tasks("1")}
    assert sorted(where.values()) == ["killed", "stopped"]
    executor = executor_of(env, killed.pid)
    began = float(Path("/proc/uptime").read_text().split()[0])
    os.kill(stopped.pid, signal.SIGSTOP)
    killed.kill_nine()
    os.kill(executor, signal.SIGKILL)
    try:
        env.agents = []
        env.agent("cpus:2;mem:512M", name="spare")
        told = "Unreachable, started again at "
        until(lambda: env.run("status", "1").stdout.count(told) == 2, "it says when", LIMIT_S, 1.0)
        until(lambda: 2 in beats(env, 0) and 2 in beats(env, 1), "both ran again", LIMIT_S, 0.5)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
        killed.restart()
        env.agents += [stopped, killed]
    assert env.finish(job).strip() == "1"
    for index in (0, 1):
        first, second = beats(env, index)[1], beats(env, index)[2]
        # A renewal is at most one heartbeat old when the agent is stopped.
        assert LEASE_MIN_S - 6 <= max(first) - began <= LEASE_MIN_S + 5
        assert min(second) >= max(first) + LEASE_SLACK_S
    tasks = env.tasks("1")
    assert [(task["state"], task["attempt"], task["agent"]) for task in tasks] == [
        ("ok", 2, "spare"),
        ("ok", 2, "spare"),
    ]
    until(lambda: not env.named("lease_guard"), "no guard is left")
    env.wait_for_agents(3)
