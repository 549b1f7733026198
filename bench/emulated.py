"""Many agents in one process: `python bench/emulated.py --count 100 --key FILE [--master ADDRESS]`.

Each is the real machine of an agent behind real sockets of its own, with the session, the updates
and the recovery that belong to it. Emulated are the executors and the host: a task is a number that
counts as running until it is killed, or for N seconds if it is `sleep N`. Nothing is kept on disk:
what the disks of a hundred hosts hold is not this host's to write.

Prints "ready" when all agents are registered, and one line of figures at its end (TERM).
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mesosctl.core.agent import AgentMachine, AgentRecords
from mesosctl.core.agent.effects import (
    ContainersFound,
    ContainersGone,
    ExecutorStarted,
    KillContainers,
    MakeSandbox,
    SandboxMade,
    StartExecutor,
    SweepContainers,
)
from mesosctl.core.agent.machine import EXECUTORS_PREFIX, MASTER
from mesosctl.core.machine import (
    Close,
    Delete,
    Effect,
    Event,
    Now,
    Open,
    PeerLost,
    Put,
    Received,
    Send,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.limits import HEARTBEAT_S
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import (
    ExecutorTask,
    KillTasks,
    RegisterExecutor,
    RunTasks,
    ShutdownExecutor,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Ping, Reset
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.storage.keys import load_key


@dataclass(slots=True)
class Totals:
    """What all agents together were told to do."""

    launches: int = 0
    kills: int = 0
    registrations: int = 0


@dataclass(slots=True)
class _Executor:
    """The stand-in for one executor: its side of the session, and its tasks."""

    id: ExecutorId
    peer: str
    session: str = ""
    sent: int = 0
    framework_id: str = ""
    tasks: dict[TaskId, TaskState] = field(default_factory=dict)


class Host:
    """One emulated agent with what stands in for its executors. `link` is its way to the master."""

    def __init__(self, number: int, resources: Resources, totals: Totals) -> None:
        self.link = f"m{number}"
        self.number = number
        info = AgentInfo(AgentId("A" + new_id()[-10:]), f"e{number}", resources, boot_id="emulated")
        self.machine = AgentMachine(info, AgentRecords(), new_id)
        self.due: float | None = None
        self._totals = totals
        self._executors: dict[str, _Executor] = {}
        self._ends: list[tuple[float, str, TaskId]] = []
        self._ping_at = 0.0

    @property
    def is_registered(self) -> bool:
        """Whether the master has confirmed its session."""
        return self.machine.session.confirmed

    def run(self, events: Iterable[Event], now: Now) -> list[Effect]:
        """Handle events and whatever they make the host do; what is to be sent to the master."""
        outward: list[Effect] = []
        waiting = [*events, *self._own(now)]
        while waiting:
            effects: list[Effect] = []
            for event in waiting:
                effects += self.machine.handle(event, now)
            effects += self.machine.settle(now)
            waiting = []
            for effect in effects:
                waiting += self._do(effect, outward, now)
        due = [self.machine.deadline(), self._ping_at, self._ends[0][0] if self._ends else None]
        self.due = min(at for at in due if at is not None)
        return outward

    def _do(self, effect: Effect, outward: list[Effect], now: Now) -> list[Event]:
        match effect:
            case Send(peer=peer) if peer == MASTER:
                outward.append(replace(effect, peer=self.link))
            case Send(peer=peer) if peer.startswith(EXECUTORS_PREFIX):
                return self._told(self._executors[peer], effect.envelope.message, now)
            case Open():
                self._totals.registrations += 1
                outward.append(Open(self.link))
            case Close(peer=peer) if peer == MASTER:
                outward.append(Close(self.link))
            case StartExecutor(executor_id=executor_id):
                peer = f"{EXECUTORS_PREFIX}{len(self._executors):x}"
                executor = self._executors[peer] = _Executor(executor_id, peer)
                return [
                    ExecutorStarted(executor_id, self._pid(executor), 1),
                    *self._hello(executor),
                ]
            case MakeSandbox(container=container):
                return [SandboxMade(container, f"/emulated/{container}")]
            case KillContainers(containers=containers):
                return [ContainersGone(containers)]
            case SweepContainers():
                return [ContainersFound(())]
            case Stop():
                outward.append(effect)
            case Put() | Delete() | _:
                pass
        return []

    # --- executors --------------------------------------------------------------------------------
    def _pid(self, executor: _Executor) -> int:
        return 1_000_000 + int(executor.peer.removeprefix(EXECUTORS_PREFIX), 16)

    def _hello(self, executor: _Executor) -> list[Event]:
        executor.session, executor.sent = new_id(), 0
        tasks = tuple(ExecutorTask(task_id, state) for task_id, state in executor.tasks.items())
        hello = RegisterExecutor(executor.id, self._pid(executor), executor.framework_id, tasks)
        return self._say(executor, hello)

    def _say(self, executor: _Executor, message: Message) -> list[Event]:
        executor.sent += 1
        envelope = Envelope("", 0, executor.session, executor.sent, message)
        return [Received(executor.peer, "", envelope)]

    def _told(self, executor: _Executor, message: Message, now: Now) -> list[Event]:
        match message:
            case RunTasks(framework_id=framework_id, launches=launches):
                executor.framework_id = framework_id
                events: list[Event] = []
                for launch in launches:
                    self._totals.launches += 1
                    task_id, argv = launch.task.task_id, launch.task.command.argv
                    executor.tasks[task_id] = TaskState.RUNNING
                    if len(argv) == 2 and argv[0] == "sleep":
                        end = (now.mono + float(argv[1]), executor.peer, task_id)
                        heapq.heappush(self._ends, end)
                    events += self._update(executor, task_id, TaskState.RUNNING, now)
                return events
            case KillTasks(kills=kills):
                self._totals.kills += len(kills)
                wanted = [kill.task_id for kill in kills if kill.task_id in executor.tasks]
                return self._end(executor, wanted, TaskState.KILLED, now)
            case ShutdownExecutor():
                ended = self._end(executor, list(executor.tasks), TaskState.KILLED, now)
                return [*ended, *self._say(executor, Bye())]
            case Reset():
                return self._hello(executor)
            case _:
                return []

    def _end(
        self, executor: _Executor, task_ids: list[TaskId], state: TaskState, now: Now
    ) -> list[Event]:
        events: list[Event] = []
        for task_id in task_ids:
            del executor.tasks[task_id]
            events += self._update(executor, task_id, state, now)
        return events

    def _update(
        self, executor: _Executor, task_id: TaskId, state: TaskState, now: Now
    ) -> list[Event]:
        update = StatusUpdate(
            FrameworkId(executor.framework_id),
            task_id,
            self.machine.info.agent_id,
            state,
            uuid=new_id(),
            reason=Reason.EXITED if state is TaskState.FINISHED else Reason.NONE,
            exit_code=0 if state is TaskState.FINISHED else None,
            at=now.wall,
            started_at=now.wall,
        )
        return self._say(executor, StatusUpdates((update,)))

    def _own(self, now: Now) -> list[Event]:
        """What the host does by itself: tasks end, executors give signs of life, timers ring."""
        events: list[Event] = []
        while self._ends and self._ends[0][0] <= now.mono:
            _, peer, task_id = heapq.heappop(self._ends)
            executor = self._executors[peer]
            if task_id in executor.tasks:
                events += self._end(executor, [task_id], TaskState.FINISHED, now)
        if now.mono >= self._ping_at:
            self._ping_at = now.mono + HEARTBEAT_S
            for executor in self._executors.values():
                events += self._say(executor, Ping())
        due = self.machine.deadline()
        return [*events, Tick()] if due is not None and due <= now.mono else events


class Crowd:
    """All hosts as one machine for one loop; each event goes to the host that it is about."""

    def __init__(self, hosts: Sequence[Host], totals: Totals) -> None:
        self.hosts = hosts
        self.totals = totals
        self.is_ready = False
        self._by_link = {host.link: host for host in hosts}

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Received(peer=peer):
                host = self._by_link[peer]
                return host.run([Received(MASTER, event.key, event.envelope)], now)
            case PeerLost(peer=peer):
                return self._by_link[peer].run([PeerLost(MASTER)], now)
            case Started():
                return [one for host in self.hosts for one in host.run([event], now)]
            case Tick():
                due = [host for host in self.hosts if host.due is None or host.due <= now.mono]
                return [one for host in due for one in host.run([], now)]
            case Signalled():
                totals = self.totals
                figures = f"{totals.launches} {totals.kills} {totals.registrations}"
                print(f"launches kills registrations: {figures}", flush=True)
                return [Stop(0)]
            case _:
                return []

    def settle(self, now: Now) -> list[Effect]:
        """Tell once that all are there; hosts have settled by themselves."""
        if not self.is_ready and all(host.is_registered for host in self.hosts):
            self.is_ready = True
            print("ready", flush=True)
        return []

    def deadline(self) -> float | None:
        """The earliest of all hosts' timers."""
        return min((host.due for host in self.hosts if host.due is not None), default=None)

    def check(self) -> None:
        """Recount what each machine keeps twice."""
        for host in self.hosts:
            host.machine.check()


def main() -> int:
    """Run the agents until they are told to stop."""
    parser = argparse.ArgumentParser(description="Many emulated agents.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--resources", default="cpus:12;mem:4096")
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--master", default="", help="default: the address in the key file")
    options = parser.parse_args()
    key = load_key(options.key)
    totals = Totals()
    resources = Resources.parse(options.resources)
    hosts = [Host(number, resources, totals) for number in range(options.count)]
    loop = Loop(Crowd(hosts, totals), role="agents")
    for host in hosts:
        loop.link(host.link, LinkSpec(options.master or key.master, key.pair, key.server_key))
    return loop.run()


if __name__ == "__main__":
    sys.exit(main())
