"""Who waits for an agent to have done something with a volume."""

from __future__ import annotations

from mesosctl.model.records import dataclass

# Role and id of a volume.
VolumeKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits: with the request `re`, or with an operation of an acceptance."""

    peer: str
    re: int
    operation_id: str | None = None
