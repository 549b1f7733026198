"""Planted bugs in telling of limits: each must be found by the judges; see test_mutants.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core import executor_lives
from mesosctl.core.executor_effects import ContainerEmptied
from mesosctl.core.executor_task import Step, Task
from mesosctl.model.tasks import Reason
from mesosctl.sim.excess import EXCESS_AT, EXCESS_EVERY
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch
classify = executor_lives.classify


def without_the_counter(patch: Patch) -> None:
    """What the kernel ended for want of memory is told as a signal that came from somewhere."""

    def blind(task: Task, emptied: ContainerEmptied) -> Step:
        return classify(task, replace(emptied, oom_kills=0))

    patch.setattr(executor_lives, "classify", blind)


def the_wrong_limit(patch: Patch) -> None:
    """A task that had too much on disk is told to have had too much memory."""

    def confused(task: Task, emptied: ContainerEmptied) -> Step:
        step = classify(task, emptied)
        wrong = step.reason is Reason.DISK_LIMIT
        return replace(step, reason=Reason.MEMORY_LIMIT) if wrong else step

    patch.setattr(executor_lives, "classify", confused)


def ended_and_told_as_limited(patch: Patch) -> None:
    """Any end by KILL is taken for one at the memory limit."""

    def hasty(task: Task, emptied: ContainerEmptied) -> Step:
        step: Any = classify(task, emptied)
        killed = task.signum == 9 and step.reason is Reason.TIME_LIMIT
        return replace(step, reason=Reason.MEMORY_LIMIT) if killed else step

    patch.setattr(executor_lives, "classify", hasty)


MUTANTS = (without_the_counter, the_wrong_limit, ended_and_told_as_limited)


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [EXCESS_AT, *range(EXCESS_AT, SEEDS_MAX + 1, EXCESS_EVERY)]
    assert finding(seeds), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
