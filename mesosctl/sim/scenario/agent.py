"""An agent whose tasks are numbers: the protocol of docs/protocol.md, and nothing behind it.

Rules: a task starts a while after its launch has come and ends by itself after its time. Tasks of
one lane follow each other, and what waits when its lane is too old is given back, as executors do.
Nothing goes wrong in a scenario, so it sends each update once and keeps none; what it has it
tells again when it registers. bench/crowd.py has many of them in front of a real master.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from mesosctl.core.executor_lanes import Lanes
from mesosctl.core.machine import Effect, Event, NewId, Now, PeerLost, Received, Started, Tick
from mesosctl.core.session import ClientSession
from mesosctl.model.cluster import AgentInfo, FrameworkInfo
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Reason, StatusUpdate, TaskInfo, TaskReport, TaskState
from mesosctl.protocol.messages.agent import (
    AgentRegistered,
    KillTasks,
    LaunchTasks,
    RegisterAgent,
    ReturnLanes,
    ShutdownFramework,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.base import Message

LINK = "master"
# Heartbeats would be most of what happens, and nobody ever falls silent here.
HEARTBEAT_S = 1e9


class Tasks(Protocol):
    """What the tasks are, for their agents."""

    def lasts_s(self, info: TaskInfo) -> float:
        """How long this one takes."""
        ...

    def began(self, framework_id: FrameworkId, info: TaskInfo) -> None:
        """It runs."""
        ...

    def ended(self, framework_id: FrameworkId, info: TaskInfo, finished: bool) -> None:
        """It runs no more: finished, or ended by somebody."""
        ...


class Due(NamedTuple):
    """What happens to a task next, and when."""

    at: float
    number: int
    key: str
    starts: bool


@dataclass(slots=True)
class Held:
    """A task that the agent has."""

    framework_id: FrameworkId
    info: TaskInfo
    running: bool = False


class ScenarioAgent:
    """The machine of one agent; see the module."""

    def __init__(
        self,
        info: AgentInfo,
        new_id: NewId,
        tasks: Tasks,
        launch_s: float,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._info = info
        self._new_id = new_id
        self._tasks = tasks
        self._launch_s = launch_s
        self.session = ClientSession(LINK, self._hello, lambda now: [], new_id, heartbeat_s)
        self._held: dict[str, Held] = {}
        self._frameworks: dict[FrameworkId, FrameworkInfo] = {}
        self._due: list[Due] = []
        self._numbers = 0
        self._lanes = Lanes()
        self._updates: list[StatusUpdate] = []

    def _hello(self) -> RegisterAgent:
        reports = tuple(
            TaskReport(
                held.framework_id,
                held.info.task_id,
                held.info.name,
                held.info.resources,
                TaskState.RUNNING if held.running else TaskState.STAGING,
                held.info.lane,
            )
            for held in self._held.values()
        )
        owners = dict.fromkeys(held.framework_id for held in self._held.values())
        return RegisterAgent(self._info, reports, tuple(self._frameworks[one] for one in owners))

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Started():
                return self.session.start(now)
            case Received(envelope=envelope):
                message, effects = self.session.receive(envelope, now)
                if message is not None:
                    self._told(message, now)
                return effects
            case PeerLost():
                return self.session.lose(now)
            case Tick():
                self._pass_time(now)
                return self.session.tick(now)
            case _:
                return []

    def _told(self, message: Message, now: Now) -> None:
        match message:
            case AgentRegistered(heartbeat_s=heartbeat_s):
                self.session.heartbeat_s = max(self.session.heartbeat_s, heartbeat_s)
                self.session.confirm(now)
            case LaunchTasks(framework=framework, tasks=tasks):
                self._frameworks[framework.framework_id] = framework
                for info in tasks:
                    key = f"{framework.framework_id}/{info.task_id}"
                    self._held[key] = Held(framework.framework_id, info)
                    if self._lanes.enter(_lane(framework.framework_id, info), key, now.mono):
                        self._plan(now.mono + self._launch_s, key, starts=True)
            case KillTasks(framework_id=framework_id, kills=kills):
                for kill in kills if framework_id else ():
                    self._kill(f"{framework_id}/{kill.task_id}", kill, now)
            case ReturnLanes():
                self._give_back(self._lanes.behind(), now)
            case ShutdownFramework(framework_id=framework_id):
                for key in [
                    k for k, held in self._held.items() if held.framework_id == framework_id
                ]:
                    self._kill(key, TaskKill(TaskId("")), now)
            case _:
                # Acknowledgements: nothing is kept that they would let go.
                pass

    # --- lives of tasks ---------------------------------------------------------------------------
    def _plan(self, at: float, key: str, *, starts: bool) -> None:
        self._numbers += 1
        heappush(self._due, Due(at, self._numbers, key, starts))

    def _pass_time(self, now: Now) -> None:
        while self._due and self._due[0].at <= now.mono:
            due = heappop(self._due)
            held = self._held.get(due.key)
            if held is None:
                continue
            if due.starts:
                held.running = True
                self._tasks.began(held.framework_id, held.info)
                self._tell(held, TaskState.RUNNING, Reason.NONE, now)
                self._plan(now.mono + self._tasks.lasts_s(held.info), due.key, starts=False)
            else:
                self._end(due.key, TaskState.FINISHED, Reason.EXITED, now)
        self._give_back(self._lanes.overdue(now.mono), now)

    def _give_back(self, keys: Iterable[str], now: Now) -> None:
        for key in list(keys):
            self._end(key, TaskState.DROPPED, Reason.RETURNED, now)

    def _kill(self, key: str, kill: TaskKill, now: Now) -> None:
        if key in self._held and kill.signum is None:
            self._end(key, TaskState.KILLED, kill.reason, now)

    def _end(self, key: str, state: TaskState, reason: Reason, now: Now) -> None:
        held = self._held.pop(key)
        if held.running:
            self._tasks.ended(held.framework_id, held.info, state is TaskState.FINISHED)
        self._tell(held, state, reason, now)
        lane = _lane(held.framework_id, held.info)
        if lane and self._lanes.leave(lane, key):
            after = self._lanes.turn(lane)
            if after:
                self._plan(now.mono + self._launch_s, after, starts=True)

    def _tell(self, held: Held, state: TaskState, reason: Reason, now: Now) -> None:
        update = StatusUpdate(
            held.framework_id,
            held.info.task_id,
            self._info.agent_id,
            state,
            uuid=self._new_id(),
            reason=reason,
            exit_code=0 if state is TaskState.FINISHED else None,
            at=now.wall,
            started_at=now.wall if held.running else None,
        )
        self._updates.append(update)

    # --- the end of a pass ------------------------------------------------------------------------
    def settle(self, now: Now) -> list[Effect]:
        """Send the updates of the pass together."""
        if not self._updates:
            return []
        updates, self._updates = tuple(self._updates), []
        return list(self.session.send(StatusUpdates(updates)))

    def deadline(self) -> float | None:
        """What is due first."""
        times = [self.session.deadline(), self._lanes.deadline()]
        if self._due:
            times.append(self._due[0].at)
        return min((at for at in times if at is not None), default=None)

    def check(self) -> None:
        """What waits in lanes is held."""
        self._lanes.check(self._held)


def _lane(framework_id: FrameworkId, info: TaskInfo) -> str:
    return f"{framework_id}/{info.lane}" if info.lane else ""
