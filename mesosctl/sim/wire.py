"""The connections of a simulated cluster.

Rules: every message goes through the real codec. A connection keeps the order of what it delivers;
what it loses it loses without a word, and sides learn of its end late, or only one of them, or in a
partition none. What is sent to a process that is down may wait for its next life, as it does with
ZeroMQ, and what a dead one had sent may still arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from mesosctl.core.machine import PeerLost, Received
from mesosctl.limits import FRAME_BYTES_MAX_BULK
from mesosctl.model.records import dataclass
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.session import Ping, Pong

if TYPE_CHECKING:
    from mesosctl.sim.node import Node
    from mesosctl.sim.world import World


BEATS = (Ping, Pong)
# How much likelier it is that an introduction comes late than another message.
LATE_FIRST = 10


class Frame(NamedTuple):
    """A message as it is sent, and whether it only says that somebody is there."""

    data: bytes
    is_beat: bool


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of a link: which sides still believe in it, and how far each direction is.

    `server_life`: the life of the server that it reached last; 0 while it reached none.
    """

    number: int
    client: Node
    link: str
    server: Node
    socket: str
    client_life: int
    server_life: int = 0
    open: bool = True
    admitted: bool = True
    used: bool = False
    # Frames that wait for the server to start, or to decide whether it talks to this client.
    held: list[Frame] = field(default_factory=list)
    towards_server_at: float = 0.0
    towards_client_at: float = 0.0

    @property
    def peer(self) -> str:
        """What the server calls it."""
        return f"{self.socket}:{self.number:x}"


