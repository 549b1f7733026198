"""Gathering: what becomes free of one agent is kept for a task that fits nowhere, until it does.

Without it a task that needs a whole agent would wait for ever among small ones, each of which takes
what the one before it leaves.

Rules:
- It is for a framework that stated its task, larger than those of others that come after it in the
  allocator's order, may have it by quota, and is not offered it. It holds nothing yet, or would
  even with the task have no larger share than one of them: who has what is fair has to wait for
  its turn. Those that come before it are not held back, all others are, also when their shares have
  become less while it waits.
- One agent for each framework, and a tenth of all agents together, but at least one.
- It ends when the framework is offered the task, or wants it no more; and after GATHER_S, because
  tasks may last: then another agent is tried, and this one not again for that framework.
It begins as soon as a framework states its task, and for others when they are looked at, now and
then: whatever ends before it begins goes to one more small task. The agent that lacks least is
chosen, of GATHER_SCAN at the most. Allocators of other packages, whose order is not known, do
without.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.rivals import is_due
from mesosctl.limits import (
    GATHER_AGAIN_S,
    GATHER_LOOK_S,
    GATHER_LOOKS,
    GATHER_ONE_IN,
    GATHER_S,
    GATHER_SCAN,
)
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import volume_ids

if TYPE_CHECKING:
    from mesosctl.core.machine import Now
    from mesosctl.core.master.state import FrameworkRecord, MasterState


@dataclass(frozen=True, slots=True)
class Gathering:
    """For whom an agent is being emptied, for which task, and until when in monotonic seconds.

    `before`: the frameworks that came before it when this began, and so are not held back.
    """

    framework_id: FrameworkId
    task: Resources
    until: float
    before: frozenset[str]


class Gatherings:
    """The agents on which space is gathered, and those that were given up."""

    def __init__(self) -> None:
        self.by_agent: dict[AgentId, Gathering] = {}
        self._given_up: dict[FrameworkId, dict[AgentId, None]] = {}
        self._look_at = 0.0
        # Who has said what it wants since the last look, and need not wait for the next one.
        self._stated: dict[FrameworkId, None] = {}
        # For whom no agent was found, and when it is worth looking again: it costs a walk.
        self._again: dict[FrameworkId, float] = {}

    def stated(self, framework_id: FrameworkId) -> None:
        """A framework says what it wants, maybe as before."""
        self._stated[framework_id] = None

    def deadline(self) -> float | None:
        """When the first one is given up."""
        return min((one.until for one in self.by_agent.values()), default=None)

    def holds_back(self, framework: str, agent: str, resources: Resources) -> bool:
        """Whether what is free of the agent is kept: for somebody before, or until it is enough."""
        kept = self.by_agent.get(AgentId(agent))
        if kept is None:
            return False
        if kept.framework_id == framework:
            return not resources.count_fitting(kept.task)
        return framework not in kept.before

    # --- before an allocation ---------------------------------------------------------------------
    def prepare(self, state: MasterState, now: Now) -> None:
        """End what is over."""
        for agent_id, one in list(self.by_agent.items()):
            framework = state.frameworks.get(one.framework_id)
            is_there = agent_id in state.agents and state.is_offerable(agent_id)
            is_wanted = framework is not None and _wants(framework) == one.task
            if now.mono >= one.until and is_wanted:
                self._given_up.setdefault(one.framework_id, {})[agent_id] = None
            if not (is_there and is_wanted) or now.mono >= one.until:
                self._end(state, agent_id)

    def _end(self, state: MasterState, agent_id: AgentId) -> None:
        # Those that were held back are to look at it again.
        del self.by_agent[agent_id]
        state.show_agent(agent_id)

    # --- after it ---------------------------------------------------------------------------------
    def granted(self, state: MasterState, framework_id: FrameworkId, resources: Resources) -> None:
        """A framework is offered something: if its task fits, it waits no longer."""
        for agent_id, one in list(self.by_agent.items()):
            if one.framework_id == framework_id and resources.count_fitting(one.task):
                self._end(state, agent_id)
                self._given_up.pop(framework_id, None)

    def begin(self, state: MasterState, now: Now) -> None:
        """Choose agents for those that got nothing: at once if they just stated what they want."""
        allocator = state.allocator
        stated = [name for name in self._stated if not _is_served(state, name)]
        self._stated.clear()
        is_for_all = now.mono >= self._look_at
        if not (is_for_all or stated) or not isinstance(allocator, Ledger):
            return
        if is_for_all:
            self._look_at = now.mono + GATHER_LOOK_S
        room = max(1, len(state.agents) // GATHER_ONE_IN) - len(self.by_agent)
        served = {one.framework_id: None for one in self.by_agent.values()}
        served.update({one.framework_id: None for one in state.clearings.by_agent.values()})
        self._again = {name: at for name, at in self._again.items() if at > now.mono}
        order, looks = allocator.order(), GATHER_LOOKS
        # The last one has nobody to hold back.
        for rank, name in enumerate(order[:-1]):
            framework = state.frameworks.get(FrameworkId(name))
            if room <= 0 or not looks:
                return
            if framework is None or name in self._again or name in served:
                continue
            if not is_for_all and name not in stated:
                continue
            task = _wants(framework)
            if task is None or not _may_have(allocator, framework, task):
                continue
            smaller = (later for later in order[rank + 1 :] if _is_smaller(state, later, task))
            if not any(is_due(allocator, name, task, later) for later in smaller):
                continue
            if _is_offered(state, framework, task):
                continue
            looks -= 1
            chosen = self._choose(state, allocator, framework, task, now)
            if chosen is None:
                self._again[FrameworkId(name)] = now.mono + GATHER_AGAIN_S
            else:
                before, until = frozenset(order[:rank]), now.mono + GATHER_S
                self.by_agent[chosen] = Gathering(FrameworkId(name), task, until, before)
                room -= 1

    def _choose(
        self,
        state: MasterState,
        allocator: Ledger,
        framework: FrameworkRecord,
        task: Resources,
        now: Now,
    ) -> AgentId | None:
        """The agent that lacks least of the task; None if it fits on one or can fit on none."""
        info = framework.info
        given_up = self._given_up.get(info.framework_id, {})
        volumes = volume_ids(task)
        best: tuple[float, int, AgentId] | None = None
        for agent_id, agent in islice(state.agents.items(), GATHER_SCAN):
            if (
                agent_id in self.by_agent
                or agent_id in state.clearings.by_agent
                or agent_id in given_up
                or not state.is_offerable(agent_id)
            ):
                continue
            if agent.info.total.allocatable_to(info.role).take(task) is None:
                continue
            if state.wheres.excludes(info.framework_id, agent.info):
                continue
            if state.filters.blocks(info.framework_id, agent_id, task, now.mono):
                continue
            free = allocator.free(agent_id).allocatable_to(info.role)
            for offer_id in framework.offers:
                offer = state.offers[offer_id].offer
                free = free + offer.resources if offer.agent_id == agent_id else free
            if volumes and not volumes <= volume_ids(free):
                # Its volume is in use: no space would be enough until that has ended.
                continue
            lacking = _lacking(free, task)
            if not lacking:
                return None
            rank = lacking, len(agent.tasks), agent_id
            if best is None or rank < best:
                best = rank
        return None if best is None else best[2]


def _wants(framework: FrameworkRecord) -> Resources | None:
    """The task that a framework waits to be offered; None if it wants or stated nothing."""
    is_active = bool(framework.peer) and not framework.suppressed and framework.states_demand
    return framework.task_size if is_active and framework.task_count != 0 else None


def _is_offered(state: MasterState, framework: FrameworkRecord, task: Resources) -> bool:
    offers = [state.offers[offer_id].offer for offer_id in framework.offers]
    return any(offer.resources.count_fitting(task) for offer in offers)


def _is_served(state: MasterState, framework_id: FrameworkId) -> bool:
    """Whether a framework wants nothing, or is offered what it wants."""
    framework = state.frameworks.get(framework_id)
    task = None if framework is None else _wants(framework)
    return framework is None or task is None or _is_offered(state, framework, task)


def _is_smaller(state: MasterState, framework: str, task: Resources) -> bool:
    """Whether another may take what is too little for the task."""
    other = state.frameworks.get(FrameworkId(framework))
    size = None if other is None else other.task_size
    return size is None or not size.contains(task)


def _may_have(allocator: Ledger, framework: FrameworkRecord, task: Resources) -> bool:
    standing = allocator.standing(framework.info.role)
    if standing is None:
        return True
    needs = task.quantities().items()
    return all(standing.room.get(name, need) >= need for name, need in needs)


def _lacking(free: Resources, task: Resources) -> float:
    """Which part of a task is not free, of the name of which it is most."""
    if free.take(task) is not None:
        return 0.0
    have = free.quantities()
    parts = [(need - have.get(name, 0)) / need for name, need in task.quantities().items()]
    # What it lacks may be a port or the like, which no amount tells of.
    return max([1e-9, *parts])
