"""A cluster that says what a test has written for it: master, framework and agent in one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mesosctl.core.machine import Effect, Event, Now, PeerLost, Received, Signalled, Stop
from mesosctl.core.session import ServerSessions
from mesosctl.model.ids import FrameworkId
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.protocol.messages.session import Bye, Refusal
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyFile, KeyPair, make_keypair, save_key

Answer = Callable[[int, Message], Sequence[Message]]


def _refuse(re: int, message: Message) -> Sequence[Message]:
    return [Refusal(re, "invalid", f"nothing is written for {message.kind}")]


class ScriptedMachine:
    """Answers each message by the entry of its type in `script`; what has none is refused."""

    def __init__(self) -> None:
        self.script: dict[type[Message], Answer] = {}
        self.sessions = ServerSessions("test", 1)
        self.heard: list[Message] = []

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        match event:
            case Received(peer=peer):
                message, effects = self.sessions.receive(event, now)
                if message is None or isinstance(message, Bye):
                    return effects
                self.heard.append(message)
                re = self.sessions.answered(peer)
                answer = self.script.get(type(message), _refuse)
                answers = answer(re, message)
                sent = [effect for answer in answers for effect in self.sessions.send(peer, answer)]
                return [*effects, *sent]
            case PeerLost(peer=peer):
                self.sessions.drop(peer)
            case Signalled():
                return [Stop(0)]
        return ()

    def settle(self, now: Now) -> Sequence[Effect]:
        return ()

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        return


class FakeCluster:
    """One server in a thread. `on(kind, answer)` scripts it; `heard(kind)` is what it was sent."""

    def __init__(self, client_keys: KeyPair | None = None) -> None:
        self.keys = make_keypair()
        self.client_keys = client_keys or make_keypair()
        self.machine = ScriptedMachine()
        self.loop = Loop(self.machine, role="fake")
        self.loop.authority("test", lambda key: key == self.client_keys.public)
        self.address = self.loop.bind("in", ServerSpec("tcp://127.0.0.1:0", self.keys, "test"))
        self.on(FindFramework, self._found)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def _found(self, re: int, message: Message) -> Sequence[Message]:
        name = message.name if isinstance(message, FindFramework) else ""
        return [FrameworkFound(re, FrameworkId("f1"), name, self.address, self.keys.public)]

    def on(self, kind: type[Message], answer: Answer) -> None:
        self.machine.script[kind] = answer

    def heard(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.machine.heard if isinstance(message, kind)]

    def stop(self) -> None:
        if not self.thread.is_alive():
            return
        self.loop.post(Signalled(15))
        self.thread.join()


@pytest.fixture
def fake_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A scripted cluster that commands of this process find by themselves."""
    cluster = FakeCluster()
    path = tmp_path / "me.key"
    save_key(path, KeyFile("me", "client", cluster.client_keys, cluster.keys.public))
    for name, value in (("CONFIG", "/dev/null"), ("KEY", str(path)), ("MASTER", cluster.address)):
        monkeypatch.setenv(f"MESOSCTL_{name}", value)
    yield cluster
    cluster.stop()


@pytest.fixture
def make_fake_cluster() -> Iterator[Callable[[FakeCluster], FakeCluster]]:
    """More servers that know the same client key as one that is there."""
    made: list[FakeCluster] = []

    def make(like: FakeCluster) -> FakeCluster:
        made.append(FakeCluster(like.client_keys))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()
