"""Whether something fits into a cluster: what agents lack, who is offered first, what is refused.

Rules: amounts are thousandths, as in model.resources. An agent is counted in one group, by the
first thing that keeps the task off it, in the order of REASONS: what can never be mended first.
"""

from __future__ import annotations

from mesosctl.model.constraints import Where
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources

# What a group of agents can stand for, and when a task would fit on one of them: now, when what
# runs there has ended (idle), when the agent is in use again (back), or never.
FITS = ""
REASONS = {
    FITS: "now",
    "OfferPending": "now",
    "Filtered": "now",
    "Preempting": "idle",
    "Resources": "idle",
    "Draining": "back",
    "Unreachable": "back",
    "Reserved": "never",
    "NeverFits": "never",
    "NoVolume": "never",
    "Constraint": "never",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What a task needs, and on which agents it may run."""

    resources: Resources
    where: Where


@dataclass(frozen=True, slots=True)
class Lack:
    """A resource of which agents have too little: `agent` is the one that has the most.

    Of ranges and sets both amounts are 0, and `text` is what is asked for.
    """

    name: str
    need_milli: int
    most_milli: int
    agent: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """Agents that a task is kept off by the same thing: `reason` is one of REASONS.

    `names` are the first of them. `text`: what they miss of a constraint, why they are withheld,
    who is offered what they have. `left_s`: seconds until the first of them is to be had again.
    """

    reason: str
    agents: int
    names: tuple[str, ...]
    lacks: tuple[Lack, ...] = ()
    text: str = ""
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Footing:
    """Where a role, or a framework within its role, stands among those beside it.

    `share_milli` is the dominant share, `dominant` the resource that it is of.
    """

    name: str
    share_milli: int
    dominant: str = ""
    weight_milli: int = 1000
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rival:
    """Somebody who is offered what becomes free before us, and by which rule: Share or Priority.

    By the rule Lot it is drawn who is, each by its weight.
    `theirs` and `ours` are the footings that were compared.
    """

    reason: str
    theirs: Footing
    ours: Footing


@dataclass(frozen=True, slots=True)
class QuotaRoom:
    """How much more of a resource a role may hold.

    `limit_milli` None: it has no limit, but what is free is kept for guarantees of others.
    """

    role: str
    name: str
    limit_milli: int | None
    room_milli: int
    need_milli: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a need fits into the cluster at this moment."""

    agents: int
    groups: tuple[AgentGroup, ...] = ()
    rivals: tuple[Rival, ...] = ()
    quota: tuple[QuotaRoom, ...] = ()

    def count(self, *verdicts: str) -> int:
        """How many agents a task fits on now, when they are idle, when they are back, or never."""
        return sum(group.agents for group in self.groups if REASONS[group.reason] in verdicts)

    @property
    def verdict(self) -> str:
        """`now`, `idle` (when something has ended, or an agent is back) or `never`.

        Without any agent it is never: what may be started later nobody knows.
        """
        for room in self.quota:
            if room.limit_milli is not None and room.limit_milli < room.need_milli:
                return "never"
        if self.count("now") and not self.quota:
            return "now"
        return "idle" if self.count("now", "idle", "back") else "never"

    @property
    def summary(self) -> str:
        """How many agents a task fits on, now and later, for people."""
        now, idle, back = self.count("now"), self.count("now", "idle"), self.count("back")
        text = f"{now} of {self.agents} agents fit now, {idle} when idle"
        return f"{text}, {back} more when back in use" if back else text
