"""Which introduction of an agent or a framework is the newest: what comes late changes nothing.

Rules: agents and the batch framework count their lives and the sessions of each, so that any two
can be compared. Other frameworks cannot count lives, but each of their processes names itself and
counts its sessions: of one process the latest session is the newest, and a process that another one
has followed does not come back. A master that was started anew knows none of them yet.
"""

from __future__ import annotations

from mesosctl.core.master.state import AgentRecord, FrameworkRecord
from mesosctl.protocol.messages.framework import Subscribe

# So many processes of a framework are remembered; what was sent by an earlier one has arrived.
OUTLIVED_KEPT = 8


def is_late(known: AgentRecord | FrameworkRecord, incarnation: tuple[int, int]) -> bool:
    """Whether an introduction was overtaken by a newer one; who does not count has life 0."""
    return incarnation[0] > 0 and incarnation <= known.incarnation


def is_overtaken(known: FrameworkRecord, message: Subscribe) -> bool:
    """Whether the process that subscribes has done so anew since."""
    if message.process and message.process == known.process:
        return message.opening <= known.incarnation[1]
    return is_late(known, (message.life, message.opening))


def note(framework: FrameworkRecord, message: Subscribe) -> None:
    """This subscription is the newest."""
    if framework.process and framework.process != message.process:
        framework.outlived[framework.process] = None
        while len(framework.outlived) > OUTLIVED_KEPT:
            del framework.outlived[next(iter(framework.outlived))]
    framework.process = message.process
    framework.incarnation = (message.life, message.opening)
