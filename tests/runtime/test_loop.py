"""The loop with a small machine and real sockets: order, durability, failures, signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import zmq

from mesosctl.core.machine import (
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
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.errors import InvariantBroken, Refused, StorageFailed
from mesosctl.limits import BAD_FRAMES_MAX
from mesosctl.protocol.codec import encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.query import Done, WhoIs
from mesosctl.protocol.messages.session import Bye
from mesosctl.runtime import loop as loop_module
from mesosctl.runtime import zap
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec, LinkState
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyPair, make_keypair

pytestmark = pytest.mark.integration
SERVER = make_keypair()
CLIENT = make_keypair()


@dataclass(frozen=True, slots=True)
class Said(Event):
    text: str


@dataclass(frozen=True, slots=True)
class Deed(Effect):
    text: str


class Scripted:
    """A machine that answers what `react` says, and remembers what it saw."""

    def __init__(self, react: Callable[[Event], Sequence[Effect]] = lambda event: ()) -> None:
        self.react = react
        self.seen: list[Event] = []
        self.due: float | None = None
        self.settled = 0

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        self.seen.append(event)
        return self.react(event)

    def settle(self, now: Now) -> Sequence[Effect]:
        self.settled += 1
        return ()

    def deadline(self) -> float | None:
        return self.due

    def check(self) -> None:
        return


class Echo:
    """Answers every request in its session with Done; remembers what it was told and lost."""

    def __init__(self, epoch: int = 1, answers: int = 1_000_000) -> None:
        self.sessions = ServerSessions("test", epoch)
        self.answers = answers
        self.told: list[str] = []
        self.lost: list[str] = []

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        match event:
            case Received():
                message, effects = self.sessions.receive(event, now)
                if message is None or isinstance(message, Bye):
                    return effects
                if isinstance(message, WhoIs):
                    self.told.append(message.key)
                if len(self.told) > self.answers:
                    return effects
                answer = Done(self.sessions.answered(event.peer))
                return [*effects, *self.sessions.send(event.peer, answer)]
            case PeerLost(peer=peer):
                self.sessions.drop(peer)
                self.lost.append(peer)
            case Signalled():
                return [Stop(0)]
        return ()

    def settle(self, now: Now) -> Sequence[Effect]:
        return ()

    def deadline(self) -> float | None:
        return self.sessions.deadline()

    def check(self) -> None:
        return


class Caller:
    """Keeps a session open over the link `up`; says hello in each new one."""

    def __init__(self) -> None:
        self.answers = 0
        self.lost = 0
        self.session = ClientSession("up", lambda: WhoIs("hello"), self._lost, new_id, 0.2)

    def _lost(self, now: Now) -> list[Effect]:
        self.lost += 1
        return []

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        match event:
            case Started():
                return self.session.start(now)
            case Received():
                message, effects = self.session.receive(event.envelope, now)
                if isinstance(message, Done):
                    self.answers += 1
                    self.session.confirm(now)
                return effects
            case PeerLost():
                return self.session.lose(now)
            case Tick():
                return self.session.tick(now)
        return ()

    def settle(self, now: Now) -> Sequence[Effect]:
        return ()

    def deadline(self) -> float | None:
        return self.session.deadline()

    def check(self) -> None:
        return


class Recorder:
    """A store that remembers its transactions, or fails."""

    def __init__(self, log: list[str], fail: bool = False) -> None:
        self.log = log
        self.fail = fail

    def apply(self, operations: Sequence[Put | Delete]) -> None:
        if self.fail:
            raise StorageFailed("state.db did not keep it", "check the disk")
        self.log.append("commit " + " ".join(operation.key for operation in operations))


@contextmanager
def loops(*made: Loop) -> Iterator[None]:
    """Close the loops in the end, however it comes."""
    try:
        yield
    finally:
        for loop in made:
            loop.close()


def serve(machine: Echo | Scripted, address: str = "tcp://127.0.0.1:0") -> tuple[Loop, str]:
    loop = Loop(machine, role="server")
    loop.authority("test", lambda key: key == CLIENT.public)
    return loop, loop.bind("in", ServerSpec(address, SERVER, "test"))


def call(machine: Caller | Scripted, address: str, keys: KeyPair = CLIENT) -> Loop:
    loop = Loop(machine, role="caller")
    loop.link("up", LinkSpec(address, keys, SERVER.public))
    loop.post(Started())
    return loop


def turn(*running: Loop, until: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Run passes of all loops by turns until it is so."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, "it never came to that"
        for loop in running:
            loop.run_pass(0.002)


def dealer(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.curve_serverkey = SERVER.public.encode()
    socket.curve_publickey = CLIENT.public.encode()
    socket.curve_secretkey = CLIENT.secret.encode()
    socket.connect(address)
    return socket


def test_what_is_kept_is_durable_before_anything_is_done() -> None:
    """A promise must never be sent before what it promises is on disk."""
    log: list[str] = []

    def react(event: Event) -> Sequence[Effect]:
        match event:
            case Started():
                return [Deed("one"), Put("t", "a", {}), Deed("two")]
            case Said(text=text):
                return [Deed(text), Delete("t", text), *([Stop(3)] if text == "y" else [])]
        return ()

    machine = Scripted(react)
    loop = Loop(machine, store=Recorder(log))
    loop.on_effect(Deed, lambda deed: log.append(deed.text))
    loop.post(Said("x"))
    loop.post(Said("y"))
    assert loop.run() == 3
    assert log == ["commit a x y", "one", "two", "x", "y"]
    assert machine.settled == 1


def test_nothing_is_done_when_the_store_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Fail-stop: one line, exit code 1, and the promise is not sent."""
    done: list[str] = []
    loop = Loop(
        Scripted(lambda event: [Deed("promise"), Put("t", "a", {})]),
        role="master",
        store=Recorder([], fail=True),
    )
    loop.on_effect(Deed, lambda deed: done.append(deed.text))
    assert loop.run() == 1
    assert done == []
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.endswith("error master state.db did not keep it; check the disk\n")


