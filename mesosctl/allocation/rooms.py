"""What roles may still be granted of unreserved scalars, while one allocation runs.

A limit leaves what is below it. Guarantees leave to a role what it lacks of its own, and beyond
that what is free after everything that all guarantees lack has been set aside:

    room = lacking + max(0, free - sum of what all lack)      by name, and never above the limit

In the first pass of a round (`first`) only roles that lack something take part, and of the names
that they have a guarantee of they get what they lack: so they choose their agents before others.
Source: Apache Mesos, hierarchical allocator (its two stages, required and available headroom).
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.allocation.quota import Quota, cut, is_crumb
from mesosctl.model.resources import Resources
from mesosctl.model.values import top_of


class Rooms:
    """See the module. `free`: unreserved scalars that may be granted at all, by name."""

    def __init__(self, quota: Quota, free: Mapping[str, int]) -> None:
        self._quota = quota
        self._limits = {role: quota.room(role) or {} for role in quota.limited()}
        self._owed = quota.owed() if quota.has_guarantees else {}
        self.surplus: dict[str, int] = {}
        for owed in self._owed.values():
            for name, amount in owed.items():
                have = self.surplus.get(name, free.get(name, 0))
                self.surplus[name] = have - max(0, amount)
        self.first = False
        self._known: dict[str, Mapping[str, int]] = {}

    def __bool__(self) -> bool:
        """Whether anybody is bounded at all."""
        return bool(self._limits or self._owed)

    def lacks(self, role: str) -> bool:
        """Whether the role is below its guarantee."""
        return any(amount > 0 for amount in self._owed.get(top_of(role), {}).values())

    @property
    def owes(self) -> bool:
        """Whether any role is below its guarantee."""
        return any(amount > 0 for owed in self._owed.values() for amount in owed.values())

    def of(self, role: str) -> Mapping[str, int] | None:
        """How much more the role may be granted, by bounded name; None: without bound."""
        top = top_of(role)
        if not self.surplus:
            return self._limits.get(top)
        known = self._known.get(top)
        if known is None:
            known = self._known[top] = self._room(top)
        return known

    def cut(self, role: str, usable: Resources) -> Resources:
        """As much of what is usable as the role has room for."""
        room = self.of(role)
        if room is None:
            return usable
        allowed = cut(usable, room)
        if allowed is not usable:
            self._quota.capped[top_of(role)] = None
        return allowed

    def blocks(self, role: str, needs: Mapping[str, int] | None) -> bool:
        """Whether there is nothing for the role on any agent: no need to ask each.

        `needs`: amounts of its task; None: anything that is worth an offer.
        """
        room = self.of(role)
        if room is None:
            return False
        if self.first and not self.lacks(role):
            return True
        if self._quota.has_reservations(top_of(role)):
            return False
        if needs is None:
            blocked = is_crumb(room)
        else:
            blocked = any(room.get(name, need) < need for name, need in needs.items())
        if blocked:
            self._quota.capped[top_of(role)] = None
        return blocked

    def _room(self, top: str) -> dict[str, int]:
        owed = self._owed.get(top, {})
        room = {}
        for name, surplus in self.surplus.items():
            lacking = max(0, owed.get(name, 0))
            is_kept_to = self.first and name in owed
            room[name] = lacking if is_kept_to else lacking + max(0, surplus)
        for name, left in self._limits.get(top, {}).items():
            room[name] = min(left, room.get(name, left))
        return room

    def enter(self, first: bool) -> None:
        """Begin a pass: the first, or the other."""
        self.first = first
        self._known.clear()

    def consume(self, role: str, quantities: Mapping[str, int], sign: int) -> None:
        """Count unreserved scalars as granted to a role, or as taken back with `sign` -1."""
        top = top_of(role)
        limit, owed = self._limits.get(top), self._owed.get(top, {})
        for name, amount in quantities.items():
            if limit is not None and name in limit:
                limit[name] -= sign * amount
            if name not in self.surplus:
                continue
            before = max(0, owed.get(name, 0))
            if name in owed:
                owed[name] -= sign * amount
            self.surplus[name] += before - max(0, owed.get(name, 0)) - sign * amount
        self._known.clear()
