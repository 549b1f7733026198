"""The socket that connects: a DEALER with a random name of its own, one frame a message.

Rules:
- A link that is opened again is a new socket under a new name: nothing of the old one is sent.
- What cannot be sent yet waits here, in a bounded queue, never in libzmq: without a connection it
  refuses to take anything, so an old message is not delivered to the next process by accident.
- Why there is no connection is known from the socket monitor: libzmq itself retries in silence.
- A link may have several places (the masters of one cluster). They are tried in turn, beginning
  with the one that was last told or found; only when all have failed, the link counts as lost.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from enum import Enum

import zmq

from mesosctl.limits import PEER_QUEUE_MAX, RECONNECT_FIRST_S, RECONNECT_MAX_S
from mesosctl.model.masters import split_masters
from mesosctl.model.records import dataclass
from mesosctl.runtime.endpoints import (
    FAILED,
    NOBLOCK,
    QUEUE_BYTES_MAX,
    REFUSED,
    Context,
    Monitor,
    Socket,
    endpoint,
    prepare,
)
from mesosctl.storage.keys import KeyPair

_NAME_BYTES = 16
_CONNECTED = int(zmq.EVENT_CONNECTED)
_READY = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_RETRIED = int(zmq.EVENT_CONNECT_RETRIED)
_WATCHED = _CONNECTED | _READY | _DISCONNECTED | _RETRIED | REFUSED | FAILED
# Where there is another place to try, a host that answers nothing is not waited for any longer.
_NEXT_PLACE_MS = 2_000


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A place to connect to: `tcp://host:port` with our `keys` and the `server_key`, or `ipc://`.

    Several tcp addresses, separated by commas, are tried in turn. Empty: not known yet.
    """

    address: str
    keys: KeyPair | None = None
    server_key: str = ""


class LinkState(Enum):
    """How far the present connection of a link came, and what the last attempt ended in."""

    CLOSED = "is closed"
    NOBODY = "nobody listens there"
    ANSWERED = "something listens there, but not as mesosctl"
    REFUSED = "it does not know our key"
    STRANGER = "it does not hold the server key that we expect"
    READY = "connected"


