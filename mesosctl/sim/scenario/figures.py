"""The figures of simulated clusters, as plain maps: what is printed, and what JSON holds.

Rules: nothing of how long the simulation itself took is in them, so that the same scenario gives
the same text. A share is the dominant one: the largest part of what the cluster has of any one
resource, taken as a mean over time. Times are seconds, shares parts of 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import fmean, median
from typing import Any

from mesosctl.model.resources import Resources
from mesosctl.sim.scenario.plan import Scenario
from mesosctl.sim.scenario.recorder import Amounts, JobRun
from mesosctl.sim.scenario.run import Outcome

# How many equal spans the time is cut into for the course of things.
SPANS = 60
DIGITS = 4


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of all does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def waits_of(runs: Iterable[JobRun]) -> dict[str, float | None]:
    """How long tasks waited from the arrival of their job to their start."""
    waits = [wait for run in runs for wait in run.waits_s.values()]
    if not waits:
        return {"wait_mean": None, "wait_median": None, "wait_p95": None}
    return {
        "wait_mean": _round(fmean(waits)),
        "wait_median": _round(median(waits)),
        "wait_p95": _round(percentile(waits, 0.95)),
    }


def figures(outcome: Outcome) -> dict[str, Any]:
    """All figures of one cluster."""
    scenario, record = outcome.scenario, outcome.record
    runs = list(record.runs.values())
    ran = list(record.frameworks)
    left = sum(run.tasks - run.ended for run in runs)
    return {
        "scenario": scenario.name,
        "allocator": scenario.allocator,
        "seed": scenario.seed,
        "resources": _text(record.capacity.now),
        "makespan": _round(outcome.ended_s - outcome.first_s),
        "tasks": sum(run.tasks for run in runs),
        "tasks_left": left,
        "stalled": outcome.stalled,
        **waits_of(runs),
        "utilisation": _utilisation(outcome, [outcome.first_s, outcome.ended_s])[0],
        "frameworks": [_framework(outcome, name) for name in ran],
        "jobs": [
            _group(outcome, *place, groups)
            for place, groups in _alike(scenario).items()
            if place[0] in ran
        ],
        "course": _course(outcome),
        "events": [{"at": _round(at_s), "text": text} for at_s, text in record.story],
    }


def _framework(outcome: Outcome, name: str) -> dict[str, Any]:
    jobs = outcome.scenario.jobs
    runs = [run for run in outcome.record.runs.values() if jobs[run.group].framework == name]
    role = next(plan.role for plan in outcome.scenario.frameworks if plan.name == name)
    ended = [run.ended_s for run in runs if run.ended_s is not None]
    first = min((run.arrived_s for run in runs), default=0.0)
    whole = [outcome.first_s, outcome.ended_s]
    return {
        "framework": name,
        "role": role,
        "jobs": len(runs),
        "tasks": sum(run.tasks for run in runs),
        "makespan": _round(max(ended) - first) if len(ended) == len(runs) and runs else None,
        **waits_of(runs),
        "share": _shares(outcome, [name], whole)[0],
        "most": outcome.record.frameworks[name].most,
    }


def _alike(scenario: Scenario) -> dict[tuple[str, str], list[int]]:
    """By framework and name of the jobs: their groups. Rows of a trace often share a name."""
    found: dict[tuple[str, str], list[int]] = {}
    for number, job in enumerate(scenario.jobs):
        found.setdefault((job.framework, job.name), []).append(number)
    return found


def _group(outcome: Outcome, framework: str, name: str, groups: list[int]) -> dict[str, Any]:
    chosen = frozenset(groups)
    runs = [run for run in outcome.record.runs.values() if run.group in chosen]
    took = _took(runs)
    return {
        "job": name,
        "framework": framework,
        "jobs": len(runs),
        "tasks": sum(run.tasks for run in runs),
        **waits_of(runs),
        "took_mean": None if took is None else _round(took / len(runs)),
        "took_sum": None if took is None else _round(took),
    }


def _took(runs: Sequence[JobRun]) -> float | None:
    """The sum of the times from each job's arrival to its end; None when one has not ended."""
    took = [run.took_s for run in runs]
    known = [one for one in took if one is not None]
    return math.fsum(known) if took and len(known) == len(took) else None


