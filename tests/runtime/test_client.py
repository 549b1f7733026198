"""The asking side against a served loop: answers, refusals, and every way of hearing nothing."""

from __future__ import annotations

import os
import socket as system_socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from mesosctl.core.machine import Effect, Event, Now, PeerLost, Received, Send, Signalled, Stop
from mesosctl.core.session import ServerSessions
from mesosctl.errors import MesosctlError, NotFound, Refused, Unreachable, UsageError
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import Changed, Watch
from mesosctl.protocol.messages.query import DescribeMaster, Done, WhoIs
from mesosctl.protocol.messages.session import Bye, Refusal, Reset
from mesosctl.protocol.messages.streams import StreamChunk, StreamCredit
from mesosctl.runtime import client as client_module
from mesosctl.runtime.client import Client, Hub, Reopened
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.reasons import check_host
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyPair, make_keypair
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.integration
SERVER = make_keypair()
CLIENT = make_keypair()
STRANGER = make_keypair()
Answers = Callable[[int, Message], Sequence[Message]]


class Answering:
    """Answers each request with what `answers(re, message)` says."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.sessions = ServerSessions("test", 3)
        self.heard: list[Message] = []

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        match event:
            case Received(peer=peer):
                message, effects = self.sessions.receive(event, now)
                if message is None:
                    return effects
                self.heard.append(message)
                if isinstance(message, Bye):
                    return effects
                sent = list(effects)
                for answer in self.answers(self.sessions.answered(peer), message):
                    if isinstance(answer, Reset):
                        sent += self.sessions.reset(peer, answer.code)
                    else:
                        sent += self.sessions.send(peer, answer)
                return sent
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


class Server:
    """A machine served in a thread."""

    def __init__(self, answers: Answers, address: str = "tcp://127.0.0.1:0") -> None:
        self.machine = Answering(answers)
        self.loop = Loop(self.machine, role="server")
        self.loop.authority("test", lambda key: key == CLIENT.public)
        self.address = self.loop.bind("in", ServerSpec(address, SERVER, "test"))
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def stop(self) -> None:
        self.loop.post(Signalled(15))
        self.thread.join()


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Server] = []

    def start(answers: Answers, address: str = "tcp://127.0.0.1:0") -> Server:
        running.append(Server(answers, address))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        yield made


def done(re: int, message: Message) -> Sequence[Message]:
    return [Done(re, message.key if isinstance(message, WhoIs) else "")]


def connect(hub: Hub, address: str, keys: KeyPair = CLIENT, timeout_s: float = 10.0) -> Client:
    return hub.connect(address, keys, SERVER.public, timeout_s=timeout_s)


def test_requests_are_answered_in_one_session(serve: Serve, hub: Hub) -> None:
    """The everyday case, and its end: the server hears a goodbye."""
    server = serve(done)
    client = connect(hub, server.address)
    assert client.request(WhoIs("a")) == Done(1, "a")
    assert client.request(WhoIs("b")) == Done(2, "b")
    assert client.cluster == "test"
    client.close()
    assert hub.wait(lambda: Bye() in server.machine.heard, 10.0)
    assert server.machine.heard == [WhoIs("a"), WhoIs("b"), Bye()]


def test_the_first_answer_takes_little_time(serve: Serve) -> None:
    """Every command pays for this; 20 ms is the budget, the best of some is what we can do."""
    server = serve(done)
    took_s = []
    for _ in range(5):
        began = time.perf_counter()
        with Hub() as hub:
            connect(hub, server.address).request(WhoIs("a"))
            took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("invalid", UsageError),
        ("not-found", NotFound),
        ("not-permitted", Refused),
        ("conflict", Refused),
        ("never-fits", Refused),
        ("unavailable", Unreachable),
        ("from-the-future", MesosctlError),
    ],
)
def test_a_refusal_is_raised_as_what_it_means(
    serve: Serve, hub: Hub, code: str, error: type[MesosctlError]
) -> None:
    """Exit codes of commands come from here."""
    server = serve(lambda re, message: [Refusal(re, code, "no such thing", "look again")])
    with pytest.raises(MesosctlError) as caught:
        connect(hub, server.address).request(WhoIs("a"))
    assert type(caught.value) is error
    assert str(caught.value) == "no such thing; look again"


def test_a_key_that_nobody_knows_fails_at_once(serve: Serve, hub: Hub) -> None:
    """Not after the timeout, and with the way out."""
    server = serve(done)
    began = time.monotonic()
    with pytest.raises(Refused, match=r"does not know our key; .*keygen"):
        connect(hub, server.address, STRANGER).request(WhoIs("a"))
    assert time.monotonic() - began < 5.0
    assert server.machine.heard == []


def test_the_wrong_server_fails_soon(serve: Serve, hub: Hub) -> None:
    """A key file of another cluster is the likely mistake, so the message says so."""
    server = serve(done)
    began = time.monotonic()
    client = hub.connect(server.address, CLIENT, STRANGER.public)
    with pytest.raises(Unreachable, match="server key"):
        client.request(WhoIs("a"))
    assert time.monotonic() - began < 5.0


def test_nobody_listening_is_said_before_the_timeout(hub: Hub) -> None:
    """The most common failure of all: the master is not started."""
    with system_socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        client = hub.connect(
            f"tcp://127.0.0.1:{port}", CLIENT, SERVER.public, connect_timeout_s=0.2
        )
        with pytest.raises(Unreachable, match=rf"nobody listens at tcp://127.0.0.1:{port}"):
            client.request(WhoIs("a"))


def test_something_else_that_listens_is_not_waited_for_longer_than_asked(hub: Hub) -> None:
    """A port that accepts and says nothing must not hang a command."""
    with system_socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Unreachable, match="not as mesosctl"):
            connect(hub, address, timeout_s=0.3).request(WhoIs("a"))


def test_a_silent_server_is_given_up_in_time(serve: Serve, hub: Hub) -> None:
    """A master that hangs is told apart from one that is not there."""
    server = serve(lambda re, message: [])
    with pytest.raises(Unreachable, match=r"connected but did not answer within 0.2 s"):
        connect(hub, server.address).request(WhoIs("a"), timeout_s=0.2)


@pytest.mark.parametrize(
    ("address", "error"),
    [("tcp://host.invalid:1", Unreachable), ("tcp://127.0.0.1", UsageError), ("::", UsageError)],
)
def test_bad_addresses_fail_before_anything_is_sent(
    hub: Hub, address: str, error: type[MesosctlError]
) -> None:
    """libzmq would look for them for ever."""
    with pytest.raises(error):
        hub.connect(address, CLIENT, SERVER.public)


def test_a_request_lost_by_a_reset_is_sent_again(serve: Serve, hub: Hub) -> None:
    """A restarted master knows no sessions; users must not notice."""
    resets: list[int] = []

    def answers(re: int, message: Message) -> Sequence[Message]:
        if not resets:
            resets.append(re)
            return [Reset("unknown-session")]
        return done(re, message)

    server = serve(answers)
    client = connect(hub, server.address)
    assert client.request(WhoIs("again")) == Done(1, "again")
    assert server.machine.heard == [WhoIs("again"), WhoIs("again")]
    assert list(client.inbox) == [Reopened()]


def test_a_gap_in_what_arrives_starts_over(serve: Serve, hub: Hub) -> None:
    """A lost answer is asked for again, not waited for."""
    server = serve(done)
    machine = server.machine
    whole = machine.handle

    def holed(event: Event, now: Now) -> Sequence[Effect]:
        effects = list(whole(event, now))
        if len(machine.heard) == 1:
            for effect in effects:
                if isinstance(effect, Send):
                    gap = Envelope("test", 3, effect.envelope.session, 2, effect.envelope.message)
                    return [Send(effect.peer, gap)]
        return effects

    machine.handle = holed  # type: ignore[method-assign]
    assert connect(hub, server.address).request(WhoIs("a")) == Done(1, "a")
    assert machine.heard == [WhoIs("a"), WhoIs("a")]


def test_another_cluster_is_refused_by_name(serve: Serve, hub: Hub) -> None:
    """Reopening for ever would not make it the right one."""
    server = serve(lambda re, message: [Reset("wrong-cluster")])
    with pytest.raises(Refused, match="another cluster"):
        connect(hub, server.address).request(WhoIs("a"))


def test_a_server_that_restarts_is_found_again(serve: Serve, hub: Hub) -> None:
    """A command that waits survives a restart of what it waits for."""
    server = serve(done)
    client = connect(hub, server.address)
    assert client.request(WhoIs("a")) == Done(1, "a")
    server.stop()
    again = serve(done, server.address)
    assert client.request(WhoIs("b"), timeout_s=10.0) == Done(1, "b")
    assert again.machine.heard == [WhoIs("b")]


def test_pushes_end_with_the_one_that_is_done(serve: Serve, hub: Hub) -> None:
    """`wait` prints as it goes and ends when nothing can change any more."""
    server = serve(
        lambda re, message: [
            Changed(re, ()),
            Changed(re, (), exit_code=4, done=True),
            Changed(re, ()),
        ]
    )
    pushes = list(connect(hub, server.address).pushes(Watch(("all",))))
    assert pushes == [Changed(1, ()), Changed(1, (), exit_code=4, done=True)]


def test_pushes_are_asked_for_again_after_a_loss(serve: Serve, hub: Hub) -> None:
    """The present is told anew, so nothing is missed."""
    asked: list[int] = []

    def answers(re: int, message: Message) -> Sequence[Message]:
        asked.append(re)
        if len(asked) == 1:
            return [Changed(re, ()), Reset("replaced")]
        return [Changed(re, (), done=True)]

    pushes = list(connect(hub, serve(answers).address).pushes(Watch(("all",))))
    assert pushes == [Changed(1, ()), Changed(1, (), done=True)]


def test_a_refused_watch_raises(serve: Serve, hub: Hub) -> None:
    """Waiting for a job that does not exist ends at once."""
    server = serve(lambda re, message: [Refusal(re, "not-found", "no job 9")])
    with pytest.raises(NotFound, match="no job 9"):
        next(connect(hub, server.address).pushes(Watch(("9",))))


def test_pushes_of_a_dead_server_end_when_patience_does(serve: Serve, hub: Hub) -> None:
    """A pipeline must not hang for ever on a cluster that is gone."""
    server = serve(lambda re, message: [Changed(re, ())])
    pushes = connect(hub, server.address).pushes(Watch(("all",)), patience_s=0.3)
    assert next(pushes) == Changed(1, ())
    server.stop()
    with pytest.raises(Unreachable):
        next(pushes)


def test_one_hub_serves_several_clients(serve: Serve, hub: Hub) -> None:
    """Logs come from many agents at once."""
    clients = [connect(hub, serve(done).address) for _ in range(3)]
    asks = [client.ask(WhoIs(str(number))) for number, client in enumerate(clients)]
    assert hub.wait(lambda: all(ask.replies for ask in asks), 10.0)
    assert [ask.replies[0] for ask in asks] == [Done(1, "0"), Done(1, "1"), Done(1, "2")]
    for client, ask in zip(clients, asks, strict=True):
        client.end(ask)
        assert client.request(DescribeMaster()) == Done(2, "")


def test_what_comes_unasked_is_in_the_inbox(serve: Serve, hub: Hub) -> None:
    """Chunks of streams are no replies."""
    chunk = StreamChunk(1, 0, b"text")
    client = connect(hub, serve(lambda re, message: [chunk]).address)
    assert client.tell(StreamCredit(1, 100)) == 1
    assert hub.wait(lambda: client.inbox, 10.0)
    assert list(client.inbox) == [chunk]
    assert not hub.wait(lambda: False, 0.01)


def test_one_that_was_heard_before_is_waited_for_behind_a_proxy(serve: Serve, hub: Hub) -> None:
    """A proxy takes connections, and ends them, while what stands behind it is away."""
    with Proxy(serve(done).address) as proxy:
        client = connect(hub, proxy.address)
        assert client.request(WhoIs("a")) == Done(1, "a")
        proxy.cut()
        ask, before = client.ask(WhoIs("b")), proxy.accepted

        def tried_often() -> bool:
            client.check()
            return proxy.accepted >= before + 4

        assert hub.wait(tried_often, 30.0)
        proxy.resume()
        assert hub.wait(lambda: bool(ask.replies), 30.0)


def test_a_refused_key_gets_in_once_it_is_on_the_list(serve: Serve, hub: Hub) -> None:
    """Those who wait without asking for errors are not left behind, and hear of it if they ask."""
    server = serve(done)
    known: list[str] = []
    server.loop.authority("test", lambda key: key in known)
    client = connect(hub, server.address)
    ask = client.ask(WhoIs("a"))
    assert not hub.wait(lambda: bool(ask.replies), 1.0)
    with pytest.raises(Refused, match="does not know our key"):
        client.check()
    known.append(CLIENT.public)
    assert hub.wait(lambda: bool(ask.replies), 30.0)
    client.check()


def test_heartbeats_keep_a_long_wait_alive(
    serve: Serve, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch during which nothing happens must not look like a dead client, or a dead server."""
    monkeypatch.setattr(client_module, "HEARTBEAT_S", 0.02)
    # A busy machine must not be taken for a dead one.
    monkeypatch.setattr(client_module, "HEARTBEATS_MISSED_MAX", 200)
    client = connect(hub, serve(done).address)
    assert client.request(WhoIs("a")) == Done(1, "a")
    assert not hub.wait(lambda: client.inbox, 0.5)
    # Each ping took a number, and no session was lost meanwhile.
    assert client.ask(WhoIs("b")).seq > 5


