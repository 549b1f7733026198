"""A scenario as values: which agents there are when, who wants what of them, how long it takes.

Rules: seconds count from the beginning. Whatever is drawn is drawn from the seed and the place of
the task in the scenario, not from the order of events: the same task takes as long in a cluster
that is shared as in one that is not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from mesosctl.core.master.registry import RoleEntry
from mesosctl.model.records import dataclass
from mesosctl.model.resources import EMPTY, Resources

# What is drawn from a bell curve is at least this part of its mean: nothing takes negative time.
LEAST_OF_MEAN = 0.1


class Spread(StrEnum):
    """How a span that is not always the same varies."""

    FIXED = "fixed"  # it is `one_s`
    NORMAL = "normal"  # mean `one_s`, standard deviation `other_s`
    UNIFORM = "uniform"  # between `one_s` and `other_s`
    EXPONENTIAL = "exponential"  # mean `one_s`


@dataclass(frozen=True, slots=True)
class Span:
    """How long something takes, or what lies between two arrivals."""

    one_s: float
    other_s: float = 0.0
    spread: Spread = Spread.FIXED

    def draw(self, *place: object) -> float:
        """One value; always the same one for the same place. In seconds."""
        if self.spread is Spread.FIXED:
            return self.one_s
        # Chance that can be repeated is the point here.
        chance = random.Random("/".join(map(str, place)))  # noqa: S311
        match self.spread:
            case Spread.NORMAL:
                return max(self.one_s * LEAST_OF_MEAN, chance.gauss(self.one_s, self.other_s))
            case Spread.UNIFORM:
                return chance.uniform(self.one_s, self.other_s)
            case _:
                return chance.expovariate(1 / self.one_s)


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """Agents that are alike: `<name>1` to `<name><count>`, or `<name>` if it is one."""

    name: str
    count: int
    resources: Resources
    attributes: Mapping[str, str] = field(default_factory=dict)
    at_s: float = 0.0

    def names(self) -> list[str]:
        """The name of each."""
        if self.count == 1:
            return [self.name]
        return [f"{self.name}{number}" for number in range(1, self.count + 1)]


@dataclass(frozen=True, slots=True)
class FrameworkPlan:
    """A batch framework, which has a queue of its own."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs that are alike. `every` lies between their arrivals; None: they arrive together.

    `in_turn`: each arrives when the one before has ended. `more`: beside CPUs and memory.
    `constraint` and `spread` as of a JobSpec.
    """

    name: str
    framework: str
    count: int
    tasks: int
    cpus_milli: int
    mem_bytes: int
    lasts: Span
    at_s: float = 0.0
    every: Span | None = None
    in_turn: bool = False
    priority: int = 0
    max_running: int | None = None
    more: Resources = EMPTY
    constraint: str = ""
    spread: bool = False

    def arrivals(self, seed: int, group: int) -> list[float]:
        """When each of its jobs arrives; only the first one of those that come in turn.

        `group` is its number in the scenario.
        """
        at, times = self.at_s, [self.at_s]
        if self.in_turn:
            return times
        for number in range(1, self.count):
            at += self.every.draw(seed, "arrival", group, number) if self.every else 0.0
            times.append(at)
        return times


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it. `static`: how many of the agents are each framework's own in the comparison.

    `launch_s`: from the arrival of a launch at its agent to the start of the process. `until_s`:
    when it ends although tasks are left. `events`: offers and launches are told one by one.
    """

    name: str
    agents: tuple[AgentGroup, ...]
    frameworks: tuple[FrameworkPlan, ...]
    jobs: tuple[JobGroup, ...]
    roles: Mapping[str, RoleEntry] = field(default_factory=dict)
    allocator: str = "drf"
    seed: int = 0
    launch_s: float = 0.02
    until_s: float | None = None
    static: Mapping[str, int] = field(default_factory=dict)
    events: bool = False
