"""Agents as the books have them, and those of them that have something to offer, in order.

Rules: the order is that of their names, whatever happened before, so that nothing depends on it. It
is kept from one allocation to the next: few agents open or close in between, and most allocations
look at a few of them only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence, ValuesView
from typing import overload

from mesosctl.allocation.base import OFFER_CPUS_MILLI_MIN, OFFER_MEM_MILLI_MIN
from mesosctl.model.resources import Resources

# With one in so many out of place they are sorted anew: each costs a move of what is behind it.
MOVED_SHARE = 64


class Agent:
    """One agent: `free` is what nobody holds; `plain` if nothing of it is reserved to a role.

    `roomy`: whether it was counted as having both CPUs and memory.
    """

    __slots__ = ("charges", "free", "name", "offered", "plain", "roomy", "total")

    def __init__(self, name: str, total: Resources, offered: bool) -> None:
        self.name = name
        self.total = total
        self.offered = offered
        self.plain = total.is_plain()
        self.free = total
        self.roomy = False
        self.charges: dict[str, Resources] = {}

    def settle(self) -> None:
        """Compute anew what is free."""
        free = self.total
        for resources in self.charges.values():
            free = free.without(resources)
        self.free = free

    @property
    def has_both(self) -> bool:
        """Whether there are both CPUs and memory for an offer; most tasks need both."""
        free = self.free.quantities()
        cpus, mem = free.get("cpus", 0), free.get("mem", 0)
        return cpus >= OFFER_CPUS_MILLI_MIN and mem >= OFFER_MEM_MILLI_MIN


class Later(Sequence[str]):
    """Some names, then all others of a list; both are in order. Costs nothing for the others."""

    def __init__(self, first: list[str], names: list[str]) -> None:
        self._first = first
        self._names = names
        # Where the others begin.
        self.others = len(first)
        # How many of the others come before each of the first.
        self._before = [bisect_left(names, name) - at for at, name in enumerate(first)]

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        other = at - len(self._first)
        if other < 0:
            return self._first[at]
        return self._names[other + bisect_right(self._before, other)]

    def place(self, name: str) -> int:
        """The place of one of the others."""
        at = bisect_left(self._names, name)
        first = range(self.others)
        return self.others + at - bisect_left(first, at, key=lambda one: self._before[one] + one)

    def is_first(self, name: str) -> bool:
        """Whether it is one of the first."""
        at = bisect_left(self._first, name)
        return at < self.others and self._first[at] == name


class _Names:
    """Some of the open agents in order: those that `holds` is true of."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        self.moved: dict[str, None] = {}
        self._holds = holds
        self._order: list[str] = []

    def settled(self, known: dict[str, Agent]) -> list[str]:
        """All of them; `moved` are those that it may not be true of any more, or is now."""
        order, holds = self._order, self._holds
        if len(self.moved) * MOVED_SHARE > len(order):
            order = self._order = sorted(name for name in known if holds(name))
        else:
            for name in self.moved:
                at = bisect_left(order, name)
                was_there = at < len(order) and order[at] == name
                if was_there and not holds(name):
                    del order[at]
                elif not was_there and holds(name):
                    order.insert(at, name)
        self.moved.clear()
        return order


class OpenAgents:
    """Offered agents with enough for an offer. `by_name`: to be read only."""

    def __init__(self) -> None:
        self.by_name: dict[str, Agent] = {}
        self._all = _Names(self.by_name.__contains__)
        self._roomy = _Names(self._is_roomy)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def values(self) -> ValuesView[Agent]:
        """The agents themselves."""
        return self.by_name.values()

    def put(self, agent: Agent) -> None:
        """Count it as open; again after what is free of it has changed."""
        name = agent.name
        if name not in self.by_name:
            self._all.moved[name] = self._roomy.moved[name] = None
            self.by_name[name] = agent
        if agent.roomy != agent.has_both:
            agent.roomy = not agent.roomy
            self._roomy.moved[name] = None

    def _is_roomy(self, name: str) -> bool:
        return name in self.by_name and self.by_name[name].roomy

    def drop(self, name: str) -> None:
        """Count it as closed, if it was open."""
        if self.by_name.pop(name, None) is not None:
            self._all.moved[name] = self._roomy.moved[name] = None

    def roomy(self) -> list[str]:
        """Those with both CPUs and memory, in order. To be used before anything changes."""
        return self._roomy.settled(self.by_name)

    def after(self, first: list[str]) -> Sequence[str]:
        """All of them in order, those of `first`, which are open and in order, before the rest.

        To be used before anything opens or closes.
        """
        if len(first) == len(self.by_name):
            return first
        order = self._all.settled(self.by_name)
        if len(first) * MOVED_SHARE > len(order):
            known = dict.fromkeys(first)
            return first + [name for name in order if name not in known]
        return Later(first, order)
