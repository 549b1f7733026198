"""Preemption with real processes: long tasks that may give way, and tasks that wait for them."""

from __future__ import annotations

import time

import pytest

from mesosctl.limits import PREEMPT_AFTER_S, PREEMPT_LOOK_S
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
GRACE_S = 2.0
# What a busy machine needs for everything beside waiting and the grace.
SLACK_S = 10.0
# Tasks that do not heed TERM: so a start proves that the grace is granted, and held.
DEAF = "trap '' TERM; while :; do sleep 0.1; done"


def fill(env: ClusterEnv, *more: str) -> str:
    """A job of four tasks that take the agent whole; its id once they run."""
    options = ("-a", "0-3", "-c", "1", "-m", "64M", "--grace", f"{GRACE_S:g}s", *more)
    job = env.ok("submit", "--parsable", *options, "--", "sh", "-c", DEAF).strip()
    until(lambda: states(env, job).count("running") == 4, "four tasks run")
    return job


def states(env: ClusterEnv, job: str) -> list[str]:
    """The states of a job's tasks, by index."""
    return [task["state"] for task in sorted(env.tasks(job), key=lambda t: t["index"])]


def test_the_youngest_give_way_within_their_grace_and_run_again(env: ClusterEnv) -> None:
    """Two of four end for a job of a higher priority, are told why, and come back after it."""
    env.master("--preemption")
    env.agent("cpus:4;mem:2G")
    low = fill(env, "--preemptible")
    began = time.monotonic()
    options = ("-p", "10", "-c", "2", "-m", "64M")
    high = env.ok("submit", "--parsable", *options, "--", "sleep", "4").strip()
    cleared = "being cleared for it: 2 preempted tasks have yet to end"
    until(lambda: cleared in env.run("explain", high).stdout, "it is said what it waits for")
    until(lambda: states(env, high) == ["running"], "it starts")
    took_s = time.monotonic() - began
    assert GRACE_S <= took_s <= GRACE_S + PREEMPT_AFTER_S + PREEMPT_LOOK_S + SLACK_S
    assert states(env, low) == ["running", "running", "pending", "pending"]
    told = env.ok("explain", f"{low}.3")
    assert "attempt 1 was preempted: for a task of priority 10" in told
    until(lambda: states(env, low) == ["running"] * 4, "they run again")
    assert attempts(env, low) == [1, 1, 2, 2]
    env.ok("kill", "-y", low)


def test_roles_of_a_higher_priority_and_nothing_in_vain_or_unasked(env: ClusterEnv) -> None:
    """A task that would not fit anyhow has none end; one of a higher role has as many as it takes.

    A master without the option, started again while they run, has none end at all.
    """
    roles = ("--allocator", "priority", "--priorities", "high=10")
    master = env.master("--preemption", *roles)
    env.agent("cpus:4;mem:2G")
    low = fill(env, "--preemptible")
    for options in (("-c", "5"), ("-m", "3G"), ("--constraint", "ssd"), ("-p", "-1")):
        env.ok("submit", "-p", "10", *options, "--", "true")
    time.sleep(PREEMPT_AFTER_S + 3 * PREEMPT_LOOK_S)
    assert attempts(env, low) == [1] * 4
    done = env.run("run", "-R", "high", "-c", "1", "-m", "64M", "--", "true")
    assert done.returncode == 0, done.stderr
    until(lambda: states(env, low) == ["running"] * 4, "the one that gave way runs again")
    assert attempts(env, low) == [1, 1, 1, 2]
    master.kill_nine()
    env.master(*roles)
    env.wait_for_framework()
    high = env.ok("submit", "--parsable", "-p", "10", "-c", "2", "-m", "64M", "--", "true").strip()
    time.sleep(PREEMPT_AFTER_S + 3 * PREEMPT_LOOK_S)
    assert states(env, high) == ["pending"]
    assert attempts(env, low) == [1, 1, 1, 2]
    env.ok("kill", "-y", low)


def attempts(env: ClusterEnv, job: str) -> list[int]:
    """How often a job's tasks were started, by index."""
    return [task["attempt"] for task in sorted(env.tasks(job), key=lambda t: t["index"])]
