"""The lanes of an agent's tasks, as far as they are its business: what is given back unstarted.

The executor runs a lane (core/executor_lanes.py). Here only tasks count that no executor was told
of: that is the proof that they never ran. Rules: the first task of a lane waits like any other. The
others are given back when they are asked for, when no executor takes them for LANE_S, and when one
before them may still be alive under an executor that is gone. What an executor was to be told of
and never heard is not told again (Tasks.take_back), nor is anything after a restart. To an executor
that does not know lanes only one task of each is handed.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.agent.executors import Executor, Executors, Step
from mesosctl.core.agent.killing import RETURNED
from mesosctl.core.agent.task import Framework, Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Now
from mesosctl.core.session import ServerSessions
from mesosctl.limits import LANE_S
from mesosctl.protocol.messages.agent import ReturnLanes


class Lanes:
    """What is given back of the tasks of an agent."""

    def __init__(self, tasks: Tasks, executors: Executors, sessions: ServerSessions) -> None:
        self._tasks = tasks
        self._executors = executors
        self._sessions = sessions

    def return_all(self, message: ReturnLanes, now: Now) -> list[Effect]:
        """The master wants back what has not started."""
        effects: list[Effect] = []
        for task in self._tasks.of(Phase.MAKING, Phase.WAITING):
            if task.entry.info.lane and message.framework_id in ("", task.entry.framework_id):
                effects += self._give_back(task, now)
        for executor in self._executors.table.values():
            concerned = message.framework_id in ("", executor.entry.framework_id)
            if concerned and executor.step is Step.HERE and executor.knows_lanes:
                effects += self._sessions.send(executor.peer, message)
        return effects

    def _give_back(self, task: Task, now: Now) -> list[Effect]:
        return self._tasks.end(task, *RETURNED, now)

    def end_overdue(self, now: Now) -> list[Effect]:
        """Give back what has waited for an executor for too long."""
        effects: list[Effect] = []
        for framework in list(self._tasks.frameworks.values()):
            for task in _behind(framework.waiting.values()):
                if task.since + LANE_S <= now.mono:
                    effects += self._give_back(task, now)
        return effects

    def deadline(self) -> float | None:
        """When `end_overdue` has something to do."""
        firsts = (_behind(one.waiting.values()) for one in self._tasks.frameworks.values())
        # They wait in the order in which they began to.
        return min((tasks[0].since + LANE_S for tasks in firsts if tasks), default=None)

    def fit_for(self, executor: Executor, framework: Framework, now: Now) -> list[Effect]:
        """Before its tasks are handed to this executor: give back what it cannot have."""
        if executor.knows_lanes:
            return []
        here = [task for task in framework.tasks.values() if task.phase is Phase.SENT]
        effects: list[Effect] = []
        for task in _behind([*here, *framework.waiting.values()]):
            if task.phase is Phase.WAITING:
                effects += self._give_back(task, now)
        return effects


def _behind(tasks: Iterable[Task]) -> list[Task]:
    """Those of these tasks that have another one of these before them in their lane."""
    seen: set[str] = set()
    behind: list[Task] = []
    for task in tasks:
        lane = task.entry.info.lane
        if lane in seen:
            behind.append(task)
        elif lane:
            seen.add(lane)
    return behind
