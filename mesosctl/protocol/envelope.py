"""What travels: one message with the header that tells where in a conversation it belongs."""

from __future__ import annotations

from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message

PROTOCOL = "mesosctl"
PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and its header.

    `cluster` is the id of the cluster, empty from a side that has not learnt it. `epoch` counts the
    starts of the master; 0 from a side that has not learnt it or has none. `session` is chosen by
    the connecting side. `seq` counts from 1 in each direction of a session, without gaps.
    """

    cluster: str
    epoch: int
    session: str
    seq: int
    message: Message
