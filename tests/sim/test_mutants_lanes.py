"""Planted bugs of lanes: each must be found by the judges; see test_mutants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.core.executor_lanes import Lanes
from mesosctl.core.executor_lives import TaskLives
from mesosctl.core.executor_task import Step
from mesosctl.core.machine import Now
from mesosctl.core.master.state import MasterState, TaskRecord
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.sim.lanes import LANES_EVERY
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch


def all_at_once(patch: Patch) -> None:
    """The executor starts all tasks of a lane when they come."""
    patch.setattr(Lanes, "enter", lambda self, name, container, mono: True)
    patch.setattr(Lanes, "leave", lambda self, name, container: False)


def never_given_back(patch: Patch) -> None:
    """What waits behind a long task waits for as long as that takes."""
    patch.setattr(Lanes, "overdue", lambda self, mono: [])
    patch.setattr(Lanes, "deadline", lambda self: None)


def given_back_and_run(patch: Patch) -> None:
    """The executor says that a task will never start, and starts it when its turn comes."""

    def give_back(self: TaskLives, containers: list[str], now: Now) -> list[Any]:
        for container in containers:
            step = Step(TaskState.DROPPED, Reason.RETURNED, "given back")
            task = self._tasks[container]
            self._report(task, step, now)
            self.lanes.leave(task.launch.task.lane, container)
            self._starts._queue.append(container)
        return self._starts.next(now.mono)

    patch.setattr(TaskLives, "give_back", give_back)
    patch.setattr(TaskLives, "check", lambda self: None)


def ahead_of_its_time(patch: Patch) -> None:
    """The spawner is not told until when a task that was ordered ahead may begin."""
    next_ahead = Lanes.next_ahead

    def without_end(self: Lanes, name: str, mono: float) -> tuple[str, str, float] | None:
        found = next_ahead(self, name, mono)
        return found and (*found[:2], found[2] + 60.0)

    patch.setattr(Lanes, "next_ahead", without_end)


def last_one_first(patch: Patch) -> None:
    """The executor takes a lane from its end."""

    def turn(self: Lanes, name: str) -> str:
        lane = self._lanes[name]
        behind = lane.waiting or lane.ahead
        if not behind:
            del self._lanes[name]
            return ""
        lane.present, _ = behind.popitem()
        return lane.present

    patch.setattr(Lanes, "turn", turn)


def freed_with_the_first(patch: Patch) -> None:
    """The master counts what a lane holds as free when the first of its tasks has ended."""

    def closes(self: MasterState, task: TaskRecord) -> Any:
        lanes = self.frameworks[task.framework_id].lanes
        return task.resources if not task.lane or lanes.pop((task.agent_id, task.lane), 0) else None

    patch.setattr(MasterState, "_closes", closes)


MUTANTS = {
    all_at_once: 2,
    never_given_back: 2,
    given_back_and_run: 2,
    ahead_of_its_time: 2,
    last_one_first: 2,
    freed_with_the_first: 2,
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [MUTANTS[plant], *range(2, SEEDS_MAX + 1, LANES_EVERY)]
    assert finding(seeds), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
