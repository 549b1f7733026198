"""Who may connect: the ZAP handler, answered by the loop that serves the sockets (RFC 27/ZAP 1.0).

Rules:
- Only CURVE is let in; the public key becomes the connection's User-Id, which is all that a message
  is ever attributed to.
- Each domain has one authority: yes, no, or None for "not known yet", which is answered later by
  `resolve`. Without that the handshake times out, and whoever wanted it tries again; a refusal is
  final for libzmq. A domain without an authority lets nobody in.
- Server sockets enforce their domain, so a handler that is gone means that nobody gets in.
- A connection of libzmq keeps its line to the socket that it asked, 10 kB, as long as that is open.
  So after some questions another socket takes over, and the one before is closed when it has
  answered what it was asked. Whoever asks in the microseconds between the two fails, and libzmq may
  notice that no sooner than with the time limit of a handshake: so that is done when nobody comes,
  or when very many have come.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq
from zmq.utils import z85

from mesosctl.model.records import dataclass
from mesosctl.runtime import heap

ENDPOINT = "inproc://zeromq.zap.01"
# As long as a handshake may take (HANDSHAKE_MS): a refusal would be final for whoever gets it.
UNDECIDED_S = 30.0
_YES = (b"200", b"OK")
_NO = (b"400", b"not an authorized key")
# A passing failure: nothing is said to the other side, whose handshake times out.
_NOT_NOW = (b"300", b"not known at present")
# Connections that wait for an authority; beyond it they are sent away at once.
UNDECIDED_MAX = 1000
# A socket that was asked more often is relieved when nobody has come for a while; 20 MB of memory
# are worth the risk of doing so while they come.
QUESTIONS_FEW = 32
QUESTIONS_MAX = 2_000
QUIET_S = 0.5
# So long after that a question may still come to it: one that a thread of libzmq was about to ask.
LINGER_S = 1.0

Socket = zmq.Socket[bytes]

Authority = Callable[[str], bool | None]
"""Answers whether the holder of this public key (Z85 text) may connect; None: not known yet."""


@dataclass(slots=True)
class _Waiting:
    socket: Socket
    envelope: list[bytes]
    domain: str
    key: str
    until: float


class ZapHandler:
    """Answers the questions of every server socket of one context."""

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self._context = context
        self.socket = self._make()
        self.socket.bind(ENDPOINT)
        self.refused = 0
        # Called with a socket that is to be polled from now on, and with one about to be closed.
        self.on_open: Callable[[Socket], None] = lambda socket: None
        self.on_close: Callable[[Socket], None] = lambda socket: None
        self._questions = 0
        self._asked_at = 0.0
        # Those that were relieved, and when they may be closed.
        self._relieved: dict[Socket, float] = {}
        # When the memory of those that were closed can be given back: libzmq's threads free it.
        self._trim_at: float | None = None
        self._authorities: dict[str, Authority] = {}
        self._waiting: list[_Waiting] = []

    def set_authority(self, domain: str, authority: Authority) -> None:
        """Have `authority` decide for the server sockets of `domain`."""
        self._authorities[domain] = authority

    def allows(self, domain: str, key: str) -> bool | None:
        """What the authority of `domain` says of `key` now; False where there is none."""
        authority = self._authorities.get(domain)
        return False if authority is None else authority(key)

    def _make(self) -> Socket:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        return socket

    @property
    def sockets(self) -> tuple[Socket, ...]:
        """What a poller has to watch for input."""
        return self.socket, *self._relieved

    def answer(self) -> None:
        """Answer every question that has come."""
        for socket in self.sockets:
            while True:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._questions += 1
                self._asked_at = time.monotonic()
                self._consider(socket, frames)
        if self._questions >= QUESTIONS_MAX:
            self._relieve()

    def _relieve(self) -> None:
        self._questions = 0
        before, self.socket = self.socket, self._make()
        before.unbind(ENDPOINT)
        self.socket.bind(ENDPOINT)
        self._relieved[before] = time.monotonic() + LINGER_S
        self.on_open(self.socket)

    def _consider(self, socket: Socket, frames: list[bytes]) -> None:
        # [identity, b"", version, request id, domain, address, identity, mechanism, credentials...]
        if len(frames) < 8 or frames[2] != b"1.0":
            return
        envelope = frames[:4]
        domain = frames[4].decode("utf-8", "replace")
        if frames[7] != b"CURVE" or len(frames) != 9 or len(frames[8]) != 32:
            self._reply(socket, envelope, _NO)
            return
        key = z85.encode(frames[8]).decode("ascii")
        allowed = self.allows(domain, key)
        if allowed is None and len(self._waiting) < UNDECIDED_MAX:
            until = time.monotonic() + UNDECIDED_S
            self._waiting.append(_Waiting(socket, envelope, domain, key, until))
            return
        status = _NOT_NOW if allowed is None else _YES if allowed else _NO
        self._reply(socket, envelope, status, key)

    def resolve(self, key: str, allowed: bool, domain: str | None = None) -> None:
        """Answer the connections of `key` that wait for a decision (in `domain`, or in any)."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if entry.key == key and domain in (None, entry.domain):
                self._reply(entry.socket, entry.envelope, _YES if allowed else _NO, key)
            else:
                self._waiting.append(entry)

    def expire(self, now: float) -> None:
        """Send those away that waited too long, let sockets take turns; `now` as monotonic time."""
        while self._waiting and self._waiting[0].until <= now:
            entry = self._waiting.pop(0)
            self._reply(entry.socket, entry.envelope, _NOT_NOW)
        if self._questions > QUESTIONS_FEW and now >= self._asked_at + QUIET_S:
            self._relieve()
        for socket in [socket for socket, due in self._relieved.items() if due <= now]:
            asked = [entry.until for entry in self._waiting if entry.socket is socket]
            if asked:
                self._relieved[socket] = asked[-1]
            else:
                del self._relieved[socket]
                self.on_close(socket)
                socket.close(linger=0)
                self._trim_at = now + LINGER_S
        if self._trim_at is not None and now >= self._trim_at:
            self._trim_at = None
            heap.trim()

    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        times = [*self._relieved.values(), *(entry.until for entry in self._waiting[:1])]
        if self._questions > QUESTIONS_FEW:
            times.append(self._asked_at + QUIET_S)
        if self._trim_at is not None:
            times.append(self._trim_at)
        return min(times, default=None)

    def _reply(
        self, socket: Socket, envelope: list[bytes], status: tuple[bytes, bytes], key: str = ""
    ) -> None:
        if status is not _YES:
            self.refused += 1
        user = key.encode("ascii") if status is _YES else b""
        try:
            socket.send_multipart([*envelope, *status, user, b""], zmq.NOBLOCK)
        except zmq.ZMQError:
            # The connection that asked is gone; an unanswered one is not let in.
            return

    def close(self) -> None:
        """Stop answering: nobody gets in any more."""
        for socket in self.sockets:
            self.on_close(socket)
            socket.close(linger=0)
        self._relieved.clear()
