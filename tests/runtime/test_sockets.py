"""Server sockets and links over real connections: who gets in, what is lost, who is told."""

from __future__ import annotations

import os
import socket as system_socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from mesosctl.errors import Refused, UsageError
from mesosctl.limits import PEER_QUEUE_MAX
from mesosctl.runtime import zap
from mesosctl.runtime.endpoints import parse_address
from mesosctl.runtime.links import Link, LinkSpec, LinkState
from mesosctl.runtime.sockets import ServerSocket, ServerSpec
from mesosctl.runtime.zap import ZapHandler
from mesosctl.storage.keys import KeyPair, make_keypair

pytestmark = pytest.mark.integration
SERVER = make_keypair()
CLIENT = make_keypair()
STRANGER = make_keypair()


class World:
    """One server with its ZAP handler and any number of links, moved on by `until`."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.zap = ZapHandler(self.context)
        self.allowed: dict[str, bool | None] = {CLIENT.public: True}
        self.zap.set_authority("test", lambda key: self.allowed.get(key, False))
        self.server = self.serve(ServerSpec("tcp://127.0.0.1:0", SERVER, "test"))
        self.links: list[Link] = []
        self.raw: list[zmq.Socket[bytes]] = []
        self.got: list[tuple[str, str, bytes]] = []
        self.lost: list[str] = []

    def serve(self, spec: ServerSpec) -> ServerSocket:
        server = ServerSocket(self.context, "s", spec)
        if spec.domain:
            server.allows = lambda key: self.zap.allows(spec.domain, key)
        return server

    def link(self, keys: KeyPair = CLIENT, server_key: str = SERVER.public) -> Link:
        link = Link(self.context, "up", LinkSpec(self.server.address, keys, server_key))
        link.open()
        self.links.append(link)
        return link

    def dealer(self, keys: KeyPair | None = CLIENT) -> zmq.Socket[bytes]:
        """A socket without our manners."""
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        if keys is not None:
            socket.curve_serverkey = SERVER.public.encode()
            socket.curve_publickey = keys.public.encode()
            socket.curve_secretkey = keys.secret.encode()
        socket.connect(self.server.address)
        self.raw.append(socket)
        return socket

    def move(self) -> None:
        self.zap.answer()
        self.zap.expire(time.monotonic())
        messages, lost = self.server.receive(500)
        self.got += messages
        self.lost += lost
        self.server.flush()
        for link in self.links:
            link.flush()

    def until(self, ready: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        poller = zmq.Poller()
        for socket in (*self.zap.sockets, *self.server.sockets):
            poller.register(socket, zmq.POLLIN)
        for link in self.links:
            for socket in link.sockets or ():
                poller.register(socket, zmq.POLLIN)
        while not ready():
            assert time.monotonic() < deadline, f"got {self.got[:5]}, lost {self.lost[:5]}"
            poller.poll(5)
            self.move()

    def replies(self, link: Link) -> list[bytes]:
        found: list[bytes] = []

        def take() -> bool:
            found.extend(link.receive(100)[0])
            return bool(found)

        self.until(take)
        return found

    def serves(self, link: Link, text: bytes) -> None:
        """Assert that an honest peer is answered."""
        link.send(text)
        self.until(lambda: any(frame == text for _, _, frame in self.got))
        peer = next(peer for peer, _, frame in self.got if frame == text)
        assert self.server.send(peer, b"re " + text)
        assert self.replies(link) == [b"re " + text]

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.server.close()
        self.zap.close()
        self.context.destroy(linger=0)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_message_is_attributed_to_the_key_of_its_connection(world: World) -> None:
    """Peers choose routing ids and fields; only the proven key says who they are."""
    link = world.link()
    world.serves(link, b"hello")
    peer, key, _ = world.got[0]
    assert key == CLIENT.public
    assert peer.startswith("s:") and len(peer) == 2 + 32
    assert link.state is LinkState.READY or link.receive(1) == ([], False)


def test_two_peers_are_told_apart(world: World) -> None:
    """An answer goes to the connection that asked, whatever key it shares with others."""
    one, two = world.link(), world.link()
    world.serves(one, b"from one")
    world.serves(two, b"from two")
    assert len({peer for peer, _, _ in world.got}) == 2


def test_a_key_that_is_not_authorized_gets_nothing_through(world: World) -> None:
    """CURVE alone lets every key in; ZAP has to refuse."""
    outsider, friend = world.link(STRANGER), world.link()
    outsider.send(b"let me in")

    def is_refused() -> bool:
        outsider.receive(1)
        return outsider.state is LinkState.REFUSED

    world.until(is_refused)
    world.serves(friend, b"still there")
    assert [frame for _, _, frame in world.got] == [b"still there"]
    assert world.zap.refused >= 1


def test_a_peer_without_a_key_gets_nothing_through(world: World) -> None:
    """A NULL handshake must end before any message."""
    world.dealer(None).send(b"no key at all")
    friend = world.link()
    world.until(lambda: world.server.failed_handshakes)
    world.serves(friend, b"still there")
    assert [frame for _, _, frame in world.got] == [b"still there"]


def test_the_wrong_server_key_is_named_as_such(world: World) -> None:
    """libzmq retries for ever in silence; a user has to be told that the key file is wrong."""
    link = world.link(server_key=STRANGER.public)
    link.send(b"who are you")

    def failed_twice() -> bool:
        link.receive(1)
        return link.failures >= 2

    world.until(failed_twice)
    assert link.state is LinkState.STRANGER
    assert world.got == []


def test_connections_outlive_the_socket_that_let_them_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler's sockets take turns when many have come; whoever is in stays in."""
    monkeypatch.setattr(zap, "QUESTIONS_FEW", 3)
    monkeypatch.setattr(zap, "LINGER_S", 0.05)
    first = world.zap.socket
    dealers = [world.dealer() for _ in range(20)]
    for number, raw in enumerate(dealers):
        raw.send(b"first %d" % number)
    world.until(lambda: len(world.got) == 20)
    world.until(lambda: first.closed)
    assert len(world.zap.sockets) == 1
    for number, raw in enumerate(dealers):
        raw.send(b"second %d" % number)
    world.until(lambda: len(world.got) == 40)
    assert not world.lost and not world.zap.refused
    for name, _, frame in world.got[20:]:
        assert world.server.send(name, frame)
    for number, raw in enumerate(dealers):
        assert raw.poll(5000) and raw.recv() == b"second %d" % number


