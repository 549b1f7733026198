"""When the tasks of an executor are started: the queue, the turns in lanes, and what goes ahead.

Owns the queue and the count of starts under way. Whose turn it is in a lane executor_lanes.py
knows. A task that goes ahead has its container, and its start is with the spawner, before it is
its turn: then nobody has to be asked when the one before has ended.

Rules:
- Ahead goes only what needs nothing but its limits. A lease may run out meanwhile, a GPU or a
  port is still the one's before, and a stream would have to be held open.
- It begins without another word or with Begin, and never when it was recalled in time.
"""

from __future__ import annotations

from collections import deque

from mesosctl.core.executor_effects import Begin, Prepare, Recall, Spawn
from mesosctl.core.executor_lanes import Lanes
from mesosctl.core.executor_task import Phase, Task
from mesosctl.core.machine import Effect
from mesosctl.errors import require
from mesosctl.limits import CPUS_MILLI_MIN

# Starts under way at once: enough to keep the spawner busy, few enough that a kill of a waiting
# task finds it waiting, and that a burst of launches does not make a burst of cgroups.
STARTS_MAX = 16
_ON_ITS_WAY = (Phase.AHEAD, Phase.ORDERED, Phase.RUNNING)
_LIMITS_ALONE = frozenset(("cpus", "mem", "disk"))


class Starts:
    """Starts the tasks of a table as their turn comes. Times in monotonic seconds."""

    def __init__(self, tasks: dict[str, Task], lanes: Lanes) -> None:
        self._tasks = tasks
        self._lanes = lanes
        self._queue: deque[str] = deque()
        self._under_way = 0

    def enter(self, task: Task, mono: float) -> None:
        """A task has come."""
        container = task.launch.container
        if self._lanes.enter(task.launch.task.lane, container, mono):
            self._queue.append(container)

    def next(self, mono: float) -> list[Effect]:
        """Start what may be started now, and order ahead what follows it."""
        effects: list[Effect] = []
        while self._queue and self._under_way < STARTS_MAX:
            task = self._tasks.get(self._queue.popleft())
            if task is None or task.phase is not Phase.WAITING:
                continue
            task.phase = Phase.ORDERED
            self._under_way += 1
            effects += [_prepare(task), Spawn(task.launch)]
            effects += self.ahead(task.launch.task.lane, mono)
        return effects

    def ahead(self, lane: str, mono: float) -> list[Effect]:
        """Order what follows in a lane before its turn has come."""
        effects: list[Effect] = []
        while found := self._lanes.next_ahead(lane, mono):
            before, container, due = found
            task = self._tasks[container]
            if self._tasks[before].phase not in _ON_ITS_WAY or not _needs_limits_alone(task):
                break
            self._lanes.go_ahead(lane)
            task.phase = Phase.AHEAD
            effects += [_prepare(task), Spawn(task.launch, before, due)]
        return effects

    def turn(self, lane: str, mono: float) -> list[Effect]:
        """Somebody's turn in a lane is over: the next one's, who may have begun already."""
        following = self._lanes.turn(lane)
        if not following:
            return []
        effects: list[Effect] = []
        task = self._tasks[following]
        if task.phase is Phase.WAITING:
            self._queue.append(following)
        elif task.phase is Phase.AHEAD and not task.is_recalled:
            task.phase = Phase.ORDERED
            self._under_way += 1
            effects.append(Begin(following))
        return [*effects, *self.next(mono), *self.ahead(lane, mono)]

    def answered(self, task: Task, phase: Phase) -> None:
        """A start has come about or failed, or was recalled; what the task is from now on."""
        require(task.phase in (Phase.ORDERED, Phase.AHEAD), f"a start of one {task.phase.name}")
        self._under_way -= task.phase is Phase.ORDERED
        task.phase = phase

    def recall(self, task: Task) -> list[Effect]:
        """Have a task not begin if that is still possible."""
        if task.phase is not Phase.AHEAD or task.is_recalled:
            return []
        task.is_recalled = True
        return [Recall(task.launch.container)]

    def awaits(self, container: str) -> bool:
        """Whether the task is queued or waits for its turn in a lane."""
        return container in self._queue or self._lanes.holds_back(container)

    def check(self) -> None:
        """Raises InvariantBroken where the count is wrong, or one is ahead and in no lane."""
        ordered = sum(task.phase is Phase.ORDERED for task in self._tasks.values())
        require(self._under_way == ordered, "starts are miscounted")
        for container, task in self._tasks.items():
            if task.phase is Phase.AHEAD:
                name = task.launch.task.lane
                require(self._lanes.has_ahead(name, container), f"{container} is ahead of nobody")


def _prepare(task: Task) -> Prepare:
    info = task.launch.task
    cpus_milli = max(CPUS_MILLI_MIN, info.resources.cpus_milli)
    mem_bytes = info.resources.mem_bytes or None
    return Prepare(task.launch.container, cpus_milli, mem_bytes, info.pids_max, task.launch)


def _needs_limits_alone(task: Task) -> bool:
    info = task.launch.task
    return (
        info.lease_s is None
        and task.stdin is None
        and not info.whole_cores
        and _LIMITS_ALONE.issuperset(info.resources.names())
    )
