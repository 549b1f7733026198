"""A task that needs a whole agent, among small ones without end, with real processes."""

from __future__ import annotations

import time

import pytest

from mesosctl.runtime.client import Hub
from tests.integration.conftest import ClusterEnv, until
from tests.integration.test_fairness import Contest
from tests.integration.test_role_settings import held, leave

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TASK_S = 2.0


def test_eight_cpus_among_endless_tasks_of_one(env: ClusterEnv) -> None:
    """It starts within three times what the small ones take, which are in each other's way no more.

    Two agents of eight CPUs: on the other one they go on meanwhile.
    """
    env.master("--no-framework")
    env.agent("cpus:8;mem:2G")
    env.agent("cpus:8;mem:2G", name="a2")
    with Hub() as hub:
        contest = Contest(env, hub)
        contest.enter("small", "small", "cpus:1;mem:64", TASK_S)
        until(lambda: held(contest).get("small") == 16, "both agents are full")
        began = time.monotonic()
        done = env.run("run", "-c", "8", "-m", "512M", "-R", "large", "--", "true")
        took_s = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        # Beyond the three times: the start of the command itself, on a busy machine.
        assert took_s < 3 * TASK_S + 4.0
        until(lambda: held(contest).get("small") == 16, "nothing is held back any more")
    leave(contest)
