"""The lives of an executor's tasks: from the order to start one to the removal of its container.

Owns the table of tasks, their timers and the updates that tell of them. Which task is started next
executor_starts.py knows, standard input flows in executor_stdin.py. The machine in executor.py owns
the conversation with the agent and the process's own end.

Rules:
- Nothing of a task is alive when its terminal update is made.
- A kill that is repeated can only come sooner; who asked first is why.
- A task id that is known, until the agent has taken its end, is never started again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mesosctl.core.executor_alarms import Alarms
from mesosctl.core.executor_effects import (
    ContainerBusy,
    ContainerEmptied,
    Drain,
    FeedStdin,
    KillContainer,
    LaunchFailed,
    LaunchRecalled,
    LimitExceeded,
    MainExited,
    Remove,
    Sample,
    SignalContainer,
    TaskStarted,
)
from mesosctl.core.executor_lanes import Lanes
from mesosctl.core.executor_leases import Leases
from mesosctl.core.executor_removals import Removals
from mesosctl.core.executor_starts import Starts
from mesosctl.core.executor_stdin import StdinFlow, StdinFlows
from mesosctl.core.executor_task import SIGTERM, Phase, Step, Task, classify, ending, update
from mesosctl.core.executor_updates import Updates
from mesosctl.core.machine import Effect, NewId, Now
from mesosctl.errors import require
from mesosctl.limits import KILL_AGAIN_S, KILL_GRACE_MAX_S
from mesosctl.model.ids import FrameworkId
from mesosctl.model.tasks import Reason, TaskState, Usage
from mesosctl.protocol.messages.agent import ExecutorLaunch, ExecutorTask, TaskKill
from mesosctl.protocol.messages.base import Message

DRAIN_AGAIN_S = 0.001
_NOTHING = Usage()


class TaskLives:
    """All tasks of an executor. `send` makes the effects that send a message to the agent."""

    def __init__(
        self,
        new_id: NewId,
        send: Callable[[Message], list[Effect]],
        sample_interval_s: float | None,
    ) -> None:
        self.framework_id = FrameworkId("")
        self.updates = Updates()
        self.leases = Leases()
        self.lanes = Lanes()
        self._new_id = new_id
        self._sample_interval_s = sample_interval_s
        self._tasks: dict[str, Task] = {}
        self.knows: Callable[[str], bool] = self._tasks.__contains__
        self.stdin = StdinFlows(self._tasks, send)
        self._starts = Starts(self._tasks, self.lanes)
        self._running = 0
        self.removals = Removals()
        self._alarms = Alarms(self._tasks)
        self._sample_at: float | None = None

    @property
    def is_calm(self) -> bool:
        """Whether there is no task and no container left."""
        return not self._tasks and not self.removals

    def reports(self) -> tuple[ExecutorTask, ...]:
        """Every task that has not ended, as the agent is told of it."""
        return tuple(
            [
                ExecutorTask(task.launch.task.task_id, task.state, task.pid)
                for task in self._tasks.values()
            ]
        )

    # --- starting ---------------------------------------------------------------------------------
    def run(self, launches: tuple[ExecutorLaunch, ...], now: Now) -> list[Effect]:
        """Start these, except what is known already."""
        effects: list[Effect] = []
        for launch in launches:
            container = launch.container
            if container in self._tasks or self.updates.has_ended(container):
                continue
            if container != self._container(launch.task.task_id):
                self.drop(launch, self.framework_id, "its container has a wrong name", now)
                continue
            lease_s = launch.task.lease_s
            if lease_s is not None and not self.leases.may_start(lease_s, now):
                problem, reason = "its lease has run out", Reason.LEASE_EXPIRED
                self.drop(launch, self.framework_id, problem, now, reason)
                continue
            if self.lanes.is_too_late(launch.task.lane, now.mono):
                problem, reason = "its lane is over", Reason.RETURNED
                self.drop(launch, self.framework_id, problem, now, reason)
                continue
            if lease_s is not None:
                effects += self.leases.hold(container, lease_s)
            stdin = StdinFlow() if launch.task.command.stdin == "stream" else None
            self._tasks[container] = task = Task(launch, stdin=stdin)
            self._starts.enter(task, now.mono)
        return effects + self._starts.next(now.mono)

    def drop(
        self,
        launch: ExecutorLaunch,
        framework_id: FrameworkId,
        problem: str,
        now: Now,
        reason: Reason = Reason.EXECUTOR_TERMINATED,
    ) -> None:
        """Say that a task will certainly not be started here."""
        container = f"{framework_id}/{launch.task.task_id}"
        if container in self._tasks or self.updates.has_ended(container):
            return
        step = Step(TaskState.DROPPED, reason, f"never started: {problem}")
        made = update(Task(launch), framework_id, self._new_id(), now.wall, step, None)
        self.updates.put(container, made, now.mono)

    def _container(self, task_id: str) -> str:
        return f"{self.framework_id}/{task_id}"

    def started(self, event: TaskStarted, now: Now) -> list[Effect]:
        """The first process runs: say so, start the clock, and do what waited for it."""
        container = event.container
        task = self._expect(container, Phase.ORDERED, Phase.AHEAD)
        self._starts.answered(task, Phase.RUNNING)
        if task.cause == "returned":
            # It had begun before it could be taken back.
            task.cause = ""
        self._running += 1
        task.pid, task.note, task.started_at = event.pid, event.note, now.wall
        info = task.launch.task
        if info.time_limit_s is not None:
            task.limit_due = now.mono + info.time_limit_s
            self._alarms.set(task.limit_due, container)
        if self._sample_interval_s is not None and self._sample_at is None:
            self._sample_at = now.mono + self._sample_interval_s
        early = task.stdin.start() if task.stdin is not None else []
        effects: list[Effect] = [FeedStdin(container, *part) for part in early]
        effects += [SignalContainer(container, signum) for signum in task.signals]
        if task.cause == "lease":
            effects += self._kill_now(container, task, now)
        elif task.kill_grace_s is None:
            self._report(task, Step(TaskState.RUNNING, Reason.NONE, task.note), now)
        else:
            effects += self._begin_kill(container, task, task.kill_grace_s, now)
        effects += self._starts.next(now.mono)
        return effects + self._starts.ahead(info.lane, now.mono)

    def launch_failed(self, event: LaunchFailed, now: Now) -> list[Effect]:
        """Nothing was started; its container goes the same way as any other."""
        task = self._expect(event.container, Phase.ORDERED, Phase.AHEAD)
        self._starts.answered(task, Phase.DRAINING)
        task.failure = event
        return [Drain(event.container), *self._starts.next(now.mono)]

    def recalled(self, event: LaunchRecalled) -> list[Effect]:
        """It never began, as somebody wanted; its container goes the same way as any other."""
        task = self._expect(event.container, Phase.AHEAD)
        require(task.is_recalled, f"{event.container} comes back and was not recalled")
        self._starts.answered(task, Phase.DRAINING)
        return [Drain(event.container)]

    # --- ending -----------------------------------------------------------------------------------
    def main_exited(self, event: MainExited, now: Now) -> list[Effect]:
        """The first process is gone: with it ends the task, whatever it left behind."""
        # The lease guard may have ended it while we were stopped.
        effects = self.end_leases(now)
        task = self._expect(event.container, Phase.RUNNING)
        task.phase = Phase.DRAINING
        self._running -= 1
        if not self._running:
            self._sample_at = None
        task.exit_code, task.signum = event.exit_code, event.signum
        task.kill_due = task.limit_due = None
        return [*effects, Drain(event.container)]

    def busy(self, event: ContainerBusy, now: Now) -> list[Effect]:
        """Look again soon, and then less often."""
        task = self._expect(event.container, Phase.DRAINING)
        task.drain_wait_s = min(max(DRAIN_AGAIN_S, task.drain_wait_s * 2), KILL_AGAIN_S)
        task.drain_due = now.mono + task.drain_wait_s
        self._alarms.set(task.drain_due, event.container)
        return []

    def emptied(self, event: ContainerEmptied, now: Now) -> list[Effect]:
        """Nothing of it is alive: publish its end."""
        task = self._expect(event.container, Phase.DRAINING)
        # What follows in its lane may not start when its lease has run out while we slept.
        late = self.end_leases(now) if self.lanes.follows(task.launch.task.lane) else []
        return [*late, *self._end(task, event, now), Remove(event.container)]

    def _end(self, task: Task, emptied: ContainerEmptied, now: Now) -> list[Effect]:
        del self._tasks[task.launch.container]
        self._report(task, classify(task, emptied), now, emptied.usage)
        effects = self.leases.drop(task.launch.container, task.launch.task.lease_s)
        effects += self.stdin.end(task)
        lane = task.launch.task.lane
        if lane:
            effects += self._go_on(lane, task.launch.container, now)
        return effects

    def _report(self, task: Task, step: Step, now: Now, usage: Usage | None = None) -> None:
        made = update(task, self.framework_id, self._new_id(), now.wall, step, usage)
        lane, ran = task.launch.task.lane, task.started_at is not None
        followed = ran and self.lanes.follows(lane)
        container = task.launch.container
        self.updates.put(container, made, now.mono, in_lane=bool(lane), is_followed=followed)

    def _expect(self, container: str, *phases: Phase) -> Task:
        task = self._tasks.get(container)
        require(task is not None and task.phase in phases, f"{container} is not {phases[0].name}")
        return self._tasks[container]

    # --- lanes ------------------------------------------------------------------------------------
    def _go_on(self, lane: str, container: str, now: Now) -> list[Effect]:
        """A task of a lane has ended, or never will begin: the next one's turn, if it was its."""
        if not self.lanes.leave(lane, container):
            return []
        effects = self.give_back(self.lanes.overdue(now.mono), now)
        return effects + self._starts.turn(lane, now.mono)

    def give_back(self, containers: list[str], now: Now) -> list[Effect]:
        """Say of tasks that wait in lanes that they will never be started here."""
        effects: list[Effect] = []
        for container in containers:
            task = self._tasks[container]
            if task.phase is Phase.WAITING:
                task.cause = "returned"
                effects += self._end(task, ContainerEmptied(container, _NOTHING), now)
            elif task.phase is Phase.AHEAD:
                task.cause = task.cause or "returned"
                effects += self._starts.recall(task)
        return effects

    # --- killing ----------------------------------------------------------------------------------
    def kill(self, kill: TaskKill, now: Now) -> list[Effect]:
        """Step one task, or only send it a signal. An unknown task is nothing to us."""
        container = self._container(kill.task_id)
        task = self._tasks.get(container)
        if task is None or task.phase is Phase.DRAINING:
            return []
        if kill.signum is not None:
            task.signals.append(kill.signum)
            running = task.phase is Phase.RUNNING
            return [SignalContainer(container, kill.signum)] if running else []
        grace_s = task.launch.task.grace_s if kill.grace_s is None else kill.grace_s
        if task.cause != "kill":
            task.kill_reason = (kill.reason, kill.text)
        return self._kill(container, task, min(max(0.0, grace_s), KILL_GRACE_MAX_S), now)

    def kill_all(self, asked: TaskKill, now: Now) -> list[Effect]:
        """Step every task, as `asked` of one; a grace of None: each with its own."""
        effects: list[Effect] = []
        # The last ones first: who is behind in a lane must not get its turn by this.
        for task in reversed(list(self._tasks.values())):
            effects += self.kill(replace(asked, task_id=task.launch.task.task_id), now)
        return effects

    def _kill(self, container: str, task: Task, grace_s: float, now: Now) -> list[Effect]:
        if task.phase is Phase.WAITING:
            task.cause = "kill"
            return self._end(task, ContainerEmptied(container, _NOTHING), now)
        if task.phase in (Phase.ORDERED, Phase.AHEAD):
            task.cause = "kill"
            known_s = grace_s if task.kill_grace_s is None else task.kill_grace_s
            task.kill_grace_s = min(known_s, grace_s)
            return self._starts.recall(task)
        if task.cause == "":
            return self._begin_kill(container, task, grace_s, now)
        due = now.mono + grace_s
        if task.kill_due is None or due < task.kill_due:
            task.kill_due = due
            self._alarms.set(due, container)
        return []

    def _begin_kill(self, container: str, task: Task, grace_s: float, now: Now) -> list[Effect]:
        task.cause = "kill"
        self._report(task, ending(task), now)
        if grace_s <= 0:
            return self._kill_now(container, task, now)
        task.kill_due = now.mono + grace_s
        self._alarms.set(task.kill_due, container)
        return [SignalContainer(container, SIGTERM)]

    def _kill_now(self, container: str, task: Task, now: Now) -> list[Effect]:
        """KILL to all of it, and again until the first process is gone."""
        task.kill_due = now.mono + KILL_AGAIN_S
        self._alarms.set(task.kill_due, container)
        return [KillContainer(container)]

    def limit_exceeded(self, event: LimitExceeded, now: Now) -> list[Effect]:
        """No kernel keeps this limit, so we do."""
        task = self._tasks.get(event.container)
        if task is None or task.phase is not Phase.RUNNING or task.cause not in ("", "kill"):
            return []
        task.cause = task.cause or "limit"
        task.limit_kind = event.kind
        task.peak_bytes, task.limit_bytes = event.peak_bytes, event.limit_bytes
        return self._kill_now(event.container, task, now)

    def end_leases(self, now: Now) -> list[Effect]:
        """Kill what has run longer than its lease allows, without grace."""
        effects: list[Effect] = []
        for container in reversed(self.leases.overdue(now)):
            task = self._tasks[container]
            effects += self.leases.drop(container, task.launch.task.lease_s)
            task.cause = task.cause or "lease"
            if task.phase is Phase.WAITING:
                effects += self._end(task, ContainerEmptied(container, _NOTHING), now)
            elif task.phase is Phase.ORDERED:
                task.kill_grace_s = 0.0
            elif task.phase is Phase.RUNNING:
                effects += self._kill_now(container, task, now)
        return effects

    # --- time -------------------------------------------------------------------------------------
    def tick(self, now: Now) -> list[Effect]:
        """Do what is due."""
        effects = self.give_back(self.lanes.overdue(now.mono), now)
        while container := self._alarms.ring(now.mono):
            task = self._tasks.get(container)
            if task is not None:
                effects += self._due(container, task, now)
        effects += self.removals.tick(now)
        if self._sample_at is not None and self._sample_interval_s and now.mono >= self._sample_at:
            self._sample_at = now.mono + self._sample_interval_s
            effects.append(Sample())
        return effects

    def _due(self, container: str, task: Task, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        if task.kill_due is not None and task.kill_due <= now.mono:
            effects += self._kill_now(container, task, now)
        if task.limit_due is not None and task.limit_due <= now.mono:
            task.limit_due = None
            if task.cause == "":
                task.cause = "time"
                effects += self._kill_now(container, task, now)
        if task.drain_due is not None and task.drain_due <= now.mono:
            task.drain_due = None
            effects.append(Drain(container))
        return effects

    def deadline(self) -> float | None:
        """When tick() has something to do, in monotonic seconds."""
        times = (
            self._alarms.deadline(),
            self._sample_at,
            self.removals.deadline(),
            self.lanes.deadline(),
        )
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        phases = [task.phase for task in self._tasks.values()]
        require(self._running == phases.count(Phase.RUNNING), "running tasks are miscounted")
        for container, task in self._tasks.items():
            require(container == self._container(task.launch.task.task_id), "a task's key is wrong")
            require(not self.updates.has_ended(container), f"{container} has ended and not ended")
            begun = task.phase is not Phase.WAITING
            waits = begun or self._starts.awaits(container)
            require(waits, f"{container} waits and is not queued")
            held_back = begun and self.lanes.holds_back(container)
            require(not held_back, f"{container} has begun before its turn")
            for due in (task.kill_due, task.limit_due, task.drain_due):
                covered = due is None or (due, container) in self._alarms
                require(covered, f"{container} is due and has no alarm")
        self.updates.check()
        self.lanes.check(self._tasks)
        self._starts.check()
