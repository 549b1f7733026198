"""What the master keeps of its agents on disk: who was admitted, what operators decided of them.

    agents   <agent id>   an AgentEntry

Rules: an entry is put in the pass that makes a promise of it. One of which an operator decided
something is never deleted: an id that was declared gone must be refused for good. Others may be,
where there are very many (core/master/pruning.py). A record that cannot be understood stops the
master: it never means that there is no agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mesosctl.core.machine import Put
from mesosctl.errors import StorageFailed
from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass
from mesosctl.protocol.schema import from_plain, to_plain

AGENTS = "agents"
Rows = Mapping[str, Mapping[str, Any]]


class Mode(StrEnum):
    """What an operator decided of an agent."""

    IN_USE = ""
    DEACTIVATED = "deactivated"  # nothing of it is offered
    DRAINING = "draining"  # and what runs there is to end
    GONE = "gone"  # its host is dead; its id is refused for good


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One agent. `since` is wall time; `request` is the request that set the mode.

    `deadline_s`: how long a drain gave its tasks, `deadline`: until when, in wall time.
    """

    key: str
    name: str = ""
    mode: Mode = Mode.IN_USE
    reason: str = ""
    since: float = 0.0
    request: str = ""
    deadline_s: float | None = None
    deadline: float | None = None


def load(rows: Rows) -> dict[AgentId, AgentEntry]:
    """The entries of the table. Raises StorageFailed for what is not ours."""
    try:
        return {AgentId(name): from_plain(AgentEntry, dict(row)) for name, row in rows.items()}
    except ValueError as error:
        raise StorageFailed(
            f"the master's registry cannot be understood: {error}",
            "start the mesosctl that wrote it, or move the work directory away",
        ) from None


def put(agent_id: AgentId, entry: AgentEntry) -> Put:
    """The effect that keeps an entry."""
    return Put(AGENTS, agent_id, to_plain(entry))