def test_descriptors_are_watched_beside_the_clients(hub: Hub) -> None:
    """`run` passes its own stdin on while it waits."""
    reading, writing = os.pipe()
    taken: list[bytes] = []
    hub.watch_fd(reading, lambda: taken.append(os.read(reading, 10)))
    os.write(writing, b"typed")
    assert hub.wait(lambda: taken, 5.0)
    hub.unwatch_fd(reading)
    os.close(reading)
    os.close(writing)
    assert taken == [b"typed"]


def test_a_request_that_is_too_large_is_a_usage_error(serve: Serve, hub: Hub) -> None:
    """The connection would be cut without a word."""
    client = connect(hub, serve(done).address)
    with pytest.raises(UsageError, match="bytes"):
        client.request(WhoIs("x" * (9 * 1024 * 1024)))


def test_a_numeric_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks names up takes as long to load as a master to answer."""
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda name, *_, **__: asked.append(name) or [None])
    for address in ("tcp://127.0.0.1:5", "tcp://10.0.0.255:5"):
        check_host(address)
    assert asked == []
    for address in ("tcp://10.0.0.256:5", "tcp://1.2.3:5", "tcp://a.b.c.d:5", "tcp://[::1]:5"):
        check_host(address)
    assert asked == [b"10.0.0.256", b"1.2.3", b"a.b.c.d", b"::1"]
