"""Tasks on their way to executors: handed on, killed before or after, withdrawn with a framework.

Rules: a task waits for the one executor of its framework. The warm executor is given away to the
first framework that needs one, and another is started; after executors that died, later and later.
No task waits for ever: without an executor in EXECUTOR_REGISTER_S it is DROPPED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mesosctl.core.agent.effects import KillExecutor, MakeSandbox, SandboxFailed, StartExecutor
from mesosctl.core.agent.executors import Executor, Executors, Step
from mesosctl.core.agent.killing import unstarted_end
from mesosctl.core.agent.lanes import Lanes
from mesosctl.core.agent.leases import Leases
from mesosctl.core.agent.options import AgentOptions
from mesosctl.core.agent.records import EXECUTORS, NOBODY, ExecutorEntry, put
from mesosctl.core.agent.task import Framework, Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Log, NewId, Now
from mesosctl.core.session import ServerSessions
from mesosctl.limits import EXECUTOR_RECONNECT_S, EXECUTOR_REGISTER_S
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import ExecutorId, FrameworkId
from mesosctl.model.tasks import Command, Reason, TaskInfo, TaskState
from mesosctl.model.volumes import places_of
from mesosctl.protocol.messages.agent import (
    ExecutorLaunch,
    KillTasks,
    LaunchTasks,
    RunTasks,
    ShutdownExecutor,
    TaskKill,
)

# A RunTasks message is begun anew beyond so many tasks, or bytes of their commands.
TASKS_PER_MESSAGE = 200
BYTES_PER_MESSAGE = 2 * 1024 * 1024
_NOBODYS = FrameworkId("")
_FAILURES = {
    "permission": (TaskState.FAILED, Reason.NOT_PERMITTED),
    "root": (TaskState.ERROR, Reason.NOT_PERMITTED),
    "used": (TaskState.ERROR, Reason.TASK_INVALID),
}


class Handing:
    """Brings tasks and executors together; `told` as in Executors."""

    def __init__(
        self,
        tasks: Tasks,
        executors: Executors,
        leases: Leases,
        lanes: Lanes,
        sessions: ServerSessions,
        told: Callable[[Task], list[Effect]],
        new_id: NewId,
        agent_name: str,
        options: AgentOptions,
    ) -> None:
        self._tasks = tasks
        self._executors = executors
        self._leases = leases
        self._lanes = lanes
        self._sessions = sessions
        self._told = told
        self._new_id = new_id
        self._agent_name = agent_name
        self._options = options

    # --- what the master asks for -----------------------------------------------------------------
    def launch(self, message: LaunchTasks, agent: AgentInfo, now: Now) -> list[Effect]:
        """Enter tasks and have their sandboxes made; of those that are known, tell again."""
        framework_id = message.framework.framework_id
        if not framework_id:
            return [Log("warning", "the master sent tasks of no framework")]
        effects = self._tasks.know(message.framework)
        framework = self._tasks.frameworks[framework_id]
        for info in message.tasks:
            known = self._tasks.get(f"{framework_id}/{info.task_id}")
            if known is not None:
                self._tasks.repeat([known])
            elif not info.task_id or info.agent_id != agent.agent_id:
                effects.append(Log("warning", f"task {info.task_id} is not for this agent"))
            else:
                effects += self._accept(framework, info, agent, now)
        return effects + self._tasks.bury(framework)

    def _accept(
        self, framework: Framework, info: TaskInfo, agent: AgentInfo, now: Now
    ) -> list[Effect]:
        task, kept = self._tasks.accept(framework, info, self._receiver(framework), now)
        is_closing = self._executors.closing_grace_s is not None
        if framework.entry.removed or is_closing:
            state, reason, text = TaskState.DROPPED, Reason.FRAMEWORK_REMOVED, "never started: "
            text += "its agent shuts down" if is_closing else "its framework was removed"
        elif not self._options.root_tasks and (info.command.user or agent.user) == "root":
            state, reason = TaskState.ERROR, Reason.NOT_PERMITTED
            text = f"agent {agent.name} runs no tasks of root (--no-root-tasks)"
        else:
            places = places_of(info.resources, info.volumes)
            return [kept, MakeSandbox(task.container, info.command.user, True, places)]
        return [kept, *self._tasks.end(task, state, reason, text, now)]

    def _receiver(self, framework: Framework) -> ExecutorId:
        """The executor that a new task of this framework is told to at once; or nobody."""
        executor = self._executors.table.get(framework.executor_id)
        here = executor is not None and executor.step is Step.HERE
        return framework.executor_id if here else NOBODY

    def sandbox_failed(self, event: SandboxFailed, now: Now) -> list[Effect]:
        """There is no place for the task: it ends."""
        task = self._tasks.get(event.container)
        if task is None or task.phase is not Phase.MAKING:
            return []
        state, reason = _FAILURES.get(event.kind, (TaskState.FAILED, Reason.LAUNCH_FAILED))
        return self._tasks.end(task, state, reason, event.text, now)

    def kill_all(self, message: KillTasks, now: Now) -> list[Effect]:
        """End or signal these tasks; those that are not here have ended."""
        effects: list[Effect] = []
        for kill in message.kills:
            task = self._tasks.get(f"{message.framework_id}/{kill.task_id}")
            effects += self.kill(task, kill, now) if task is not None else []
        return effects

    def kill(self, task: Task, kill: TaskKill, now: Now) -> list[Effect]:
        """End a task, or signal it: at once, or as soon as its executor is here."""
        if task.phase in (Phase.MAKING, Phase.WAITING) and kill.signum is None:
            return self._tasks.end(task, *unstarted_end(kill), now)
        if task.phase in (Phase.DOOMED, Phase.ENDED):
            return []
        task.kills = [one for one in task.kills if one.signum != kill.signum] + [kill]
        executor = self._executors.table.get(task.entry.executor_id)
        if task.phase is not Phase.SENT or executor is None or executor.step is not Step.HERE:
            return []
        return self._executors.send_kills(executor, task)

    def shut_down(self, framework: Framework, now: Now) -> list[Effect]:
        """The framework is removed: end what it has here."""
        effects = self._tasks.remove(framework)
        text = "its framework was removed before it was started"
        for task in list(framework.tasks.values()):
            if task.phase in (Phase.MAKING, Phase.WAITING):
                reason = Reason.FRAMEWORK_REMOVED
                effects += self._tasks.end(task, TaskState.KILLED, reason, text, now)
        executor = self._executors.table.get(framework.executor_id)
        return effects + (self._executors.shut_if_unwanted(executor) if executor else [])

    def close_down(
        self, grace_s: float, now: Now, reason: Reason = Reason.KILL_REQUESTED
    ) -> list[Effect]:
        """End every task and executor, and start none any more."""
        self._executors.closing_grace_s = grace_s
        self._executors.closing_reason = reason
        effects = self._drop_unsent(now)
        for executor in self._executors.table.values():
            if executor.step is Step.HERE:
                effects += self._executors.shut_if_unwanted(executor)
                executor.by = now.mono + grace_s + EXECUTOR_RECONNECT_S
            elif executor.step is Step.STARTING:
                effects.append(KillExecutor(executor.entry.executor_id))
            elif executor.step is Step.AWAY and executor.by is None:
                executor.by = now.mono + EXECUTOR_RECONNECT_S
        return effects

    def _drop_unsent(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for task in self._tasks.of(Phase.MAKING, Phase.WAITING):
            text = "never started: its agent shuts down"
            effects += self._tasks.end(task, TaskState.DROPPED, Reason.AGENT_RESTARTED, text, now)
        return effects

    # --- time -------------------------------------------------------------------------------------
    def tick(self, now: Now) -> list[Effect]:
        """Give up tasks that waited too long."""
        text = f"never started: no executor came up within {EXECUTOR_REGISTER_S:g} s"
        overdue = [
            task
            for framework in self._tasks.frameworks.values()
            for task in framework.waiting.values()
            if task.since + EXECUTOR_REGISTER_S <= now.mono
        ]
        effects = self._lanes.end_overdue(now)
        for task in overdue:
            reason = Reason.LAUNCH_FAILED
            effects += self._tasks.end(task, TaskState.DROPPED, reason, text, now)
        return effects

    def deadline(self) -> float | None:
        """When tick() or settle() has something to do."""
        # Tasks wait in the order in which they began to: the first of each framework is enough.
        times = [
            next(iter(framework.waiting.values())).since + EXECUTOR_REGISTER_S
            for framework in self._tasks.frameworks.values()
            if framework.waiting
        ]
        lanes_due = self._lanes.deadline()
        if lanes_due is not None:
            times.append(lanes_due)
        if self._wants_start():
            times.append(self._executors.start_after)
        return min(times, default=None)

    # --- handing on -------------------------------------------------------------------------------
    def settle(self, now: Now) -> list[Effect]:
        """Hand waiting tasks to their executors; see that there is one, and a warm one beside."""
        if self._executors.closing_grace_s is not None:
            # An executor may have said goodbye without having started all it was told.
            return self._drop_unsent(now)
        effects: list[Effect] = []
        for framework in list(self._tasks.frameworks.values()):
            effects += self._leases.end_overdue(list(framework.waiting.values()), now)
            if framework.waiting:
                effects += self._serve(framework, now)
            elif not framework.tasks:
                effects += self._release(framework)
        if self._wants_start() and now.mono >= self._executors.start_after:
            effects += self._start(FrameworkId(""), now)
        return effects

    def _warm(self) -> list[Executor]:
        return [
            one
            for one in self._executors.table.values()
            if not one.entry.framework_id and one.step is not Step.LOST
        ]

    def _wants_start(self) -> bool:
        if self._executors.closing_grace_s is not None or not self._tasks.agent_id:
            return False
        waits = any(f.waiting and not f.executor_id for f in self._tasks.frameworks.values())
        return waits or not self._warm()

    def _serve(self, framework: Framework, now: Now) -> list[Effect]:
        framework_id = framework.entry.info.framework_id
        effects: list[Effect] = []
        if not framework.executor_id:
            # The one that is here already before the one that is only starting.
            warm = [one for one in self._warm() if one.step in (Step.HERE, Step.STARTING)]
            warm.sort(key=lambda one: one.step is not Step.HERE)
            if warm:
                entry = replace(warm[0].entry, framework_id=framework_id)
                effects += self._executors.keep(warm[0], entry)
                framework.executor_id = entry.executor_id
            elif now.mono >= self._executors.start_after:
                effects += self._start(framework_id, now)
        executor = self._executors.table.get(framework.executor_id)
        if executor is None or executor.step is not Step.HERE:
            return effects
        effects += self._lanes.fit_for(executor, framework, now)
        effects += self._fit_for(executor, framework, now)
        return effects + (self._run(framework, executor) if framework.waiting else [])

    def _fit_for(self, executor: Executor, framework: Framework, now: Now) -> list[Effect]:
        """End what a process of an earlier mesosctl would take for an ordinary task."""
        effects: list[Effect] = []
        text = "never started: its framework's tasks here are run by an earlier mesosctl"
        for task in [] if executor.knows_executors else list(framework.waiting.values()):
            if task.entry.info.is_executor or task.entry.info.executor:
                reason = Reason.LAUNCH_FAILED
                effects += self._tasks.end(task, TaskState.DROPPED, reason, text, now)
        return effects

    def _release(self, framework: Framework) -> list[Effect]:
        """Its tasks ended before its executor heard of any: that is warm again, or superfluous."""
        executor = self._executors.table.get(framework.executor_id)
        if executor is None or executor.serves or executor.step is not Step.HERE:
            return []
        framework.executor_id = NOBODY
        effects = self._tasks.bury(framework)
        if self._warm():
            effects += self._sessions.send(executor.peer, ShutdownExecutor(0.0))
            return effects + self._executors.drop(executor)
        entry = replace(executor.entry, framework_id=_NOBODYS)
        return effects + self._executors.keep(executor, entry)

    def _start(self, framework_id: FrameworkId, now: Now) -> list[Effect]:
        executor_id = ExecutorId("X" + self._new_id()[-10:])
        entry = ExecutorEntry(executor_id, framework_id)
        by = now.mono + EXECUTOR_REGISTER_S
        self._executors.table[executor_id] = Executor(entry, Step.STARTING, by)
        if framework_id:
            self._tasks.frameworks[framework_id].executor_id = executor_id
        return [put(EXECUTORS, executor_id, entry), StartExecutor(executor_id)]

    def _run(self, framework: Framework, executor: Executor) -> list[Effect]:
        effects: list[Effect] = []
        tasks = list(framework.waiting.values())
        executor.serves = True
        for task in tasks:
            effects += self._tasks.sent(task, executor.entry.executor_id)
        for launches in self._batches(framework, tasks, executor.knows_shared):
            message = RunTasks(
                framework.entry.info.framework_id,
                launches,
                self._leases.renewed_at,
                executor.knows_shared,
            )
            effects += self._sessions.send(executor.peer, message)
        for task in tasks:
            effects += [*self._executors.send_kills(executor, task), *self._told(task)]
        return effects

    def _batches(
        self, framework: Framework, tasks: list[Task], shares: bool
    ) -> Iterator[tuple[ExecutorLaunch, ...]]:
        """What the executor is told of these tasks, as much at a time as goes into a message."""
        info = framework.entry.info
        env = {
            "MESOS_AGENT": self._agent_name,
            "MESOS_FRAMEWORK_ID": info.framework_id,
            "MESOS_ROLE": info.role,
        }
        batch: list[ExecutorLaunch] = []
        size = 0
        command, command_bytes = None, 0
        for task in tasks:
            launched = task.entry.info
            if launched.command is not command:
                command, command_bytes = launched.command, _bytes(launched.command)
            task_bytes = command_bytes + 500 + len(launched.data or b"")
            if batch and (len(batch) >= TASKS_PER_MESSAGE or size + task_bytes > BYTES_PER_MESSAGE):
                yield tuple(batch)
                batch, size = [], 0
            limit = self._options.limit_of(command)
            told = launched if shares else _alone(launched)
            batch.append(ExecutorLaunch(told, task.sandbox, task.container, env, limit))
            size += task_bytes
        yield tuple(batch)


def _alone(info: TaskInfo) -> TaskInfo:
    """A task as an executor of an earlier mesosctl understands it."""
    command = replace(info.command, env={**info.command.env, **info.env})
    return replace(info, command=command, env={})


def _bytes(command: Command) -> int:
    """About how many bytes a command takes in a message."""
    words = sum(map(len, command.argv)) + sum(map(len, command.env))
    return words + sum(map(len, command.env.values())) + len(command.script or b"")
