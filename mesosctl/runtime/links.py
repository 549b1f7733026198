"""The socket that connects: a DEALER with a random name of its own, one frame a message.

Rules:
- A link that is opened again is a new socket under a new name: nothing of the old one is sent.
- What cannot be sent yet waits here, in a bounded queue, never in libzmq: without a connection it
  refuses to take anything, so an old message is not delivered to the next process by accident.
- Why there is no connection is known from the socket monitor: libzmq itself retries in silence.
"""

from __future__ import annotations

import errno
import secrets
from collections import deque
from dataclasses import dataclass
from enum import Enum

import zmq

from mesosctl.limits import PEER_QUEUE_MAX, RECONNECT_FIRST_S, RECONNECT_MAX_S
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
_WATCHED = _CONNECTED | _READY | _DISCONNECTED | REFUSED | FAILED


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A place to connect to: `tcp://host:port` with our `keys` and the `server_key`, or `ipc://`."""

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
        self._endpoint, self._needs_ipv6 = endpoint(spec.address)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = False
        # Handshakes that failed in a row; one alone may be a server that just went away.
        self.failures = 0

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
        self._endpoint, self._needs_ipv6 = endpoint(spec.address)
        self.spec = spec

    def open(self) -> None:
        """Connect anew, dropping the connection before with its queue."""
        self.close()
        socket = self._context.socket(zmq.DEALER)
        prepare(socket, self._needs_ipv6)
        socket.routing_id = secrets.token_bytes(_NAME_BYTES)
        socket.immediate = True
        socket.reconnect_ivl = int(RECONNECT_FIRST_S * 1000)
        socket.reconnect_ivl_max = int(RECONNECT_MAX_S * 1000)
        if self.spec.keys is not None:
            socket.curve_serverkey = self.spec.server_key.encode("ascii")
            socket.curve_publickey = self.spec.keys.public.encode("ascii")
            socket.curve_secretkey = self.spec.keys.secret.encode("ascii")
        self._monitor = Monitor(self._context, socket, _WATCHED)
        self.socket = socket
        self.state = LinkState.NOBODY
        self._lost = False
        socket.connect(self._endpoint)

    def close(self, linger_ms: int = 0) -> None:
        """End the connection; what libzmq holds already is sent for `linger_ms` at the most."""
        self._queue.clear()
        self._queued_bytes = 0
        self.state = LinkState.CLOSED
        if self.socket is not None and self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.socket.close(linger=0)
            self.socket.close(linger=linger_ms)
        self.socket = self._monitor = None

    def send(self, frame: bytes) -> bool:
        """Send or queue a frame; False when the link is closed or far too much waits already."""
        if self.socket is None:
            return False
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
            if event == _CONNECTED:
                self.state = LinkState.ANSWERED
            elif event == _READY:
                self.state = LinkState.READY
                self.failures = 0
            elif event == REFUSED:
                self.state = LinkState.REFUSED
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
