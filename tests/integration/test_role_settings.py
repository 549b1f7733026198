"""What operators set for roles, with real processes: it holds at once, and after kill -9."""

from __future__ import annotations

import pytest

from mesosctl.runtime.client import Hub
from tests.integration.conftest import ClusterEnv, until
from tests.integration.test_fairness import Contest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TASK = "cpus:1;mem:64"
MILLI = 1000


def held(contest: Contest) -> dict[str, int]:
    """CPUs that run tasks of each framework; nothing while the master does not answer."""
    return {name: view.used.scalar("cpus") // MILLI for name, view in contest.views().items()}


def test_a_weight_holds_in_the_next_round_and_after_kill_nine(env: ClusterEnv) -> None:
    """Two endless frameworks on 9 CPUs: 4 or 5 each, then 6 and 3, and so with another master."""
    master = env.master("--no-framework")
    env.agent("cpus:9;mem:2G")
    with Hub() as hub:
        contest = Contest(env, hub)
        contest.enter("one", "big", TASK, 0.5)
        contest.enter("two", "small", TASK, 0.5)
        until(lambda: sorted(held(contest).values()) == [4, 5], "equal parts")
        env.ok("role", "set", "big", "--weight", "2")
        master.kill_nine()
        master.restart()
        env.wait_for_agents(1)
    with Hub() as hub:
        again = Contest(env, hub)
        until(lambda: held(again) == {"one": 6, "two": 3}, "parts of 2 : 1")
    listed = env.json("roles")["roles"]
    assert [(row["role"], row["weight"]) for row in listed] == [("big", 2), ("small", 1)]
    for process in contest.processes.values():
        process.terminate()
        assert process.wait(20) == 0
