"""Elastic sharing against a static partition with real processes: the direction of the scenario."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.integration.conftest import ClusterEnv

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TASKS = 16
TASK_S = "0.5"


def took_s(cluster: ClusterEnv) -> float:
    """Run a job that can grow; from its submission to the end of its last task, as it is told."""
    words = ["submit", "--parsable", "-W", "-c", "1", "-m", "64M", "-a", f"0-{TASKS - 1}"]
    job = cluster.ok(*words, "--", "sleep", TASK_S).split()[0]
    tasks = cluster.tasks(job)
    assert [task["state"] for task in tasks] == ["ok"] * TASKS
    begin = min(datetime.fromisoformat(task["submitted"]) for task in tasks)
    return (max(datetime.fromisoformat(task["ended"]) for task in tasks) - begin).total_seconds()


def test_a_job_that_can_grow_gains_by_sharing(env: ClusterEnv) -> None:
    """As tests/sim/test_scenario_run.py has it in virtual time: what idles beside it is used.

    On a partition of 2 CPUs 16 tasks of 0.5 s take 8 rounds, 4 s. With a second agent of 2 CPUs, of
    which another framework's only task has one for a second: 3, 3, 4, 4 and 2 tasks, 2.5 s. That is
    1.6 times quicker; a host that is busy with other things makes it less, but not 1.1.
    """
    env.start("cpus:2;mem:1G")
    static_s = took_s(env)
    env.agent("cpus:2;mem:1G")
    other = env.popen("run", "-R", "other", "-c", "1", "-m", "64M", "--", "sleep", "1")
    shared_s = took_s(env)
    env.finish(other)
    assert static_s >= 4.0
    assert static_s / shared_s > 1.1
