"""Who may connect: the ZAP handler, answered by the loop that serves the sockets (RFC 27/ZAP 1.0).

Rules:
- Only CURVE is let in; the public key becomes the connection's User-Id, which is all that a message
  is ever attributed to.
- Each domain has one authority: yes, no, or None for "not known yet", which is answered later by
  `resolve`. Without that the handshake times out, and whoever wanted it tries again; a refusal is
  final for libzmq. A domain without an authority lets nobody in.
- Server sockets enforce their domain, so a handler that is gone means that nobody gets in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq
from zmq.utils import z85

from mesosctl.model.records import dataclass

ENDPOINT = "inproc://zeromq.zap.01"
# As long as a handshake may take (HANDSHAKE_MS): a refusal would be final for whoever gets it.
UNDECIDED_S = 30.0
_YES = (b"200", b"OK")
_NO = (b"400", b"not an authorized key")
# A passing failure: nothing is said to the other side, whose handshake times out.
_NOT_NOW = (b"300", b"not known at present")
# Connections that wait for an authority; beyond it they are sent away at once.
UNDECIDED_MAX = 1000

Authority = Callable[[str], bool | None]
"""Answers whether the holder of this public key (Z85 text) may connect; None: not known yet."""


@dataclass(slots=True)
class _Waiting:
    envelope: list[bytes]
    domain: str
    key: str
    until: float


class ZapHandler:
    """Answers the questions of every server socket of one context."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(ENDPOINT)
        self.refused = 0
        self._authorities: dict[str, Authority] = {}
        self._waiting: list[_Waiting] = []

    def set_authority(self, domain: str, authority: Authority) -> None:
        """Have `authority` decide for the server sockets of `domain`."""
        self._authorities[domain] = authority

    def allows(self, domain: str, key: str) -> bool | None:
        """What the authority of `domain` says of `key` now; False where there is none."""
        authority = self._authorities.get(domain)
        return False if authority is None else authority(key)

    def answer(self) -> None:
        """Answer every question that has come."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._consider(frames)

    def _consider(self, frames: list[bytes]) -> None:
        # [identity, b"", version, request id, domain, address, identity, mechanism, credentials...]
        if len(frames) < 8 or frames[2] != b"1.0":
            return
        envelope = frames[:4]
        domain = frames[4].decode("utf-8", "replace")
        if frames[7] != b"CURVE" or len(frames) != 9 or len(frames[8]) != 32:
            self._reply(envelope, _NO)
            return
        key = z85.encode(frames[8]).decode("ascii")
        allowed = self.allows(domain, key)
        if allowed is None and len(self._waiting) < UNDECIDED_MAX:
            until = time.monotonic() + UNDECIDED_S
            self._waiting.append(_Waiting(envelope, domain, key, until))
            return
        status = _NOT_NOW if allowed is None else _YES if allowed else _NO
        self._reply(envelope, status, key)

    def resolve(self, key: str, allowed: bool, domain: str | None = None) -> None:
        """Answer the connections of `key` that wait for a decision (in `domain`, or in any)."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if entry.key == key and domain in (None, entry.domain):
                self._reply(entry.envelope, _YES if allowed else _NO, key)
            else:
                self._waiting.append(entry)

    def expire(self, now: float) -> None:
        """Send those away that waited too long; `now` in monotonic seconds."""
        while self._waiting and self._waiting[0].until <= now:
            entry = self._waiting.pop(0)
            self._reply(entry.envelope, _NOT_NOW)

    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self._waiting[0].until if self._waiting else None

    def _reply(self, envelope: list[bytes], status: tuple[bytes, bytes], key: str = "") -> None:
        if status is not _YES:
            self.refused += 1
        user = key.encode("ascii") if status is _YES else b""
        try:
            self.socket.send_multipart([*envelope, *status, user, b""], zmq.NOBLOCK)
        except zmq.ZMQError:
            # The connection that asked is gone; an unanswered one is not let in.
            return

    def close(self) -> None:
        """Stop answering: nobody gets in any more."""
        self.socket.close(linger=0)
