"""What is divided in one allocation: the agents, and what is left of them.

Rules:
- This lives as long as one Round (filling.py), which alone changes it.
- Most allocations look at few agents. One that nobody has come to is UNMET and costs nothing.
- A closed agent has nothing left for anybody; walks pass over it without looking.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.allocation.agents import Agent
from mesosctl.allocation.base import is_offerable
from mesosctl.model.resources import EMPTY, Resources


class Spot:
    """An agent within one allocation: what is left of it, and to whom its pieces went."""

    __slots__ = ("agent", "free", "grants", "plain", "sure")

    def __init__(self, agent: Agent) -> None:
        self.agent = agent.name
        self.plain = agent.plain
        self.free = agent.free
        self.grants: dict[str, Resources] = {}
        # Whether what was granted is what was asked about, to the letter.
        self.sure = False


# Stands for every agent that nobody has come to.
UNMET = Spot(Agent("", EMPTY, offered=False))


class Field:
    """The agents of one allocation by their place in it; `least` is what every task needs."""

    def __init__(
        self, agents: Mapping[str, Agent], names: list[str], least: Mapping[str, int]
    ) -> None:
        self.spots = [UNMET] * len(names)
        # The next spot that is not closed, itself or after it (union-find).
        self.next = list(range(len(names) + 1))
        self.closed = 0
        self._agents = agents
        self._names = names
        self._least = least
        self._met: list[int] = []

    def __len__(self) -> int:
        return len(self.spots)

    def meet(self, at: int) -> bool:
        """Come to an UNMET agent: whether it has room for anybody."""
        spot = self.spots[at] = Spot(self._agents[self._names[at]])
        self._met.append(at)
        if not self._least or self._has_room(spot):
            return True
        self.close(at)
        return False

    def met(self) -> list[int]:
        """The places that somebody came to, in order."""
        self._met.sort()
        return self._met

    def granted(self) -> list[Spot]:
        """The agents of which something was granted, in their order."""
        return [spot for at in self.met() if (spot := self.spots[at]).grants]

    def close_if_full(self, at: int) -> None:
        """Something was taken of an agent."""
        if not self._has_room(self.spots[at]):
            self.close(at)

    def close(self, at: int) -> None:
        """Nothing is left of an agent."""
        if self.next[at] == at:
            self.next[at] = at + 1
            self.closed += 1

    def reopen(self) -> None:
        """Something was given back: see anew which agents are closed."""
        self.next = list(range(len(self.spots) + 1))
        self.closed = 0
        for at in self._met:
            self.close_if_full(at)

    def find(self, at: int) -> int:
        """The first place that is not closed, from this one on; the end if there is none."""
        after = self.next
        found = at
        while after[found] != found:
            found = after[found]
        while after[at] != found:
            after[at], at = found, after[at]
        return found

    def _has_room(self, spot: Spot) -> bool:
        if not is_offerable(spot.free):
            return False
        if self._least:
            have = spot.free.quantities()
            return all(have.get(name, 0) >= need for name, need in self._least.items())
        return True
