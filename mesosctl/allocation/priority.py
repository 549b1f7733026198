"""Strict priority between roles, dominant-resource fairness among those of equal priority.

A lower role gets what every higher active framework refuses or cannot use: resources of an agent
that it filtered, or that its next task does not fit into. Nothing is ever taken back from a running
task, so a higher role that wakes up waits for tasks to end. Source: the strict-priority module of
Hindman et al., "Mesos", NSDI 2011; Apache Mesos itself does not ship it.
"""

from __future__ import annotations

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.ledger import Member


class PriorityAllocator(DrfAllocator):
    """Higher numbers go first (see Allocator for the methods)."""

    def _tiers(self, members: list[Member]) -> list[list[Member]]:
        """One tier per priority, the highest first."""
        tiers: dict[int, list[Member]] = {}
        for member in members:
            tiers.setdefault(self.priority(member.client.role), []).append(member)
        return [tiers[priority] for priority in sorted(tiers, reverse=True)]
