"""An agent machine between a pretended master, executors and clients, joined by the codec alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest

from mesosctl.core.agent import AgentMachine, AgentOptions, AgentRecords
from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.records import TABLES
from mesosctl.core.machine import (
    Close,
    Delete,
    Effect,
    Event,
    Log,
    Now,
    Open,
    PeerLost,
    Put,
    Received,
    Send,
    Started,
    Tick,
)
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.model.cluster import AgentInfo, FrameworkInfo
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskState
from mesosctl.protocol.codec import decode, encode, pack, unpack
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    AgentRegistered,
    ExecutorTask,
    LaunchTasks,
    RegisterAgent,
    RegisterExecutor,
    RunTasks,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message

T = TypeVar("T")
AGENT = AgentId("A1")
F1, F2 = FrameworkId("F1"), FrameworkId("F2")


def framework(framework_id: FrameworkId = F1) -> FrameworkInfo:
    return FrameworkInfo(framework_id, f"name-{framework_id}", "me", "web")


def task(task_id: str, **command: Any) -> TaskInfo:
    fields = {"argv": ("true",), "user": "me"} | command
    return TaskInfo(TaskId(task_id), task_id, AGENT, Resources.scalars(cpus=1), Command(**fields))


class Told:
    """Messages that came, drained by kind; what is left over shows in `quiet`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def took(self, kind: type[T]) -> list[T]:
        found = [one for one in self.messages if isinstance(one, kind)]
        self.messages = [one for one in self.messages if not isinstance(one, kind)]
        return found


class FakeExecutor(Told):
    """An executor's end of the wire. `tasks` and `unacked` are what it tells when it registers."""

    knows_executors = True
    knows_shared = True

    def __init__(self, bench: Bench, executor_id: ExecutorId, pid: int) -> None:
        super().__init__()
        self.bench, self.executor_id, self.pid = bench, executor_id, pid
        self.peer = ""
        self.framework_id = ""
        self.tasks: dict[TaskId, TaskState] = {}
        self.unacked: dict[str, StatusUpdate] = {}
        self.session = ClientSession("agent", self.hello, lambda now: [], bench.new_id)

    def hello(self) -> Message:
        tasks = tuple(ExecutorTask(name, state, 7) for name, state in self.tasks.items())
        return RegisterExecutor(
            self.executor_id,
            self.pid,
            self.framework_id,
            tasks,
            tuple(self.unacked.values()),
            opening=self.session.openings,
            knows_executors=self.knows_executors,
            knows_shared=self.knows_shared,
        )

    def connect(self) -> None:
        self.peer = f"x:{next(self.bench.numbers):04x}"
        self.bench.ends[self.peer] = self
        self.bench.deliver(self.peer, "", self.session.start(self.bench.now))

    def took_message(self, message: Message) -> None:
        if isinstance(message, RunTasks):
            self.framework_id = message.framework_id
            for launch in message.launches:
                self.tasks.setdefault(launch.task.task_id, TaskState.STAGING)
        if isinstance(message, Acknowledge):
            for ack in message.acks:
                self.unacked.pop(ack.uuid, None)
        self.messages.append(message)

    def say(self, message: Message) -> None:
        self.bench.deliver(self.peer, "", self.session.send(message))

    def update(self, task_id: str, state: TaskState, *, send: bool = True) -> StatusUpdate:
        """Make an update, kept until it is acknowledged; sent at once unless told not to."""
        uuid = f"u{next(self.bench.numbers)}"
        made = StatusUpdate(FrameworkId(self.framework_id), TaskId(task_id), AGENT, state, uuid)
        self.unacked[uuid] = made
        self.tasks[TaskId(task_id)] = state
        if made.is_terminal:
            del self.tasks[TaskId(task_id)]
        if send:
            self.say(StatusUpdates((made,)))
        return made

    def goodbye(self) -> None:
        self.bench.deliver(self.peer, "", self.session.end())


