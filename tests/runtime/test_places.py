"""Links and clients that know several masters: dead ones, standbys, and the one that leads."""

from __future__ import annotations

import socket as system_socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mesosctl.core.machine import Effect, Event, Machine, Now, PeerLost, Received, Signalled, Stop
from mesosctl.core.master.standby import LeaderIs, StandbyMachine
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.errors import Unreachable
from mesosctl.protocol.messages.query import DescribeMaster, Done
from mesosctl.runtime.client import Hub
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import make_keypair

pytestmark = pytest.mark.integration
SERVER, CLIENT = make_keypair(), make_keypair()
LIMIT_S = 20.0


class Leader:
    """Answers every request with Done."""

    def __init__(self, epoch: int = 3) -> None:
        self.sessions = ServerSessions("c", epoch)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Received(peer=peer):
                message, effects = self.sessions.receive(event, now)
                if message is None:
                    return effects
                return effects + self.sessions.send(peer, Done(self.sessions.answered(peer)))
            case Signalled():
                return [Stop(0)]
        return []

    def settle(self, now: Now) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        return


class Daemon:
    """Keeps a session over the link "master" and notes the epochs that answered."""

    def __init__(self) -> None:
        self.session = ClientSession("master", DescribeMaster, lambda now: [], new_id)
        self.answered: list[int] = []

    def handle(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Received(envelope=envelope):
                message, effects = self.session.receive(envelope, now)
                if isinstance(message, Done):
                    self.session.confirm(now)
                    self.answered.append(envelope.epoch)
                return effects
            case PeerLost(moved=moved):
                return self.session.lose(now, moved)
            case Signalled():
                return [Stop(0)]
        due = self.session.deadline()
        return self.session.start(now) if due is None else self.session.tick(now)

    def settle(self, now: Now) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return self.session.deadline()

    def check(self) -> None:
        return


Run = Callable[[Machine], tuple[Loop, str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Serves machines, each in a thread of its own; the address of each."""
    running: list[tuple[Loop, threading.Thread]] = []

    def start(machine: Machine) -> tuple[Loop, str]:
        loop = Loop(machine, role="m", log=lambda level, text: None)
        loop.authority("test", lambda key: True)
        address = loop.bind("in", ServerSpec("tcp://127.0.0.1:0", SERVER, "test"))
        thread = threading.Thread(target=loop.run)
        thread.start()
        running.append((loop, thread))
        return loop, address

    yield start
    for loop, thread in running:
        loop.post(Signalled(15))
        thread.join()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can."""
    with system_socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{held.getsockname()[1]}"


def until(predicate: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not predicate():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_a_command_finds_the_leader_behind_a_dead_one_and_a_standby(run: Run, nobody: str) -> None:
    """The first of the list is dead, the second knows better, the third is not even listed."""
    _, leader = run(Leader())
    _, standby = run(StandbyMachine(LeaderIs(leader, "c", 3)))
    with Hub() as hub:
        client = hub.connect(f"{nobody},{standby}", CLIENT, SERVER.public)
        assert isinstance(client.request(DescribeMaster()), Done)
        assert isinstance(client.request(DescribeMaster()), Done)


def test_a_command_is_told_that_nobody_leads(run: Run) -> None:
    """Connected and not answered would send the user to the wrong place."""
    _, standby = run(StandbyMachine())
    with Hub() as hub:
        client = hub.connect(standby, CLIENT, SERVER.public, timeout_s=1.0)
        with pytest.raises(Unreachable, match="no master leads"):
            client.request(DescribeMaster())


def test_a_command_is_told_when_none_of_them_listens(nobody: str) -> None:
    """Both addresses are in the message, so that a wrong one is seen."""
    with Hub() as hub:
        both = f"{nobody},{nobody}"
        client = hub.connect(both, CLIENT, SERVER.public, connect_timeout_s=0.5)
        with pytest.raises(Unreachable, match=both):
            client.request(DescribeMaster())


def test_a_leader_at_no_address_is_not_followed(run: Run) -> None:
    """What a peer writes there must not stop the command with a traceback."""
    _, standby = run(StandbyMachine(LeaderIs("tcp://?", "c", 3)))
    with Hub() as hub:
        client = hub.connect(standby, CLIENT, SERVER.public, timeout_s=0.5)
        with pytest.raises(Unreachable, match="no address"):
            client.request(DescribeMaster())


def test_a_daemon_goes_to_the_leader_and_from_one_to_the_next(run: Run, nobody: str) -> None:
    """Dead, standby, leader; then the leader ends and the standby's word has changed."""
    first, leader = run(Leader(3))
    standby_loop, standby = run(StandbyMachine(LeaderIs(leader, "c", 3)))
    moving = Daemon()
    link_loop = Loop(moving, role="d", log=lambda level, text: None)
    link_loop.link("master", LinkSpec(f"{nobody},{standby}", CLIENT, SERVER.public))
    thread = threading.Thread(target=link_loop.run)
    thread.start()
    try:
        until(lambda: moving.answered == [3], "the leader answered")
        _, second = run(Leader(4))
        standby_loop.post(LeaderIs(second, "c", 4))
        first.post(Signalled(15))
        until(lambda: moving.answered == [3, 4], "the second leader answered")
    finally:
        link_loop.post(Signalled(15))
        thread.join()