# --- over time ------------------------------------------------------------------------------------
def _course(outcome: Outcome) -> list[dict[str, Any]]:
    span_s = (outcome.ended_s - outcome.first_s) / SPANS
    if span_s <= 0:
        return []
    edges = [outcome.first_s + number * span_s for number in range(SPANS + 1)]
    plans = [plan for plan in outcome.scenario.frameworks if plan.name in outcome.record.frameworks]
    roles = dict.fromkeys(plan.role for plan in plans)
    shares = {
        role: _shares(outcome, [plan.name for plan in plans if plan.role == role], edges)
        for role in roles
    }
    used = _utilisation(outcome, edges)
    return [
        {
            "from": _round(edges[number]),
            "until": _round(edges[number + 1]),
            "utilisation": used[number],
            "shares": {role: shares[role][number] for role in roles},
        }
        for number in range(SPANS)
    ]


def _parts(outcome: Outcome, names: Iterable[str], edges: list[float]) -> list[dict[str, float]]:
    """Of each resource, the part of the cluster's that these frameworks used in each span."""
    capacity = outcome.record.capacity.integrals(edges)
    sums: list[dict[str, float]] = [{} for _ in capacity]
    for name in names:
        used = outcome.record.frameworks[name].used.integrals(edges)
        for total, own in zip(sums, used, strict=True):
            for resource, amount in own.items():
                total[resource] = total.get(resource, 0.0) + amount
    return [
        {
            resource: _round(used.get(resource, 0.0) / there) if there else 0.0
            for resource, there in total.items()
        }
        for used, total in zip(sums, capacity, strict=True)
    ]


def _shares(outcome: Outcome, names: Sequence[str], edges: list[float]) -> list[float]:
    return [max(parts.values(), default=0.0) for parts in _parts(outcome, names, edges)]


def _utilisation(outcome: Outcome, edges: list[float]) -> list[dict[str, float]]:
    return _parts(outcome, outcome.record.frameworks, edges)


# --- shared against static ------------------------------------------------------------------------
def comparison(shared: Outcome, static: Mapping[str, Outcome]) -> dict[str, Any]:
    """How much longer jobs took where each framework had agents of its own."""
    scenario = shared.scenario
    rows = []
    for name, alone in static.items():
        own = {job: groups for (whose, job), groups in _alike(scenario).items() if whose == name}
        rows.append(_compared(name, None, list(chain(*own.values())), shared, alone))
        rows += [_compared(name, job, groups, shared, alone) for job, groups in own.items()]
    ends = [one.ended_s - one.first_s for one in static.values()]
    capacities = {name: one.record.capacity.now for name, one in static.items()}
    return {
        "agents": dict(scenario.static),
        "resources": {name: _text(amounts) for name, amounts in capacities.items()},
        "makespan_static": _round(max(ends)),
        "makespan_shared": _round(shared.ended_s - shared.first_s),
        "utilisation_static": _static_utilisation(static, max(ends)),
        "utilisation_shared": _utilisation(shared, [shared.first_s, shared.ended_s])[0],
        "rows": rows,
    }


def _compared(
    framework: str, job: str | None, groups: list[int], shared: Outcome, alone: Outcome
) -> dict[str, Any]:
    chosen = frozenset(groups)

    def took(outcome: Outcome) -> float | None:
        return _took([run for run in outcome.record.runs.values() if run.group in chosen])

    before, after = took(alone), took(shared)
    return {
        "framework": framework,
        "job": job,
        "static": None if before is None else _round(before),
        "shared": None if after is None else _round(after),
        "speedup": round(before / after, 2) if before is not None and after else None,
    }


def _static_utilisation(static: Mapping[str, Outcome], makespan_s: float) -> dict[str, float]:
    """Of all partitions together, until the last of them has done its work."""
    used: dict[str, float] = {}
    there: dict[str, float] = {}
    for name, one in static.items():
        edges = [one.first_s, one.first_s + makespan_s]
        for resource, amount in one.record.frameworks[name].used.integrals(edges)[0].items():
            used[resource] = used.get(resource, 0.0) + amount
        for resource, amount in one.record.capacity.integrals(edges)[0].items():
            there[resource] = there.get(resource, 0.0) + amount
    return {name: _round(used.get(name, 0.0) / whole) for name, whole in there.items() if whole}


def _round(value: float) -> float:
    return round(value, DIGITS)


def _text(amounts: Amounts) -> str:
    return str(Resources.scalars(**{name: amount / 1000 for name, amount in amounts.items()}))
