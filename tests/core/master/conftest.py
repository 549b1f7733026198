"""A master machine joined to drivers and agents by a wire that is only the codec."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.core.driver import DriverEvent, FrameworkDriver
from mesosctl.core.machine import Effect, Now, PeerLost, Put, Received, Send, Started, Tick
from mesosctl.core.master import MasterMachine
from mesosctl.core.session import ClientSession
from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Principal
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskReport, TaskState
from mesosctl.model.volumes import Volume
from mesosctl.protocol.codec import decode, encode, pack, unpack
from mesosctl.protocol.messages.agent import (
    Acknowledge,
    AgentRegistered,
    KillTasks,
    LaunchTasks,
    RegisterAgent,
    ShutdownFramework,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message

FOUR = Resources.parse("cpus:4;mem:4096")


class FakeAgent:
    """The agent's end of the wire: remembers what it was told, says what the test wants."""

    def __init__(self, cluster: Cluster, name: str, total: Resources) -> None:
        self.cluster = cluster
        self.info = AgentInfo(AgentId(""), name, total)
        self.tasks: dict[tuple[FrameworkId, TaskId], TaskReport] = {}
        self.frameworks: dict[FrameworkId, FrameworkInfo] = {}
        self.told: list[Message] = []
        self.life = 1
        self.volumes: list[Volume] = []
        self.updates = itertools.count(1)
        self.session = ClientSession("master", self.hello, lambda now: [], cluster.new_id)

    def hello(self) -> Message:
        lists = tuple(self.tasks.values()), tuple(self.frameworks.values())
        counts = self.life, self.session.openings
        return RegisterAgent(self.info, *lists, *counts, tuple(self.volumes))

    def receive(self, event: Received, now: Now) -> list[Effect]:
        message, effects = self.session.receive(event.envelope, now)
        match message:
            case None:
                pass
            case AgentRegistered(agent_id=agent_id, heartbeat_s=heartbeat_s):
                self.info = replace(self.info, agent_id=agent_id)
                self.session.heartbeat_s = heartbeat_s
                self.session.confirm(now)
                effects += self.session.ping(now)
            case LaunchTasks(framework=framework, tasks=tasks):
                self.frameworks[framework.framework_id] = framework
                for task in tasks:
                    self.tasks[framework.framework_id, task.task_id] = TaskReport(
                        framework.framework_id,
                        task.task_id,
                        task.name,
                        task.resources,
                        TaskState.STAGING,
                        revocable=task.revocable,
                    )
                self.told.append(message)
            case _:
                self.told.append(message)
        return effects

    def update(self, framework: FrameworkId, task: str, state: TaskState, **more: object) -> None:
        """Report a step of a task to the master."""
        key = framework, TaskId(task)
        self.tasks[key] = replace(self.tasks[key], state=state)
        made = StatusUpdate(
            framework,
            TaskId(task),
            self.info.agent_id,
            state,
            uuid=f"u{next(self.updates)}",
            **more,  # type: ignore[arg-type]
        )
        self.cluster.act(self, self.session.send(StatusUpdates((made,))))

    def took(self, kind: type) -> list:
        """What it was told of this kind, drained."""
        found = [message for message in self.told if isinstance(message, kind)]
        self.told = [message for message in self.told if not isinstance(message, kind)]
        return found