def test_without_a_handler_nobody_gets_in() -> None:
    """libzmq lets everybody in when no handler answers, unless the domain is enforced."""
    world = World()
    try:
        world.zap.socket.close(linger=0)
        raw = world.dealer()
        raw.send(b"nobody asked")
        poller = zmq.Poller()
        poller.register(world.server.socket, zmq.POLLIN)
        until = time.monotonic() + 5.0
        while not world.server.failed_handshakes and not poller.poll(20):
            world.server.receive(10)
            if time.monotonic() > until:
                break
        assert world.server.receive(10)[0] == []
    finally:
        world.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\xff" + b"\xff" * 8 + b"\x7f\x03" + b"\xff" * 500,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + bytes(48),
        bytes(4096),
        os.urandom(65_536),
    ],
)
def test_junk_reaches_nobody_and_disturbs_nobody(world: World, junk: bytes) -> None:
    """Anything may connect to an open port."""
    port = parse_address(world.server.address)[1]
    with system_socket.create_connection(("127.0.0.1", port)) as raw:
        try:
            raw.sendall(junk)
        except OSError:
            # The server hung up in the middle, as it should.
            pass
        world.serves(world.link(), b"still there")
    assert len(world.got) == 1


def test_a_message_of_several_frames_is_counted_and_dropped(world: World) -> None:
    """Our frames are single; others would dodge the size limit, which is per frame."""
    raw = world.dealer()
    raw.send_multipart([b"one", b"two", b"three"])
    raw.send(b"fine")
    world.until(lambda: world.got)
    assert [frame for _, _, frame in world.got] == [b"fine"]
    assert world.server.bad_frames == 1


