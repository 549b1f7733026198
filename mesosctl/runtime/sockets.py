"""The socket that listens: a ROUTER, one frame a message. (links.py has the one that connects.)

Rules:
- On TCP there is CURVE, always. A message is attributed by the key that its own frame carries,
  never by a routing id: peers choose those.
- Nothing is lost without a word: what a peer does not take waits in a bounded queue, and beyond the
  bound, or when its connection ends, the peer is reported as lost, after the last message that it
  managed to send.
- Connections are told apart by the descriptor they came in on, followed through the socket monitor.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable

import zmq

from mesosctl.errors import Refused
from mesosctl.limits import PEER_QUEUE_MAX
from mesosctl.model.records import dataclass
from mesosctl.runtime.endpoints import (
    FAILED,
    MORE,
    NOBLOCK,
    QUEUE_BYTES_MAX,
    REFUSED,
    Context,
    Monitor,
    Socket,
    endpoint,
    prepare,
    resolved,
)
from mesosctl.storage.keys import KeyPair

BACKLOG = 4096
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_DESCRIPTOR = int(zmq.SRCFD)


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A place to listen: `tcp://host:port` (port 0: any) with `keys` and ZAP `domain`, or `ipc://`.

    `mask`: which permissions a socket in the file system is made without; a directory may guard it.
    """

    address: str
    keys: KeyPair | None = None
    domain: str = ""
    mask: int = 0o077


@dataclass(slots=True)
class _Peer:
    name: str
    identity: bytes
    key: str
    descriptor: int
    address: str
    bad: int = 0
    # Nothing can be sent to it any more, but something it sent may still be to be read.
    is_deaf: bool = False
    # Made when something has to wait: an empty one has 700 bytes, and nearly nobody waits.
    queue: deque[bytes] | None = None
    queued_bytes: int = 0


