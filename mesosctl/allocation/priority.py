"""Strict priority between roles and between the frameworks of a role, fairness among equals.

A lower one gets what every higher active framework refuses or has no task for: an agent that it
filtered, or that its next task does not fit into. The priority of a role counts among the roles
beside it in the tree. Nothing is ever taken back from a running task, so a higher role that wakes
up waits for tasks to end. Source: the strict-priority module of Hindman et al., "Mesos", NSDI 2011;
Apache Mesos itself does not ship it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.allocation.drf import DrfAllocator


class PriorityAllocator(DrfAllocator):
    """Higher numbers go first, shares decide between equal ones (see Allocator)."""

    def __init__(self, excluded: Iterable[str] = ()) -> None:
        super().__init__(excluded, by_priority=True)
