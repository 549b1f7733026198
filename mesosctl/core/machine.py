"""What all machines share: the events they take and the effects they answer with.

Rules: a machine never acts, it answers a list of effects, in order. The shell around it makes every
Put and Delete of a pass durable before it carries out anything else of that pass; so a promise is
never sent before what it promises is on disk. Time and ids are inputs: the same events give the
same effects. Effects of one role only are declared beside its machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from mesosctl.model.records import dataclass
from mesosctl.protocol.envelope import Envelope

NewId = Callable[[], str]
"""Gives a fresh id of 16 hexadecimal digits; seeded in tests and in the simulator."""


class Now(NamedTuple):
    """The present in seconds: `mono` decides, `wall` (since the epoch) is only told to people.

    `boot` counts since the host was booted and, unlike `mono`, also while it is suspended: leases
    are held against it. Only differences between times of one host mean anything.
    """

    mono: float
    wall: float
    boot: float = 0.0


# --- events ---------------------------------------------------------------------------------------
class Event:
    """Something that happened to a machine."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The shell is ready: open connections, recover. Always the first event."""


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """The time that `deadline()` named has come."""


@dataclass(frozen=True, slots=True)
class Received(Event):
    """An envelope came from `peer`: a link of ours, or a connection to us.

    `key` is the public key that its connection proved to hold, empty on a local socket.
    """

    peer: str
    key: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class PeerLost(Event):
    """The connection of `peer` is gone, or it was cut for what it sent.

    `moved`: a link of ours leads elsewhere from now on, so there is nothing to wait for.
    """

    peer: str
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Signalled(Event):
    """The process was sent this signal."""

    signum: int


# --- effects --------------------------------------------------------------------------------------
class Effect:
    """Something a machine wants done."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Send(Effect):
    """Send an envelope to a peer. Failure comes back as PeerLost."""

    peer: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Open(Effect):
    """Open a fresh connection for the link of this name, dropping the one before with its queue.

    `spread_s`: the window over which all that do so at once should spread their attempts.
    """

    link: str
    spread_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Aim(Effect):
    """Try `address` first at the next Open of this link, before the places it was given."""

    link: str
    address: str


@dataclass(frozen=True, slots=True)
class Close(Effect):
    """Forget this peer or link and whatever waits for it."""

    peer: str


@dataclass(frozen=True, slots=True)
class Put(Effect):
    """Keep `value`, a plain map, under `key` in `table`."""

    table: str
    key: str
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delete(Effect):
    """Forget `key` in `table`. It need not exist."""

    table: str
    key: str


@dataclass(frozen=True, slots=True)
class Log(Effect):
    """Tell the operator. `level`: debug, info, warning or error."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Stop(Effect):
    """End the process with this exit code once everything before it is done."""

    exit_code: int
    text: str = ""


class Machine(Protocol):
    """What a shell or the simulator runs."""

    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        """Take one event; answer what is to be done, in order."""
        ...

    def settle(self, now: Now) -> Sequence[Effect]:
        """Called once at the end of a pass: do what many events asked for but once is enough."""
        ...

    def deadline(self) -> float | None:
        """When a Tick is wanted, in monotonic seconds; None: not before the next event."""
        ...

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        ...
