"""Filters: what a framework declined and does not want to hear of again for a while.

Rules: a filter blocks a candidate offer on its agent exactly if the candidate is contained in what
was refused; as soon as more is free there, the offer goes out. Several filters may stand side by
side. Times are seconds of the monotonic clock. (Apache Mesos, hierarchical allocator.)
"""

from __future__ import annotations

import heapq

from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter as people see it."""

    framework: str
    agent: str
    resources: Resources
    seconds_left: float


_Entry = tuple[Resources, float]


class FilterBook:
    """All filters of all frameworks."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, list[_Entry]]] = {}
        # Ends of filters; what was cleared meanwhile stays until its time and is skipped then.
        self._ends: list[tuple[float, str, str]] = []

    def refuse(self, framework: str, agent: str, resources: Resources, until_s: float) -> None:
        """Block what is contained in `resources` before `until_s`."""
        entries = self._entries.setdefault(framework, {}).setdefault(agent, [])
        if any(end >= until_s and old.contains(resources) for old, end in entries):
            return
        entries[:] = [
            (old, end) for old, end in entries if end > until_s or not resources.contains(old)
        ]
        entries.append((resources, until_s))
        heapq.heappush(self._ends, (until_s, framework, agent))

    def blocks(self, framework: str, agent: str, candidate: Resources, now_s: float) -> bool:
        """Whether the framework refused at least this on the agent, and still does."""
        entries = self._entries.get(framework, {}).get(agent)
        if not entries:
            return False
        return any(end > now_s and refused.contains(candidate) for refused, end in entries)

    def clear(self, framework: str) -> None:
        """Drop all filters of a framework: it revived, went away, or was deactivated."""
        self._entries.pop(framework, None)

    def drop_agent(self, agent: str) -> None:
        """Drop all filters on an agent: it went away or is not what it was."""
        for framework in list(self._entries):
            self._drop(framework, agent)

    def _drop(self, framework: str, agent: str) -> None:
        agents = self._entries[framework]
        agents.pop(agent, None)
        if not agents:
            del self._entries[framework]

    def expire(self, now_s: float) -> list[str]:
        """Drop what ended by `now_s`; the agents on which something may be offered again."""
        agents: dict[str, None] = {}
        while self._ends and self._ends[0][0] <= now_s:
            _end, framework, agent = heapq.heappop(self._ends)
            entries = self._entries.get(framework, {}).get(agent)
            if entries is None:
                continue
            left = [(refused, end) for refused, end in entries if end > now_s]
            if len(left) == len(entries):
                continue
            agents[agent] = None
            if left:
                entries[:] = left
            else:
                self._drop(framework, agent)
        return list(agents)

    def deadline(self) -> float | None:
        """When the next filter ends, or None. Skips ends of filters that are gone."""
        while self._ends:
            end, framework, agent = self._ends[0]
            entries = self._entries.get(framework, {}).get(agent, [])
            if any(until == end for _refused, until in entries):
                return end
            heapq.heappop(self._ends)
        return None

    def listing(self, now_s: float, framework: str | None = None) -> list[Filter]:
        """The filters that still block, of one framework or of all, those that end first first."""
        found = [
            Filter(owner, agent, refused, end - now_s)
            for owner, agents in self._entries.items()
            if framework in (None, owner)
            for agent, entries in agents.items()
            for refused, end in entries
            if end > now_s
        ]
        return sorted(found, key=lambda f: (f.seconds_left, f.framework, f.agent))