class ServerSocket:
    """A bound ROUTER. Peers are named `<name>:<identity in hex>`; see the module's rules.

    `allows` is asked again for the key of every connection whose first message arrives, so that a
    key which was revoked meanwhile gets nothing through.
    """

    def __init__(self, context: Context, name: str, spec: ServerSpec) -> None:
        self.name = name
        self.spec = spec
        self.bad_frames = 0
        self.failed_handshakes = 0
        self._prefix = f"{name}:"
        self._peers: dict[bytes, _Peer] = {}
        # Descriptors of live connections, with the identity that was last heard on each.
        self._live: dict[int, bytes | None] = {}
        # Connections that ended, whose last messages may still have to be read.
        self._leaving: list[_Peer] = []
        self._waiting: dict[bytes, _Peer] = {}
        self._is_tcp = not spec.address.startswith("ipc://")
        if self._is_tcp and (spec.keys is None or not spec.domain):
            raise Refused(f"{spec.address}: cannot listen without keys", "see mesosctl keygen")
        place, needs_ipv6 = endpoint(spec.address)
        if self._is_tcp:
            place = resolved(place)
        self.socket = context.socket(zmq.ROUTER)
        self.socket.router_mandatory = True
        self.socket.backlog = BACKLOG
        self.allows: Callable[[str], bool | None] = lambda key: True
        prepare(self.socket, needs_ipv6)
        if self._is_tcp and spec.keys is not None:
            self._secure(spec.keys)
        watched = _ACCEPTED | _DISCONNECTED | REFUSED | FAILED
        self._monitor = Monitor(context, self.socket, watched)
        self._bind(place)

    def _secure(self, keys: KeyPair) -> None:
        self.socket.curve_server = True
        self.socket.curve_secretkey = keys.secret.encode("ascii")
        self.socket.zap_domain = self.spec.domain.encode("utf-8")
        # Without this libzmq lets everybody in while no handler answers.
        self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _bind(self, place: str) -> None:
        mask = os.umask(self.spec.mask)
        try:
            self.socket.bind(place)
        except zmq.ZMQError as error:
            self.close()
            raise Refused(
                f"cannot listen on {self.spec.address}: {error.strerror}",
                "is another one running there? choose another --listen",
            ) from None
        finally:
            os.umask(mask)
        bound = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        self.address = os.fsdecode(bound).rstrip("\0") if isinstance(bound, bytes) else place

    @property
    def sockets(self) -> tuple[Socket, Socket]:
        """What a poller has to watch for input."""
        return self.socket, self._monitor.socket

    # --- receiving --------------------------------------------------------------------------------

    def receive(
        self, limit: int, *, follow: bool = True
    ) -> tuple[list[tuple[str, str, bytes]], list[str]]:
        """At most `limit` messages as (peer, key, frame), and the peers lost after them.

        `follow` False: the monitor has nothing to read, or is read next; asking it costs as much
        as a message.
        """
        if follow:
            self._follow()
        leaving, self._leaving = self._leaving, []
        messages: list[tuple[str, str, bytes]] = []
        receive = self.socket.recv
        drained = False
        for _ in range(limit):
            try:
                identity = receive(NOBLOCK)
            except zmq.Again:
                drained = True
                break
            frame = self.socket.recv(NOBLOCK, copy=False)
            peer = self._attribute(identity, frame)
            if frame.more:
                self._skip_rest()
                if peer is not None:
                    self._count_bad(peer)
            elif peer is not None:
                messages.append((peer.name, peer.key, frame.bytes))
        if not drained:
            self._leaving = leaving + self._leaving
            return messages, []
        return messages, self._part_with(leaving)

    def _part_with(self, leaving: list[_Peer]) -> list[str]:
        lost = []
        for peer in leaving:
            # One that came back under the same name goes on: sessions see what is missing.
            if self._peers.get(peer.identity) is peer:
                self._forget(peer)
                lost.append(peer.name)
        return lost

    def _attribute(self, identity: bytes, frame: zmq.Frame) -> _Peer | None:
        """Whose message this is; None for one that must not be taken."""
        descriptor = int(frame.get(_DESCRIPTOR))
        key = str(frame.get("User-Id")) if self._is_tcp else ""
        peer = self._peers.get(identity)
        if peer is not None and peer.descriptor == descriptor and peer.key == key:
            return peer
        # It was accepted before this message came, so its beginning is known after this.
        self._follow()
        name = self._prefix + identity.hex()
        # Many connections have the same of these.
        key, address = sys.intern(key), sys.intern(str(frame.get("Peer-Address")))
        peer = _Peer(name, identity, key, descriptor, address)
        if self._is_tcp and self.allows(key) is False:
            self._cut(peer)
            return None
        old = self._peers.get(identity)
        if old is not None:
            self._forget(old)
        self._peers[identity] = peer
        if descriptor in self._live:
            self._live[descriptor] = identity
        else:
            self._leaving.append(peer)
        return peer

    def _skip_rest(self) -> None:
        while self.socket.recv(NOBLOCK, copy=False).more:
            pass

    def _follow(self) -> None:
        """Keep the list of live connections in step with the monitor."""
        for event, value in self._monitor.read():
            if event == _ACCEPTED:
                self._live[value] = None
            elif event == _DISCONNECTED:
                identity = self._live.pop(value, None)
                peer = None if identity is None else self._peers.get(identity)
                if peer is not None and peer.descriptor == value:
                    self._leaving.append(peer)
            else:
                self.failed_handshakes += 1

    # --- sending ----------------------------------------------------------------------------------

    def send(self, name: str, frame: bytes) -> bool:
        """Send or queue a frame; False when the peer is lost (it is forgotten then).

        A connection that turns out to have ended is no loss yet: `receive` reports it after the
        last message that came over it. Until then what is sent to it goes nowhere.
        """
        peer = self._named(name)
        if peer is None:
            return False
        if peer.is_deaf or (not peer.queue and self._send_now(peer, frame)):
            return True
        if peer.queue is None:
            peer.queue = deque()
        peer.queue.append(frame)
        peer.queued_bytes += len(frame)
        self._waiting[peer.identity] = peer
        if len(peer.queue) > PEER_QUEUE_MAX or peer.queued_bytes > QUEUE_BYTES_MAX:
            self._cut(peer)
            self._forget(peer)
            return False
        return True

    def _send_now(self, peer: _Peer, frame: bytes) -> bool:
        """Whether it was taken, or can never be; False: the peer has no room at present."""
        try:
            self.socket.send(peer.identity, MORE)
            self.socket.send(frame, NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            peer.is_deaf = True
            self._drop_queue(peer)
            self._leaving.append(peer)
        return True

    @property
    def is_unsettled(self) -> bool:
        """Whether `receive` has losses to report even if nothing more arrives."""
        return bool(self._leaving)

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for a peer, so that `flush` has to be called again soon."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Send what waits, as much as there is room for."""
        for peer in list(self._waiting.values()):
            while peer.queue and self._send_now(peer, peer.queue[0]):
                if not peer.is_deaf:
                    peer.queued_bytes -= len(peer.queue.popleft())
            if not peer.queue:
                peer.queue = None
                self._waiting.pop(peer.identity, None)

    # --- ending -----------------------------------------------------------------------------------

    def _named(self, name: str) -> _Peer | None:
        return self._peers.get(bytes.fromhex(name[len(self._prefix) :]))

    def count_bad(self, name: str) -> int:
        """One more frame of this peer could not be decoded; how many that makes."""
        peer = self._named(name)
        return 0 if peer is None else self._count_bad(peer)

    def _count_bad(self, peer: _Peer) -> int:
        self.bad_frames += 1
        peer.bad += 1
        return peer.bad

    def forget(self, name: str) -> None:
        """Drop what waits for this peer; its connection stays, and may speak again."""
        peer = self._named(name)
        if peer is not None:
            self._forget(peer)

    def drop(self, name: str) -> None:
        """End this peer's connection."""
        peer = self._named(name)
        if peer is not None:
            self._cut(peer)
            self._forget(peer)

    def drop_key(self, key: str) -> list[str]:
        """End every connection of this key that has spoken; the names of those peers."""
        self._follow()
        dropped = [peer for peer in self._peers.values() if peer.key == key]
        for peer in dropped:
            self._cut(peer)
            self._forget(peer)
        return [peer.name for peer in dropped]

    def _forget(self, peer: _Peer) -> None:
        if self._peers.get(peer.identity) is peer:
            del self._peers[peer.identity]
            if self._live.get(peer.descriptor) == peer.identity:
                self._live[peer.descriptor] = None
        self._drop_queue(peer)

    def _drop_queue(self, peer: _Peer) -> None:
        if self._waiting.get(peer.identity) is peer:
            del self._waiting[peer.identity]
        peer.queue = None
        peer.queued_bytes = 0

    def _cut(self, peer: _Peer) -> None:
        """Shut the connection down; libzmq has no call for it that a release build offers.

        The descriptor belongs to libzmq's thread, which may close it at any moment: so it is only
        shut down through a duplicate, and only if that is a socket to the right address.
        """
        import socket as system_socket

        self._follow()
        if peer.descriptor not in self._live:
            return
        try:
            twin = system_socket.socket(fileno=os.dup(peer.descriptor))
        except OSError:
            return
        try:
            if not self._is_tcp or str(twin.getpeername()[0]).split("%")[0] in (
                peer.address,
                f"::ffff:{peer.address}",
            ):
                twin.shutdown(system_socket.SHUT_RDWR)
        except (OSError, IndexError):
            # It is gone already.
            pass
        finally:
            twin.close()

    def close(self, linger_ms: int = 0) -> None:
        """Stop listening; what libzmq still holds is sent for `linger_ms` at most. Idempotent."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self._monitor.socket.close(linger=0)
        self.socket.close(linger=linger_ms)
        self._peers.clear()
        self._waiting.clear()
