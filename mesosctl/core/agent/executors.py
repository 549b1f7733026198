"""The agent's executors: started, given to frameworks, lost, recovered, ended.

Rules:
- One executor a framework. One without a framework is kept warm and given to the next that needs
  one; then another is started.
- An executor that does not answer is away as long as its process lives, and its tasks go on. Only
  the end of its process, or not coming back in time after a restart of the agent, is its end.
- What an executor sent before its end counts: its end is dealt with after its last message.
- Its goodbye says that it has no task: what it was told and did not start, another one is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from mesosctl.core.agent.effects import (
    ExecutorExited,
    ExecutorStarted,
    KillExecutor,
    SweepContainers,
    WatchExecutor,
)
from mesosctl.core.agent.killing import RETURNED
from mesosctl.core.agent.reaping import Reaper
from mesosctl.core.agent.records import EXECUTORS, NOBODY, AgentRecords, ExecutorEntry, put
from mesosctl.core.agent.task import Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Delete, Effect, Log, Now
from mesosctl.core.session import ServerSessions
from mesosctl.errors import require
from mesosctl.limits import EXECUTOR_RECONNECT_S, HEARTBEAT_S, KILL_GRACE_S
from mesosctl.model.ids import ExecutorId, FrameworkId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import TERMINAL, Reason, TaskState
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    ExecutorRegistered,
    KillTasks,
    RegisterExecutor,
    ShutdownExecutor,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.session import Refusal

# After the end of a process, so long for the messages that it had sent.
LAST_WORDS_S = 1.0
START_AGAIN_MAX_S = 60.0


class Step(Enum):
    """Where an executor is."""

    STARTING = auto()  # ordered, and not heard yet
    HERE = auto()  # in a session with us
    AWAY = auto()  # its process lives and does not answer
    LOST = auto()  # its process is gone, its last messages may still come


@dataclass(slots=True)
class Executor:
    """One executor. `by`: when its step has to be over; None: no matter when.

    `serves`: it was given tasks, so that it knows whose it is. `knows_lanes`, `knows_executors` and
    `knows_shared`: it said so.
    """

    entry: ExecutorEntry
    step: Step
    by: float | None = None
    peer: str = ""
    end_text: str = ""
    serves: bool = False
    knows_lanes: bool = False
    knows_executors: bool = False
    knows_shared: bool = False


class Executors:
    """All executors of an agent, on the sessions of the socket that they connect to.

    `told(task)` makes what follows once an executor knows a task. `closing_grace_s`: all of it is
    being ended, with this grace and reason; None while it is not.
    """

    def __init__(
        self,
        tasks: Tasks,
        reaper: Reaper,
        sessions: ServerSessions,
        told: Callable[[Task], list[Effect]],
    ) -> None:
        self.closing_grace_s: float | None = None
        self.closing_reason = Reason.KILL_REQUESTED
        self._tasks = tasks
        self._reaper = reaper
        self._sessions = sessions
        self._told = told
        self.table: dict[ExecutorId, Executor] = {}
        self._of_peer: dict[str, Executor] = {}
        # Processes that ended without a goodbye since one last did something useful.
        self.failures = 0
        self.start_after = 0.0

    def __len__(self) -> int:
        return len(self.table)

    @property
    def is_settled(self) -> bool:
        """Whether every executor of an earlier run is back or given up."""
        return not any(
            executor.step is Step.AWAY and executor.by is not None
            for executor in self.table.values()
        )

    # --- recovery ---------------------------------------------------------------------------------
    def restore(self, records: AgentRecords, now: Now, same_boot: bool) -> list[Effect]:
        """Look for the executors of an earlier run; end the tasks of those that cannot be there."""
        effects: list[Effect] = []
        for entry in records.executors:
            if not same_boot or not entry.pid:
                # One of which nothing was heard has no task; if it lives, it is told to go.
                effects.append(Delete(EXECUTORS, entry.executor_id))
                continue
            by = now.mono + EXECUTOR_RECONNECT_S
            self.table[entry.executor_id] = Executor(entry, Step.AWAY, by)
            framework = self._tasks.frameworks.get(entry.framework_id)
            if framework is not None:
                framework.executor_id = entry.executor_id
            effects.append(WatchExecutor(entry.executor_id, entry.pid, entry.start_ticks))
        doomed: list[str] = []
        for task in self._tasks.of(Phase.SENT):
            if not same_boot:
                text = "its host was started anew"
                effects += self._tasks.end(task, TaskState.GONE, Reason.AGENT_REBOOTED, text, now)
            elif task.entry.executor_id not in self.table:
                self._tasks.doom(task, Reason.EXECUTOR_TERMINATED, "its executor had ended")
                doomed.append(task.container)
        for task in self._tasks.of(Phase.MAKING):
            if same_boot:
                effects += self._tasks.take_back(task, now)
            else:
                text = "never started: its host was started anew"
                reason = Reason.AGENT_REBOOTED
                effects += self._tasks.end(task, TaskState.DROPPED, reason, text, now)
        for framework in list(self._tasks.frameworks.values()):
            effects += self._tasks.bury(framework)
        return effects + self._reaper.kill(doomed)

    # --- processes --------------------------------------------------------------------------------
    def started(self, event: ExecutorStarted) -> list[Effect]:
        """Keep which process it is."""
        executor = self.table.get(event.executor_id)
        if executor is None:
            return []
        entry = replace(executor.entry, pid=event.pid, start_ticks=event.start_ticks)
        return self.keep(executor, entry)

    def exited(self, event: ExecutorExited, now: Now) -> list[Effect]:
        """Its process is gone: wait for its last words, if it ever said any."""
        executor = self.table.get(event.executor_id)
        if executor is None:
            return []
        executor.step, executor.end_text = Step.LOST, event.text
        executor.by = now.mono + LAST_WORDS_S
        return [] if executor.peer else self._end(executor, now)

    def _end(self, executor: Executor, now: Now) -> list[Effect]:
        """It is gone without a goodbye: what it may have started is ended and reported."""
        executor_id = executor.entry.executor_id
        why = f"executor {executor_id} ended" + (
            f": {executor.end_text}" if executor.end_text else ""
        )
        self.failures += 1
        if self.failures > 1:
            self.start_after = now.mono + min(2.0 ** (self.failures - 2), START_AGAIN_MAX_S)
        effects: list[Effect] = []
        doomed: list[str] = []
        for task in self._tasks_of(executor):
            if task.phase is Phase.SENT:
                self._tasks.doom(task, Reason.EXECUTOR_TERMINATED, why)
                doomed.append(task.container)
            elif task.phase in (Phase.MAKING, Phase.WAITING):
                effects += self._tasks.unassign(task)
        effects += self._return_lanes(doomed, now)
        effects.append(Log("warning", f"{why}; {len(doomed)} of its tasks are ended"))
        effects += [*self._reaper.kill(doomed), *self.drop(executor)]
        # It may have died between the end of a task and the removal of the empty container.
        return [*effects, SweepContainers()]

    def _return_lanes(self, doomed: list[str], now: Now) -> list[Effect]:
        """Give back what waits behind these tasks in their lanes: they may still be alive."""
        entries = [task.entry for task in map(self._tasks.get, doomed) if task is not None]
        lanes = {(entry.framework_id, entry.info.lane) for entry in entries if entry.info.lane}
        effects: list[Effect] = []
        for task in self._tasks.of(Phase.MAKING, Phase.WAITING) if lanes else ():
            if (task.entry.framework_id, task.entry.info.lane) in lanes:
                effects += self._tasks.end(task, *RETURNED, now)
        return effects

    def _tasks_of(self, executor: Executor) -> list[Task]:
        framework = self._tasks.frameworks.get(executor.entry.framework_id)
        tasks = framework.tasks.values() if framework is not None else ()
        return [task for task in tasks if task.entry.executor_id == executor.entry.executor_id]

    def drop(self, executor: Executor) -> list[Effect]:
        """Forget it: it has ended, or will without having anything of ours."""
        entry = executor.entry
        del self.table[entry.executor_id]
        self._of_peer.pop(executor.peer, None)
        self._sessions.drop(executor.peer)
        effects: list[Effect] = [Delete(EXECUTORS, entry.executor_id)]
        framework = self._tasks.frameworks.get(entry.framework_id)
        if framework is not None and framework.executor_id == entry.executor_id:
            framework.executor_id = NOBODY
            effects += self._tasks.bury(framework)
        return effects

    def keep(self, executor: Executor, entry: ExecutorEntry) -> list[Effect]:
        """Change what is on disk of an executor."""
        if entry == executor.entry:
            return []
        executor.entry = entry
        return [put(EXECUTORS, entry.executor_id, entry)]

    # --- sessions ---------------------------------------------------------------------------------
    def register(self, peer: str, message: RegisterExecutor, now: Now) -> list[Effect]:
        """An executor is here, for the first time or again: compare what both of us know."""
        executor = self.table.get(message.executor_id)
        if executor is None:
            # Nothing was ever entrusted to it, or it was given up: it has nothing to do here. Of a
            # task that is doomed on its account what it told last counts, as if it had come before.
            effects = []
            for update in message.updates:
                task = self._tasks.get(f"{update.framework_id}/{update.task_id}")
                if task is not None and task.entry.executor_id == message.executor_id:
                    effects += self._tasks.take(update)
            acks = self._acks(message.updates)
            return [
                *effects,
                *(self._sessions.send(peer, Acknowledge(acks)) if acks else []),
                *self._sessions.send(peer, ShutdownExecutor(0.0)),
            ]
        entry = executor.entry
        if entry.pid not in (0, message.pid):
            text = f"executor {entry.executor_id} is process {entry.pid}, not {message.pid}"
            refusal = Refusal(self._sessions.answered(peer), "conflict", text)
            return [Log("warning", text), *self._sessions.send(peer, refusal)]
        if 0 < message.opening <= entry.opening:
            # Overtaken by its next session: what it lists is older than what we know.
            return [*self._sessions.reset(peer, "replaced"), *self.peer_lost(peer, now)]
        if executor.peer and executor.peer != peer:
            self._of_peer.pop(executor.peer, None)
            self._sessions.drop(executor.peer)
        executor.peer = peer
        self._of_peer[peer] = executor
        executor.serves = executor.serves or bool(message.framework_id)
        executor.knows_lanes = message.knows_lanes
        executor.knows_executors = message.knows_executors
        executor.knows_shared = message.knows_shared
        if executor.step is not Step.LOST:
            executor.step, executor.by = Step.HERE, None
        effects = self.keep(executor, replace(entry, pid=message.pid, opening=message.opening))
        effects += self._sessions.send(peer, ExecutorRegistered(HEARTBEAT_S))
        effects += self.updates(peer, StatusUpdates(message.updates))
        has = {task.task_id for task in message.tasks}
        for task in self._tasks_of(executor):
            if task.phase is Phase.SENT and task.entry.info.task_id not in has:
                # It would have told of an end: so it never heard of the task.
                effects += self._tasks.take_back(task, now)
            elif task.phase is Phase.SENT:
                effects += [*self.send_kills(executor, task), *self._told(task)]
        framework_id = FrameworkId(message.framework_id)
        for task_id in sorted(has):
            known = self._tasks.get(f"{framework_id}/{task_id}")
            if known is None or known.phase is not Phase.SENT:
                kill = KillTasks(framework_id, (TaskKill(task_id, grace_s=0.0),))
                effects += self._sessions.send(peer, kill)
        return effects + self.shut_if_unwanted(executor)

    def shut_if_unwanted(self, executor: Executor) -> list[Effect]:
        """Tell it to end its tasks and itself if its framework, or all of the agent, is ending."""
        framework = self._tasks.frameworks.get(executor.entry.framework_id)
        if self.closing_grace_s is not None:
            shutdown = ShutdownExecutor(self.closing_grace_s, self.closing_reason)
            return self._sessions.send(executor.peer, shutdown)
        if framework is not None and framework.entry.removed:
            return self._sessions.send(executor.peer, ShutdownExecutor(KILL_GRACE_S))
        return []

    def updates(self, peer: str, message: StatusUpdates) -> list[Effect]:
        """Keep updates, then acknowledge them, whether they were new or not."""
        executor = self._of_peer.get(peer)
        effects: list[Effect] = []
        framework_id = executor.entry.framework_id if executor is not None else ""
        for update in message.updates:
            if update.framework_id == framework_id and update.agent_id == self._tasks.agent_id:
                effects += self._tasks.take(update)
                self.failures = 0
        acks = self._acks(message.updates)
        return effects + (self._sessions.send(peer, Acknowledge(acks)) if acks else [])

    def _acks(self, updates: tuple[object, ...]) -> tuple[Ack, ...]:
        return tuple(
            [Ack(one.framework_id, one.task_id, one.agent_id, one.uuid) for one in updates]  # type: ignore[attr-defined]
        )

    def goodbye(self, peer: str, now: Now) -> list[Effect]:
        """It ends and has no task: whatever it was told and did not start is told to another."""
        executor = self._of_peer.get(peer)
        if executor is None:
            return []
        effects: list[Effect] = []
        for task in self._tasks_of(executor):
            if task.phase is Phase.SENT:
                effects += self._tasks.take_back(task, now)
            elif task.phase is not Phase.ENDED:
                effects += self._tasks.unassign(task)
        return effects + self.drop(executor)

    def peer_lost(self, peer: str, now: Now) -> list[Effect]:
        """Its connection is gone. While its process lives it will be back."""
        executor = self._of_peer.pop(peer, None)
        if executor is None:
            return []
        executor.peer = ""
        if executor.step is Step.LOST:
            return self._end(executor, now)
        executor.step = Step.AWAY
        return []

    def peer_of(self, framework_id: str) -> str:
        """The connection of a framework's executor; empty while there is none."""
        framework = self._tasks.frameworks.get(FrameworkId(framework_id))
        executor = self.table.get(framework.executor_id) if framework else None
        return executor.peer if executor is not None and executor.step is Step.HERE else ""

    def send_kills(self, executor: Executor, task: Task) -> list[Effect]:
        """Tell of a task's kills. One to its end is kept, to be told again after a lost session."""
        kills = tuple(task.kills)
        task.kills = [kill for kill in kills if kill.signum is None]
        if not kills:
            return []
        return self._sessions.send(executor.peer, KillTasks(task.entry.framework_id, kills))

    # --- time -------------------------------------------------------------------------------------
    def tick(self, now: Now) -> list[Effect]:
        """Give up those that did not come in time."""
        effects: list[Effect] = []
        for executor in list(self.table.values()):
            if executor.by is None or executor.by > now.mono:
                continue
            if executor.step is Step.LOST:
                effects += self._end(executor, now)
                continue
            name = executor.entry.executor_id
            executor.by = None
            effects.append(Log("warning", f"executor {name} did not come in time: it is killed"))
            effects.append(KillExecutor(name))
        return effects

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        return min((one.by for one in self.table.values() if one.by is not None), default=None)

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        for peer, executor in self._of_peer.items():
            require(executor.peer == peer, f"{peer} is another executor's connection")
        for executor_id, executor in self.table.items():
            here = executor.step is Step.HERE
            require(not here or executor.peer in self._of_peer, f"{executor_id} is nowhere")
            framework = self._tasks.frameworks.get(executor.entry.framework_id)
            owned = framework is None or framework.executor_id == executor_id
            require(owned, f"{executor_id} is one of two executors of a framework")
            known = framework is not None or not executor.entry.framework_id
            require(known, f"{executor_id} is of a framework that is not here")
        for framework in self._tasks.frameworks.values():
            known = not framework.executor_id or framework.executor_id in self.table
            require(known, f"executor {framework.executor_id} is not there")
        for task in self._tasks.of(Phase.SENT):
            require(task.state not in TERMINAL, f"{task.container} has ended and is sent")
            known = task.entry.executor_id in self.table
            require(known, f"{task.container} was sent to nobody")
