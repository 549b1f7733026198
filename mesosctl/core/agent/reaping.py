"""Containers that have to go: killed again and again until nothing of them is alive.

Rules: a task whose executor is gone ends GONE only when its container is empty, and that of the
executor of its framework's own that it was handed to. What belongs to no task of ours, or to one
that was never sent or has ended, is an orphan and goes the same way. It is looked for at
the start, after the end of an executor, and every ORPHANS_LOOK_S. In such a routine sweep nothing
is killed in a framework that has an executor: what that one is just removing, or could not remove,
goes only if it is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.agent.effects import (
    ContainersBusy,
    ContainersFound,
    ContainersGone,
    KillContainers,
    RemoveContainers,
    SweepContainers,
)
from mesosctl.core.agent.task import Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Log, Now
from mesosctl.errors import require
from mesosctl.limits import KILL_AGAIN_S, ORPHANS_LOOK_S
from mesosctl.model.ids import FrameworkId
from mesosctl.model.tasks import TaskState

FIRST_WAIT_S = 0.01


class Reaper:
    """The containers that are being killed; `None` as its time: an answer is under way."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._due: dict[str, float | None] = {}
        self._wait_s: dict[str, float] = {}
        self._sweep_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self._due)

    def kill(self, containers: Iterable[str]) -> list[Effect]:
        """Kill these, unless that is under way."""
        fresh = tuple([name for name in containers if name not in self._due])
        for name in fresh:
            self._due[name] = None
            self._wait_s[name] = FIRST_WAIT_S
        return [KillContainers(fresh)] if fresh else []

    def gone(self, event: ContainersGone, now: Now) -> list[Effect]:
        """Nothing of these is alive: their tasks have ended."""
        effects: list[Effect] = []
        for name in event.containers:
            task = self._tasks.get(name)
            if name in self._due and task is not None and self._is_elsewhere(task, event):
                self.busy(ContainersBusy((name,)), now)
                continue
            self._due.pop(name, None)
            self._wait_s.pop(name, None)
            if task is not None and task.phase is Phase.DOOMED:
                effects += self._tasks.end(task, TaskState.GONE, *task.doom, now)
        return effects

    def _is_elsewhere(self, task: Task, event: ContainersGone) -> bool:
        """Whether it may still be alive in the container of an executor of its framework's own."""
        place = f"{task.entry.framework_id}/{task.entry.info.executor}"
        return place in self._due and place not in event.containers

    def busy(self, event: ContainersBusy, now: Now) -> None:
        """Look again soon, and then less often."""
        for name in event.containers:
            if name in self._due:
                self._due[name] = now.mono + self._wait_s[name]
                self._wait_s[name] = min(self._wait_s[name] * 2, KILL_AGAIN_S)

    def sweep(self, now: Now, is_routine: bool = False) -> list[Effect]:
        """Look for orphans now, and again and again from now on."""
        self._sweep_at = now.mono + ORPHANS_LOOK_S
        return [SweepContainers(tuple(map(str, self._tasks.frameworks)), is_routine)]

    def found(self, event: ContainersFound) -> list[Effect]:
        """Kill the orphans among the containers that exist."""
        orphans: list[str] = []
        owned: list[str] = []
        for name in event.containers:
            task = self._tasks.get(name)
            if task is None or task.phase not in (Phase.SENT, Phase.DOOMED):
                is_owned = event.is_routine and self._has_executor(name)
                (owned if is_owned else orphans).append(name)
        effects: list[Effect] = [RemoveContainers(tuple(owned))] if owned else []
        if not orphans:
            return effects
        shown = ", ".join(orphans[:5]) + (", …" if len(orphans) > 5 else "")
        text = f"{len(orphans)} containers without a task are ended: {shown}"
        return [*effects, Log("warning", text), *self.kill(orphans)]

    def _has_executor(self, container: str) -> bool:
        framework = self._tasks.frameworks.get(FrameworkId(container.partition("/")[0]))
        return framework is not None and bool(framework.executor_id)

    def tick(self, now: Now) -> list[Effect]:
        """Kill again what was still alive."""
        due = [name for name, at in self._due.items() if at is not None and at <= now.mono]
        for name in due:
            self._due[name] = None
        effects: list[Effect] = [KillContainers(tuple(due))] if due else []
        if self._sweep_at is not None and self._sweep_at <= now.mono:
            effects += self.sweep(now, is_routine=True)
        return effects

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        times = [at for at in self._due.values() if at is not None]
        if self._sweep_at is not None:
            times.append(self._sweep_at)
        return min(times, default=None)

    def check(self) -> None:
        """Raises InvariantBroken where a doomed task is not being killed."""
        for task in self._tasks.of(Phase.DOOMED):
            require(task.container in self._due, f"{task.container} is doomed and left alone")
        require(self._due.keys() == self._wait_s.keys(), "containers are killed without patience")
