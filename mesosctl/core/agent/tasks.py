"""The agent's tasks and frameworks: accepted, handed on, ended, acknowledged, forgotten.

Rules:
- A task id is one launch: told of it again, only the updates that wait are told again.
- A task that no executor was ever told of is DROPPED or KILLED, never GONE; one that an executor
  may have been told of is GONE only when nothing of its container is alive.
- The order of a task's updates is kept, a terminal state is never left. What TRANSITIONS does not
  allow is a repetition or came too late: it is taken and changes nothing.
- A task is forgotten when its terminal update is acknowledged. Its sandbox stays.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace
from operator import is_

from mesosctl.core.agent.effects import MakeSandbox
from mesosctl.core.agent.killing import RETURNED, unstarted_end
from mesosctl.core.agent.records import (
    FRAMEWORKS,
    NOBODY,
    PROGRESS,
    TASKS,
    AgentRecords,
    FrameworkEntry,
    ProgressEntry,
    TaskEntry,
    put,
)
from mesosctl.core.agent.task import Framework, Phase, Task
from mesosctl.core.machine import Delete, Effect, NewId, Now
from mesosctl.errors import require
from mesosctl.limits import UPDATE_RETRY_MAX_S, UPDATE_RETRY_S
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId
from mesosctl.model.tasks import (
    TERMINAL,
    TRANSITIONS,
    Reason,
    StatusUpdate,
    TaskInfo,
    TaskReport,
    TaskState,
)
from mesosctl.model.volumes import places_of
from mesosctl.protocol.messages.agent import Ack, StatusUpdates

UPDATES_PER_MESSAGE = 200


class Tasks:
    """All tasks of an agent. Effects are returned, in the order in which they are to be done."""

    def __init__(self, new_id: NewId) -> None:
        self.agent_id = AgentId("")
        self.frameworks: dict[FrameworkId, Framework] = {}
        # Containers of tasks that ended since the streams were last told.
        self.ended: list[str] = []
        self._new_id = new_id
        self._tasks: dict[str, Task] = {}
        self._number = 0
        self._outbox: dict[str, Task] = {}
        # Last words of tasks of removed frameworks: sent once, for nobody acknowledges them.
        self._farewells: list[StatusUpdate] = []
        self._retries: list[tuple[float, str]] = []

    def restore(self, records: AgentRecords, now: Now) -> None:
        """Take up what an earlier run left. Tasks not known to be unsent count as sent."""
        for known in records.frameworks:
            self.frameworks[known.info.framework_id] = Framework(known)
        for entry in records.tasks:
            container = f"{entry.framework_id}/{entry.info.task_id}"
            progress = records.progress.get(container)
            task = Task(container, entry, Phase.SENT, now.mono)
            if progress is not None:
                task.state, task.updates = progress.state, list(progress.updates)
            if task.state in TERMINAL:
                task.phase = Phase.ENDED
            elif not entry.executor_id:
                task.phase = Phase.MAKING
            self._enter(task)

    def _enter(self, task: Task) -> None:
        self._tasks[task.container] = task
        self.frameworks[task.entry.framework_id].tasks[task.container] = task
        self._number = max(self._number, task.entry.number)

    # --- looking ----------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, container: str) -> Task | None:
        """The task of this container, also one that has ended and is not forgotten."""
        return self._tasks.get(container)

    def of(self, *phases: Phase) -> list[Task]:
        """The tasks in any of these phases, in the order in which they came."""
        return [task for task in self._tasks.values() if task.phase in phases]

    def all(self) -> list[Task]:
        """Every task that is not forgotten, in the order in which they came."""
        return list(self._tasks.values())

    def reports(self) -> tuple[TaskReport, ...]:
        """Every task that is not forgotten, as the master is told of it."""
        return tuple(
            [
                TaskReport(
                    task.entry.framework_id,
                    task.entry.info.task_id,
                    task.entry.info.name,
                    task.entry.info.resources,
                    task.state,
                    task.entry.info.lane,
                    task.entry.info.revocable,
                )
                for task in self._tasks.values()
            ]
        )

    # --- accepting --------------------------------------------------------------------------------
    def know(self, info: FrameworkInfo) -> list[Effect]:
        """Enter a framework, or what is new about it."""
        framework = self.frameworks.get(info.framework_id)
        if framework is not None and framework.entry.info == info:
            return []
        if framework is None:
            self.frameworks[info.framework_id] = framework = Framework(FrameworkEntry(info))
        else:
            framework.entry = replace(framework.entry, info=info)
        return [put(FRAMEWORKS, info.framework_id, framework.entry)]

    def remove(self, framework: Framework) -> list[Effect]:
        """Nobody acknowledges for this framework any more: what has ended is forgotten at once."""
        if framework.entry.removed:
            return []
        framework.entry = replace(framework.entry, removed=True)
        framework_id = framework.entry.info.framework_id
        effects: list[Effect] = [put(FRAMEWORKS, framework_id, framework.entry)]
        for task in list(framework.tasks.values()):
            if task.phase is Phase.ENDED:
                self._farewells += task.updates[-1:]
                effects += self._forget(task)
        return effects

    def accept(
        self, framework: Framework, info: TaskInfo, executor_id: ExecutorId, now: Now
    ) -> tuple[Task, Effect]:
        """Enter a new task, on disk first of all. `executor_id`: who is to be told of it."""
        framework_id = framework.entry.info.framework_id
        self._number += 1
        entry = TaskEntry(framework_id, info, self._number, executor_id)
        task = Task(f"{framework_id}/{info.task_id}", entry, Phase.MAKING, now.mono)
        self._enter(task)
        return task, put(TASKS, task.container, entry)

    def sandbox_made(self, container: str, path: str, now: Now) -> None:
        """The task can be handed to its executor. One that ended meanwhile cannot."""
        task = self._tasks.get(container)
        if task is not None and task.phase is Phase.MAKING:
            task.sandbox, task.since = path, now.mono
            self._wait(task)

    def _wait(self, task: Task) -> None:
        task.phase = Phase.WAITING
        self.frameworks[task.entry.framework_id].waiting[task.container] = task

    def sent(self, task: Task, executor_id: ExecutorId) -> list[Effect]:
        """This executor is being told of the task; on disk before it is."""
        self._leave(task, Phase.SENT)
        return self._assign(task, executor_id)

    def _assign(self, task: Task, executor_id: ExecutorId) -> list[Effect]:
        if task.entry.executor_id == executor_id:
            return []
        task.entry = replace(task.entry, executor_id=executor_id)
        return [put(TASKS, task.container, task.entry)]

    def unassign(self, task: Task) -> list[Effect]:
        """Whoever was to be told of it never was."""
        return self._assign(task, NOBODY)

    def take_back(self, task: Task, now: Now) -> list[Effect]:
        """No executor has it, and none ever had: hand it on again, unless it was to be killed.

        Of a lane it is given back: its time may be over, or what was before it still be alive.
        """
        for kill in task.kills:
            if kill.signum is None:
                return self.end(task, *unstarted_end(kill), now)
        if task.entry.info.lane:
            return self.end(task, *RETURNED, now)
        task.since = now.mono
        effects = self.unassign(task)
        if task.sandbox:
            self._wait(task)
            return effects
        task.phase = Phase.MAKING
        info = task.entry.info
        places = places_of(info.resources, info.volumes)
        return [*effects, MakeSandbox(task.container, info.command.user, False, places)]

    def _leave(self, task: Task, phase: Phase) -> None:
        task.phase = phase
        self.frameworks[task.entry.framework_id].waiting.pop(task.container, None)

    def doom(self, task: Task, reason: Reason, text: str) -> None:
        """Its executor is gone: it ends when its container is empty."""
        self._leave(task, Phase.DOOMED)
        task.doom = (reason, text)

    # --- updates ----------------------------------------------------------------------------------
    def end(
        self, task: Task, state: TaskState, reason: Reason, text: str, now: Now
    ) -> list[Effect]:
        """End a task by our own word. The caller has made sure that nothing of it is alive."""
        known = task.updates[-1] if task.updates else None
        update = StatusUpdate(
            task.entry.framework_id,
            task.entry.info.task_id,
            self.agent_id,
            state,
            uuid=self._new_id(),
            reason=reason,
            message=text[:500],
            at=now.wall,
            started_at=known.started_at if known else None,
        )
        return self.take(update)

    def take(self, update: StatusUpdate) -> list[Effect]:
        """Keep an update and have it sent; nothing for a repetition or one that is too late."""
        task = self._tasks.get(f"{update.framework_id}/{update.task_id}")
        if task is None or task.phase is Phase.ENDED:
            return []
        if update.state not in TRANSITIONS[task.state]:
            return []
        task.state = update.state
        task.updates.append(update)
        if update.is_terminal:
            self._leave(task, Phase.ENDED)
            task.kills.clear()
            self.ended.append(task.container)
            if self.frameworks[task.entry.framework_id].entry.removed:
                self._farewells.append(update)
                return self._forget(task)
        task.unsent += 1
        task.retry_s = UPDATE_RETRY_S
        self._outbox[task.container] = task
        return [self._keep(task)]

    def _keep(self, task: Task) -> Effect:
        return put(PROGRESS, task.container, ProgressEntry(task.state, tuple(task.updates)))

    def acknowledge(self, ack: Ack) -> list[Effect]:
        """The framework has it and all before it; after a terminal one the task is forgotten."""
        task = self._tasks.get(f"{ack.framework_id}/{ack.task_id}")
        uuids = [] if task is None else [update.uuid for update in task.updates]
        if task is None or ack.uuid not in uuids:
            return []
        last = uuids.index(ack.uuid)
        ended = task.updates[last].is_terminal
        if ended and task.unsent:
            # The master knows the task from our registration, and not yet that it has ended: what
            # it passes on before it hears that it does not take for the end of its own record.
            self._farewells.append(task.updates[last])
        del task.updates[: last + 1]
        task.unsent = min(task.unsent, len(task.updates))
        if not task.updates:
            task.due = None
        return self._forget(task) if ended else [self._keep(task)]

    def _forget(self, task: Task) -> list[Effect]:
        require(task.phase is Phase.ENDED, f"{task.container} is forgotten and has not ended")
        del self._tasks[task.container]
        self._outbox.pop(task.container, None)
        framework = self.frameworks[task.entry.framework_id]
        del framework.tasks[task.container]
        return [
            Delete(TASKS, task.container),
            Delete(PROGRESS, task.container),
            *self.bury(framework),
        ]

    def bury(self, framework: Framework) -> list[Effect]:
        """Forget a framework that has neither tasks nor an executor here."""
        framework_id = framework.entry.info.framework_id
        if framework.tasks or framework.executor_id or framework_id not in self.frameworks:
            return []
        del self.frameworks[framework_id]
        return [Delete(FRAMEWORKS, framework_id)]

    def repeat(self, tasks: Iterable[Task] | None = None) -> None:
        """Send again whatever is not acknowledged, of these tasks or of all, starting patiently."""
        if tasks is None:
            # In the order in which the tasks came, whatever waited to be sent before.
            self._outbox.clear()
            tasks = self._tasks.values()
        for task in tasks:
            if task.updates:
                task.unsent, task.retry_s = len(task.updates), UPDATE_RETRY_S
                self._outbox[task.container] = task

    def tick(self, now: Now) -> None:
        """Send again what has not been acknowledged for too long."""
        while self._retries and self._retries[0][0] <= now.mono:
            due, container = heapq.heappop(self._retries)
            task = self._tasks.get(container)
            if task is not None and task.due == due:
                task.due, task.unsent = None, len(task.updates)
                task.retry_s = min(task.retry_s * 2, UPDATE_RETRY_MAX_S)
                self._outbox[container] = task

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        while self._retries:
            due, container = self._retries[0]
            task = self._tasks.get(container)
            if task is not None and task.due == due:
                return due
            heapq.heappop(self._retries)
        return None

    def outgoing(self, now: Now) -> list[StatusUpdates]:
        """What is to be sent to the master now; called only while it listens."""
        fresh = self._farewells
        self._farewells = []
        # The newest state of its task beside each.
        newest = [one.state for one in fresh]
        for container, task in self._outbox.items():
            fresh += task.updates[len(task.updates) - task.unsent :]
            newest += [task.state] * task.unsent
            task.unsent = 0
            if task.updates:
                task.due = now.mono + task.retry_s
                heapq.heappush(self._retries, (task.due, container))
        self._outbox.clear()
        messages = []
        for start in range(0, len(fresh), UPDATES_PER_MESSAGE):
            end = start + UPDATES_PER_MESSAGE
            messages.append(_message(fresh[start:end], newest[start:end]))
        return messages

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        entered = sum(len(framework.tasks) for framework in self.frameworks.values())
        require(entered == len(self._tasks), "a framework has tasks that are not there")
        for container, task in self._tasks.items():
            framework = self.frameworks[task.entry.framework_id]
            require(framework.tasks.get(container) is task, f"{container} is in no framework")
            waits = task.phase is Phase.WAITING
            require((container in framework.waiting) == waits, f"{container} waits and does not")
            ended = task.phase is Phase.ENDED
            require((task.state in TERMINAL) == ended, f"{container} is {task.state} and not over")
            require(not ended or bool(task.updates), f"{container} has ended and is not forgotten")
            require(0 <= task.unsent <= len(task.updates), f"{container} sends what it has not")
            require(not task.unsent or container in self._outbox, f"{container} is never sent")
            listed = task.due is None or (task.due, container) in self._retries
            require(listed, f"{container} is due and not in the list")
        for framework_id, framework in self.frameworks.items():
            alive = bool(framework.tasks or framework.executor_id)
            require(alive, f"framework {framework_id} has nothing here")


def _message(updates: list[StatusUpdate], newest: list[TaskState]) -> StatusUpdates:
    """These in one message, which names the tasks whose last update here is not their newest."""
    if all(map(is_, [update.state for update in updates], newest)):
        return StatusUpdates(tuple(updates))
    last = {
        f"{update.framework_id}/{update.task_id}": (update.state, state)
        for update, state in zip(updates, newest, strict=True)
    }
    named = {key: state for key, (told, state) in last.items() if told is not state}
    return StatusUpdates(tuple(updates), named)
