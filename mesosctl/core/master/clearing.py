"""Clearings: agents on which tasks are revoked for a framework, which gets what they free.

Rules:
- Nothing of such an agent is offered to anybody else, and to the framework only what holds one of
  the tasks that it is for (a lot).
- A lot is gone once it was offered, or when the framework does not wait for it any more. Without
  lots, with its agent, its framework or its time a clearing ends: what is there is for everybody.
- A framework that declines what others were ended for waits PREEMPT_AGAIN_S for the next time, as
  does one for which it was in vain.
What is to be revoked is decided in preemption.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from mesosctl.errors import require
from mesosctl.limits import PREEMPT_AFTER_S, PREEMPT_AGAIN_S
from mesosctl.model.cluster import Offer, Waiting
from mesosctl.model.constraints import ANYWHERE, Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources

if TYPE_CHECKING:
    from mesosctl.core.machine import Now
    from mesosctl.core.master.state import MasterState, TaskRecord

TaskKey = tuple[FrameworkId, TaskId]
# What two waiting tasks are alike in.
Kind = tuple[Resources, int, Where]


def kind_of(waiting: Waiting) -> Kind:
    """What of a waiting task stays the same while there are fewer of them."""
    return waiting.task, waiting.priority, waiting.where or ANYWHERE


@dataclass(slots=True)
class Clearing:
    """One agent that is cleared, until a moment in monotonic seconds."""

    framework_id: FrameworkId
    until: float
    lots: list[Kind] = field(default_factory=list)
    victims: dict[TaskKey, None] = field(default_factory=dict)

    def is_for(self, task: Resources) -> bool:
        """Whether one of its lots is of this size."""
        return any(size == task for size, _, _ in self.lots)


@dataclass(slots=True)
class Press:
    """What a framework waits for, and since when. `is_stale`: it launched something meanwhile.

    `again_at`: it has to wait so long; `idle_until`: till then a look would be in vain once more,
    of which there were `vain` one after the other.
    """

    waiting: tuple[Waiting, ...]
    since: dict[Kind, float]
    is_stale: bool = False
    again_at: float = 0.0
    idle_until: float = 0.0
    vain: int = 0

    @property
    def due_at(self) -> float:
        """From when on something may be revoked for it."""
        if self.is_stale:
            return math.inf
        return max(self.again_at, self.idle_until, min(self.since.values()) + PREEMPT_AFTER_S)


class Pool:
    """The tasks of one agent that may be revoked, the oldest first, each with its number."""

    __slots__ = ("_sums", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, tuple[int, TaskRecord]] = {}
        self._sums: tuple[dict[str, int], dict[str, int]] | None = None

    def enter(self, number: int, task: TaskRecord) -> None:
        """A task more."""
        self.tasks[task.framework_id, task.task_id] = number, task
        self._sums = None

    def leave(self, task: TaskRecord) -> None:
        """One less, if it was there."""
        if self.tasks.pop((task.framework_id, task.task_id), None) is not None:
            self._sums = None

    @property
    def youngest(self) -> int:
        """The highest number."""
        return next(reversed(self.tasks.values()))[0]

    def least(self, free: Mapping[str, int], need: Mapping[str, int]) -> int | None:
        """So many have to go at the least, whoever they are; None if all are too few."""
        if self._sums is None:
            total: dict[str, int] = {}
            largest: dict[str, int] = {}
            for _, task in self.tasks.values():
                for name, amount in task.resources.quantities().items():
                    total[name] = total.get(name, 0) + amount
                    largest[name] = max(largest.get(name, 0), amount)
            self._sums = total, largest
        total, largest = self._sums
        count = 0
        for name, amount in need.items():
            lack = amount - free.get(name, 0)
            if lack > total.get(name, 0):
                return None
            if lack > 0:
                count = max(count, -(-lack // largest[name]))
        return count


class Clearings:
    """All of a master; nothing is in it while preemption is off."""

    def __init__(self) -> None:
        self.is_on = False
        self.by_agent: dict[AgentId, Clearing] = {}
        self.presses: dict[FrameworkId, Press] = {}
        self.revocable: dict[AgentId, Pool] = {}
        self.entered = 0
        self.look_at = 0.0
        self._scanned = 0
        # Offers that others were ended for, while they are out.
        self.given: dict[OfferId, None] = {}

    # --- tasks ------------------------------------------------------------------------------------
    def enter(self, task: TaskRecord) -> None:
        """A task begins to hold resources."""
        if self.is_on and task.revocable is not None:
            self.entered += 1
            self.revocable.setdefault(task.agent_id, Pool()).enter(self.entered, task)

    def leave(self, task: TaskRecord) -> None:
        """It does so no more."""
        known = self.revocable.get(task.agent_id)
        if known is not None:
            known.leave(task)
            if not known.tasks:
                del self.revocable[task.agent_id]

    def next_agents(self, most: int) -> list[AgentId]:
        """Agents with such tasks, of many the next ones each time."""
        known = list(self.revocable)
        if len(known) <= most:
            return known
        start = self._scanned % len(known)
        self._scanned += most
        return [*known[start:], *known[:start]][:most]

    # --- frameworks -------------------------------------------------------------------------------
    def state_waiting(
        self, framework_id: FrameworkId, waiting: tuple[Waiting, ...], now: Now
    ) -> None:
        """A framework says what waits."""
        known = self.presses.pop(framework_id, None)
        stated = tuple([one for one in waiting if one.count > 0 and one.task])
        if stated:
            before = {} if known is None else known.since
            since = {kind: before.get(kind, now.mono) for kind in map(kind_of, stated)}
            press = self.presses[framework_id] = Press(stated, since)
            if known is not None:
                press.again_at, press.vain = known.again_at, known.vain
                press.idle_until = known.idle_until if since.keys() <= before.keys() else 0.0

    def forget_framework(self, framework_id: FrameworkId) -> None:
        """It is not connected any more."""
        self.presses.pop(framework_id, None)

    def launched(self, framework_id: FrameworkId) -> None:
        """What it said may not hold any more."""
        press = self.presses.get(framework_id)
        if press is not None:
            press.is_stale = True

    def declined(self, offer: Offer, now: Now) -> None:
        """An offer is not used; one that others were ended for should have been."""
        press = self.presses.get(offer.framework_id)
        if press is not None and offer.offer_id in self.given:
            press.again_at = now.mono + PREEMPT_AGAIN_S

    # --- what is kept -----------------------------------------------------------------------------
    def lots(self, framework_id: FrameworkId) -> list[Kind]:
        """What a framework is to get of the agents that are cleared for it."""
        mine = [one.lots for one in self.by_agent.values() if one.framework_id == framework_id]
        return [kind for lots in mine for kind in lots]

    def holds_back(self, framework: str, agent: str, resources: Resources) -> bool:
        """Whether what is free of the agent is kept: for somebody else, or until it is enough."""
        kept = self.by_agent.get(AgentId(agent))
        if kept is None:
            return False
        if kept.framework_id != framework:
            return True
        return not any(resources.count_fitting(task) for task, _, _ in kept.lots)

    def granted(self, state: MasterState, offer: Offer) -> None:
        """A framework is offered something: the lots that it holds are wanted no more."""
        kept = self.by_agent.get(offer.agent_id)
        if kept is None or kept.framework_id != offer.framework_id:
            return
        left = offer.resources
        for kind in list(kept.lots):
            part = left.take(kind[0])
            if part is not None:
                left = left - part
                kept.lots.remove(kind)
                self.given[offer.offer_id] = None
        if not kept.lots:
            self.end(state, offer.agent_id)

    def end(self, state: MasterState, agent_id: AgentId) -> None:
        """Let everybody look at an agent again."""
        del self.by_agent[agent_id]
        state.show_agent(agent_id)

    def prepare(self, state: MasterState, now: Now) -> None:
        """End what is over, and forget lots that nobody waits for."""
        wanted: dict[FrameworkId, dict[Kind, int]] = {}
        for agent_id, kept in list(self.by_agent.items()):
            framework_id = kept.framework_id
            press = self.presses.get(framework_id)
            is_there = agent_id in state.agents and state.is_offerable(agent_id)
            if press is None or not is_there:
                self.end(state, agent_id)
                continue
            if now.mono >= kept.until:
                press.again_at = now.mono + PREEMPT_AGAIN_S
                self.end(state, agent_id)
                continue
            if press.is_stale:
                continue
            left = wanted.setdefault(framework_id, _counts(press))
            for kind in list(kept.lots):
                if left.get(kind, 0) > 0:
                    left[kind] -= 1
                else:
                    kept.lots.remove(kind)
            if not kept.lots:
                self.end(state, agent_id)

    def deadline(self) -> float | None:
        """When something ends, or is to be looked for."""
        times = [kept.until for kept in self.by_agent.values()]
        if self.presses and self.revocable:
            times.append(max(self.look_at, min(one.due_at for one in self.presses.values())))
            times = [at for at in times if at < math.inf]
        return min(times, default=None)

    def check(self, state: MasterState) -> None:
        """Recount the tasks that may be revoked. Raises InvariantBroken."""
        for agent_id, agent in state.agents.items():
            held = [key for key, t in agent.tasks.items() if t.revocable and t.holds_resources]
            pool = self.revocable.get(agent_id)
            known = [] if pool is None else list(pool.tasks)
            require(
                not self.is_on or sorted(held) == sorted(known), f"{agent_id}: {known} revocable"
            )
        gone = [agent_id for agent_id in self.revocable if agent_id not in state.agents]
        require(not gone, f"tasks of agents that are gone may be revoked: {gone}")
        lost = [offer_id for offer_id in self.given if offer_id not in state.offers]
        require(not lost, f"offers are remembered that are void: {lost}")


def _counts(press: Press) -> dict[Kind, int]:
    counts: dict[Kind, int] = {}
    for one in press.waiting:
        counts[kind_of(one)] = counts.get(kind_of(one), 0) + one.count
    return counts
