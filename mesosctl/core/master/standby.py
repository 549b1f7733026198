"""The machine of a master that does not lead: whoever speaks to it learns where the leader is.

Rules: it keeps nothing, decides nothing and opens no session; every message but a goodbye is
answered with Reset(not-leader). A standby that is elected does not become a leader by changing
itself: its process runs a fresh MasterMachine with a higher epoch, and one that was deposed a fresh
machine of this kind. So nothing that a leader believed is ever carried into another time of it.
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, Event, Log, Now, Received, Send, Signalled, Stop
from mesosctl.model.records import dataclass
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.session import Bye, Reset

SIGHUP = 1


@dataclass(frozen=True, slots=True)
class LeaderIs(Event):
    """Who leads: its address, the cluster and the epoch. An empty address: nobody at present."""

    address: str
    cluster: str = ""
    epoch: int = 0


class StandbyMachine:
    """See the module."""

    def __init__(self, leader: LeaderIs | None = None) -> None:
        self.leader = leader or LeaderIs("")

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Received(envelope=Envelope(message=Bye())):
                return []
            case Received(peer=peer, envelope=envelope):
                leader = self.leader
                reset = Reset("not-leader", self._where(), leader.address)
                answer = Envelope(leader.cluster, leader.epoch, envelope.session, 1, reset)
                return [Send(peer, answer)]
            case LeaderIs():
                if event == self.leader:
                    return []
                self.leader = event
                return [Log("info", self._where())]
            case Signalled(signum=signum) if signum != SIGHUP:
                return [Stop(0, "asked to stop")]
            case _:
                return []

    def _where(self) -> str:
        leader = self.leader
        if not leader.address:
            return "no master leads at present"
        return f"the master at {leader.address} leads, in epoch {leader.epoch}"

    def settle(self, now: Now) -> list[Effect]:
        """Nothing is put off to the end of a pass."""
        return []

    def deadline(self) -> float | None:
        """It has no timers."""
        return None

    def check(self) -> None:
        """Nothing here is kept twice."""
