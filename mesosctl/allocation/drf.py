"""Weighted dominant-resource fairness over roles, then over the frameworks within a role.

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, and the sorter of Apache Mesos.
Differs from Mesos in one thing: where several frameworks compete and have said how large their
tasks are, an agent is divided by tasks instead of going whole to the first (see filling.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.allocation.base import Grant, Refuses
from mesosctl.allocation.filling import Round
from mesosctl.allocation.ledger import Ledger, Member


class DrfAllocator(Ledger):
    """The default policy (see Allocator for the methods)."""

    def allocate(self, agents: Sequence[str], refuses: Refuses) -> list[Grant]:
        """See Allocator."""
        members = self.active_members()
        if not members:
            return []
        allocation = Round(self, agents, refuses)
        if allocation.is_idle:
            return []
        allocation.enter(self._tiers(members))
        allocation.fill()
        return allocation.finish()

    def _tiers(self, members: list[Member]) -> list[list[Member]]:
        """All compete with all."""
        return [members]
