"""The asking side for commands and libraries: requests and their replies, pushes, streams.

Rules:
- A request is answered, refused, or given up after its time with the reason; nothing hangs.
- Requests are safe to repeat (those that change something carry an id of their own), so they are
  sent again by themselves when the other side, or the connection, has lost them.
- One hub polls any number of clients; whoever waits for one serves all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Self

from mesosctl.errors import PeerError, Refused, Unreachable, UsageError
from mesosctl.limits import (
    FRAME_BYTES_MAX_BULK,
    HEARTBEAT_S,
    HEARTBEATS_MISSED_MAX,
    PASS_MESSAGES_MAX,
    RECONNECT_FIRST_S,
    REQUEST_TIMEOUT_S,
)
from mesosctl.model.records import dataclass
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Reset
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import Link, LinkSpec, LinkState
from mesosctl.runtime.polling import IN, OUT, Sources
from mesosctl.runtime.reasons import accepted, check_host, check_link, heed, where, why_silent
from mesosctl.runtime.scarcity import make_context
from mesosctl.storage.keys import KeyPair

# Where nobody listens there is no use in waiting as long as for an answer.
CONNECT_TIMEOUT_S = 3.0
# A session that ended again and again is not opened again at once.
_REOPEN_MAX_S = 2.0
_BYE_LINGER_MS = 200
# A master that does not lead said where to go: two that name each other must not make us spin.
REDIRECT_S = 0.05


@dataclass(frozen=True, slots=True)
class Reopened:
    """In an inbox: the session before ended, and whatever streams it had must be asked for anew."""


@dataclass(slots=True, eq=False)
class Ask:
    """A request under way. `replies` fills while the hub is pumped."""

    message: Message
    seq: int = 0
    replies: deque[Message] = field(default_factory=deque)


class Hub:
    """Polls the sockets of all its clients. Use it as a context manager, or `close` it."""

    def __init__(self) -> None:
        self._context = make_context()
        self._sources = Sources()
        self._clients: dict[Client, None] = {}

    def connect(
        self,
        address: str,
        keys: KeyPair | None,
        server_key: str = "",
        *,
        name: str = "the master",
        timeout_s: float = REQUEST_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> Client:
        """A client of what listens at `address`; `name` is what errors call it.

        Returns at once. Raises UsageError for a bad address, Unreachable for an unknown host.
        """
        link = Link(self._context, name, LinkSpec(address, keys, server_key))
        if not address.startswith("ipc://"):
            check_host(address)
        client = Client(self, link, timeout_s, connect_timeout_s)
        self._clients[client] = None
        return client

    def watch_fd(self, fd: int, take: Callable[[], None]) -> None:
        """Call `take` whenever `fd` can be read while somebody waits."""
        self._sources.add(fd, take)

    def unwatch_fd(self, fd: int) -> None:
        """Watch it no longer; before it is closed."""
        self._sources.remove(fd)

    def pump(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for something to happen to any client, and take it."""
        due = [client.prepare() for client in self._clients]
        now = time.monotonic()
        wait_s = min([timeout_s, *(at - now for at in due)])
        self._sources.poll(max(0.0, wait_s), ask_all=True)
        for client in list(self._clients):
            client.take()

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Pump until `ready()`; False when that took longer than `timeout_s`."""
        until = time.monotonic() + timeout_s
        while not ready():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            self.pump(left_s)
        return True

    def watch_client(self, link: Link) -> None:
        """Have the poll wait for this link, as it is now."""
        for socket in link.sockets or ():
            self._sources.add(socket, _nothing)
        if link.socket is not None and link.is_waiting:
            self._sources.add(link.socket, _nothing, IN | OUT)

    def unwatch_client(self, link: Link) -> None:
        """Have the poll forget this link."""
        for socket in link.sockets or ():
            self._sources.remove(socket)

    def drop(self, client: Client) -> None:
        """Forget a client that was closed."""
        self._clients.pop(client, None)

    def close(self) -> None:
        """Say goodbye to all and close everything. Idempotent."""
        for client in list(self._clients):
            client.close()
        self._context.destroy(linger=_BYE_LINGER_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """One conversation, continued over as many connections as it takes; made by `Hub.connect`.

    `inbox` holds what came unasked (chunks of streams) and a Reopened for each lost session.
    """

    def __init__(self, hub: Hub, link: Link, timeout_s: float, connect_timeout_s: float) -> None:
        self.hub = hub
        self.timeout_s = timeout_s
        self.connect_timeout_s = connect_timeout_s
        self.inbox: deque[Message | Reopened] = deque()
        self.cluster = ""
        self._epoch = 0
        self._link = link
        # Requests by their number in the present (or last) session, and those not sent in any.
        self._asks: dict[int, Ask] = {}
        self._unsent: list[Ask] = []
        self._session = ""
        self._sent = self._received = 0
        self._waiting_since = 0.0
        # When this side was last heard of, and from when on its silence counts.
        self._heard = 0.0
        self._silent_since = 0.0
        self._ping_at = 0.0
        self._open_at = 0.0
        self._backoff_s = RECONNECT_FIRST_S
        self._opened = 0
        self._wrong_cluster = ""

    # --- asking -----------------------------------------------------------------------------------

    def request(self, message: Message, timeout_s: float | None = None) -> Message:
        """The reply to `message`.

        Raises what its refusal stands for (UsageError, NotFound, Refused, Unreachable), and
        Unreachable when there is no reply in time.
        """
        ask = self.ask(message)
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        until = time.monotonic() + limit_s
        try:
            while not ask.replies:
                self.check()
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise Unreachable(
                        why_silent(self._link, limit_s), "is it running? is it overloaded?"
                    )
                self.hub.pump(left_s)
            return accepted(ask.replies.popleft())
        finally:
            self.end(ask)

    def pushes(self, message: Message, patience_s: float = 60.0) -> Iterator[Message]:
        """Everything that is pushed for `message`, until one that says it is `done`.

        Asked for again after a loss. Raises like `request`, and Unreachable when the other side was
        not heard of for `patience_s`.
        """
        ask = self.ask(message)
        try:
            while True:
                while ask.replies:
                    push = accepted(ask.replies.popleft())
                    yield push
                    if getattr(push, "done", True):
                        return
                self.hub.pump(1.0)
                if not ask.replies:
                    self.check(patience_s)
                    silent_s = time.monotonic() - max(self._heard, self._waiting_since)
                    if silent_s > patience_s:
                        raise Unreachable(why_silent(self._link, patience_s), "is it running?")
        finally:
            self.end(ask)

    def ask(self, message: Message) -> Ask:
        """Send a request without waiting; pump the hub until it has `replies`, then `end` it."""
        if not self._asks and not self._unsent:
            self._waiting_since = time.monotonic()
        ask = Ask(message)
        self._unsent.append(ask)
        if self._opened == 0:
            self._open()
        elif self._session:
            self._send_unsent()
        return ask

    def end(self, ask: Ask) -> None:
        """Expect no more replies to this request."""
        self._unsent = [other for other in self._unsent if other is not ask]
        if self._asks.get(ask.seq) is ask:
            del self._asks[ask.seq]

    def tell(self, message: Message) -> int:
        """Send something that has no reply of its own; its sequence number.

        It is not repeated when the session is lost, nor sent while there is none (0): see Reopened.
        """
        if self._opened == 0:
            self._open()
        return self._send(message) if self._session else 0

    def _never_connected_s(self) -> float:
        if self._heard >= self._waiting_since or self._link.state is not LinkState.NOBODY:
            return 0.0
        return time.monotonic() - self._waiting_since

    def check(self, patience_s: float = 0.0) -> None:
        """Raise Refused or Unreachable if waiting longer cannot help.

        That nobody listens is borne for `patience_s` by those who were connected before.
        """
        if self._wrong_cluster:
            raise Refused(
                f"{where(self._link)} belongs to another cluster", "check the address and the key"
            )
        check_link(self._link, was_heard=self._heard > 0)
        if self._never_connected_s() > max(self.connect_timeout_s, patience_s):
            raise Unreachable(why_silent(self._link, 0.0), "is it running?")

    # --- the session ------------------------------------------------------------------------------

    def _open(self) -> None:
        """Begin a session on a fresh connection, and ask again for all that is not answered."""
        now = time.monotonic()
        self.hub.unwatch_client(self._link)
        self._link.open()
        self._session = new_id()
        self._sent = self._received = 0
        self._silent_since = now
        self._ping_at = now + HEARTBEAT_S
        if self._opened:
            self.inbox.append(Reopened())
        self._opened += 1
        self._unsent = [*self._asks.values(), *self._unsent]
        self._asks = {}
        self._send_unsent()
        self.hub.watch_client(self._link)

    def _send_unsent(self) -> None:
        for ask in self._unsent:
            ask.seq = self._send(ask.message)
            self._asks[ask.seq] = ask
        self._unsent = []

    def _lose(self) -> None:
        """End the session; the next one is opened after a pause that grows."""
        self.hub.unwatch_client(self._link)
        self._link.close()
        self._session = ""
        self._open_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, _REOPEN_MAX_S)

    def _send(self, message: Message) -> int:
        self._sent += 1
        envelope = Envelope(self.cluster, self._epoch, self._session, self._sent, message)
        frame = encode(envelope)
        if len(frame) > FRAME_BYTES_MAX_BULK:
            raise UsageError(
                f"this request has {len(frame)} bytes, at most {FRAME_BYTES_MAX_BULK} can be sent",
                "split it",
            )
        self._link.send(frame)
        self.hub.watch_client(self._link)
        return self._sent

    def prepare(self) -> float:
        """Do what is due (reopen, ping, notice silence); when, in monotonic seconds, next."""
        now = time.monotonic()
        if self._opened == 0:
            return now + HEARTBEAT_S
        if not self._session:
            if now < self._open_at:
                return self._open_at
            self._open()
        silence_at = self._silent_since + HEARTBEAT_S * HEARTBEATS_MISSED_MAX
        is_ready = self._link.state is LinkState.READY
        # Where the key was refused, libzmq does not try again by itself.
        if (is_ready and now >= silence_at) or self._link.state is LinkState.REFUSED:
            self._lose()
            return self._open_at
        if now >= self._ping_at:
            self._ping_at = now + HEARTBEAT_S
            if is_ready:
                self._send(Ping())
        due = min(self._ping_at, self._waiting_since + self.connect_timeout_s)
        return due if due > now else self._ping_at

    def take(self) -> None:
        """Take what has arrived."""
        if not self._session:
            return
        self._link.flush()
        frames, lost = self._link.receive(PASS_MESSAGES_MAX)
        self.hub.watch_client(self._link)
        for frame in frames:
            try:
                envelope = decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)
            except PeerError:
                # The sequence of the session shows that something is missing.
                continue
            if not self._place(envelope):
                self._lose()
                return
        if lost:
            self._lose()
        elif self._link.is_stuck:
            self.hub.unwatch_client(self._link)
            if not self._link.advance():
                self._lose()
            self.hub.watch_client(self._link)

    def _place(self, envelope: Envelope) -> bool:
        """Sort one envelope in; False when the session is over."""
        if envelope.session != self._session:
            return True
        message = envelope.message
        if isinstance(message, Reset):
            self._wrong_cluster = heed(message, self._link)
            self._backoff_s = REDIRECT_S if message.leader else self._backoff_s
            return False
        if envelope.epoch < self._epoch:
            return True
        if envelope.seq != self._received + 1:
            return False
        self._received = envelope.seq
        self._epoch = envelope.epoch
        self.cluster = envelope.cluster or self.cluster
        self._heard = self._silent_since = time.monotonic()
        self._backoff_s, self._link.note = RECONNECT_FIRST_S, ""
        if isinstance(message, Pong):
            return True
        ask = self._asks.get(getattr(message, "re", 0))
        if ask is not None:
            ask.replies.append(message)
        else:
            self.inbox.append(message)
        return True

    def close(self) -> None:
        """Say goodbye and close. Idempotent."""
        if self._session and self._link.state is LinkState.READY:
            self._send(Bye())
        self.hub.unwatch_client(self._link)
        self._link.close(_BYE_LINGER_MS)
        self._session = ""
        self._asks.clear()
        self._unsent.clear()
        self.hub.drop(self)


def _nothing() -> None:
    """All clients are asked after each poll; it only has to end."""