@pytest.mark.parametrize("error", [ValueError("oops"), InvariantBroken("oops")])
def test_a_mistake_of_the_machine_ends_the_process(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """A half-alive daemon is worse than a dead one, and the traceback is for its authors."""

    def react(event: Event) -> Sequence[Effect]:
        raise error

    assert Loop(Scripted(react)).run() == 70
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "oops" in shown


def test_an_effect_that_nobody_carries_out_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """A deed that silently does not happen would be found weeks later."""
    assert Loop(Scripted(lambda event: [Deed("x")])).run() == 70
    assert "nothing here carries out Deed" in capsys.readouterr().err


def test_a_link_without_a_place_and_a_put_without_a_store_are_mistakes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wiring that is missing shows at once."""
    assert Loop(Scripted(lambda event: [Open("nowhere")])).run() == 70
    assert Loop(Scripted(lambda event: [Put("t", "k", {})])).run() == 70
    assert "nowhere" in capsys.readouterr().err


def test_a_refusal_by_a_deed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What the world refuses is no mistake of ours."""

    def refuse(deed: Deed) -> None:
        raise Refused("no room", "make some")

    loop = Loop(Scripted(lambda event: [Deed("x")]))
    loop.on_effect(Deed, refuse)
    assert loop.run() == 5
    assert "Traceback" not in capsys.readouterr().err


def test_log_effects_and_the_last_words_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """An operator reads why it ended, and nothing a peer wrote can fool the terminal."""
    machine = Scripted(lambda event: [Log("warning", "a\x1b[31m\nb"), Stop(0, "asked to")])
    assert Loop(machine, role="agent").run() == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line[9:] for line in lines] == [
        "warning agent a\\x1b[31m\\nb",
        "info agent asked to",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_become_events(number: signal.Signals) -> None:
    """A daemon stops in good order, and the handlers of before are put back."""
    before = signal.getsignal(number)

    def react(event: Event) -> Sequence[Effect]:
        if isinstance(event, Started):
            os.kill(os.getpid(), number)
        return [Stop(9)] if event == Signalled(number) else ()

    assert Loop(Scripted(react)).run() == 9
    assert signal.getsignal(number) is before


def test_the_deadline_brings_a_tick_in_time() -> None:
    """Timers of the machine drive it when nothing else happens."""

    def react(event: Event) -> Sequence[Effect]:
        if isinstance(event, Started):
            machine.due = time.monotonic() + 0.05
        return [Stop(0)] if isinstance(event, Tick) else ()

    machine = Scripted(react)
    assert Loop(machine).run() == 0
    assert machine.due is not None
    assert 0 <= time.monotonic() - machine.due < 1.0
    assert machine.seen == [Started(), Tick()]


def test_other_threads_can_post() -> None:
    """Slow deeds are done in threads and told when they are done."""
    machine = Scripted(lambda event: [Stop(0)] if event == Said("done") else ())
    loop = Loop(machine)
    thread = threading.Timer(0.02, lambda: loop.post(Said("done")))
    thread.start()
    assert loop.run() == 0
    thread.join()
    loop.post(Said("too late"))
    assert Said("too late") not in machine.seen


def test_descriptors_are_watched_until_they_are_not() -> None:
    """Pipes of children and pidfds come in this way."""
    reading, writing = os.pipe()
    machine = Scripted()
    loop = Loop(machine)

    def take() -> list[Event]:
        return [Said(os.read(reading, 100).decode())]

    with loops(loop):
        loop.watch_fd(reading, take)
        os.write(writing, b"first")
        turn(loop, until=lambda: machine.seen)
        loop.unwatch_fd(reading)
        loop.unwatch_fd(reading)
        os.write(writing, b"second")
        loop.run_pass(0.0)
        loop.run_pass(0.0)
    os.close(reading)
    os.close(writing)
    assert machine.seen == [Said("first")]


def test_every_repeats() -> None:
    """Samplers and the look at the key list run on intervals of the shell."""
    machine = Scripted()
    loop = Loop(machine)
    with loops(loop):
        loop.every(0.01, lambda: [Said("again")])
        turn(loop, until=lambda: len(machine.seen) >= 3)
    assert machine.seen[:3] == [Said("again")] * 3


def test_sessions_over_real_sockets() -> None:
    """The whole way: open, hello, answer."""
    echo, caller = Echo(), Caller()
    server, address = serve(echo)
    client = call(caller, address)
    with loops(server, client):
        turn(server, client, until=lambda: caller.answers)
        assert echo.told == ["hello"]
        assert client.state_of("up") is LinkState.READY
        assert caller.lost == 0


def test_a_new_server_process_resets_old_sessions() -> None:
    """What was meant for the last process must not be taken by the next one."""
    first, caller = Echo(), Caller()
    server, address = serve(first)
    client = call(caller, address)
    with loops(client):
        turn(server, client, until=lambda: caller.answers)
        server.close()
        second = Echo(epoch=2)
        server, _ = serve(second, address)
        with loops(server):
            turn(server, client, until=lambda: caller.answers == 2)
    assert caller.lost >= 1
    assert second.told == ["hello"]
    assert caller.session.epoch == 2


def test_a_stale_message_is_answered_with_a_reset() -> None:
    """A peer in the middle of a session that this process never saw has to start over."""
    echo = Echo()
    server, address = serve(echo)
    caller = Scripted()
    client = call(caller, address)
    stale = Envelope("test", 1, "old", 7, WhoIs("launch"))
    caller.react = lambda event: (
        [Open("up"), Send("up", stale)] if isinstance(event, Started) else ()
    )
    with loops(server, client):
        turn(server, client, until=lambda: len(caller.seen) >= 2)
    answer = caller.seen[1]
    assert isinstance(answer, Received) and answer.envelope.message.kind == "reset"
    assert answer.key == SERVER.public
    assert echo.told == []


def test_a_lost_peer_is_told_once_and_at_once() -> None:
    """The master learns which agent is gone when its connection breaks, not seconds later."""
    echo, caller = Echo(), Caller()
    server, address = serve(echo)
    client = call(caller, address)
    with loops(server):
        turn(server, client, until=lambda: caller.answers)
        peers = echo.sessions.peers()
        client.close()
        turn(server, until=lambda: echo.lost)
        server.run_pass(0.01)
    assert tuple(echo.lost) == peers


def test_a_peer_that_sends_junk_is_cut_off_and_others_are_served() -> None:
    """Even who holds a key gets only so many frames that nobody can read."""
    echo, caller = Echo(), Caller()
    server, address = serve(echo)
    client = call(caller, address)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    raw = dealer(context, address)
    monitor = raw.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    with loops(server, client):
        for number in range(BAD_FRAMES_MAX):
            raw.send(b"\xc1junk %d" % number)
        turn(server, client, until=lambda: echo.lost and caller.answers)
        turn(server, until=lambda: monitor.poll(0))
        assert server.counters.bad_frames == BAD_FRAMES_MAX
        assert len(echo.lost) == 1
        assert echo.told == ["hello"]
    raw.disable_monitor()
    context.destroy(linger=0)


def test_a_revoked_key_is_lost_and_stays_out() -> None:
    """Revocation reaches live connections through the loop."""
    echo, caller = Echo(), Caller()
    server, address = serve(echo)
    client = call(caller, address)
    why: list[str] = []

    def tell(link: str, text: str) -> list[Event]:
        why.append(f"{link} {text}")
        return []

    client.on_refused(tell)
    with loops(server, client):
        turn(server, client, until=lambda: caller.answers)
        server.authority("test", lambda key: False)
        server.drop_key(CLIENT.public)
        turn(server, client, until=lambda: echo.lost and why)
        assert caller.answers == 1
    assert why[0] == f"up {address}: it does not know our key"


def test_a_message_that_is_too_large_is_never_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """The other side would cut the connection without a word; here it is at least logged."""
    echo, caller = Echo(), Scripted()
    server, address = serve(echo)
    client = call(caller, address)
    huge = Envelope("", 0, "s", 1, WhoIs("x" * (9 * 1024 * 1024)))
    caller.react = lambda event: (
        [Open("up"), Send("up", huge)] if isinstance(event, Started) else ()
    )
    with loops(server, client):
        turn(server, client, until=lambda: PeerLost("up") in caller.seen)
    assert "too large" in capsys.readouterr().err


def test_what_was_said_before_stop_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goodbye that dies with its process would cost the other side a timeout.

    More than libzmq holds, to one that answers no more: an answer that finds the connection closed
    would have the kernel throw away what was not read yet. How long that may take is not the
    question here.
    """
    monkeypatch.setattr(loop_module, "STOP_LINGER_S", 60.0)
    echo = Echo(answers=1)
    server, address = serve(echo)
    caller = Scripted()
    # Its `run` says Started; a second one would open the link anew, and the one answer get lost.
    client = Loop(caller, role="caller")
    client.link("up", LinkSpec(address, CLIENT, SERVER.public))
    last = [Send("up", Envelope("", 0, "s", seq, WhoIs(f"word {seq}"))) for seq in range(2, 3000)]
    hello = Send("up", Envelope("", 0, "s", 1, WhoIs("hello")))

    def react(event: Event) -> Sequence[Effect]:
        match event:
            case Started():
                return [Open("up"), hello]
            case Received() if caller.react is react:
                caller.react = lambda event: ()
                return [*last, Stop(0)]
        return ()

    caller.react = react
    thread = threading.Thread(target=client.run)
    thread.start()
    with loops(server):
        turn(server, until=lambda: len(echo.told) == 2999, timeout_s=60.0)
    thread.join()
    assert echo.told[-1] == "word 2999"


def test_sending_to_nobody_comes_back_as_a_loss() -> None:
    """A machine hears of every peer that it can no longer reach."""
    unknown = "in:" + "ab" * 16
    envelope = Envelope("test", 1, "s", 1, _anything())
    machine = Scripted(
        lambda event: (
            [Send(unknown, envelope), Send("typo", envelope)] if event == Said("x") else ()
        )
    )
    loop = Loop(machine)
    loop.bind("in", ServerSpec("tcp://127.0.0.1:0", SERVER, "test"))
    with loops(loop):
        loop.post(Said("x"))
        turn(loop, until=lambda: PeerLost("typo") in machine.seen)
    assert PeerLost(unknown) in machine.seen


def _anything() -> Message:
    return Done(1)


def _received(machine: Scripted) -> list[Event]:
    return [event for event in machine.seen if isinstance(event, Received)]


def test_whoever_connects_after_sockets_took_turns_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The socket that lets connections in is another one when many have come."""
    monkeypatch.setattr(zap, "QUESTIONS_FEW", 2)
    monkeypatch.setattr(zap, "QUIET_S", 0.05)
    monkeypatch.setattr(zap, "LINGER_S", 0.05)
    machine = Scripted()
    server, address = serve(machine)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    hello = encode(Envelope("", 0, "s", 1, WhoIs("hello")))
    with loops(server):
        try:
            dealers = []
            for here in (4, 8, 12):
                before = server._network.zap.socket
                for _ in range(4):
                    dealers.append(dealer(context, address))
                    dealers[-1].send(hello)
                turn(server, until=lambda: len(_received(machine)) == here)  # noqa: B023
                turn(server, until=lambda: before.closed)  # noqa: B023
        finally:
            context.destroy(linger=0)
