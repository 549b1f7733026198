"""The connections of one process: its server sockets, its links, and who may connect.

Rules: what comes in is decoded here and becomes Received, the end of a connection becomes PeerLost
after the last message of that peer. A frame that cannot be decoded is dropped and counted, and too
many of them end the connection: no answer, so that junk costs its sender more than us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import zmq

from mesosctl.core.machine import Aim, Close, Event, Open, PeerLost, Received, Send
from mesosctl.errors import InvariantBroken, PeerError, UsageError
from mesosctl.limits import BAD_FRAMES_MAX, FRAME_BYTES_MAX_BULK, PASS_MESSAGES_MAX
from mesosctl.model.records import dataclass
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.runtime.links import Link, LinkSpec, LinkState
from mesosctl.runtime.polling import IN, OUT, Sources
from mesosctl.runtime.scarcity import make_context
from mesosctl.runtime.sockets import ServerSocket, ServerSpec
from mesosctl.runtime.zap import Authority, ZapHandler

_IN_OUT = IN | OUT
_SOCKETS_MAX = 65_535


@dataclass(slots=True)
class Counters:
    """What a loop has seen since it began."""

    passes: int = 0
    received: int = 0
    sent: int = 0
    bad_frames: int = 0
    peers_lost: int = 0
    commits: int = 0
    slow_commits: int = 0


class Network:
    """See the module's rules. Its events gather in `events`, which the loop empties."""

    def __init__(
        self, sources: Sources, counters: Counters, log: Callable[[str, str], None]
    ) -> None:
        self.events: deque[Event] = deque()
        self.context = make_context()
        self.context.set(zmq.MAX_SOCKETS, _SOCKETS_MAX)
        self.zap = ZapHandler(self.context)
        self.refused: Callable[[str, str], Iterable[Event]] | None = None
        self._sources = sources
        self._counters = counters
        self._log = log
        self._servers: dict[str, ServerSocket] = {}
        self._links: dict[str, Link] = {}
        # Peers whose loss is told already: nothing more is sent to them in this pass.
        self._lost: dict[str, None] = {}
        self._told: dict[str, LinkState] = {}
        self._flags: dict[str, int] = {}
        sources.add(self.zap.socket, self._answer_zap)
        self.zap.on_open = lambda socket: sources.add(socket, self._answer_zap)
        self.zap.on_close = sources.remove

    # --- wiring -----------------------------------------------------------------------------------

    def bind(self, name: str, spec: ServerSpec) -> str:
        """See Loop.bind."""
        if name in self._servers or ":" in name:
            raise InvariantBroken(f"there cannot be a server socket called {name!r}")
        server = ServerSocket(self.context, name, spec)
        if spec.domain:
            server.allows = lambda key: self.zap.allows(spec.domain, key)
        self._servers[name] = server
        socket, monitor = server.sockets
        self._sources.add(socket, lambda: self._take_server(server, follow=False))
        self._sources.add(monitor, lambda: self._take_server(server))
        return server.address

    def unbind(self, name: str) -> None:
        """See Loop.unbind."""
        server = self._servers.pop(name, None)
        if server is not None:
            for socket in server.sockets:
                self._sources.remove(socket)
            server.close()

    def authority(self, domain: str, authority: Authority) -> None:
        """See Loop.authority."""
        self.zap.set_authority(domain, authority)

    def resolve(self, key: str, allowed: bool, domain: str | None = None) -> None:
        """See Loop.resolve."""
        self._sources.touch()
        self.zap.resolve(key, allowed, domain)

    def _answer_zap(self) -> None:
        self.zap.answer()
        # Any of its sockets may have taken in that it was asked, while another was called for.
        for socket in self.zap.sockets:
            self._sources.touch(socket)

    def expire(self, mono: float) -> None:
        """Turn connections away that were not decided about in time."""
        due = self.zap.deadline()
        if due is not None and due <= mono:
            self._sources.touch()
            self.zap.expire(mono)

    def drop_key(self, key: str) -> None:
        """See Loop.drop_key."""
        self.resolve(key, False)
        for server in self._servers.values():
            for peer in server.drop_key(key):
                self._lose(peer)

    def link(self, name: str, spec: LinkSpec) -> None:
        """See Loop.link."""
        known = self._links.get(name)
        if known is not None:
            known.aim(spec)
        else:
            self._links[name] = Link(self.context, name, spec)

    def unlink(self, name: str) -> None:
        """See Loop.unlink."""
        link = self._links.pop(name, None)
        if link is not None:
            self._close_link(link)

    def state_of(self, name: str) -> LinkState:
        """See Loop.state_of."""
        link = self._links.get(name)
        return LinkState.CLOSED if link is None else link.state

    # --- what comes in ----------------------------------------------------------------------------

    @property
    def is_unsettled(self) -> bool:
        """Whether `take_leftovers` has events although no source is ready."""
        return any(server.is_unsettled for server in self._servers.values()) or any(
            link.is_unsettled for link in self._links.values()
        )

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for a peer that no poll tells of."""
        return any(server.is_waiting for server in self._servers.values())

    def take_leftovers(self) -> None:
        """Tell of losses noticed on the side, and offer full peers again what they refused."""
        for server in self._servers.values():
            if server.is_unsettled:
                self._take_server(server)
            if server.is_waiting:
                self._sources.touch(server.socket)
                server.flush()
        for link in self._links.values():
            if link.is_unsettled:
                self._take_link(link)

    def begin_pass(self) -> None:
        """The losses told so far are in the machine's hands."""
        self._lost.clear()

    def _take_server(self, server: ServerSocket, *, follow: bool = True) -> None:
        self._sources.touch(server.socket)
        messages, lost = server.receive(PASS_MESSAGES_MAX, follow=follow)
        for peer, key, frame in messages:
            envelope = self._decoded(frame)
            if envelope is not None:
                self.events.append(Received(peer, key, envelope))
            elif server.count_bad(peer) >= BAD_FRAMES_MAX:
                self._log("warning", f"{peer} sent {BAD_FRAMES_MAX} frames that are none: cut off")
                server.drop(peer)
                self._lose(peer)
        for peer in lost:
            self._lose(peer)

    def _take_link(self, link: Link, *, follow: bool = True) -> None:
        self._sources.touch(link.socket)
        link.flush()
        frames, lost = link.receive(PASS_MESSAGES_MAX, follow=follow)
        for frame in frames:
            envelope = self._decoded(frame)
            if envelope is not None:
                self.events.append(Received(link.name, link.spec.server_key, envelope))
        if lost:
            self._lose(link.name)
        elif link.is_stuck:
            self._next_place(link)
            return
        if link.state is LinkState.READY:
            self._told.pop(link.name, None)
        else:
            self._tell_refused(link)
        self._watch_link(link)

    def _next_place(self, link: Link) -> None:
        self._tell_refused(link)
        self._unwatch_link(link)
        if not link.advance():
            self._lose(link.name)
        self._watch_link(link)

    def _decoded(self, frame: bytes) -> Envelope | None:
        self._counters.received += 1
        try:
            return decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)
        except PeerError:
            self._counters.bad_frames += 1
            return None

    def _tell_refused(self, link: Link) -> None:
        if link.state not in (LinkState.REFUSED, LinkState.STRANGER):
            return
        if self._told.get(link.name) is link.state:
            return
        self._told[link.name] = link.state
        why = f"{link.spec.address}: {link.state.value}"
        if self.refused is not None:
            self.events.extend(self.refused(link.name, why))
        else:
            self._log("warning", why)

    def _lose(self, peer: str) -> None:
        if peer not in self._lost:
            self._lost[peer] = None
            self._counters.peers_lost += 1
            self.events.append(PeerLost(peer))

    # --- what goes out ----------------------------------------------------------------------------

    def send(self, effect: Send) -> None:
        """Send or queue; a peer that cannot take it is lost."""
        peer = effect.peer
        if peer in self._lost:
            return
        frame = encode(effect.envelope)
        if len(frame) > FRAME_BYTES_MAX_BULK:
            kind = effect.envelope.message.kind
            self._log("error", f"a {kind} of {len(frame)} bytes is too large to be sent to {peer}")
            self._lose(peer)
            return
        self._counters.sent += 1
        link = self._links.get(peer)
        if link is not None:
            self._sources.touch(link.socket)
            sent = link.send(frame)
            if link.is_waiting:
                self._watch_link(link)
        else:
            server = self._servers.get(peer.partition(":")[0])
            self._sources.touch(server and server.socket)
            sent = server is not None and server.send(peer, frame)
        if not sent:
            self._lose(peer)

    def open(self, effect: Open) -> None:
        """Open a fresh connection for a link."""
        link = self._links.get(effect.link)
        if link is None:
            raise InvariantBroken(f"no link is called {effect.link!r}")
        self._close_link(link)
        link.spread_s = effect.spread_s
        link.open()
        # A loss of the connection before must not be taken for one of the new connection.
        self._lost.pop(link.name, None)
        stale = PeerLost(link.name)
        while stale in self.events:
            self.events.remove(stale)
        self._watch_link(link)

    def aim(self, effect: Aim) -> None:
        """Have a link try a place first that a peer named; one that is no address is ignored."""
        link = self._links.get(effect.link)
        if link is not None:
            try:
                link.prefer(effect.address)
            except UsageError as error:
                self._log("warning", f"{link.name} was sent to another place: {error}")

    def move(self, name: str, address: str) -> None:
        """Lead a link elsewhere, at once; empty: nobody is to be found at present."""
        link = self._links.get(name)
        if link is not None and link.spec.address != address:
            link.aim(replace(link.spec, address=address))
            self.events.append(PeerLost(name, moved=bool(address)))

    def close_peer(self, effect: Close) -> None:
        """Forget a peer, or close a link."""
        link = self._links.get(effect.peer)
        if link is not None:
            self._close_link(link)
            return
        server = self._servers.get(effect.peer.partition(":")[0])
        if server is not None:
            server.forget(effect.peer)

    def _watch_link(self, link: Link) -> None:
        if link.sockets is None:
            return
        flags = _IN_OUT if link.is_waiting else IN
        known = self._flags.get(link.name)
        if known == flags:
            return
        self._flags[link.name] = flags
        socket, monitor = link.sockets
        self._sources.add(socket, lambda: self._take_link(link, follow=False), flags)
        if known is None:
            self._sources.add(monitor, lambda: self._take_link(link))

    def _close_link(self, link: Link, linger_ms: int = 0) -> None:
        self._unwatch_link(link)
        link.close(linger_ms)

    def _unwatch_link(self, link: Link) -> None:
        self._flags.pop(link.name, None)
        for socket in link.sockets or ():
            self._sources.remove(socket)

    # --- the end ----------------------------------------------------------------------------------

    def flush(self) -> bool:
        """Send what waits for whomever; whether nothing waits any more that could still leave."""
        self._sources.touch()
        for server in self._servers.values():
            server.flush()
        for link in self._links.values():
            link.flush()
        connected = (link for link in self._links.values() if link.state is LinkState.READY)
        return not self.is_waiting and not any(link.is_waiting for link in connected)

    def close(self, linger_ms: int = 0) -> None:
        """Close every socket; messages under way have `linger_ms` to leave. Idempotent."""
        for link in self._links.values():
            self._close_link(link, linger_ms)
        for server in self._servers.values():
            for socket in server.sockets:
                self._sources.remove(socket)
            server.close(linger_ms)
        self._links.clear()
        self._servers.clear()
        self.zap.close()
        self.context.destroy(linger=linger_ms)
