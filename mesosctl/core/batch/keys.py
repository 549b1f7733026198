"""Who a client's key is: asked of the master, kept for a minute.

Rules:
- What a key may do is the master's to say. An answer is used for KEY_KEPT_S; keys with a live
  session are asked for again before that, so that a revoked key loses its session, too.
- While the master is away the last answers stay valid for sessions that exist: a revocation could
  not have been heard of, and waiting commands must survive a restart of the master. A key that is
  not known is not let in then, nor refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from mesosctl.core.machine import Effect, Event, Now
from mesosctl.model.cluster import Principal
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message

KEY_KEPT_S = 60.0
KEY_REFRESH_S = 30.0
# A request waits so long for the verdict on its key; then it is refused for the time being.
KEY_ANSWER_S = 5.0
# A connection waits longer: it would take a refusal for final. Its handshake ends at this time.
KEY_DECIDE_S = 30.0
# Keys of strangers must not make us flood the master with questions.
QUESTIONS_MAX = 200
# Requests that wait for the verdict on their key, for each key.
HELD_MAX = 100


@dataclass(frozen=True, slots=True)
class KeyAsked(Event):
    """A client with this public key wants to connect."""

    key: str


@dataclass(frozen=True, slots=True)
class KeyDecided(Effect):
    """Whether connections with this key are let in."""

    key: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """A request that came before its sender was known."""

    peer: str
    seq: int
    message: Message


@dataclass(slots=True)
class _Known:
    principal: Principal | None
    at: float


@dataclass(slots=True)
class _Question:
    until: float
    # Set when a connection waits, too.
    decide_until: float | None = None
    held: list[HeldRequest] = field(default_factory=list)


class KeyBook:
    """Verdicts on keys and the questions that are open."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._open: dict[str, _Question] = {}
        # Questions that the master still has to be sent.
        self.to_ask: dict[str, None] = {}
        self._refresh_at: float | None = None

    def find(self, key: str, now: Now, is_connected: bool) -> Principal | bool | None:
        """The principal, None for a key that is refused, or False when it must be asked for."""
        known = self._known.get(key)
        if known is None or (is_connected and now.mono - known.at >= KEY_KEPT_S):
            return False
        return known.principal

    def ask(self, key: str, now: Now) -> _Question:
        """Have the master asked about a key, once."""
        question = self._open.get(key)
        if question is None:
            question = self._open[key] = _Question(now.mono + KEY_ANSWER_S)
            self.to_ask[key] = None
        return question

    def decide(self, key: str, now: Now) -> None:
        """A connection waits for the verdict on `key`; too many at once wait in vain."""
        if key in self._open or len(self._open) < QUESTIONS_MAX:
            self.ask(key, now).decide_until = now.mono + KEY_DECIDE_S

    def hold(self, key: str, request: HeldRequest, now: Now) -> bool:
        """Keep a request until its key is known; False when too many wait already."""
        question = self.ask(key, now)
        if len(question.held) >= HELD_MAX:
            return False
        if not question.held:
            question.until = now.mono + KEY_ANSWER_S
        question.held.append(request)
        return True

    def asked_again(self) -> None:
        """A new session with the master: every open question goes out again."""
        self.to_ask = dict.fromkeys(self._open)

    def answer(
        self, key: str, principal: Principal | None, now: Now
    ) -> tuple[bool, list[HeldRequest]]:
        """The master's verdict: whether a connection waits for it, and which requests."""
        self._known[key] = _Known(principal, now.mono)
        self.to_ask.pop(key, None)
        question = self._open.pop(key, None)
        if self._refresh_at is None:
            self._refresh_at = now.mono + KEY_REFRESH_S
        if question is None:
            return False, []
        return question.decide_until is not None, question.held

    def expire(self, live: Iterable[str], now: Now, is_connected: bool) -> list[list[HeldRequest]]:
        """Give up unanswered questions, and ask again about keys with sessions.

        Answers the requests that waited for what is given up.
        """
        given_up = []
        for key, question in list(self._open.items()):
            if now.mono >= question.until and question.held:
                given_up.append(question.held)
                question.held = []
            if now.mono >= (question.decide_until or 0.0) and now.mono >= question.until:
                del self._open[key]
                self.to_ask.pop(key, None)
        if self._refresh_at is not None and now.mono >= self._refresh_at:
            self._refresh(dict.fromkeys(live), now, is_connected)
        return given_up

    def _refresh(self, live: dict[str, None], now: Now, is_connected: bool) -> None:
        for key, known in list(self._known.items()):
            if key not in live and now.mono - known.at >= KEY_REFRESH_S:
                del self._known[key]
            elif is_connected and now.mono - known.at >= KEY_REFRESH_S:
                self.ask(key, now)
        self._refresh_at = now.mono + KEY_REFRESH_S if self._known else None

    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        times = [
            question.until if question.held else max(question.until, question.decide_until or 0.0)
            for question in self._open.values()
        ]
        if self._refresh_at is not None:
            times.append(self._refresh_at)
        return min(times, default=None)
