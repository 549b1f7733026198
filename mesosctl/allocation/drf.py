"""Weighted dominant-resource fairness over the tree of roles and the frameworks within a role.

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, and the sorter of Apache Mesos.
Differs from Mesos in one thing: where several frameworks compete and have said how large their
tasks are, an agent is divided by tasks instead of going whole to the first (see filling.py).
"""

from __future__ import annotations

from mesosctl.allocation.base import Grant, Refuses
from mesosctl.allocation.filling import Round
from mesosctl.allocation.ledger import Ledger


class DrfAllocator(Ledger):
    """The default policy (see Allocator for the methods)."""

    def allocate(self, refuses: Refuses) -> list[Grant]:
        """See Allocator."""
        self.look_again_at_headroom()
        if not self.active:
            # Whoever becomes active is shown every free agent then.
            self.changed_agents = {}
            return []
        if not self.changed_agents and not (self.changed_frameworks and self.open):
            self.changed_frameworks = {}
            return []
        self.settle_total()
        self.tree.begin_round()
        return Round(self, refuses).run()
