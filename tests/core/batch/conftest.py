"""A world of one batch framework: everything it sends and stores goes through the codec.

`World` runs passes like the loop: events, settle, the store, then the sends. What is sent is kept
until a test takes it; at the end nothing may be left. `check()` runs after every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from mesosctl.core.batch.keys import KeyDecided
from mesosctl.core.batch.machine import LINK, BatchMachine
from mesosctl.core.machine import (
    Delete,
    Effect,
    Event,
    Log,
    Now,
    Open,
    Put,
    Received,
    Send,
    Started,
    Stop,
    Tick,
)
from mesosctl.limits import FRAME_BYTES_MAX_BULK
from mesosctl.model.cluster import FrameworkInfo, Offer, Principal
from mesosctl.model.fit import Fit
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.jobs import JobSpec
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, StatusUpdate, TaskInfo, TaskState, Usage
from mesosctl.protocol import codec
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import Acknowledge, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import JobAccepted, SubmitJob
from mesosctl.protocol.messages.explain import Fits, HowFits
from mesosctl.protocol.messages.framework import (
    Accept,
    Offers,
    Reconcile,
    Revive,
    Subscribe,
    Subscribed,
)
from mesosctl.protocol.messages.query import PrincipalIs, WhoIs
from mesosctl.protocol.messages.session import Ping, Pong

M = TypeVar("M", bound=Message)
GIB = 2**30
ALICE = Principal("alice", "key-alice", ("client",), ("alice",))
BOB = Principal("bob", "key-bob", ("client",), ("bob",))
ROOT = Principal("root", "key-root", ("operator",), ("root", "*"))
INFO = FrameworkInfo(FrameworkId(""), "batch", "root")


class Killed(Exception):
    """The framework was killed in the middle of a pass: after its commit, or after its sends."""


class World:
    """One framework with its store, seen by a master and by clients that the test plays."""

    def __init__(self, tables: dict[str, dict[str, dict[str, Any]]] | None = None) -> None:
        self.tables = tables if tables is not None else {}
        self.mono = 1000.0
        self.ids = 0
        self.uuids = 0
        self.offers_made = 0
        self.mail: dict[str, list[Message]] = {}
        self.effects: list[Effect] = []
        self.stopped: Stop | None = None
        # What the master says of every need; None: nothing.
        self.fits: Fit | None = None
        self.pinged = False
        self.asked_for_all = 0
        self.master_answers = True
        self.passes = 0
        self.dies_before_sending = self.dies_after_sending = -1
        self.logs: list[str] = []
        self.sessions: dict[str, list[Any]] = {}
        self.keys: dict[str, str] = {}
        self.master_seq = 0
        self.master_session = ""
        self.machine = BatchMachine(INFO, self.tables, self.new_id, master="tcp://m:5050")

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:016x}"

    @property
    def now(self) -> Now:
        return Now(self.mono, 1_000_000.0 + self.mono, self.mono)

    # --- the loop ---------------------------------------------------------------------------------
    def run(self, *events: Event) -> list[Effect]:
        """One pass."""
        effects: list[Effect] = []
        for event in events:
            effects += self.machine.handle(event, self.now)
        effects += self.machine.settle(self.now)
        self.store(effects)
        self.passes += 1
        if self.passes == self.dies_before_sending:
            raise Killed
        for effect in effects:
            self.carry_out(effect)
        self.machine.check()
        if self.passes == self.dies_after_sending:
            raise Killed
        return effects

    def store(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Put(table=table, key=key, value=value):
                    plain = codec.unpack(codec.pack(value))
                    self.tables.setdefault(table, {})[key] = plain
                case Delete(table=table, key=key):
                    self.tables.get(table, {}).pop(key, None)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(peer=peer, envelope=envelope):
                frame = codec.encode(envelope)
                again = codec.decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)
                assert again == envelope
                if peer == LINK:
                    if isinstance(again.message, Subscribe):
                        self.master_session, self.master_seq = again.session, 0
                    if isinstance(again.message, Ping):
                        self.pinged = True
                        return
                    if again.message == Reconcile(()):
                        self.asked_for_all += 1
                        return
                self.mail.setdefault(peer, []).append(again.message)
            case Stop():
                self.stopped = effect
            case Log(text=text):
                self.logs.append(text)
            case Put() | Delete() | Open():
                pass
            case _:
                self.effects.append(effect)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a Tick whenever one is wanted."""
        until = self.mono + seconds
        for _ in range(10_000):
            deadline = self.machine.deadline()
            if deadline is None or deadline > until:
                break
            self.mono = max(self.mono, deadline)
            self.run(Tick())
            if self.pinged and self.master_answers:
                self.pinged = False
                self.master(Pong())
        else:
            raise AssertionError("it wants a Tick again and again")
        self.mono = until

    def restarted(self) -> World:
        """The same state directory after a kill -9."""
        world = World(codec.unpack(codec.pack(self.tables)))
        world.mono = self.mono + 1
        world.ids = self.ids + 1000
        world.uuids = self.uuids
        world.offers_made = self.offers_made
        return world

    # --- what was sent ----------------------------------------------------------------------------
    def take(self, kind: type[M], peer: str = LINK) -> M:
        """The oldest message to `peer`, which must be of this kind."""
        waiting = self.mail.get(peer, [])
        assert waiting, f"nothing was sent to {peer}, not even a {kind.__name__}"
        message = waiting.pop(0)
        assert isinstance(message, kind), f"expected {kind.__name__}, got {message}"
        return message

    def quiet(self, peer: str = LINK) -> None:
        assert not self.mail.get(peer), f"left over: {self.mail[peer]}"

    def forget(self, *kinds: type[Message], peer: str = LINK) -> None:
        """Drop waiting messages of these kinds, which are not what the test is about."""
        self.mail[peer] = [m for m in self.mail.get(peer, []) if not isinstance(m, kinds)]

    # --- the master -------------------------------------------------------------------------------
    def master(self, *messages: Message) -> list[Effect]:
        """The master sends these, in one pass."""
        events = []
        for message in messages:
            self.master_seq += 1
            envelope = Envelope("C1", 1, self.master_session, self.master_seq, message)
            again = codec.decode(codec.encode(envelope), bytes_max=FRAME_BYTES_MAX_BULK)
            events.append(Received(LINK, "key-master", again))
        return self.run(*events)

    def start(self, framework_id: str = "F1") -> Subscribe:
        """Start and be subscribed."""
        self.run(Started())
        subscribe = self.take(Subscribe)
        self.master(Subscribed(FrameworkId(framework_id), 5.0, "test"))
        return subscribe

    def offer(self, cpus: float = 4, mem_mib: int = 4096, agent: str = "a1") -> Offer:
        self.offers_made += 1
        resources = Resources.of(cpus_milli=int(cpus * 1000), mem_bytes=mem_mib << 20)
        return Offer(
            OfferId(f"O{self.offers_made}"),
            self.machine.driver.framework_id,
            AgentId(f"id-{agent}"),
            agent,
            "*",
            resources,
        )

    def launch(self, cpus: float = 4, mem_mib: int = 4096, agent: str = "a1") -> list[TaskInfo]:
        """Offer so much and take what is launched on it."""
        self.master(Offers((self.offer(cpus, mem_mib, agent),)))
        return list(self.take(Accept).tasks)

    def update(self, wire_id: str, state: TaskState, **fields: Any) -> StatusUpdate:
        self.uuids += 1
        fields.setdefault("uuid", f"u{self.uuids}")
        fields.setdefault("at", self.now.wall)
        if state in (TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED, TaskState.KILLED):
            fields.setdefault("started_at", self.now.wall)
        if state is TaskState.FINISHED:
            fields.setdefault("exit_code", 0)
            fields.setdefault("reason", Reason.EXITED)
            fields.setdefault("usage", Usage(0.5, 0.25, 2**20, 2**29))
        agent = AgentId(fields.pop("agent", "id-a1"))
        framework_id = FrameworkId(fields.pop("framework", self.machine.driver.framework_id))
        return StatusUpdate(framework_id, TaskId(wire_id), agent, state, **fields)

    def status(self, wire_id: str, state: TaskState, **fields: Any) -> None:
        """An update comes and is acknowledged when it has a uuid."""
        update = self.update(wire_id, state, **fields)
        self.master(StatusUpdates((update,)))
        if update.uuid:
            self.forget(Revive)
            assert [ack.uuid for ack in self.take(Acknowledge).acks] == [update.uuid]

    # --- clients ----------------------------------------------------------------------------------
    def client(self, peer: str, principal: Principal = ALICE) -> str:
        """A client connects; the master is asked who its key is."""
        self.sessions[peer] = [f"session-{peer}", 0]
        self.keys[peer] = principal.key
        return peer

    def request(self, peer: str, message: Message, principal: Principal = ALICE) -> list[Message]:
        """Send a request and take all answers, telling who the key is when that is asked."""
        if peer not in self.sessions:
            self.client(peer, principal)
        self.say(peer, message)
        for asked in [m for m in self.mail.get(LINK, []) if isinstance(m, WhoIs)]:
            self.mail[LINK].remove(asked)
            who = {p.key: p for p in (ALICE, BOB, ROOT)}.get(asked.key)
            self.master(PrincipalIs(1, asked.key, who))
        for question in [m for m in self.mail.get(LINK, []) if isinstance(m, HowFits)]:
            self.mail[LINK].remove(question)
            fits = tuple([self.fits for _ in question.needs]) if self.fits is not None else ()
            self.master(Fits(1, question.request, fits))
        return self.answers(peer)

    def say(self, peer: str, message: Message) -> list[Effect]:
        """Send a request."""
        session = self.sessions[peer]
        session[1] += 1
        envelope = Envelope("", 0, session[0], session[1], message)
        again = codec.decode(codec.encode(envelope), bytes_max=FRAME_BYTES_MAX_BULK)
        return self.run(Received(peer, self.keys[peer], again))

    def answers(self, peer: str) -> list[Message]:
        answers, self.mail[peer] = self.mail.get(peer, []), []
        return answers

    def submit(self, spec: JobSpec, request_id: str = "", peer: str = "c1") -> str:
        """Submit as alice and return the job's id."""
        request_id = request_id or f"r{self.new_id()}"
        (answer,) = self.request(peer, SubmitJob(request_id, spec))
        assert isinstance(answer, JobAccepted), answer
        self.forget(Revive)
        return answer.job_id

    def decided(self) -> list[KeyDecided]:
        return [effect for effect in self.effects if isinstance(effect, KeyDecided)]


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    """Makes worlds; at the end nothing that they sent may have been overlooked."""
    made: list[World] = []

    def make(tables: dict[str, dict[str, dict[str, Any]]] | None = None) -> World:
        made.append(World(tables))
        return made[-1]

    yield make
    for world in made:
        for peer in world.mail:
            world.quiet(peer)


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    """A framework that is subscribed as F1 and has no jobs."""
    made = worlds()
    made.start()
    return made
