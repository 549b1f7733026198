"""The executor's machine: it runs the tasks of one framework on one agent and outlives that agent.

Owns the conversation with the agent and the decision when the process has nothing left to be here
for. The lives of its tasks are in executor_lives.py, their updates in executor_updates.py;
what concerns executors of the framework's own is in executor_guests.py.

Rules:
- An update is kept until it is acknowledged, and each registration carries all of them.
- It reconnects for as long as a task runs, and tasks never end because an agent is silent.
- What it was asked to start is started at most once, also when it is asked again.
- A task with a lease ends when that runs out, however the agent fares (executor_leases.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesosctl.core.executor_effects import (
    ContainerBusy,
    ContainerEmptied,
    LaunchFailed,
    LaunchRecalled,
    LimitExceeded,
    MainExited,
    RemoveFailed,
    ResizeFailed,
    StdinProgress,
    TaskStarted,
    WakeAt,
)
from mesosctl.core.executor_lives import TaskLives
from mesosctl.core.machine import (
    Effect,
    Event,
    Log,
    NewId,
    Now,
    PeerLost,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.session import ClientSession
from mesosctl.limits import EXECUTOR_IDLE_S, EXECUTOR_RECONNECT_S, HEARTBEAT_S
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesosctl.model.tasks import Reason
from mesosctl.protocol.messages.agent import (
    Acknowledge,
    ExecutorRegistered,
    ExecutorTask,
    KillTasks,
    RegisterExecutor,
    RenewLeases,
    ReturnLanes,
    RunTasks,
    ShutdownExecutor,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.streams import WriteStdin

if TYPE_CHECKING:
    from mesosctl.core.executor_guests import Guests

UPDATES_PER_MESSAGE = 100
# Without tasks and without an agent that would take the last updates.
FORSAKEN_S = 900.0
# Asked to stop, so long for an agent that does not acknowledge the last updates.
LAST_ACKS_S = 60.0
# INT and TERM; HUP comes when a terminal closes, which is no reason to end.
_ENDING_SIGNALS = (2, 15)


class ExecutorMachine:
    """See the module. `agent_id` and `pid` are only told; `sample_interval_s` None: never sample.

    `idle_s`: an executor of a framework ends after so many seconds without tasks and unacknowledged
    updates. One that belongs to no framework yet stays as long as its agent does.
    """

    def __init__(
        self,
        executor_id: ExecutorId,
        agent_id: AgentId,
        pid: int,
        new_id: NewId,
        *,
        link: str = "agent",
        idle_s: float = EXECUTOR_IDLE_S,
        heartbeat_s: float = HEARTBEAT_S,
        sample_interval_s: float | None = None,
    ) -> None:
        self.executor_id = executor_id
        self.agent_id = agent_id
        self._pid = pid
        self._idle_s = idle_s
        self._session = ClientSession(link, self._hello, self._lost, new_id, heartbeat_s)
        self._lives = TaskLives(new_id, self._session.send, sample_interval_s)
        self._new_id = new_id
        # Made for the first executor of the framework's own: most never have one.
        self._guests: Guests | None = None
        # Monotonic seconds since which the agent is away, no task is here, and nothing at all.
        self._lost_at: float | None = None
        self._calm_since: float | None = None
        self._rest_since: float | None = None
        self._stopping = False
        self._stopped = False
        self._boot_ahead_s = 0.0
        self._wake_at: float | None = None

    @property
    def framework_id(self) -> FrameworkId:
        """Whose executor it is; empty while it is warm."""
        return self._lives.framework_id

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a task nor an update that nobody has taken."""
        return self._lives.is_calm and not self._lives.updates

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; answer what is to be done, in order."""
        if self._stopped:
            return []
        lives = self._lives
        match event:
            case TaskStarted():
                if self._guests:
                    self._guests.started(event.container, now)
                return lives.started(event, now)
            case MainExited():
                return lives.main_exited(event, now)
            case ContainerEmptied():
                return lives.emptied(event, now)
            case Received(peer=peer) if peer != self._session.link:
                return self._guests.receive(event, now) if self._guests else []
            case Received(envelope=envelope):
                message, effects = self._session.receive(envelope, now)
                return effects + (self._take(message, now) if message is not None else [])
            case Tick():
                guests = self._guests.tick(now) if self._guests else []
                effects = [*lives.end_leases(now), *lives.tick(now), *guests]
                return effects + self._session.tick(now)
            case ContainerBusy():
                return lives.busy(event, now)
            case LaunchFailed():
                return lives.launch_failed(event, now)
            case LaunchRecalled():
                return lives.recalled(event)
            case RemoveFailed():
                return lives.removals.failed(event, now)
            case StdinProgress():
                return lives.stdin.progress(event)
            case LimitExceeded():
                return lives.limit_exceeded(event, now)
            case ResizeFailed():
                return self._guests.resize_failed(event, now) if self._guests else []
            case Signalled():
                return self._shutdown(None, now) if event.signum in _ENDING_SIGNALS else []
            case Started():
                self._lost_at = now.mono
                return self._session.start(now)
            case PeerLost(peer=peer) if peer != self._session.link:
                return self._guests.peer_lost(peer, now) if self._guests else []
            case PeerLost():
                return self._session.lose(now)
            case _:
                return []

    def settle(self, now: Now) -> list[Effect]:
        """Send the updates of the pass, and end when there is nothing left to be here for."""
        if self._stopped:
            return []
        effects = self._watch_leases(now)
        fresh = self._lives.updates.take(now.mono)
        if self._guests:
            effects += self._guests.settle(fresh, now)
            fresh += self._lives.updates.take(now.mono)
        for start in range(0, len(fresh), UPDATES_PER_MESSAGE):
            part = tuple(fresh[start : start + UPDATES_PER_MESSAGE])
            effects += self._session.send(StatusUpdates(part))
        calm = self._lives.is_calm
        rests = calm and not self._lives.updates
        self._calm_since = _since(self._calm_since, calm, now)
        self._rest_since = _since(self._rest_since, rests, now)
        quit_at, why = self._quit()
        if quit_at is not None and now.mono >= quit_at:
            self._stopped = True
            effects += [*self._session.end(), Stop(0, why)]
        return effects

    def deadline(self) -> float | None:
        """When a Tick is wanted, in monotonic seconds."""
        if self._stopped:
            return None
        lives = self._lives
        lease_due = lives.leases.due()
        wanted = (
            None if lease_due is None else lease_due - self._boot_ahead_s,
            self._session.deadline(),
            lives.deadline(),
            lives.updates.deadline(),
            self._guests.deadline() if self._guests else None,
            self._quit()[0],
        )
        return min((time for time in wanted if time is not None), default=None)

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        self._lives.check()
        if self._guests:
            self._guests.check()

    def _watch_leases(self, now: Now) -> list[Effect]:
        """Have the clock that is not stopped by a suspended host wake us for the next lease."""
        self._boot_ahead_s = now.boot - now.mono
        due = self._lives.leases.due()
        if due is None or due == self._wake_at:
            return []
        self._wake_at = due
        return [WakeAt(due)]

    def _quit(self) -> tuple[float | None, str]:
        """When to end as things are, and why; None while a task is here or an agent wants us."""
        if self._calm_since is None:
            return None, ""
        ends: list[tuple[float, str]] = []
        rest, lost = self._rest_since, self._lost_at
        if self._stopping:
            ends.append((self._calm_since + LAST_ACKS_S, "the last updates are not acknowledged"))
            if rest is not None:
                ends.append((rest, "asked to end, and every task has ended"))
        if self.framework_id and rest is not None:
            ends.append((rest + self._idle_s, f"no task for {self._idle_s:g} s"))
        if lost is not None:
            limit_s = FORSAKEN_S if self.framework_id else EXECUTOR_RECONNECT_S
            ends.append((max(lost, self._calm_since) + limit_s, f"no agent for {limit_s:g} s"))
        return min(ends, default=(None, ""))

    # --- the agent --------------------------------------------------------------------------------
    def _hello(self) -> Message:
        lives = self._lives
        updates = lives.updates.take_all()
        held: tuple[ExecutorTask, ...] = ()
        if self._guests:
            self._guests.missed(updates)
            held = self._guests.reports()
        return RegisterExecutor(
            self.executor_id,
            self._pid,
            self.framework_id,
            (*lives.reports(), *held),
            updates,
            opening=self._session.openings,
            knows_lanes=True,
            knows_executors=True,
            knows_shared=True,
        )

    def _lost(self, now: Now) -> list[Effect]:
        if self._lost_at is not None:
            return []
        self._lost_at = now.mono
        return [Log("warning", "the agent does not answer; tasks go on")]

    def _take(self, message: Message, now: Now) -> list[Effect]:
        match message:
            case Acknowledge():
                for ack in message.acks:
                    self._lives.updates.acknowledge(ack)
                return []
            case RunTasks():
                return self._run(message, now)
            case RenewLeases(renewed_at=renewed_at):
                return self._renew(renewed_at, now)
            case KillTasks():
                effects: list[Effect] = []
                for kill in message.kills if message.framework_id == self.framework_id else ():
                    effects += (self._guests or self._lives).kill(kill, now)
                return effects
            case ReturnLanes():
                return self._lives.give_back(self._lives.lanes.behind(), now)
            case WriteStdin():
                return self._lives.stdin.write(message)
            case ExecutorRegistered():
                self._session.heartbeat_s = message.heartbeat_s
                self._session.confirm(now)
                self._lost_at = None
                return self._lives.stdin.repeat()
            case ShutdownExecutor():
                return self._shutdown(message.grace_s, now, message.reason)
            case _:
                return [Log("warning", f"the agent sent an unexpected {message.kind}")]

    def _run(self, message: RunTasks, now: Now) -> list[Effect]:
        lives = self._lives
        lives.framework_id = lives.framework_id or message.framework_id
        problem = ""
        if message.framework_id != lives.framework_id:
            problem = f"this executor belongs to framework {lives.framework_id}"
        elif self._stopping:
            problem = "this executor was asked to end"
        if not problem:
            effects = self._renew(message.renewed_at, now)
            if any(one.task.is_executor or one.task.executor for one in message.launches):
                return effects + self._guests_made().run(message.launches, now)
            return effects + lives.run(message.launches, now)
        for launch in message.launches:
            lives.drop(launch, message.framework_id, problem, now)
        return [Log("warning", f"{len(message.launches)} tasks not started: {problem}")]

    def _guests_made(self) -> Guests:
        if self._guests is None:
            from mesosctl.core.executor_guests import Guests

            self._guests = Guests(self._lives, self._new_id, self._idle_s)
        return self._guests

    def _renew(self, renewed_at: float | None, now: Now) -> list[Effect]:
        """Count leases from here, but for those that have run out by now."""
        if renewed_at is None:
            return []
        effects = self._lives.end_leases(now)
        return effects + self._lives.leases.renew(renewed_at, now)

    def _shutdown(
        self, grace_s: float | None, now: Now, reason: Reason = Reason.KILL_REQUESTED
    ) -> list[Effect]:
        """End every task and then this process. Asked again, it can only come sooner."""
        self._stopping = True
        asked = TaskKill(TaskId(""), grace_s=grace_s, reason=reason)
        effects = self._guests.kill_all(asked, now) if self._guests else []
        return effects + self._lives.kill_all(asked, now)


def _since(known: float | None, holds: bool, now: Now) -> float | None:
    """Since when something holds, given since when it held before."""
    if not holds:
        return None
    return now.mono if known is None else known
