"""Who may have others' tasks revoked for one of its own: what guarantees and priorities say.

Reads the books of a Ledger and changes nothing that anybody sees.

Rules:
- A role that is below its guarantee, and would not be above it with the task, may take from every
  other role of the top what that holds beyond its own guarantee.
- Where priorities count (allocation module `priority`), a role may take from those of a lower
  priority; they are compared where the ways to both part in the tree.
- Nobody is brought below a guarantee, and nobody gets beyond a limit, or what is kept for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.rivals import parting, path_to
from mesosctl.allocation.rooms import Rooms
from mesosctl.model.values import top_of


class Entitlement:
    """What one framework may take for a task of these amounts.

    `promised`: what it is to get already and does not hold yet, in thousandths by name.
    """

    def __init__(
        self,
        ledger: Ledger,
        framework: str,
        role: str,
        need: Mapping[str, int],
        promised: Mapping[str, int],
    ) -> None:
        ledger.settle_total()
        ledger.tree.refresh()
        self._ledger = ledger
        self._top = top_of(role)
        leaf = ledger.node(framework)
        self._path = None if leaf is None else path_to(leaf)
        rooms = Rooms(ledger.quota, ledger.spare)
        wanted = {name: amount + promised.get(name, 0) for name, amount in need.items()}
        owed = ledger.quota.owed().get(self._top, {}) if ledger.quota.has_guarantees else {}
        counted = [name for name in wanted if name in owed]
        self.is_owed = bool(counted) and all(owed[name] >= wanted[name] for name in counted)
        limit = ledger.quota.room(self._top) or {}
        # Only what the role itself gives back makes room below its limit.
        self.is_at_limit = any(limit.get(name, amount) < amount for name, amount in wanted.items())
        self.is_barred = not self.is_owed and any(rooms.surplus.get(name, 0) < 0 for name in need)
        room = rooms.of(role)
        # What it may have of what is free: None is all.
        self.room: Mapping[str, int] | None = None
        if room is not None:
            self.room = {name: max(0, left - promised.get(name, 0)) for name, left in room.items()}

    def level(self, framework: str, role: str) -> tuple[int, int] | None:
        """How soon a task of this other framework may be revoked for it; None: it may not be."""
        other = self._ledger.node(framework)
        if self._path is None or other is None or self.is_at_limit:
            return None
        ours, theirs = parting(self._path, path_to(other))
        # A rank holds the negated priority, or 0 where priorities do not count.
        outranks = ours.rank[0] < theirs.rank[0]
        takes = self.is_owed and top_of(role) != self._top
        return (0, -theirs.rank[0]) if outranks or takes else None


def spares(ledger: Ledger) -> dict[str, dict[str, int]]:
    """What each role with a guarantee holds beyond it, in thousandths by name."""
    if not ledger.quota.has_guarantees:
        return {}
    return {
        top: {name: max(0, -lacking) for name, lacking in owed.items()}
        for top, owed in ledger.quota.owed().items()
    }
