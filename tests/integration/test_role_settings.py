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


def kept(*guarantees: str) -> list[str]:
    """The options of these guarantees."""
    return [word for one in guarantees for word in ("--guarantee", one)]


def test_weight_and_quota_hold_in_the_next_round_and_after_kill_nine(env: ClusterEnv) -> None:
    """Two endless frameworks on 9 CPUs: 4 or 5 each, then 6 and 3, and so with another master.

    Then a limit of 2, before and after the death of another, and 5 kept for a third role.
    """
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
    refused = env.run("quota", "set", "big", "cpus:2")
    assert refused.returncode == 5
    assert "big holds cpus:" in refused.stderr and "more than cpus:2" in refused.stderr
    env.ok("quota", "set", "big", "cpus:2", "--force")
    with Hub() as hub:
        again = Contest(env, hub)
        until(lambda: held(again) == {"one": 2, "two": 7}, "one is limited to 2")
        master.kill_nine()
        master.restart()
        env.wait_for_agents(1)
    with Hub() as hub:
        again = Contest(env, hub)
        until(lambda: held(again) == {"one": 2, "two": 7}, "one is still limited to 2")
        env.ok("quota", "set", "big", "none", "third", "none", *kept("none", "cpus:5"))
        # 5 of 9 are kept for a role without frameworks, and 2 : 1 of the others is 3 : 1 in tasks.
        until(lambda: sorted(held(again).values()) == [1, 3], "5 CPUs are kept")
    [row] = env.json("quota", "list")["quotas"]
    assert (row["role"], row["guarantee"], row["limit"]) == ("third", "cpus:5", "")
    leave(contest)


def leave(contest: Contest) -> None:
    """End its frameworks, which may have seen several masters."""
    for process in contest.processes.values():
        process.terminate()
        assert process.wait(20) == 0


def test_a_reservation_holds_and_survives_kill_nine_of_master_and_agent(env: ClusterEnv) -> None:
    """3 of 6 CPUs are for big and unused until its framework is there, which then has just these.

    The other 3 stay small's: shares are equal so.
    """
    master = env.master("--no-framework")
    agent = env.agent("cpus:6;mem:2G")
    with Hub() as hub:
        contest = Contest(env, hub)
        contest.enter("two", "small", TASK, 0.5)
        until(lambda: held(contest) == {"two": 6}, "everything is in use")
        refused = env.run("reserve", "a1", "cpus:3;mem:512M", "--role", "big")
        assert refused.returncode == 5
        assert "is held by no task" in refused.stderr
        reserve_between_tasks(env)
        until(lambda: held(contest) == {"two": 3}, "half is kept for nobody yet")
        master.kill_nine()
        agent.kill_nine()
        master.restart()
        agent.restart()
        env.wait_for_agents(1)
    with Hub() as hub:
        again = Contest(env, hub)
        until(lambda: held(again) == {"two": 3}, "it is still kept")
        contest.enter("one", "big/web", TASK, 0.5)
        until(lambda: held(again) == {"one": 3, "two": 3}, "it is used by whom it is for")
    [row] = env.json("agents")["agents"]
    assert row["total"].startswith("cpus:3;cpus(big):3;mem:1536;mem(big):512"), row["total"]
    leave(contest)


def reserve_between_tasks(env: ClusterEnv) -> None:
    """Held back for a moment, so that what is reserved is free: nothing is ended for it."""
    env.ok("quota", "set", "small", "cpus:3", "--force")

    def is_reserved() -> bool:
        return env.run("reserve", "a1", "cpus:3;mem:512M", "--role", "big").returncode == 0

    until(is_reserved, "three CPUs are free")
    env.ok("quota", "unset", "small")
