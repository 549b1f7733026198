"""Sessions: ordered conversations that notice when something of them was lost.

ZeroMQ loses messages without a word and delivers old ones to new processes. So the connecting side
names each conversation with a fresh id and both sides number what they send from 1 without gaps.

Rules:
- A session is opened by the message with seq 1 on a connection that had none.
- The binding side answers anything it cannot place (unknown session, a gap, an old epoch, another
  cluster) with Reset; the connecting side then opens a fresh connection and introduces itself anew,
  with its whole state. Nothing is ever repaired inside a session.
- The connecting side sends Ping every heartbeat, the binding side answers Pong from its main loop;
  every message counts as a sign of life. Silence for HEARTBEATS_MISSED_MAX heartbeats ends it.
- The binding side's epoch only grows: what carries a lower one than was seen is ignored, but for a
  Reset. That only ends the session it names, and a master that was deposed has no other word.
- A master that does not lead answers every opening with Reset, which names the one that does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from mesosctl.core.machine import Aim, Close, Effect, NewId, Now, Open, Received, Send
from mesosctl.limits import (
    HEARTBEAT_AGENTS,
    HEARTBEAT_MAX_S,
    HEARTBEAT_S,
    HEARTBEATS_MISSED_MAX,
    NO_LEADER_MAX_S,
    RECONNECT_EACH_S,
    RECONNECT_FIRST_S,
    RECONNECT_MAX_S,
)
from mesosctl.model.records import dataclass
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Reset


def heartbeat_of(agents: int) -> float:
    """The heartbeat in seconds of each of so many agents.

    It grows with the root of their number, so that neither what the master hears nor the time in
    which it notices a dead agent grows in proportion; in whole seconds, up to HEARTBEAT_MAX_S.
    """
    grown = math.isqrt(max(agents, 1) * int(HEARTBEAT_S) ** 2 // HEARTBEAT_AGENTS)
    return min(max(HEARTBEAT_S, float(grown)), HEARTBEAT_MAX_S)


@dataclass(slots=True)
class _ServerSide:
    id: str
    key: str
    heard: float
    # The sessions with the same heartbeat, ordered by when they were last heard, oldest first: the
    # head is the next of them to time out.
    queue: dict[str, None]
    received: int = 0
    sent: int = 0


class ServerSessions:
    """All sessions of a binding side, by the name of their connection."""

    def __init__(self, cluster: str, epoch: int, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.cluster = cluster
        self.epoch = epoch
        self.timeout_s = heartbeat_s * HEARTBEATS_MISSED_MAX
        self._sessions: dict[str, _ServerSide] = {}
        # By the silence in seconds that ends a session.
        self._queues: dict[float, dict[str, None]] = {}

    def __contains__(self, peer: str) -> bool:
        return peer in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def key(self, peer: str) -> str:
        """The public key that this peer's connection proved to hold."""
        return self._sessions[peer].key

    def receive(self, event: Received, now: Now) -> tuple[Message | None, list[Effect]]:
        """Place an envelope: the message for the caller (None: nothing to do), and what to answer.

        The caller sees Bye as the last message of a session that has been closed already.
        """
        envelope = event.envelope
        session = self._sessions.get(event.peer)
        problem = self._problem(session, event)
        if problem:
            self.drop(event.peer)
            reset = Envelope(self.cluster, self.epoch, envelope.session, 1, Reset(problem))
            return None, [Send(event.peer, reset)]
        if session is None:
            queue = self._queues.setdefault(self.timeout_s, {})
            session = _ServerSide(envelope.session, event.key, now.mono, queue)
            self._sessions[event.peer] = session
        session.received = envelope.seq
        session.heard = now.mono
        session.queue.pop(event.peer, None)
        session.queue[event.peer] = None
        match envelope.message:
            case Ping():
                return None, self.send(event.peer, Pong())
            case Bye():
                self.drop(event.peer)
                return envelope.message, [Close(event.peer)]
            case message:
                return message, []

    def _problem(self, session: _ServerSide | None, event: Received) -> str:
        envelope = event.envelope
        if envelope.cluster and self.cluster and envelope.cluster != self.cluster:
            return "wrong-cluster"
        if envelope.epoch > self.epoch > 0:
            return "stale-epoch"
        if session is None:
            return "" if envelope.seq == 1 else "unknown-session"
        if session.id != envelope.session or session.key != event.key:
            return "unknown-session"
        return "" if envelope.seq == session.received + 1 else "gap"

    def send(self, peer: str, message: Message) -> list[Effect]:
        """The effect that sends `message` in the peer's session; none when it has no session."""
        session = self._sessions.get(peer)
        if session is None:
            return []
        session.sent += 1
        return [
            Send(peer, Envelope(self.cluster, self.epoch, session.id, session.sent, message)),
        ]

    def answered(self, peer: str) -> int:
        """The sequence number of the last message of this peer: what a reply refers to."""
        return self._sessions[peer].received

    def reset(self, peer: str, code: str) -> list[Effect]:
        """End a session of our own accord and say so."""
        session = self.drop(peer)
        if session is None:
            return []
        envelope = Envelope(self.cluster, self.epoch, session.id, session.sent + 1, Reset(code))
        return [Send(peer, envelope)]

    def drop(self, peer: str) -> _ServerSide | None:
        """Forget the session of a connection that is gone."""
        session = self._sessions.pop(peer, None)
        if session is not None:
            del session.queue[peer]
        return session

    def slow_down(self, peer: str, heartbeat_s: float) -> None:
        """Expect a peer that is just heard no sooner again than after `heartbeat_s` seconds."""
        session = self._sessions[peer]
        del session.queue[peer]
        timeout_s = max(self.timeout_s, heartbeat_s * HEARTBEATS_MISSED_MAX)
        session.queue = self._queues.setdefault(timeout_s, {})
        session.queue[peer] = None

    def expire(self, now: Now) -> list[tuple[str, float]]:
        """Forget the sessions that fell silent: their peers, and when each was last heard."""
        silent = []
        for timeout_s, queue in self._queues.items():
            for peer in queue:
                heard = self._sessions[peer].heard
                if heard + timeout_s > now.mono:
                    break
                silent.append((peer, heard))
        for peer, _ in silent:
            self.drop(peer)
        return silent

    def deadline(self) -> float | None:
        """When the next session falls silent."""
        due: float | None = None
        # Asked after every pass, and there is one queue nearly always.
        for timeout_s, queue in self._queues.items():
            for peer in queue:
                at = self._sessions[peer].heard + timeout_s
                due = at if due is None or at < due else due
                break
        return due

    def peers(self) -> tuple[str, ...]:
        """Every peer with a session."""
        return tuple(self._sessions)