class Link:
    """A connection to one place, open or not. Raises UsageError for what is no address."""

    def __init__(self, context: Context, name: str, spec: LinkSpec) -> None:
        self.name = name
        self.spec = spec
        self.state = LinkState.CLOSED
        self.socket: Socket | None = None
        self._context = context
        self._monitor: Monitor | None = None
        self._places = _places(spec.address)
        # How many of them have failed since `open`.
        self._failed_places = 0
        self._stuck = False
        # Whether the first of the places was opened already, so that the next one has its turn.
        self._used = False
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = False
        # See Open: how wide the attempts of all that connect there at once should be spread.
        self.spread_s = 0.0
        # Handshakes that failed in a row; one alone may be a server that just went away.
        self.failures = 0
        # Whether our key was turned down the last time that anybody looked at it.
        self.is_refused = False
        # What the other side said of itself that explains why it does not answer.
        self.note = ""

    @property
    def is_open(self) -> bool:
        """Whether there is a socket, connected or not."""
        return self.socket is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something waits, so that the poller has to watch for room as well."""
        return bool(self._queue)

    @property
    def is_unsettled(self) -> bool:
        """Whether `receive` has a loss to report even if nothing more arrives."""
        return self._lost

    @property
    def sockets(self) -> tuple[Socket, Socket] | None:
        """The socket and its monitor, for a poller; None while closed."""
        if self.socket is None or self._monitor is None:
            return None
        return self.socket, self._monitor.socket

    def aim(self, spec: LinkSpec) -> None:
        """Lead somewhere else from the next `open` on. Raises UsageError."""
        self._places = _places(spec.address)
        self._used = False
        self.spec = spec

    def prefer(self, address: str) -> None:
        """Try this place first at the next `open`. Raises UsageError."""
        first = _places(address)
        self._places = [*first, *(place for place in self._places if place not in first)]
        self._used = False

    def open(self) -> None:
        """Connect anew, dropping the connection before with its queue."""
        self.close()
        if self._used:
            self._rotate()
        self._used = True
        self._failed_places = 0
        self._connect()

    def _rotate(self) -> None:
        self._places = [*self._places[1:], *self._places[:1]]

    @property
    def is_stuck(self) -> bool:
        """Whether the present one of several places failed: close the sockets' poll, `advance`."""
        return self._stuck

    def advance(self) -> bool:
        """Go on to the next place with all that waits; False when every place has failed."""
        self._stuck = False
        self._rotate()
        self._failed_places += 1
        if self._failed_places >= len(self._places):
            return False
        self._close_socket(0)
        self._connect()
        return True

    def _connect(self) -> None:
        if not self._places:
            return
        place, needs_ipv6 = self._places[0]
        socket = self._context.socket(zmq.DEALER)
        prepare(socket, needs_ipv6)
        if len(self._places) > 1:
            socket.connect_timeout = _NEXT_PLACE_MS
        socket.routing_id = os.urandom(_NAME_BYTES)
        socket.immediate = True
        # libzmq adds a random part of up to the first figure to each.
        first_s = RECONNECT_FIRST_S + self.spread_s
        socket.reconnect_ivl = int(first_s * 1000)
        socket.reconnect_ivl_max = int(max(RECONNECT_MAX_S, first_s) * 1000)
        if self.spec.keys is not None:
            socket.curve_serverkey = self.spec.server_key.encode("ascii")
            socket.curve_publickey = self.spec.keys.public.encode("ascii")
            socket.curve_secretkey = self.spec.keys.secret.encode("ascii")
        self._monitor = Monitor(self._context, socket, _WATCHED)
        self.socket = socket
        self.state = LinkState.NOBODY
        self._lost = self._stuck = False
        socket.connect(place)

    def close(self, linger_ms: int = 0) -> None:
        """End the connection; what libzmq holds already is sent for `linger_ms` at the most."""
        self._queue.clear()
        self._queued_bytes = 0
        self.state = LinkState.CLOSED
        self._close_socket(linger_ms)

    def _close_socket(self, linger_ms: int) -> None:
        if self.socket is not None and self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.socket.close(linger=0)
            self.socket.close(linger=linger_ms)
        self.socket = self._monitor = None

    def send(self, frame: bytes) -> bool:
        """Send or queue a frame; False when the link is closed or far too much waits already."""
        if self.socket is None:
            # While nobody leads there is no place to go to: whoever opened it is told of one soon.
            return not self._places
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self.flush()
        return len(self._queue) <= PEER_QUEUE_MAX and self._queued_bytes <= QUEUE_BYTES_MAX

    def flush(self) -> None:
        """Send of what waits as much as the connection takes."""
        if self.socket is None:
            return
        while self._queue:
            try:
                self.socket.send(self._queue[0], NOBLOCK)
            except zmq.Again:
                return
            self._queued_bytes -= len(self._queue.popleft())

    def receive(self, limit: int, *, follow: bool = True) -> tuple[list[bytes], bool]:
        """At most `limit` frames, and whether the connection was lost after them.

        `follow` False: the monitor has nothing to read, or is read next.
        """
        frames: list[bytes] = []
        if self.socket is None:
            return frames, False
        if follow:
            self._follow()
        lost, self._lost = self._lost, False
        while len(frames) < limit:
            try:
                frame = self.socket.recv(NOBLOCK, copy=False)
            except zmq.Again:
                return frames, lost
            if not frame.more:
                frames.append(frame.bytes)
                continue
            # Nobody of ours sends several frames; sessions notice that something is missing.
            while self.socket.recv(NOBLOCK, copy=False).more:
                pass
        self._lost = lost
        return frames, False

    def _follow(self) -> None:
        if self._monitor is None:
            return
        for event, value in self._monitor.read():
            if event != _CONNECTED and event != _READY and len(self._places) > 1:
                # Of a connection that was up, the end is a loss; the rest is a place that fails.
                self._stuck = self._stuck or self.state is not LinkState.READY
            if event == _RETRIED:
                continue
            if event == _CONNECTED:
                self.state = LinkState.ANSWERED
            elif event == _READY:
                self.state = LinkState.READY
                self.failures = 0
                self.is_refused = False
            elif event == REFUSED:
                self.state = LinkState.REFUSED
                self.is_refused = True
                self.failures += 1
            elif event & FAILED:
                # A server that cannot read our greeting, because it is meant for another key, hangs
                # up; one that does not speak CURVE breaks the protocol.
                is_error = event == _NO_DETAIL and value == errno.EPIPE
                self.failures += 1
                self.state = LinkState.STRANGER if is_error else LinkState.ANSWERED
            elif self.state is LinkState.READY:
                self.state = LinkState.NOBODY
                self._lost = True


def _places(addresses: str) -> list[tuple[str, bool]]:
    """What libzmq is given for each of them, and whether that needs IPv6. Raises UsageError."""
    return [endpoint(address) for address in split_masters(addresses)]
