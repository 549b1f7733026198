"""Scenarios: what the real machines do in virtual time, held against arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesosctl.cli.scenariofile import load
from mesosctl.core.master.registry import RoleEntry
from mesosctl.model.resources import Resources
from mesosctl.plugins.allocators import make_allocator
from mesosctl.sim.scenario.figures import comparison, figures, percentile
from mesosctl.sim.scenario.plan import (
    AgentGroup,
    FrameworkPlan,
    JobGroup,
    Scenario,
    Span,
    Spread,
)
from mesosctl.sim.scenario.recorder import Steps
from mesosctl.sim.scenario.run import misfits, run_shared, run_static

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "scenarios"
GIB = 1024**3
# From the arrival of a job to the start of its first tasks: a handful of messages and passes.
SOON_S = 0.1


def job(framework: str = "one", **more: Any) -> JobGroup:
    known = {"name": "j", "count": 1, "tasks": 1, "cpus_milli": 1000, "mem_bytes": GIB}
    return JobGroup(**{**known, "framework": framework, "lasts": Span(10.0), **more})


def scenario(cpus: int, *jobs: JobGroup, agents: int = 1, **more: Any) -> Scenario:
    group = AgentGroup("a", agents, Resources.scalars(cpus=cpus, mem=1024 * 64))
    names = dict.fromkeys(one.framework for one in jobs)
    frameworks = tuple(FrameworkPlan(name, name) for name in names)
    return Scenario("test", (group,), frameworks, jobs, launch_s=0.0, **more)


def simulate(what: Scenario) -> dict[str, Any]:
    return figures(run_shared(what, make_allocator))


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["framework"]: one for one in told["frameworks"]}


def test_tasks_wait_for_each_other_as_arithmetic_says() -> None:
    """Four tasks of 10 s on 2 CPUs start at 0, 0, 10 and 10 s; the last ends at 20 s."""
    told = simulate(scenario(2, job(tasks=4)))
    assert told["makespan"] == pytest.approx(20, abs=3 * SOON_S)
    # The mean of 0, 0, 10, 10 is 5, the median too; 95 of 100 do not wait longer than 10.
    assert told["wait_mean"] == pytest.approx(5, abs=2 * SOON_S)
    assert told["wait_p95"] == pytest.approx(10, abs=2 * SOON_S)
    assert told["utilisation"]["cpus"] == pytest.approx(1, abs=0.02)
    # 2 of 64 GiB were in use all the time.
    assert told["utilisation"]["mem"] == pytest.approx(2 / 64, abs=0.002)
    assert by_name(told)["one"]["most"] == 2


def test_the_drf_paper_gives_a_three_tasks_and_b_two() -> None:
    """The example of the DRF paper, from the file that is shipped.

    9 CPUs, 18 GB; A's tasks need <1, 4>, B's <3, 1>. x tasks of A and y of B with equal dominant
    shares: 4x/18 = 3y/9, so y = 2x/3. CPUs: x + 3y = x + 2x = 9, so x = 3 and y = 2; memory:
    12 + 2 = 14 of 18. Both have 2/3. In whole tasks it comes out even.
    """
    told = simulate(load(EXAMPLES / "drf-paper.toml"))
    rows = by_name(told)
    assert (rows["A"]["most"], rows["B"]["most"]) == (3, 2)
    for part in told["course"]:
        # A span holds at the most two ends, after each of which 20 ms pass without a task.
        assert part["shares"]["A"] == pytest.approx(2 / 3, abs=0.02)
        assert part["shares"]["B"] == pytest.approx(2 / 3, abs=0.02)
        assert part["utilisation"]["cpus"] == pytest.approx(1, abs=0.03)
        assert part["utilisation"]["mem"] == pytest.approx(14 / 18, abs=0.03)


def test_the_offer_workflow_is_that_of_the_mesos_paper() -> None:
    """All of the agent is offered to the first framework, what it leaves to the second."""
    texts = [event["text"] for event in simulate(load(EXAMPLES / "offer-workflow.toml"))["events"]]
    steps = [
        "registers with cpus:4;mem:4096",
        "cpus:4;mem:4096 of agent is offered to framework1",
        "framework1 launches on agent: 1.0.1 (cpus:2;mem:1024), 2.0.1 (cpus:1;mem:2048)",
        "cpus:1;mem:1024 of agent is offered to framework2",
        "framework2 launches on agent: 1.0.1 (cpus:1;mem:1024)",
    ]
    places = [next(n for n, text in enumerate(texts) if step in text) for step in steps]
    assert places == sorted(places)


def test_sharing_beats_partitions_for_jobs_that_can_grow() -> None:
    """The larger one ends much earlier when the idle half is not kept from it.

    16 tasks of 10 s on a partition of 2 CPUs: 80 s. Shared, it arrives at 5 s, when the other's
    single task has one of four CPUs until 10 s. Three CPUs take four tasks each until 45 s, the
    fourth takes four from 10 to 50 s: it is done after 45 s. 80 / 45 = 1.78.
    """
    jobs = (job("grows", tasks=16, at_s=5.0), job("fixed", tasks=1))
    what = scenario(2, *jobs, agents=2, static={"grows": 1, "fixed": 1})
    shared = run_shared(what, make_allocator)
    rows = comparison(shared, run_static(what, make_allocator))["rows"]
    speedups = {row["framework"]: row["speedup"] for row in rows if row["job"] is None}
    assert speedups["grows"] == pytest.approx(1.78, abs=0.05)
    assert speedups["fixed"] == pytest.approx(1.0, abs=0.05)


def test_weights_divide_as_they_say() -> None:
    """A role of weight 3 beside one of weight 1 holds three quarters: 6 and 2 of 8 CPUs."""
    jobs = (job("heavy", tasks=60), job("light", tasks=60))
    roles = {"heavy": RoleEntry(3000)}
    late = replace(scenario(8, *jobs, roles=roles, until_s=50.0), launch_s=0.0)
    agents = (replace(late.agents[0], at_s=1.0),)
    rows = by_name(simulate(replace(late, agents=agents)))
    assert (rows["heavy"]["most"], rows["light"]["most"]) == (6, 2)


def test_quota_and_constraints_hold_as_in_a_cluster() -> None:
    """A role limited to 3 of 8 CPUs never has more; what must run on one agent never fills both."""
    roles = {"bound": RoleEntry(limit={"cpus": 3000})}
    jobs = (job("bound", tasks=6), job("picky", tasks=6, constraint="kind==big"))
    what = scenario(8, *jobs, roles=roles)
    big = AgentGroup("big", 1, Resources.scalars(cpus=2, mem=1024), {"kind": "big"})
    told = simulate(replace(what, agents=(*what.agents, big)))
    rows = by_name(told)
    assert told["tasks_left"] == 0
    # Of the memory of the large agent, 1 GiB, one task of 1 GiB fits at a time.
    assert (rows["bound"]["most"], rows["picky"]["most"]) == (3, 1)


def test_jobs_in_turn_follow_each_other() -> None:
    """Each arrives when the one before has ended: three of 10 s take 30 s, and none waits."""
    told = simulate(scenario(8, job(count=3, in_turn=True)))
    assert told["makespan"] == pytest.approx(30, abs=5 * SOON_S)
    assert told["jobs"][0]["jobs"] == 3
    assert told["wait_p95"] < SOON_S
    assert told["jobs"][0]["took_sum"] == pytest.approx(30, abs=5 * SOON_S)


def test_the_same_seed_gives_the_same_figures() -> None:
    """Whoever compares two files must not see chance; another seed draws other times."""
    times = Span(10.0, 5.0, Spread.NORMAL)
    what = scenario(2, job(tasks=20, lasts=times), job("two", tasks=20, lasts=times), agents=3)
    first = simulate(what)
    assert simulate(what) == first
    assert simulate(replace(what, seed=1))["makespan"] != first["makespan"]


def test_short_tasks_run_in_lanes() -> None:
    """Lanes are part of what is simulated: 500 tasks of 10 ms end, and none of them twice."""
    told = simulate(scenario(2, job(tasks=500, lasts=Span(0.01))))
    assert told["tasks_left"] == 0
    # On 2 CPUs 2.5 s at the least; without lanes each would cost a round trip of about 10 ms more.
    assert 2.5 <= told["makespan"] < 4.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_large_task_is_not_starved_by_small_ones_of_its_own_framework(seed: int) -> None:
    """400 tasks of 10 s in the mean keep 16 CPUs busy for minutes; 8 at once are there in three."""
    small = job(tasks=400, lasts=Span(5.0, 15.0, Spread.UNIFORM))
    large = job("one", name="large", cpus_milli=8000, priority=1, at_s=15.0)
    told = simulate(scenario(8, small, large, agents=2, seed=seed))
    (wait,) = (one["wait_mean"] for one in told["jobs"] if one["job"] == "large")
    assert wait <= 3 * 10.0


def test_agents_that_join_later_help_from_then_on() -> None:
    """Two CPUs at first, two more after 10 s: 6 tasks of 10 s are done at 20 s and not at 30 s."""
    what = scenario(2, job(tasks=6))
    late = replace(what.agents[0], name="late", at_s=10.0)
    told = simulate(replace(what, agents=(*what.agents, late)))
    assert told["makespan"] == pytest.approx(20, abs=4 * SOON_S)


def test_what_fits_nowhere_is_left_and_told() -> None:
    """A simulation ends although a task never can, and says which and what it would need."""
    what = scenario(2, job(tasks=1), job("two", name="wide", cpus_milli=4000))
    assert list(misfits(what)) == ["wide"]
    told = simulate(what)
    assert told["stalled"]
    assert told["tasks_left"] == 1
    assert by_name(told)["two"]["makespan"] is None


def test_until_ends_it_with_what_is_left() -> None:
    """A scenario without end is cut off; that is not a stall."""
    told = simulate(scenario(1, job(tasks=10), until_s=35.0))
    assert told["tasks_left"] == 7
    assert not told["stalled"]


def test_spans_are_drawn_from_their_place() -> None:
    """The same place gives the same time, another one another; the means are what was written."""
    for span, mean in (
        (Span(10.0), 10.0),
        (Span(10.0, 2.0, Spread.NORMAL), 10.0),
        (Span(5.0, 15.0, Spread.UNIFORM), 10.0),
        (Span(10.0, 0.0, Spread.EXPONENTIAL), 10.0),
    ):
        drawn = [span.draw(1, "x", number) for number in range(2000)]
        assert drawn[:5] == [span.draw(1, "x", number) for number in range(5)]
        # Three standard errors of the widest of them, 10 / sqrt(2000).
        assert sum(drawn) / len(drawn) == pytest.approx(mean, abs=0.7)
        assert min(drawn) >= 0


def test_integrals_are_cut_at_the_edges() -> None:
    """One CPU from 1 to 3 s is 1 of the 2 s from 0 to 2, and 1 of those from 2 to 4."""
    steps = Steps()
    steps.change(1.0, Resources.scalars(cpus=1), 1)
    steps.change(3.0, Resources.scalars(cpus=1), -1)
    spans = steps.integrals([0.0, 2.0, 4.0, 6.0])
    assert [span.get("cpus", 0.0) for span in spans] == [1000.0, 1000.0, 0.0]


def test_a_percentile_is_one_of_the_values() -> None:
    """Nearest rank: of 1 to 20, 95 of 100 do not exceed 19."""
    assert percentile(list(range(1, 21)), 0.95) == 19
    assert percentile([7.0], 0.95) == 7.0


@pytest.mark.slow
def test_the_shipped_comparison_has_the_direction_of_the_mesos_paper() -> None:
    """Jobs that can grow gain clearly, those of a fixed size neither gain nor lose much.

    The paper has 2.10 for the large Hadoop mix, 1.26 for Spark, 1.14 for the Facebook mix and 0.96
    for Torque; ours is another load, so only the direction is asserted.
    """
    what = load(EXAMPLES / "elastic-vs-static.toml")
    shared = run_shared(what, make_allocator)
    compared = comparison(shared, run_static(what, make_allocator))
    speedups = {row["framework"]: row["speedup"] for row in compared["rows"] if row["job"] is None}
    assert speedups["hadoop"] > 1.3
    assert speedups["spark"] > 1.3
    assert speedups["facebook"] > 1.1
    assert 0.9 < speedups["torque"] < 1.1
    used = compared["utilisation_shared"]["cpus"], compared["utilisation_static"]["cpus"]
    assert used[0] > used[1] + 0.05
