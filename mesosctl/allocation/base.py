"""The allocator's interface: what the master tells a policy, and what it gets back.

Rules:
- An allocator is pure: no clock, no I/O, no randomness. The same calls give the same grants.
- What is offered counts as much as what is used; the caller charges both, `allocate` neither.
- Shares are taken against the scalars of all agents that are set, offered or not.
- Nothing is looked at twice for no reason: a framework is asked again about an agent only after
  something of either was set, released or granted. So whoever knows that an answer of `refuses`
  has changed (a filter ended, all were cleared) sets the agent or the framework again.
`mesosctl.testing.allocators` holds the suite that every implementation must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources

# Less than both of these is not worth an offer (Apache Mesos, --min_allocatable_resources).
OFFER_CPUS_MILLI_MIN = 10
OFFER_MEM_MILLI_MIN = 32_000

# Whether this framework does not want to be offered these resources of this agent now.
Refuses = Callable[[str, str, Resources], bool]


class Grant(NamedTuple):
    """Resources of one agent that one framework is to be offered for one role."""

    framework: str
    role: str
    agent: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class Client:
    """One framework as the allocator sees it.

    `active` says whether it is to get offers: not while suppressed, disconnected or without work.
    `task` is the size of its next task, `count` how many like it wait (None: unknown; 0: it is
    granted nothing). Priority counts among the frameworks of its role; higher goes first.
    """

    framework: str
    role: str
    active: bool = True
    task: Resources | None = None
    count: int | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class RoleTerms:
    """What the operator set for a role: a weight (thousandths, at least 1), a priority, a quota.

    The first two count among the roles beside it in the tree: `eng/backend` competes with
    `eng/web`, and what they hold together competes as `eng`. Limit and guarantee are for a role of
    the top and all below it: thousandths by name; a name that is missing is not limited, or not
    guaranteed. What is reserved to them counts whether it is in use or not. What guarantees still
    lack is granted to nobody else.
    """

    weight_milli: int = 1000
    priority: int = 0
    limit: Mapping[str, int] | None = None
    guarantee: Mapping[str, int] | None = None


class Allocator(Protocol):
    """A policy. Frameworks and agents are named by their ids, roles by their path (`eng/backend`).

    A caller that contradicts itself (releases what was not charged, charges on an agent that was
    never set) gets InvariantBroken: both sides' books would be wrong from there on.
    """

    def set_role(self, role: str, terms: RoleTerms) -> None:
        """Set a role's terms, whether or not any framework has it; the default is RoleTerms()."""

    def set_framework(self, client: Client) -> None:
        """Enter a framework or change it; setting it again puts every free agent before it anew."""

    def remove_framework(self, framework: str) -> None:
        """Grant it nothing more. What it is charged stays in use until it is released."""

    def set_agent(self, agent: str, total: Resources, offered: bool = True) -> None:
        """Enter an agent or change its total; what is charged on it stays charged.

        One that is not `offered` (away, draining) counts for shares and is never granted. Setting
        it again puts what is free on it before every framework anew.
        """

    def remove_agent(self, agent: str) -> None:
        """Forget an agent and everything charged on it; later releases on it do nothing."""

    def charge(self, framework: str, agent: str, resources: Resources) -> None:
        """Count resources as used by, or offered to, a framework (also one not entered yet)."""

    def release(self, framework: str, agent: str, resources: Resources) -> None:
        """Take a charge back, whole or in part."""

    def allocate(self, refuses: Refuses) -> list[Grant]:
        """Divide what is free; at most one grant per framework and agent.

        No grant is refused by `refuses`, none goes to an inactive framework, and together they fit
        into what is free. They are not charged yet; those that the caller does not charge come
        again.
        """


def is_offerable(resources: Resources) -> bool:
    """Whether this is enough for an offer: 0.01 CPUs or 32 MiB of memory."""
    return (
        resources.scalar("cpus") >= OFFER_CPUS_MILLI_MIN
        or resources.scalar("mem") >= OFFER_MEM_MILLI_MIN
    )
