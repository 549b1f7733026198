"""Events and effects that only `mesosctl run` knows."""

from __future__ import annotations

from mesosctl.core.machine import Effect, Event
from mesosctl.model.records import dataclass


@dataclass(frozen=True, slots=True)
class StdinRead(Event):
    """Bytes of our own stdin; none at its end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Written(Event):
    """So many bytes of this output were written; `closed`: nobody reads it any more."""

    name: str
    count: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Connect(Effect):
    """Let the link `agent` lead to this address with this server key."""

    address: str
    public_key: str


@dataclass(frozen=True, slots=True)
class Output(Effect):
    """Write to our own stdout or stderr; answered by Written."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class WantStdin(Effect):
    """Whether stdin is to be read now."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Note(Effect):
    """Tell the user something on stderr."""

    text: str
