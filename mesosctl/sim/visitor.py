"""What clients of the batch framework share in simulations: one session, opened anew when it ends.

Rules: what was asked in a session that is lost gets no answer any more; `_lost` has it asked again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mesosctl.core.machine import Effect, Event, NewId, Now, PeerLost, Received, Started, Tick
from mesosctl.core.session import ClientSession
from mesosctl.limits import HEARTBEAT_S
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import ListJobs

LINK = "framework"


class Visitor(ABC):
    """A machine with a session at the framework. `heartbeat_s`: seconds between signs of life."""

    def __init__(self, new_id: NewId, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._session = ClientSession(LINK, ListJobs, self._lost, new_id, heartbeat_s)

    @abstractmethod
    def _lost(self, now: Now) -> list[Effect]:
        """The session ended: its questions stay unanswered."""

    @abstractmethod
    def _told(self, message: Message, now: Now) -> None:
        """Take an answer."""

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Started():
                return self._session.start(now)
            case Received(envelope=envelope):
                message, effects = self._session.receive(envelope, now)
                if message is not None:
                    self._session.confirm(now)
                    self._told(message, now)
                return effects
            case PeerLost():
                return self._session.lose(now)
            case Tick():
                return self._session.tick(now)
            case _:
                return []