def test_the_end_of_a_connection_is_told_after_its_last_message(world: World) -> None:
    """Who says his last words and hangs up must be heard out before he counts as lost."""
    raw = world.dealer()
    for number in range(300):
        raw.send(b"%d" % number)
    raw.close(linger=5000)
    world.until(lambda: world.lost)
    assert [frame for _, _, frame in world.got] == [b"%d" % number for number in range(300)]
    assert world.lost == [world.got[0][0]]


def test_answers_to_one_who_hung_up_cost_none_of_his_last_words(world: World) -> None:
    """That nothing can be sent to him any more must not cut off what he said before."""
    raw = world.dealer()
    raw.send(b"hello")
    world.until(lambda: world.got)
    peer = world.got[0][0]
    for number in range(300):
        raw.send(b"%d" % number)
    raw.close(linger=5000)
    until = time.monotonic() + 10.0
    while not world.server.is_unsettled:
        assert world.server.send(peer, b"answer")
        world.zap.socket.poll(1)
        assert time.monotonic() < until
    assert world.server.send(peer, b"answer")
    world.until(lambda: world.lost)
    assert [frame for _, _, frame in world.got[1:]] == [b"%d" % number for number in range(300)]
    assert world.lost == [peer]
    assert not world.server.send(peer, b"answer")


def test_every_end_is_attributed_to_the_right_peer(world: World) -> None:
    """Descriptors are used again at once; an old end must not hit the connection after it."""
    stays = world.link()
    world.serves(stays, b"stays")
    ended = []
    for number in range(25):
        text = b"short %d" % number
        raw = world.dealer()
        raw.send(text)
        world.until(lambda text=text: world.got[-1][2] == text)  # type: ignore[misc]
        ended.append(world.got[-1][0])
        raw.close(linger=0)
    world.until(lambda: len(world.lost) >= 25)
    # Ends of two connections may be told in either order.
    assert sorted(world.lost) == sorted(ended)
    world.serves(stays, b"still here")


def test_a_peer_that_never_reads_is_lost_alone(world: World) -> None:
    """A slow framework must neither make the master grow nor hold up the others."""
    slow = world.dealer()
    slow.send(b"I never read")
    friend = world.link()
    world.serves(friend, b"before")
    world.until(lambda: len(world.got) == 2)
    peer = next(peer for peer, _, frame in world.got if frame == b"I never read")
    frame = bytes(16_384)
    sent = 0
    while world.server.send(peer, frame):
        sent += 1
        assert sent < 3 * PEER_QUEUE_MAX
    assert sent > 1000
    assert not world.server.send(peer, b"gone")
    assert not world.server.is_waiting
    world.serves(friend, b"after")


def test_what_a_full_peer_refused_is_sent_later_in_order(world: World) -> None:
    """A moment of slowness is no loss: the queue is flushed when there is room again."""
    slow = world.dealer()
    slow.send(b"hello")
    world.until(lambda: world.got)
    peer = world.got[0][0]
    count = 0
    while not world.server.is_waiting:
        assert world.server.send(peer, b"%d" % count + bytes(8192))
        count += 1
    for _ in range(50):
        assert world.server.send(peer, b"%d" % count + bytes(8192))
        count += 1
    taken: list[bytes] = []

    def take() -> bool:
        try:
            while True:
                taken.append(slow.recv(zmq.NOBLOCK).rstrip(b"\0"))
        except zmq.Again:
            return len(taken) == count

    world.until(take)
    assert taken == [b"%d" % number for number in range(count)]
    assert not world.server.is_waiting


def test_a_revoked_key_loses_its_live_connections(world: World) -> None:
    """Deleting a line from the list has to end what it had let in, and only that."""
    other = make_keypair()
    world.allowed[other.public] = True
    evil, friend = world.link(), world.link(other)
    world.serves(evil, b"evil")
    world.serves(friend, b"friend")
    world.allowed[CLIENT.public] = False
    assert world.server.drop_key(CLIENT.public) == [world.got[0][0]]
    evil.send(b"more evil")

    def is_refused() -> bool:
        evil.receive(1)
        return evil.state is LinkState.REFUSED

    world.until(is_refused)
    world.serves(friend, b"friend again")
    assert b"more evil" not in [frame for _, _, frame in world.got]
    assert world.lost == []