class Scheduler:
    """A driver and what it was told."""

    def __init__(self, cluster: Cluster, info: FrameworkInfo, **options: object) -> None:
        self.cluster = cluster
        self.driver = FrameworkDriver(info, cluster.new_id, **options)  # type: ignore[arg-type]
        self.told: list[DriverEvent] = []

    @property
    def session(self) -> ClientSession:
        return self.driver._session

    def receive(self, event: Received, now: Now) -> list[Effect]:
        events, effects = self.driver.receive(event, now)
        self.told += events
        return effects

    def took(self, kind: type) -> list:
        """What it was told of this kind, drained."""
        found = [event for event in self.told if isinstance(event, kind)]
        self.told = [event for event in self.told if not isinstance(event, kind)]
        return found

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what a call of the driver asked for."""
        self.cluster.act(self, effects)

    def states(self) -> list[tuple[str, TaskState]]:
        """The updates it was told, drained, as (task, state)."""
        from mesosctl.core.driver import StatusArrived

        return [
            (update.task_id, update.state)
            for event in self.took(StatusArrived)
            for update in event.updates
        ]


Peer = FakeAgent | Scheduler


class Cluster:
    """The wire. Every envelope goes through the codec; each delivery is followed by a check."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.new_id = lambda: f"{next(numbers):016x}"
        self.time_s = 0.0
        self.keys = {
            "op": Principal("op", "op", ("operator",), ("root", "me")),
            "agent-key": Principal("node", "agent-key", ("agent",)),
            "user-key": Principal("me", "user-key", ("framework", "client"), ("me",), ("web",)),
        }
        self.peers: dict[str, tuple[Peer, str]] = {}
        self.name_of: dict[int, str] = {}
        self.numbers = itertools.count(1)
        self.registry: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, dict[str, Any]] = {}
        # What masters are started with.
        self.make_allocator: Callable[[], DrfAllocator] = DrfAllocator
        self.preemption = False
        self.master = self.new_master(1)

    def new_master(self, epoch: int) -> MasterMachine:
        """A master that starts with what the registry holds; the old one is no more."""
        self.peers.clear()
        self.name_of.clear()
        self.master = MasterMachine(
            cluster="cluster",
            epoch=epoch,
            cluster_name="test",
            version="0",
            allocator=self.make_allocator(),
            allocator_name="drf",
            new_id=self.new_id,
            principals=self.keys,
            role_options={},
            tables={"agents": self.registry, "roles": self.roles},
            preemption=self.preemption,
        )
        self._done(self.master.handle(Started(), self.now))
        return self.master

    @property
    def now(self) -> Now:
        return Now(self.time_s, 1e9 + self.time_s, self.time_s)

    def agent(self, name: str, total: Resources = FOUR, key: str = "op") -> FakeAgent:
        """An agent that registered."""
        agent = FakeAgent(self, name, total)
        self.connect(agent, key)
        return agent

    def agent_id(self, name: str) -> str:
        """The id under which the registry has the agent of this name."""
        [found] = [key for key, row in self.registry.items() if row["name"] == name]
        return found

    def framework(self, name: str, key: str = "op", **options: object) -> Scheduler:
        """A framework that subscribed."""
        fields = {"user": "me", "role": "*", "failover_timeout_s": 100.0} | {
            k: options.pop(k) for k in ("user", "role", "failover_timeout_s") if k in options
        }
        info = FrameworkInfo(FrameworkId(""), name, **fields)  # type: ignore[arg-type]
        scheduler = Scheduler(self, info, **options)
        self.connect(scheduler, key)
        return scheduler

    def connect(self, peer: Peer, key: str = "op") -> None:
        """Open a session of this peer on a new connection."""
        name = f"p{next(self.numbers)}"
        self.peers[name] = peer, key
        self.name_of[id(peer)] = name
        self.act(peer, peer.session.start(self.now))

    def cut(self, peer: Peer) -> None:
        """The connection goes; both sides notice."""
        name = self.name_of.pop(id(peer))
        del self.peers[name]
        peer.session.lose(self.now)
        self._done(self.master.handle(PeerLost(name), self.now))
        self.settle()

    def act(self, peer: Peer, effects: Iterable[Effect]) -> None:
        """Carry out what a peer wants sent, and everything that follows, until it is quiet."""
        name = self.name_of.get(id(peer))
        for effect in effects:
            if isinstance(effect, Send) and name is not None:
                self.to_master(name, effect)
        self.settle()

    def to_master(self, name: str, send: Send) -> None:
        envelope = decode(encode(send.envelope), bytes_max=2**23)
        key = self.peers[name][1]
        self._done(self.master.handle(Received(name, key, envelope), self.now))
        self.master.check()

    def settle(self) -> None:
        self._done(self.master.settle(self.now))
        self.master.check()

    def _done(self, effects: Iterable[Effect]) -> None:
        # Answers go out when all of the pass has arrived: a connection keeps its order.
        answers: list[tuple[str, Effect]] = []
        for effect in effects:
            if isinstance(effect, Put) and effect.table in ("agents", "roles"):
                table = self.registry if effect.table == "agents" else self.roles
                table[effect.key] = unpack(pack(effect.value))
            if isinstance(effect, Send) and effect.peer in self.peers:
                peer, _ = self.peers[effect.peer]
                envelope = decode(encode(effect.envelope), bytes_max=2**23)
                told = peer.receive(Received("master", "", envelope), self.now)
                answers += [(effect.peer, answer) for answer in told]
        for name, answer in answers:
            if isinstance(answer, Send):
                self.to_master(name, answer)

    def advance(self, seconds: float) -> None:
        """Let time pass; everybody's timers go off when they are due."""
        end = self.time_s + seconds
        while True:
            dues = [(self.master.deadline(), None)] + [
                (peer.session.deadline(), peer) for peer, _ in list(self.peers.values())
            ]
            due, peer = min(
                ((at, who) for at, who in dues if at is not None),
                key=lambda pair: pair[0],
                default=(end + 1, None),
            )
            if due > end:
                break
            self.time_s = max(self.time_s, due)
            if peer is None:
                self._done(self.master.handle(Tick(), self.now))
                self.settle()
            else:
                self.act(peer, peer.session.tick(self.now))
        self.time_s = end

    def task(self, agent: FakeAgent, task_id: str, resources: str, user: str = "") -> TaskInfo:
        """A task for this agent."""
        command = Command(("true",), user=user)
        held = Resources.parse(resources) if resources else Resources()
        return TaskInfo(TaskId(task_id), task_id, agent.info.agent_id, held, command)


@pytest.fixture
def cluster() -> Cluster:
    """An empty cluster with one master."""
    return Cluster()


__all__ = ["Acknowledge", "Cluster", "FakeAgent", "KillTasks", "Scheduler", "ShutdownFramework"]
