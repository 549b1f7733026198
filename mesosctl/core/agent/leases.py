"""What the agent does for leases: it tells executors when it was last present to the master.

Executors enforce leases, for they outlive the agent; the agent only passes on when the ping was
sent that the master has answered. Rules: a task is handed to an executor only while its lease has
held without a break since it came here, for afterwards its framework may have started another
attempt: such a task is DROPPED. After a restart nobody knows whether it has held: then it has not.
"""

from __future__ import annotations

from mesosctl.core.agent.executors import Executors, Step
from mesosctl.core.agent.task import Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Now
from mesosctl.core.session import ServerSessions
from mesosctl.model.ids import ExecutorId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import RenewLeases


class Leases:
    """`renewed_at` in seconds of CLOCK_BOOTTIME; None: the master has not answered this process."""

    def __init__(self, tasks: Tasks, executors: Executors, sessions: ServerSessions) -> None:
        self.renewed_at: float | None = None
        # Whether a task was here with a lease when that was last renewed.
        self.are_held = False
        self._tasks = tasks
        self._executors = executors
        self._sessions = sessions

    def renew(self, vouched: Now | None, now: Now) -> list[Effect]:
        """Count from what the master has answered by now, and pass it on."""
        if vouched is None or vouched.boot == self.renewed_at:
            return []
        concerned: dict[ExecutorId, None] = {}
        for task in self._tasks.of(Phase.MAKING, Phase.WAITING, Phase.SENT):
            if task.entry.info.lease_s is not None:
                task.lease_over = not self._holds(task, now)
                concerned[task.entry.executor_id] = None
        self.renewed_at = vouched.boot
        self.are_held = bool(concerned)
        return [effect for name in concerned for effect in self._tell(name)]

    def _tell(self, executor_id: ExecutorId) -> list[Effect]:
        executor = self._executors.table.get(executor_id)
        if executor is None or executor.step is not Step.HERE or self.renewed_at is None:
            return []
        return self._sessions.send(executor.peer, RenewLeases(self.renewed_at))

    def greet(self, executor_id: ExecutorId) -> list[Effect]:
        """Tell an executor that is here again, if it may have tasks with leases."""
        sent = self._tasks.of(Phase.SENT)
        mine = (task.entry for task in sent if task.entry.executor_id == executor_id)
        leased = any(entry.info.lease_s is not None for entry in mine)
        return self._tell(executor_id) if leased else []

    def _holds(self, task: Task, now: Now) -> bool:
        """Whether the task's lease has held since it came here, and does now."""
        lease_s, renewed_at = task.entry.info.lease_s, self.renewed_at
        if lease_s is None:
            return True
        return not task.lease_over and renewed_at is not None and now.boot < renewed_at + lease_s

    def end_overdue(self, tasks: list[Task], now: Now) -> list[Effect]:
        """End those of these, which no executor has, that must not be handed to one any more."""
        effects: list[Effect] = []
        for task in tasks:
            if not self._holds(task, now):
                text = "never started: its lease (--lost-after) has run out"
                reason = Reason.LEASE_EXPIRED
                effects += self._tasks.end(task, TaskState.DROPPED, reason, text, now)
        return effects
