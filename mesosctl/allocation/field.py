"""What is divided in one allocation: the agents, and what is left of them.

Rules:
- This lives as long as one Round (filling.py), which alone changes it.
- Most allocations look at few agents of many. One that nobody has come to costs nothing, so nothing
  here is as long as there are agents.
- A closed agent has nothing left for anybody; walks pass over it without looking.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from mesosctl.allocation.agents import Agent, Later, OpenAgents
from mesosctl.allocation.base import OFFER_CPUS_MILLI_MIN, OFFER_MEM_MILLI_MIN, is_offerable
from mesosctl.model.resources import Resources


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


class Field:
    """The agents of one allocation by their place in it; `least` is what every task needs.

    `spots` has those that somebody came to. A closed one is in `next`, with a place after it.
    """

    def __init__(self, agents: OpenAgents, names: Sequence[str], least: Mapping[str, int]) -> None:
        self.spots: dict[int, Spot] = {}
        self.next: dict[int, int] = {}
        self._agents = agents.by_name
        self._names = names
        self._size = len(names)
        self._least = list(least.items())
        cpus, mem = least.get("cpus", 0), least.get("mem", 0)
        # Whether what is too little for an offer has no room for the smallest task either.
        self._least_is_offer = cpus >= OFFER_CPUS_MILLI_MIN or mem >= OFFER_MEM_MILLI_MIN
        # Names of agents with both, if everybody needs both: others need not be looked at.
        self._roomy: list[str] | None = None
        if cpus >= OFFER_CPUS_MILLI_MIN and mem >= OFFER_MEM_MILLI_MIN:
            self._roomy = agents.roomy()

    def __len__(self) -> int:
        return self._size

    @property
    def is_closed(self) -> bool:
        """Whether nothing is left of any agent."""
        return len(self.next) == self._size

    def meet(self, at: int) -> Spot | None:
        """Come to an agent that nobody has come to; None if it has no room for anybody."""
        spot = self.spots[at] = Spot(self._agents[self._names[at]])
        if self._least and not self._has_room(spot):
            self.close(at)
            return None
        return spot

    def granted(self) -> list[Spot]:
        """The agents of which something was granted, in their order."""
        spots = self.spots
        return [spots[at] for at in sorted([at for at, spot in spots.items() if spot.grants])]

    def close_if_full(self, at: int) -> None:
        """Something was taken of an agent."""
        if not self._has_room(self.spots[at]):
            self.close(at)

    def close(self, at: int) -> None:
        """Nothing is left of an agent."""
        self.next.setdefault(at, at + 1)

    def reopen(self) -> None:
        """Something was given back: see anew which agents are closed."""
        self.next.clear()
        for at in self.spots:
            self.close_if_full(at)

    def find(self, at: int) -> int:
        """The first place that is not closed, from this one on; the end if there is none."""
        # Union-find: whoever looks shortens the way for those after him.
        after = self.next
        found = at
        while (later := after.get(found)) is not None:
            found = later
        while at != found:
            after[at], at = found, after[at]
        return found

    def skip(self, at: int) -> int:
        """Where to go on after a place without room: further on, if more of the next are full.

        A cluster fills from its first agents on, and whoever wants a task more begins there.
        """
        names = self._names
        if self._roomy is None or not isinstance(names, Later) or at < names.others:
            return at + 1
        found = self._size
        for place in range(bisect_right(self._roomy, names[at]), len(self._roomy)):
            # Those that changed have a place of their own, before all others.
            if not names.is_first(self._roomy[place]):
                found = names.place(self._roomy[place])
                break
        self.next[at] = found
        return found

    def _has_room(self, spot: Spot) -> bool:
        have = spot.free.quantities()
        for name, need in self._least:
            if name not in have or have[name] < need:
                return False
        return self._least_is_offer or is_offerable(spot.free)
