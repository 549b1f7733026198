"""Lanes of real processes: short tasks one behind the other, and what happens behind a long one."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
TASKS = 300
# Notes that it began. Short, until somebody wants the next ones to be long; those end when told.
SCRIPT = """
echo "$MESOS_ARRAY_INDEX" >> "$1/started"
[ -e "$1/long" ] || exit 0
echo "$MESOS_ARRAY_INDEX" >> "$1/held"
while [ ! -e "$1/go" ]; do sleep 0.1; done
"""


@pytest.fixture
def one_slot() -> Iterator[ClusterEnv]:
    """A cluster that runs one task at a time."""
    env = ClusterEnv()
    try:
        yield env.start("cpus:1;mem:1G")
    finally:
        env.close()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def submit(env: ClusterEnv, directory: Path) -> str:
    directory.chmod(0o777)
    words = ["-a", f"0-{TASKS - 1}", "-m", "64M", "-o", "none", "-e", "none"]
    return env.ok("submit", *words, "--", "sh", "-c", SCRIPT, "sh", str(directory)).strip()


def held_up(env: ClusterEnv, directory: Path, job: str) -> str:
    """Let a task be long that has others behind it in its lane; its index."""

    def waits(reason: str) -> list[dict[str, Any]]:
        found = env.try_json("tasks", job, "-o", "json") or {"tasks": []}
        return [task for task in found["tasks"] if task["reason"] == reason]

    until(lambda: len(lines(directory / "started")) >= 20, "some tasks have ended")
    until(lambda: waits("Lane"), "tasks wait in a lane")
    (directory / "long").touch()
    until(lambda: lines(directory / "held"), "a task is long")
    return lines(directory / "held")[0]


def test_what_waits_behind_a_long_task_is_given_back(one_slot: ClusterEnv, tmp_path: Path) -> None:
    """After a second nothing is bound to the slot of the long one; each task starts once."""
    env = one_slot
    job = submit(env, tmp_path)
    held_up(env, tmp_path, job)

    def only_one_is_under_way() -> bool:
        states = Counter(task["state"] for task in env.tasks(job))
        return states["running"] == 1 and states["staging"] == 0 and states["pending"] > 0

    until(only_one_is_under_way, "the lane was given back")
    (tmp_path / "long").unlink()
    (tmp_path / "go").touch()
    assert env.run("wait", job, limit_s=100).returncode == 0
    assert sorted(map(int, lines(tmp_path / "started"))) == list(range(TASKS))


def test_an_executor_killed_in_a_lane_loses_no_task(one_slot: ClusterEnv, tmp_path: Path) -> None:
    """What it was told of is run again, whether it had begun or not; and all comes to an end."""
    env = one_slot
    job = submit(env, tmp_path)
    # A short task may be over before its executor is found: the long one stays.
    held_up(env, tmp_path, job)
    os.kill(env.busy_executor(), signal.SIGKILL)
    (tmp_path / "long").unlink()
    (tmp_path / "go").touch()
    assert env.run("wait", job, limit_s=100).returncode == 0
    assert {task["state"] for task in env.tasks(job)} == {"ok"}
    assert set(map(int, lines(tmp_path / "started"))) == set(range(TASKS))


def test_a_drained_agent_gives_its_lane_back_at_once(one_slot: ClusterEnv, tmp_path: Path) -> None:
    """Another agent has the rest while the long one goes on where it is."""
    env = one_slot
    env.agent("cpus:1;mem:1G")
    env.ok("deactivate", "a2")
    job = submit(env, tmp_path)
    held_up(env, tmp_path, job)
    (tmp_path / "long").unlink()
    env.ok("drain", "a1", "--reason", "test")
    env.ok("undrain", "a2")

    def the_rest_is_done() -> bool:
        states = Counter(task["state"] for task in env.tasks(job))
        return states["ok"] == TASKS - 1 and states["running"] == 1

    until(the_rest_is_done, "all but the long one have ended", 100)
    (tmp_path / "go").touch()
    assert env.run("wait", job, limit_s=100).returncode == 0
    assert sorted(map(int, lines(tmp_path / "started"))) == list(range(TASKS))
