"""The allocator's interface: what the master tells a policy, and what it gets back.

Rules:
- An allocator is pure: no clock, no I/O, no randomness. The same calls give the same grants.
- What is offered counts as much as what is used; the caller charges both, `allocate` neither.
- Shares are taken against the scalars of all agents that were added, candidates or not.
`mesosctl.testing.allocators` holds the suite that every implementation must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesosctl.model.resources import Resources

# Less than both of these is not worth an offer (Apache Mesos, --min_allocatable_resources).
OFFER_CPUS_MILLI_MIN = 10
OFFER_MEM_MILLI_MIN = 32_000

# Whether this framework does not want to be offered these resources of this agent now.
Refuses = Callable[[str, str, Resources], bool]


@dataclass(frozen=True, slots=True)
class Grant:
    """Resources of one agent that one framework is to be offered for one role."""

    framework: str
    role: str
    agent: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class Client:
    """One framework as the allocator sees it.

    Weight (thousandths, at least 1) and priority are those of its role; what was said last counts
    for all frameworks of the role.
    """

    framework: str
    role: str
    weight_milli: int = 1000
    priority: int = 0


class Allocator(Protocol):
    """A policy. Frameworks and agents are named by their ids.

    A caller that contradicts itself (releases what was not charged, charges on an agent that was
    never added) gets InvariantBroken: both sides' books would be wrong from there on.
    """

    def add_framework(self, client: Client) -> None:
        """Enter a framework, active and without a stated demand, or change role and weight."""

    def remove_framework(self, framework: str) -> None:
        """Grant it nothing more. What it is charged stays in use until it is released."""

    def set_active(self, framework: str, active: bool) -> None:
        """Whether it is to get offers: not while suppressed, disconnected or without demand."""

    def set_demand(self, framework: str, task: Resources | None, count: int | None) -> None:
        """State the size of its next task, and how many like it wait (None: unknown).

        A count of 0 means that it is granted nothing.
        """

    def add_agent(self, agent: str, total: Resources) -> None:
        """Enter an agent, or give it a new total; what is charged on it stays charged."""

    def remove_agent(self, agent: str) -> None:
        """Forget an agent and everything charged on it; later releases on it do nothing."""

    def charge(self, framework: str, agent: str, resources: Resources) -> None:
        """Count resources as used by, or offered to, a framework (also one not entered yet)."""

    def release(self, framework: str, agent: str, resources: Resources) -> None:
        """Take a charge back, whole or in part."""

    def allocate(self, agents: Sequence[str], refuses: Refuses) -> list[Grant]:
        """Divide what is free on these agents; at most one grant per framework and agent.

        No grant is refused by `refuses`, none goes to an inactive framework, and together they fit
        into what is free. They are not charged yet.
        """


def is_offerable(resources: Resources) -> bool:
    """Whether this is enough for an offer: 0.01 CPUs or 32 MiB of memory."""
    return (
        resources.scalar("cpus") >= OFFER_CPUS_MILLI_MIN
        or resources.scalar("mem") >= OFFER_MEM_MILLI_MIN
    )