class FakeClient(Told):
    """A data client's end of the wire, holding a key."""

    def __init__(self, bench: Bench, key: str) -> None:
        super().__init__()
        self.bench, self.key = bench, key
        self.peer = f"d:{next(bench.numbers):04x}"
        bench.ends[self.peer] = self
        self.session = ClientSession("agent", lambda: self.first, lambda now: [], bench.new_id)
        self.first: Message | None = None

    def say(self, message: Message) -> None:
        if not self.session.is_open:
            self.first = message
            effects = self.session.start(self.bench.now)
        else:
            effects = self.session.send(message)
        self.bench.deliver(self.peer, self.key, effects)

    def took_message(self, message: Message) -> None:
        self.messages.append(message)


class Bench(Told):
    """The host of an agent machine: its disk is `tables`, what it wants done is in `deeds`.

    `messages` are what the master was told.
    """

    def __init__(self, options: AgentOptions | None = None, **info: Any) -> None:
        super().__init__()
        self.numbers = itertools.count(1)
        self.new_id = lambda: f"{next(self.numbers):016x}"
        self.time_s = 100.0
        self.tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
        self.info = AgentInfo(AgentId(""), "host", Resources.scalars(cpus=4, mem=4096))
        self.fields = {"boot_id": "boot-1", "user": "me"} | info
        self.master = ServerSessions("cluster", 3)
        self.ends: dict[str, FakeExecutor | FakeClient] = {}
        self.deeds: list[Effect] = []
        self.logs: list[Log] = []
        # What every test would have to drain otherwise.
        self.housekeeping: list[Effect] = []
        self.auto_sandbox = True
        self.machine = self.make(options)

    @property
    def now(self) -> Now:
        return Now(self.time_s, 1e9 + self.time_s, self.time_s)

    def make(self, options: AgentOptions | None = None, **fields: Any) -> AgentMachine:
        """A machine with what is on disk, nothing else; it is not started yet."""
        from dataclasses import replace

        self.fields |= fields
        tables = {name: unpack(pack(rows)) for name, rows in self.tables.items()}
        records = AgentRecords.load(tables)
        info = replace(self.info, **self.fields)
        self.ends.clear()
        self.deeds.clear()
        self.machine = AgentMachine(info, records, self.new_id, options or AgentOptions())
        return self.machine

    def restart(self, options: AgentOptions | None = None, **fields: Any) -> None:
        """Kill the agent and start it again on the same disk."""
        self.master.drop("agent")
        self.make(options, **fields)
        self.messages.clear()
        self.do(Started())

    # --- the wire ---------------------------------------------------------------------------------
    def do(self, event: Event) -> None:
        """One pass of one event, carried out, checked."""
        self.carry_out(self.machine.handle(event, self.now))
        self.machine.check()
        self.carry_out(self.machine.settle(self.now))
        self.machine.check()

    def carry_out(self, effects: Iterable[Effect]) -> None:
        effects = list(effects)
        for effect in effects:
            if isinstance(effect, Put):
                self.tables[effect.table][effect.key] = unpack(pack(effect.value))
            if isinstance(effect, Delete):
                self.tables[effect.table].pop(effect.key, None)
        for effect in effects:
            match effect:
                case Put() | Delete() | Open() | Close():
                    pass
                case Log():
                    self.logs.append(effect)
                case Send(peer=peer):
                    self.sent(peer, effect)
                case deeds.MarkEnded() | deeds.MeasureDisk():
                    self.housekeeping.append(effect)
                case deeds.MakeSandbox(container=container) if self.auto_sandbox:
                    self.deeds.append(effect)
                    self.do(deeds.SandboxMade(container, f"/sandboxes/{container}"))
                case _:
                    self.deeds.append(effect)

    def sent(self, peer: str, effect: Send) -> None:
        envelope = decode(encode(effect.envelope), bytes_max=2**23)
        if peer == "master":
            message, answers = self.master.receive(Received("agent", "key", envelope), self.now)
            if message is not None:
                self.messages.append(message)
            self.carry_back(answers)
        elif peer in self.ends:
            end = self.ends[peer]
            message, _ = end.session.receive(envelope, self.now)
            if message is not None:
                end.took_message(message)

    def carry_back(self, answers: Iterable[Effect]) -> None:
        for answer in answers:
            if isinstance(answer, Send):
                envelope = decode(encode(answer.envelope), bytes_max=2**23)
                self.do(Received("master", "", envelope))

    def deliver(self, peer: str, key: str, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                envelope = decode(encode(effect.envelope), bytes_max=2**23)
                self.do(Received(peer, key, envelope))

    def tell(self, message: Message) -> None:
        """The master says something."""
        self.carry_back(self.master.send("agent", message))

    def cut_master(self) -> None:
        self.master.drop("agent")
        self.do(PeerLost("master"))

    def cut(self, executor: FakeExecutor) -> None:
        """Its connection goes; its process lives."""
        self.ends.pop(executor.peer)
        executor.session.lose(self.now)
        self.do(PeerLost(executor.peer))

    def advance(self, seconds: float) -> None:
        """Let time pass; timers go off when they are due."""
        end = self.time_s + seconds
        for _ in range(10_000):
            due = self.machine.deadline()
            if due is None or due > end:
                break
            self.time_s = max(self.time_s, due)
            self.do(Tick())
        else:
            raise AssertionError("the machine never comes to rest")
        self.time_s = end

    # --- shortcuts --------------------------------------------------------------------------------
    def took_deeds(self, kind: type[T]) -> list[T]:
        found = [one for one in self.deeds if isinstance(one, kind)]
        self.deeds = [one for one in self.deeds if not isinstance(one, kind)]
        return found

    def quiet(self) -> None:
        """Nothing was said or wanted beyond what the test has taken."""
        assert self.messages == []
        assert self.deeds == []

    def register(self) -> RegisterAgent:
        """Let the master take the agent; what the agent said of itself."""
        (hello,) = self.took(RegisterAgent)
        self.tell(AgentRegistered(AGENT, 5.0))
        return hello

    def up(self) -> FakeExecutor:
        """Start it, register it, and let its warm executor come up."""
        self.do(Started())
        self.register()
        executor = self.start_executor()
        self.took_deeds(deeds.OpenContainers)
        self.took_deeds(deeds.SweepContainers)
        self.quiet()
        return executor

    def start_executor(self) -> FakeExecutor:
        """Carry out the first StartExecutor that is wanted."""
        wanted = next(one for one in self.deeds if isinstance(one, deeds.StartExecutor))
        self.deeds.remove(wanted)
        executor = FakeExecutor(self, wanted.executor_id, next(self.numbers) + 1000)
        self.do(deeds.ExecutorStarted(wanted.executor_id, executor.pid, 5))
        executor.connect()
        return executor

    def launch(self, *task_ids: str, of: FrameworkId = F1, **command: Any) -> None:
        tasks = tuple(task(name, **command) for name in task_ids)
        self.tell(LaunchTasks(framework(of), tasks))

    def states(self) -> list[tuple[str, str]]:
        """The updates that the master was told, drained."""
        return [
            (one.task_id, one.state.value)
            for message in self.took(StatusUpdates)
            for one in message.updates
        ]

    def updates(self) -> list[StatusUpdate]:
        return [one for message in self.took(StatusUpdates) for one in message.updates]

    def acknowledge(self, *updates: StatusUpdate) -> None:
        self.tell(
            Acknowledge(tuple(Ack(u.framework_id, u.task_id, AGENT, u.uuid) for u in updates))
        )


@pytest.fixture
def bench() -> Iterable[Bench]:
    """An agent that is not started; checked once more at the end."""
    made = Bench()
    yield made
    made.machine.check()
