"""Quota: how much roles of the top may hold, and how much is kept for them; all below included.

Rules:
- Consumed is what is charged of unreserved resources plus all that is reserved to the role or below
  it, used or not. So using a reservation consumes nothing, and idle ones are not given away twice.
- Only scalars count. Nothing is ever taken back: a role above a new limit gets nothing more until
  it is below, and a new guarantee is met as others' tasks end.
- A guarantee keeps headroom: of what is free and unreserved, others are granted only what is more
  than all guarantees still lack together (rooms.py).
- A role that was cut short is `capped`: its frameworks look again at every free agent when it
  consumes less, or when there is more beyond the headroom than the last allocation left. Without
  quota nothing of this costs anything.
Source: Apache Mesos, docs/quota.md, and its hierarchical allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mesosctl.allocation.base import OFFER_CPUS_MILLI_MIN, OFFER_MEM_MILLI_MIN, RoleTerms
from mesosctl.errors import require
from mesosctl.model import values as v
from mesosctl.model.resources import Resources
from mesosctl.model.values import top_of

# Framework or role, and resources, of everything that is charged.
Charges = Iterable[tuple[str, Resources]]


class Standing(NamedTuple):
    """A role's quota and what counts against it, in thousandths by name; see the module.

    `room` is what it may be granted beyond that now, of the names that are bounded at all.
    """

    limit: Mapping[str, int]
    guarantee: Mapping[str, int]
    consumed: Mapping[str, int]
    room: Mapping[str, int]


class Quota:
    """Limits and guarantees of roles, and what counts against them."""

    def __init__(self) -> None:
        self._limits: dict[str, Mapping[str, int]] = {}
        self._guarantees: dict[str, Mapping[str, int]] = {}
        self._used: dict[str, dict[str, int]] = {}
        self._reserved: dict[str, dict[str, int]] = {}
        self.capped: dict[str, None] = {}
        # What was free beyond the headroom when the last allocation ended.
        self.surplus_left: Mapping[str, int] = {}

    def is_counted(self, role: str) -> bool:
        """Whether a quota applies to this role."""
        return bool(self._used) and top_of(role) in self._used

    @property
    def has_guarantees(self) -> bool:
        """Whether headroom is kept for anybody."""
        return bool(self._guarantees)

    def set_terms(self, role: str, terms: RoleTerms, charges: Charges) -> None:
        """Set or lift a quota; `charges` is all that the role and those below it hold now."""
        has_quota = bool(terms.limit is not None or terms.guarantee)
        require(not has_quota or "/" not in role, f"role {role} is not at the top: no quota")
        self._used.pop(role, None)
        self._limits.pop(role, None)
        self._guarantees.pop(role, None)
        self.capped.pop(role, None)
        if terms.limit is not None:
            self._limits[role] = dict(terms.limit)
        if terms.guarantee:
            self._guarantees[role] = dict(terms.guarantee)
        if has_quota:
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

    def consumed(self, role: str) -> dict[str, int]:
        """What counts against the quota of a role that has one."""
        top = top_of(role)
        held = dict(self._reserved.get(top, {}))
        for name, amount in self._used.get(top, {}).items():
            held[name] = held.get(name, 0) + amount
        return {name: amount for name, amount in held.items() if amount}

    def room(self, role: str) -> dict[str, int] | None:
        """How much more of each limited name the role may hold, never below 0; None: no limit."""
        top = top_of(role)
        limit = self._limits.get(top)
        if limit is None:
            return None
        held = self.consumed(top)
        return {name: max(0, most - held.get(name, 0)) for name, most in limit.items()}

    def owed(self) -> dict[str, dict[str, int]]:
        """By role with a guarantee: what it lacks of that by name, below 0 what it has beyond."""
        found = {}
        for role, guarantee in self._guarantees.items():
            held = self.consumed(role)
            found[role] = {name: least - held.get(name, 0) for name, least in guarantee.items()}
        return found

    def terms_of(self, role: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Limit and guarantee of the role's top; empty where there is none."""
        top = top_of(role)
        return self._limits.get(top, {}), self._guarantees.get(top, {})

    def has_reservations(self, top: str) -> bool:
        """Whether anything is reserved to the role or below it, which its limit does not hold."""
        return any(self._reserved.get(top, {}).values())

    def used(self, role: str) -> Mapping[str, int]:
        """What is charged of unreserved resources, of a role with a quota."""
        return {name: amount for name, amount in self._used[role].items() if amount}

    def limited(self) -> list[str]:
        """The roles with a limit."""
        return list(self._limits)

    def counted(self) -> list[str]:
        """The roles with a quota."""
        return list(self._used)


def is_crumb(room: Mapping[str, int]) -> bool:
    """Whether what a quota leaves is less than an offer."""
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
