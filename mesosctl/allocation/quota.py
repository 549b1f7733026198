"""Limits: how much the roles of the top may hold, everything below them included.

Rules:
- Consumed is what is charged of unreserved resources plus all that is reserved to the role or below
  it, used or not. So using a reservation consumes nothing, and idle ones are not given away twice.
- Only scalars are limited. Nothing is ever taken back: a role above a new limit gets nothing more
  until it is below.
- A role that was cut short by its limit is `capped`: its frameworks look again at every free agent
  when it consumes less. Without limits nothing of this costs anything.
Source: Apache Mesos, docs/quota.md (limits; guarantees are not implemented).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesosctl.allocation.base import OFFER_CPUS_MILLI_MIN, OFFER_MEM_MILLI_MIN
from mesosctl.errors import require
from mesosctl.model import values as v
from mesosctl.model.resources import Resources

# Framework or role, and resources, of everything that is charged.
Charges = Iterable[tuple[str, Resources]]


def top_of(role: str) -> str:
    """The role at the top of the tree that a role belongs to."""
    return role.partition("/")[0]


class Quota:
    """Limits of roles, and what counts against them."""

    def __init__(self) -> None:
        self._limits: dict[str, Mapping[str, int]] = {}
        self._used: dict[str, dict[str, int]] = {}
        self._reserved: dict[str, dict[str, int]] = {}
        self.capped: dict[str, None] = {}

    def is_limited(self, role: str) -> bool:
        """Whether a limit applies to this role."""
        return bool(self._limits) and top_of(role) in self._limits

    def set_limit(self, role: str, limit: Mapping[str, int] | None, charges: Charges) -> None:
        """Set or lift a limit; `charges` is all that the role and those below it hold now."""
        require(limit is None or "/" not in role, f"role {role} is not at the top: no limit")
        self._used.pop(role, None)
        self._limits.pop(role, None)
        self.capped.pop(role, None)
        if limit is not None:
            self._limits[role] = dict(limit)
            self._used[role] = {}
            for charged, resources in charges:
                self.book(charged, resources, 1)

    def book(self, role: str, resources: Resources, sign: int) -> None:
        """Count what is charged to a role of the tree, or released."""
        used = self._used.get(top_of(role))
        if used is not None:
            for name, amount in resources.unreserved().quantities().items():
                used[name] = used.get(name, 0) + sign * amount

    def reserve(self, total: Resources, sign: int) -> None:
        """Count what an agent has reserved to roles, or had."""
        for key, value in total.items():
            role = v.role_of(key)
            if role and isinstance(value, int):
                sums = self._reserved.setdefault(top_of(role), {})
                name = v.name_of(key)
                sums[name] = sums.get(name, 0) + sign * value

    def room(self, role: str) -> dict[str, int] | None:
        """How much more of each limited name the role may hold, never below 0; None: no limit."""
        top = top_of(role)
        limit = self._limits.get(top)
        if limit is None:
            return None
        used, reserved = self._used[top], self._reserved.get(top, {})
        return {
            name: max(0, most - used.get(name, 0) - reserved.get(name, 0))
            for name, most in limit.items()
        }

    def has_reservations(self, top: str) -> bool:
        """Whether anything is reserved to the role or below it, which its limit does not hold."""
        return any(self._reserved.get(top, {}).values())

    def used(self, role: str) -> Mapping[str, int]:
        """What is charged of unreserved resources, of a limited role."""
        return {name: amount for name, amount in self._used[role].items() if amount}

    def limited(self) -> list[str]:
        """The roles with a limit."""
        return list(self._limits)


def is_crumb(room: Mapping[str, int]) -> bool:
    """Whether what a limit leaves is less than an offer."""
    cpus = room.get("cpus", OFFER_CPUS_MILLI_MIN)
    mem = room.get("mem", OFFER_MEM_MILLI_MIN)
    return cpus < OFFER_CPUS_MILLI_MIN and mem < OFFER_MEM_MILLI_MIN


def cut(usable: Resources, room: Mapping[str, int]) -> Resources:
    """As much of what is usable as there is room for; reservations and ranges are not touched."""
    over = {
        name: amount - room[name]
        for name, amount in usable.unreserved().quantities().items()
        if name in room and amount > room[name]
    }
    return usable.without(Resources.from_wire(over)) if over else usable