class Wire:
    """All connections, and who cannot talk to whom just now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = 0
        self._connections: dict[int, Connection] = {}
        self._blocked: dict[tuple[str, str], float] = {}
        # By direction: what waits in it until it is unclogged.
        self._clogged: dict[tuple[str, str], list[tuple[Connection, Frame, bool]]] = {}
        # Asked when a connection to a server begins: may it talk at once? See admit().
        self.gatekeeper: Callable[[Connection], bool] = lambda connection: True

    # --- what nodes do ----------------------------------------------------------------------------
    def open(self, node: Node, link: str) -> None:
        """A fresh connection of a link; the one before is dropped."""
        self._leave(node, link)
        route = node.routes.get(link)
        if route is None:
            return
        server, socket = route
        self._numbers += 1
        made = Connection(self._numbers, node, link, server, socket, node.life)
        self._connections[made.number] = made
        node.links[link] = made
        made.admitted = self.gatekeeper(made)

    def close(self, node: Node, peer: str) -> None:
        """Forget a link or a peer."""
        if peer in node.links:
            self._leave(node, peer)
        elif peer in node.peers:
            self._drop(node.peers[peer], tell_client=True, tell_server=False)

    def _leave(self, node: Node, link: str) -> None:
        """A node drops a link; what it had sent may arrive all the same, after the next one's."""
        connection = node.links.pop(link, None)
        if connection is None or not connection.open:
            return
        if self._world.chance(self._world.faults.stale_at_death):
            self._drop_last(connection)
        else:
            self._drop(connection, tell_client=False)

    def admit(self, connection: Connection) -> None:
        """The server decided to talk to this connection: deliver what waited."""
        connection.admitted = True
        self._let_go(connection)

    def _let_go(self, connection: Connection) -> None:
        held, connection.held = connection.held, []
        for frame in held:
            self._deliver(connection, frame, to_server=True)

    def send(self, node: Node, peer: str, envelope: Envelope) -> None:
        """Send along a link, or back to a peer; a message to nobody comes back as PeerLost."""
        frame = Frame(encode(envelope), isinstance(envelope.message, BEATS))
        connection = node.links.get(peer)
        if connection is not None:
            if connection.admitted:
                self._deliver(connection, frame, to_server=True)
            else:
                connection.held.append(frame)
            return
        connection = node.peers.get(peer)
        if connection is None or not connection.open:
            if connection is not None or ":" in peer:
                self._tell_server(node, peer)
            return
        self._deliver(connection, frame, to_server=False)

    # --- on the way -------------------------------------------------------------------------------
    def _deliver(self, connection: Connection, frame: Frame, *, to_server: bool) -> None:
        world, faults = self._world, self._world.faults
        client, server = connection.client, connection.server
        source, target = (client, server) if to_server else (server, client)
        if self.is_blocked(source, target):
            world.struck("message into a partition", source.name)
            return
        clogged = self._clogged.get((source.name, target.name))
        if clogged is not None:
            clogged.append((connection, frame, to_server))
            return
        touched = client.name.startswith(faults.touched_links)
        if touched and world.chance(faults.cut_at_message):
            self.cut(connection)
            return
        # Heartbeats are most of what is sent, and the least to lose.
        if touched and not frame.is_beat and world.chance(faults.lose_message):
            world.struck("lost message", "wire", connection.peer)
            return
        at = world.now.mono + world.random.uniform(0.0001, faults.delay_max_s)
        is_first = to_server and not connection.used
        connection.used = connection.used or to_server
        if touched and world.chance(faults.late_message * (LATE_FIRST if is_first else 1)):
            world.struck("late message", "wire", connection.peer)
            at += world.random.uniform(0.5, faults.late_max_s)
            if is_first and world.chance(faults.stale_at_death):
                # Its sender introduces itself anew meanwhile.
                world.later(world.random.uniform(0.0, 2.0), lambda: self._break_off(connection))
        if touched and not frame.is_beat and world.chance(faults.duplicate_message):
            self._duplicate(connection, frame, to_server=to_server)
        if to_server:
            at = connection.towards_server_at = max(at, connection.towards_server_at)
            world.later(at - world.now.mono, lambda: self._arrive_at_server(connection, frame))
        else:
            at = connection.towards_client_at = max(at, connection.towards_client_at)
            world.later(at - world.now.mono, lambda: self._arrive_at_client(connection, frame))

    def _duplicate(self, connection: Connection, frame: Frame, *, to_server: bool) -> None:
        """Have the frame arrive once more, on whatever connection the link has by then."""
        world, client, link = self._world, connection.client, connection.link

        def again() -> None:
            present = client.links.get(link)
            if present is None or client.machine is None:
                return
            world.struck("duplicate message", "wire", present.peer)
            if to_server:
                self._arrive_at_server(present, frame)
            else:
                self._arrive_at_client(present, frame)

        world.later(world.random.choice([0.001, 0.5, 10.0]), again)

    def _arrive_at_server(self, connection: Connection, frame: Frame) -> None:
        server = connection.server
        if not connection.open or not connection.admitted:
            return
        if server.machine is None:
            # Nobody listens: ZeroMQ keeps it and connects when somebody does.
            connection.held.append(frame)
            return
        if connection.client.life != connection.client_life or connection.client.machine is None:
            self._world.struck("message of a dead process", server.name)
        connection.server_life = server.life
        server.peers[connection.peer] = connection
        envelope = decode(frame.data, bytes_max=FRAME_BYTES_MAX_BULK)
        kind = envelope.message.kind
        if envelope.seq == 1:
            self._world.tally[kind] = self._world.tally.get(kind, 0) + 1
        sender = connection.client.name
        self._world.note(server.name, "got", f"{kind} #{envelope.seq} from {sender}")
        server.take(Received(connection.peer, connection.client.key, envelope))

    def _arrive_at_client(self, connection: Connection, frame: Frame) -> None:
        client = connection.client
        is_present = client.links.get(connection.link) is connection
        if not connection.open or not is_present or client.life != connection.client_life:
            return
        envelope = decode(frame.data, bytes_max=FRAME_BYTES_MAX_BULK)
        kind = envelope.message.kind
        sender = connection.server.name
        self._world.note(client.name, "got", f"{kind} #{envelope.seq} from {sender}")
        client.take(Received(connection.link, connection.server.key, envelope))

    # --- endings ----------------------------------------------------------------------------------
    def cut(self, connection: Connection) -> None:
        """The connection breaks with all that is under way; each side learns of it, or not."""
        self._world.struck("cut", "wire", f"{connection.client.name} {connection.peer}")
        tell = self._world.random.random()
        self._drop(connection, tell_client=tell < 0.8, tell_server=tell > 0.2)

    def _drop(
        self, connection: Connection | None, *, tell_client: bool, tell_server: bool = True
    ) -> None:
        if connection is None or not connection.open:
            return
        connection.open = False
        del self._connections[connection.number]
        server, client = connection.server, connection.client
        hears = not self.is_blocked(client, server)
        if tell_server and hears and server.peers.get(connection.peer) is connection:
            self._tell_server(server, connection.peer)
        hears = not self.is_blocked(server, client)
        if tell_client and hears and client.links.get(connection.link) is connection:
            life = client.life

            def tell() -> None:
                if client.life == life and client.links.get(connection.link) is connection:
                    del client.links[connection.link]
                    client.take(PeerLost(connection.link))

            self._world.later(self._world.random.uniform(0.001, 0.05), tell)

    def _tell_server(self, node: Node, peer: str) -> None:
        life = node.life

        def tell() -> None:
            if node.life == life and node.machine is not None:
                node.peers.pop(peer, None)
                node.take(PeerLost(peer))

        self._world.later(self._world.random.uniform(0.001, 0.05), tell)

    # --- nodes that come and go -------------------------------------------------------------------
    def node_died(self, node: Node) -> None:
        """Every connection of a node that died ends, at once or with its last messages."""
        world = self._world
        for connection in list(self._connections.values()):
            is_stale = world.chance(world.faults.stale_at_death)
            if connection.server is node and connection.server_life:
                connection.server_life = 0
                if not is_stale:
                    self._drop(connection, tell_client=True, tell_server=False)
            elif connection.client is node and not is_stale:
                self._drop(connection, tell_client=False)
            elif connection.client is node:
                self._drop_last(connection)

    def _break_off(self, connection: Connection) -> None:
        """The client loses it; what it has sent is still on its way."""
        if connection.open and connection.client.links.get(connection.link) is connection:
            self._world.note("wire", "breaks", connection.peer)
            del connection.client.links[connection.link]
            connection.client.take(PeerLost(connection.link))
            self._drop_last(connection)

    def _drop_last(self, connection: Connection) -> None:
        """Drop it when what is under way to the server has arrived, or a little later."""
        last_s = max(0.0, connection.towards_server_at - self._world.now.mono)
        last_s += self._world.random.uniform(0.0, 2.0)
        self._world.later(last_s, lambda: self._drop(connection, tell_client=False))

    def node_started(self, node: Node) -> None:
        """What waited for a process to be there reaches it."""
        for connection in list(self._connections.values()):
            if connection.server is node and connection.held and connection.admitted:
                self._world.struck("message to a next life", node.name)
                self._let_go(connection)

    # --- partitions -------------------------------------------------------------------------------
    def block(self, source: Node, target: Node, lasts_s: float) -> None:
        """Nothing gets from one node to the other for a while, and nobody is told."""
        if source is target:
            return
        self._world.struck("partition", "wire", f"{source.name} to {target.name} {lasts_s:g} s")
        until_s = self._world.now.mono + lasts_s
        pair = (source.name, target.name)
        self._blocked[pair] = max(until_s, self._blocked.get(pair, 0.0))

    def is_blocked(self, source: Node, target: Node) -> bool:
        """Whether nothing gets from one to the other just now."""
        until_s = self._blocked.get((source.name, target.name))
        return until_s is not None and self._world.now.mono < until_s

    def clog(self, source: Node, target: Node) -> None:
        """Nothing gets from one node to the other until it is unclogged; then all of it does."""
        if source is not target:
            self._world.struck("clog", "wire", f"{source.name} to {target.name}")
            self._clogged.setdefault((source.name, target.name), [])

    def unclog(self, source: Node, target: Node) -> None:
        """Let what waited go on its way, in order."""
        for connection, frame, to_server in self._clogged.pop((source.name, target.name), []):
            if connection.open:
                self._deliver(connection, frame, to_server=to_server)

    def heal(self) -> None:
        """Everybody can talk to everybody."""
        self._blocked.clear()
        waiting, self._clogged = self._clogged, {}
        for frames in waiting.values():
            for connection, frame, to_server in frames:
                if connection.open:
                    self._deliver(connection, frame, to_server=to_server)
