"""Messages of every session: liveness, starting over, and saying no."""

from __future__ import annotations

from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message, message


@message("ping")
@dataclass(frozen=True, slots=True)
class Ping(Message):
    """The connecting side is alive. Its sequence number shows losses before it."""


@message("pong")
@dataclass(frozen=True, slots=True)
class Pong(Message):
    """Answer to Ping, by the main loop of the binding side."""


@message("reset")
@dataclass(frozen=True, slots=True)
class Reset(Message):
    """The binding side does not know this session, or found a gap in it: open another.

    `code`: unknown-session, gap, stale-epoch, replaced, wrong-cluster, not-leader. `leader` comes
    with the last: where the master is that leads, empty while none does.
    """

    code: str
    message: str = ""
    leader: str = ""


@message("bye")
@dataclass(frozen=True, slots=True)
class Bye(Message):
    """The connecting side ends its session on purpose."""


@message("refusal")
@dataclass(frozen=True, slots=True)
class Refusal(Message):
    """The request with sequence number `re` is refused.

    `code`: invalid, unknown-kind, not-permitted, not-found, conflict, unavailable, never-fits,
    gone.
    `message` says what and why in one line of at most 500 characters, `hint` what to try.
    """

    re: int
    code: str
    message: str
    hint: str = ""