class ClientSession:
    """The connecting side of one link, kept open for good: it reconnects with jittered back-off.

    `hello` makes the message that opens each session; `on_lost` is told when one ended, after it
    was confirmed or not, and its effects are carried out before the next attempt.
    """

    def __init__(
        self,
        link: str,
        hello: Callable[[], Message],
        on_lost: Callable[[Now], list[Effect]],
        new_id: NewId,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.link = link
        self.cluster = ""
        self.epoch = 0
        self.heartbeat_s = heartbeat_s
        # The window over which reconnects are spread grows with the size of the cluster.
        self.spread_s = 0.0
        self.confirmed = False
        # When we sent the last message that was answered, of the first one and the pings: at some
        # time since then the other side took us for present, and what it had said before that
        # answer has been received.
        self.vouched: Now | None = None
        self._asked: deque[Now] = deque()
        # Whether the other side said that it belongs to another cluster: there is no use in asking
        # it again, and what is done about it is the owner's to say.
        self.is_foreign = False
        self._hello = hello
        self._on_lost = on_lost
        self._new_id = new_id
        self._id = ""
        self._sent = 0
        self._received = 0
        self._heard = 0.0
        self._ping_at = 0.0
        self._open_at: float | None = None
        self._backoff_s = RECONNECT_FIRST_S
        self._ended = False
        self._opened = Now(0.0, 0.0)
        # How many sessions were begun. What opens a session may arrive after what opened the next
        # one, since connections are read in turns: it carries this number where that would matter.
        self.openings = 0

    @property
    def is_open(self) -> bool:
        """Whether a session is under way, confirmed or not."""
        return bool(self._id)

    def start(self, now: Now) -> list[Effect]:
        """Open the first session at once."""
        return self._open(now)

    def _open(self, now: Now) -> list[Effect]:
        self._id = self._new_id()
        self.openings += 1
        self._sent = self._received = 0
        self._heard = now.mono
        self._ping_at = now.mono + self.heartbeat_s
        self._open_at = None
        self.confirmed = False
        self._asked.clear()
        self._opened = now
        return [Open(self.link, self.spread_s), *self.send(self._hello())]

    def confirm(self, now: Now, agents: int = 1) -> None:
        """The other side took our introduction: later losses start with a short back-off again.

        `agents` sizes the window for the next reconnect.
        """
        self.confirmed = True
        self.vouched = self._opened
        self._backoff_s = RECONNECT_FIRST_S
        self.spread_s = agents * RECONNECT_EACH_S

    def send(self, message: Message) -> list[Effect]:
        """The effect that sends `message` in the present session; none when there is none."""
        if not self._id:
            return []
        self._sent += 1
        envelope = Envelope(self.cluster, self.epoch, self._id, self._sent, message)
        return [Send(self.link, envelope)]

    @property
    def sent(self) -> int:
        """The sequence number of the last message sent: what its reply refers to."""
        return self._sent

    def receive(self, envelope: Envelope, now: Now) -> tuple[Message | None, list[Effect]]:
        """Place an envelope: the message for the caller (None: nothing), and what follows."""
        if envelope.session != self._id:
            return None, []
        if isinstance(envelope.message, Reset):
            return None, self._reset(envelope.message, now)
        if envelope.epoch < self.epoch:
            return None, []
        if envelope.seq != self._received + 1:
            return None, self.lose(now)
        self._received = envelope.seq
        self._heard = now.mono
        self.epoch = envelope.epoch
        self.cluster = envelope.cluster or self.cluster
        if isinstance(envelope.message, Pong):
            # Each ping has one answer, and neither can be lost without ending the session.
            asked = self._asked.popleft() if self._asked else None
            if asked is not None and self.confirmed:
                self.vouched = asked
            return None, []
        return envelope.message, []

    def _reset(self, reset: Reset, now: Now) -> list[Effect]:
        self.is_foreign = reset.code == "wrong-cluster"
        if reset.code != "not-leader":
            # The other side forgot us: there is nothing to wait for, only the herd to avoid.
            return self.lose(now)
        aim: list[Effect] = []
        if reset.leader:
            # Two that take each other for the leader must not send us to and fro without a pause.
            self._backoff_s = RECONNECT_FIRST_S
            aim = [Aim(self.link, reset.leader)]
        # Somebody is going to lead in a moment.
        self._backoff_s = min(self._backoff_s, NO_LEADER_MAX_S)
        return [*aim, *self.lose(now)]

    def lose(self, now: Now, moved: bool = False) -> list[Effect]:
        """End the session and plan the next one; where the link has `moved`, without back-off."""
        if moved and not self._ended:
            return self._move(now)
        if not self._id:
            return []
        self._id = ""
        self.confirmed = False
        chance = int(self._new_id()[:8], 16) / 0x100000000
        wait_s = self._backoff_s * (0.5 + chance / 2) + self.spread_s * chance
        self._open_at = now.mono + wait_s
        self._backoff_s = min(self._backoff_s * 2, max(RECONNECT_MAX_S, self.spread_s))
        return [Close(self.link), *self._on_lost(now)]

    def _move(self, now: Now) -> list[Effect]:
        effects = self.lose(now)
        self._backoff_s = RECONNECT_FIRST_S
        if self._open_at is not None:
            chance = int(self._new_id()[:8], 16) / 0x100000000
            self._open_at = now.mono + self.spread_s * chance
        return effects

    def end(self) -> list[Effect]:
        """Say goodbye and never reconnect."""
        effects = self.send(Bye())
        self._id = ""
        self.confirmed = False
        self._open_at = None
        self._ended = True
        return effects

    def tick(self, now: Now) -> list[Effect]:
        """Reconnect, ping, or notice the silence, whichever is due."""
        if self._ended:
            return []
        if not self._id:
            due = self._open_at is not None and now.mono >= self._open_at
            return self._open(now) if due else []
        if now.mono >= self._heard + self.heartbeat_s * HEARTBEATS_MISSED_MAX:
            return self.lose(now)
        return self.ping(now) if now.mono >= self._ping_at else []

    def ping(self, now: Now) -> list[Effect]:
        """Show at once that what the other side said has been received."""
        self._ping_at = now.mono + self.heartbeat_s
        self._asked.append(now)
        return self.send(Ping())

    def quicken(self, now: Now) -> None:
        """Ping as often as in a small cluster, whatever the other side asked for."""
        self.heartbeat_s = min(self.heartbeat_s, HEARTBEAT_S)
        self._ping_at = min(self._ping_at, now.mono + self.heartbeat_s)

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        if self._ended:
            return None
        if not self._id:
            return self._open_at
        return min(self._ping_at, self._heard + self.heartbeat_s * HEARTBEATS_MISSED_MAX)