def test_a_link_opened_anew_delivers_nothing_old(world: World) -> None:
    """A LAUNCH for the last master must not reach the next one."""
    link = world.link()
    link.send(b"stale")
    link.open()
    link.send(b"fresh")
    world.until(lambda: world.got)
    assert [frame for _, _, frame in world.got] == [b"fresh"]


def test_a_link_notices_the_end_of_its_server(world: World) -> None:
    """The loss of a master is known at once, not after three heartbeats."""
    link = world.link()
    world.serves(link, b"hello")
    world.server.close()
    until = time.monotonic() + 5.0
    while not link.receive(10)[1]:
        # libzmq lets go of a connection only when the handler it asked has noticed, too.
        world.zap.answer()
        assert time.monotonic() < until
        for socket in link.sockets or ():
            socket.poll(5)
    assert link.state is LinkState.NOBODY


def test_a_closed_link_takes_nothing(world: World) -> None:
    """A caller has to hear that there is no connection."""
    link = Link(world.context, "up", LinkSpec(world.server.address, CLIENT, SERVER.public))
    assert not link.send(b"lost")
    assert link.receive(1) == ([], False)
    assert link.state is LinkState.CLOSED and not link.is_open


def test_a_port_that_is_taken_is_refused_by_name(world: World) -> None:
    """The usual mistake, starting a second master, deserves a plain sentence."""
    with pytest.raises(Refused, match=world.server.address):
        world.serve(ServerSpec(world.server.address, SERVER, "test"))


def test_tcp_without_keys_is_refused(world: World) -> None:
    """There is no way to listen in the open by accident."""
    with pytest.raises(Refused, match="without keys"):
        world.serve(ServerSpec("tcp://127.0.0.1:0"))
    with pytest.raises(Refused, match="without keys"):
        world.serve(ServerSpec("tcp://127.0.0.1:0", SERVER))


def test_a_local_socket_needs_no_keys_and_is_ours_alone(world: World, tmp_path: Path) -> None:
    """Executors talk to their agent over a socket that only this user can open."""
    world.server.close()
    path = tmp_path / "a.sock"
    world.server = world.serve(ServerSpec(f"ipc://{path}"))
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    link = Link(world.context, "agent", LinkSpec(world.server.address))
    world.links.append(link)
    link.open()
    world.serves(link, b"hello")
    assert world.got[0][1] == ""
    link.close()
    world.until(lambda: world.lost)
    assert world.lost == [world.got[0][0]]


def test_listening_on_a_host_name_and_on_ipv6_works() -> None:
    """`localhost` and `[::1]` are what people type."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        named = ServerSocket(context, "a", ServerSpec("tcp://localhost:0", SERVER, "test"))
        assert named.address.startswith("tcp://127.0.0.1:")
        named.close()
        with pytest.raises(Refused, match="no such host"):
            ServerSocket(context, "b", ServerSpec("tcp://host.invalid:0", SERVER, "test"))
        if system_socket.has_ipv6 and Path("/proc/net/if_inet6").read_text():
            six = ServerSocket(context, "c", ServerSpec("tcp://[::1]:0", SERVER, "test"))
            assert six.address.startswith("tcp://[::1]:")
            six.close()
    finally:
        context.destroy(linger=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.0.0.1:5050", ("127.0.0.1", 5050)),
        ("host.example:1", ("host.example", 1)),
        ("tcp://[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("host", ("host", 5050)),
        ("[::1]", ("::1", 5050)),
    ],
)
def test_addresses_are_read(text: str, expected: tuple[str, int]) -> None:
    """All usual spellings mean the same."""
    assert parse_address(text, default_port=5050) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://",
        "tcp://*:1",
        "h:65536",
        "h:-1",
        "h:x",
        "h:",
        "::1:80",
        "a b:1",
        "h:1:2",
        "[::1]x",
    ],
)
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    """A typing mistake is named at once and never reaches libzmq."""
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text, default_port=5050)
