"""Preemption for a guarantee with real processes: three roles, of which two have one."""

from __future__ import annotations

import time

import pytest

from mesosctl.limits import PREEMPT_AFTER_S, PREEMPT_LOOK_S
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
LOOKS_S = PREEMPT_AFTER_S + 3 * PREEMPT_LOOK_S


def tasks(env: ClusterEnv, job: str) -> list[tuple[str, int]]:
    """State and attempt of a job's tasks, by index."""
    listed = sorted(env.tasks(job), key=lambda task: task["index"])
    return [(task["state"], task["attempt"]) for task in listed]


def guarantee(env: ClusterEnv, low: str, kept: str) -> None:
    """Set what both roles are guaranteed, however much that is together."""
    both = ("--guarantee", low, "--guarantee", kept)
    env.ok("quota", "set", "low", "none", "kept", "none", *both, "--force")


def test_what_is_above_one_guarantee_goes_to_the_role_below_its_own(env: ClusterEnv) -> None:
    """None end while that would bring their own role below its guarantee; two of four do later.

    A third role, without a guarantee, waits for less than was freed, and gets nothing of it.
    """
    env.master("--preemption", "--no-framework")
    words = ("--role", "low", "--work-dir", str(env.base / "low"), "--key", str(env.key_path))
    env.part("framework", "framework", *words, "--master", env.address)
    env.wait_for_framework()
    env.agent("cpus:4;mem:2G")
    size = ("-c", "1", "-m", "64M")
    job = env.ok("submit", "--parsable", "--preemptible", "-a", "0-3", *size, "--", "sleep", "300")
    job = job.strip()
    running = ("running", 1)
    until(lambda: tasks(env, job) == [running] * 4, "the role low takes the agent whole")
    # Of the 4 CPUs that it holds 3 are its own, so no 2 could be taken.
    guarantee(env, "cpus:3", "cpus:2")
    third = env.popen("run", "-R", "third", *size, "--", "true")
    begun, over = env.files / "begun", env.files / "over"
    script = f"touch {begun}; until [ -e {over} ]; do sleep 0.05; done"
    kept = env.popen("run", "-R", "kept", "-c", "2", "-m", "64M", "--", "sh", "-c", script)
    waiting = {"kept", "third"}
    until(lambda: waiting <= {one["role"] for one in env.json("frameworks")["frameworks"]}, "both")
    time.sleep(LOOKS_S)
    assert tasks(env, job) == [running] * 4
    guarantee(env, "cpus:1", "cpus:2")
    until(begun.exists, "it gets what is guaranteed to its role")
    assert tasks(env, job)[:2] == [running] * 2
    assert [state for state, _ in tasks(env, job)[2:]] == ["pending"] * 2
    assert "guarantee" in env.ok("explain", f"{job}.3")
    assert third.poll() is None
    over.touch()
    env.finish(kept)
    # Its role has no work any more and still is guaranteed as much.
    time.sleep(LOOKS_S)
    assert third.poll() is None and tasks(env, job)[:2] == [running] * 2
    env.ok("quota", "unset", "low", "kept")
    env.finish(third)
    until(lambda: tasks(env, job) == [running] * 2 + [("running", 2)] * 2, "they run again")
    env.ok("kill", "-y", job)
