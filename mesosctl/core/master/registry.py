"""What the master keeps on disk: agents that were admitted, and what operators decided.

    agents   <agent id>   an AgentEntry
    roles    <role>       a RoleEntry

Rules: an entry is put in the pass that makes a promise of it. One of which an operator decided
something is never deleted: an id that was declared gone must be refused for good. Others may be,
where there are very many (core/master/pruning.py). An entry of a role is as good as the options of
the master, and goes before them. A record that cannot be understood stops the
master: it never means that there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from mesosctl.core.machine import Put
from mesosctl.errors import PeerError, StorageFailed
from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass
from mesosctl.model.reservations import Reservation
from mesosctl.model.volumes import VolumeEntry
from mesosctl.protocol.schema import from_plain, to_plain

AGENTS, ROLES = "agents", "roles"
Rows = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


class Mode(StrEnum):
    """What an operator decided of an agent."""

    IN_USE = ""
    DEACTIVATED = "deactivated"  # nothing of it is offered
    DRAINING = "draining"  # and what runs there is to end
    GONE = "gone"  # its host is dead; its id is refused for good


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One agent. `since` is wall time; `request` is the request that set the mode.

    `deadline_s`: how long a drain gave its tasks, `deadline`: until when, in wall time. `reserved`
    is what operators and frameworks keep of it for roles, by the request `reserved_by` at last;
    `volumes` are made of that, and `volumes_by` is the last request for one that is carried out.
    """

    key: str
    name: str = ""
    mode: Mode = Mode.IN_USE
    reason: str = ""
    since: float = 0.0
    request: str = ""
    deadline_s: float | None = None
    deadline: float | None = None
    reserved: tuple[Reservation, ...] = ()
    reserved_by: str = ""
    volumes: tuple[VolumeEntry, ...] = ()
    volumes_by: str = ""


@dataclass(frozen=True, slots=True)
class RoleEntry:
    """What operators set for a role while the master ran. None: nothing, the options hold.

    `limit` and `guarantee` are thousandths by name. `request` is the request that changed it last.
    """

    weight_milli: int | None = None
    priority: int | None = None
    limit: dict[str, int] | None = None
    guarantee: dict[str, int] | None = None
    request: str = ""


def check_request(request: str) -> None:
    """Whether an operator's request can be told from others. Raises PeerError."""
    if not request:
        raise PeerError("invalid", "a request of an operator needs an id of its own")


def load(rows: Rows) -> dict[AgentId, AgentEntry]:
    """The agents of their table. Raises StorageFailed for what is not ours."""
    return {AgentId(name): entry for name, entry in _entries(AgentEntry, rows).items()}


def load_roles(rows: Rows) -> dict[str, RoleEntry]:
    """The roles of their table. Raises StorageFailed for what is not ours."""
    return _entries(RoleEntry, rows)


def _entries(kind: type[T], rows: Rows) -> dict[str, T]:
    try:
        return {name: from_plain(kind, dict(row)) for name, row in rows.items()}
    except ValueError as error:
        raise StorageFailed(
            f"the master's registry cannot be understood: {error}",
            "start the mesosctl that wrote it, or move the work directory away",
        ) from None


def put(agent_id: AgentId, entry: AgentEntry) -> Put:
    """The effect that keeps an agent's entry."""
    return Put(AGENTS, agent_id, to_plain(entry))


def put_role(role: str, entry: RoleEntry) -> Put:
    """The effect that keeps a role's entry."""
    return Put(ROLES, role, to_plain(entry))
