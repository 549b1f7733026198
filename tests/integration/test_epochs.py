"""A master whose epoch is over, on the real wire: nobody does what it says any more.

The masters here are pretended and say whatever they are told to, unlike ours, which would not even
answer: what refuses them is the other side.
"""

from __future__ import annotations

import getpass
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.core.machine import Effect, Event, Now, Received, Send, Signalled, Stop
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, TaskInfo
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import AgentRegistered, LaunchTasks, RegisterAgent
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import Subscribe, Subscribed
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Reset
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyFile, make_keypair, save_key
from tests.integration.conftest import ClusterEnv, Part, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
SERVER, MEMBER = make_keypair(), make_keypair()


class Pretender:
    """A master of some epoch that takes everybody in, and has each agent run a task at once."""

    def __init__(self, epoch: int, sign: Path) -> None:
        self.epoch = epoch
        self.sign = sign
        self.openings: list[int] = []
        self.pings = 0
        self._sent: dict[str, int] = {}

    def handle(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Received(peer=peer, envelope=envelope):
                answers = self._answers(envelope)
                return [self._send(peer, envelope.session, message) for message in answers]
            case Signalled():
                return [Stop(0)]
        return []

    def _send(self, peer: str, session: str, message: Message) -> Send:
        self._sent[session] = self._sent.get(session, 0) + 1
        return Send(peer, Envelope("c", self.epoch, session, self._sent[session], message))

    def _answers(self, envelope: Envelope) -> list[Message]:
        match envelope.message:
            case RegisterAgent(agent=agent):
                self.openings.append(envelope.epoch)
                framework = FrameworkInfo(FrameworkId("F1"), "f", getpass.getuser(), "*")
                command = Command(("touch", str(self.sign)), user=getpass.getuser())
                size = Resources.parse("cpus:1;mem:64")
                task = TaskInfo(TaskId(f"t{self.epoch}"), "t", agent.agent_id, size, command)
                registered = AgentRegistered(agent.agent_id, 0.3)
                return [registered, LaunchTasks(framework, (task,))]
            case Subscribe():
                self.openings.append(envelope.epoch)
                return [Subscribed(FrameworkId("F1"), 0.3)]
            case Ping():
                self.pings += 1
                return [Pong()]
            case Bye() | Reset():
                return []
        return []

    def settle(self, now: Now) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        return


class Throne:
    """One address at which one pretender after the other is heard."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.address = "tcp://127.0.0.1:0"
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None

    def seat(self, epoch: int) -> Pretender:
        """Replace whoever sits there."""
        self.clear()
        machine = Pretender(epoch, self.base / f"epoch-{epoch}")
        self._loop = Loop(machine, role="pretender", log=lambda level, text: None)
        self._loop.authority("test", lambda key: True)
        self.address = self._loop.bind("in", ServerSpec(self.address, SERVER, "test"))
        self._thread = threading.Thread(target=self._loop.run)
        self._thread.start()
        return machine

    def clear(self) -> None:
        """Nobody listens there."""
        if self._loop is not None and self._thread is not None:
            self._loop.post(Signalled(15))
            self._thread.join()
            self._loop = None


@pytest.fixture
def throne(env: ClusterEnv) -> Iterator[Throne]:
    """Cleared at the end, before the cluster is."""
    made = Throne(env.base)
    yield made
    made.clear()


def start(env: ClusterEnv, throne: Throne, kind: str) -> Part:
    """An agent or the batch framework, at this throne."""
    key = env.base / f"{kind}.key"
    save_key(key, KeyFile(kind, kind, MEMBER, SERVER.public))
    words = [
        kind,
        "--master",
        throne.address,
        "--key",
        str(key),
        "--work-dir",
        str(env.base / kind),
    ]
    if kind == "agent":
        words += ["--resources", "cpus:2;mem:512M", "--cgroup-root", env.cgroup_root]
        words += ["--name", "agent"]
    part = env.part(kind, *words)
    if kind == "agent":
        env.agents.append(part)
    return part


def test_an_agent_refuses_a_master_whose_epoch_is_over(env: ClusterEnv, throne: Throne) -> None:
    """Having seen epoch 7 it runs nothing for 6, also after a restart; 8 it believes again."""
    throne.seat(7)
    agent = start(env, throne, "agent")
    until((env.base / "epoch-7").exists, "a task of epoch 7 has run")
    older = throne.seat(6)
    until(lambda: older.openings.count(7) >= 1, "it has met epoch 6")
    agent.kill_nine()
    agent.restart()
    seen = len(older.openings)
    until(lambda: len(older.openings) > seen, "it has met epoch 6 again")
    # Whoever believes it sends heartbeats, three a second.
    assert older.openings == [7] * len(older.openings)
    registrations = agent.text().count("registered with the master")
    throne.seat(8)
    until((env.base / "epoch-8").exists, "a task of epoch 8 has run")
    assert not (env.base / "epoch-6").exists()
    assert agent.text().count("registered with the master") == registrations + 1


def test_the_batch_framework_refuses_a_master_whose_epoch_is_over(
    env: ClusterEnv, throne: Throne
) -> None:
    """Its epoch is on its disk, too."""
    throne.seat(7)
    framework = start(env, throne, "framework")
    until(lambda: "subscribed as F1" in framework.text(), "it has subscribed at epoch 7")
    older = throne.seat(6)
    until(lambda: older.openings, "it has met epoch 6")
    framework.kill_nine()
    framework.restart()
    seen = len(older.openings)
    until(lambda: len(older.openings) > seen, "it has met epoch 6 again")
    assert older.openings == [7] * len(older.openings)
    assert framework.text().count("subscribed as F1") == 1
    throne.seat(8)
    until(lambda: framework.text().count("subscribed as F1") == 2, "it has subscribed at epoch 8")
