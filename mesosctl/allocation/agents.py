"""Agents as the books have them, and those of them that have something to offer, in order.

Rules: the order is that of their names, whatever happened before, so that nothing depends on it. It
is kept from one allocation to the next: few agents open or close in between, and most allocations
look at a few of them only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, ValuesView
from typing import overload

from mesosctl.model.resources import Resources

# With one in so many out of place they are sorted anew: each costs a move of what is behind it.
MOVED_SHARE = 64


class Agent:
    """One agent: `free` is what nobody holds; `plain` if nothing of it is reserved to a role."""

    __slots__ = ("charges", "free", "name", "offered", "plain", "total")

    def __init__(self, name: str, total: Resources, offered: bool) -> None:
        self.name = name
        self.total = total
        self.offered = offered
        self.plain = total.is_plain()
        self.free = total
        self.charges: dict[str, Resources] = {}

    def settle(self) -> None:
        """Compute anew what is free."""
        free = self.total
        for resources in self.charges.values():
            free = free.without(resources)
        self.free = free


class _Order(Sequence[str]):
    """Some names, then all others of a list; both are in order. Costs nothing for the others."""

    def __init__(self, first: list[str], names: list[str]) -> None:
        self._first = first
        self._names = names
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


class OpenAgents:
    """Offered agents with enough for an offer. `by_name`: to be read only."""

    def __init__(self) -> None:
        self.by_name: dict[str, Agent] = {}
        self._order: list[str] = []
        # Those that opened or closed since they were last put in order.
        self._moved: dict[str, None] = {}

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
        """Count it as open."""
        if agent.name not in self.by_name:
            self._moved[agent.name] = None
        self.by_name[agent.name] = agent

    def drop(self, name: str) -> None:
        """Count it as closed, if it was open."""
        if self.by_name.pop(name, None) is not None:
            self._moved[name] = None

    def after(self, first: list[str]) -> Sequence[str]:
        """All of them in order, those of `first`, which are open and in order, before the rest.

        To be used before anything opens or closes.
        """
        if len(first) == len(self.by_name):
            return first
        self._settle()
        if len(first) * MOVED_SHARE > len(self._order):
            known = dict.fromkeys(first)
            return first + [name for name in self._order if name not in known]
        return _Order(first, self._order)

    def _settle(self) -> None:
        order = self._order
        if len(self._moved) * MOVED_SHARE > len(order):
            self._order = sorted(self.by_name)
        else:
            for name in self._moved:
                at = bisect_left(order, name)
                was_open = at < len(order) and order[at] == name
                if was_open and name not in self.by_name:
                    del order[at]
                elif not was_open and name in self.by_name:
                    order.insert(at, name)
        self._moved.clear()
