"""The judge of preemption, and the plans in which there is some.

I18: without the operator's word nobody is preempted. Only tasks that may be are, of lower priority
or of another role; together with what is free and ends anyway they make fit what they end for, and
without any of them it would not fit. What is kept for somebody is offered to nobody else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mesosctl.allocation.ledger import Ledger
from mesosctl.core.machine import Effect, Received, Send
from mesosctl.core.master import MasterMachine
from mesosctl.core.master.clearing import Clearing
from mesosctl.core.master.state import MasterState, TaskRecord
from mesosctl.errors import require
from mesosctl.model.ids import AgentId
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks
from mesosctl.protocol.messages.framework import Offers
from mesosctl.sim.cluster import Cluster
from mesosctl.sim.lanes import LANES_AT, LANES_EVERY
from mesosctl.sim.node import Node
from mesosctl.sim.plan import Plan

# Of so many seeds these are run by masters that preempt.
EVERY = 12
THESE = (7, 9)
LASTS_S = (2.0, 5.0, 10.0)
STRANGERS_PRIORITIES = (-5, 5)


def with_preemption(seed: int, plan: Plan) -> Plan:
    """The plan of this seed, where it is one for preemption with tasks that give way.

    Its chance is its own, so that everything else of the seed stays what it is.
    """
    if seed % EVERY not in THESE:
        return plan
    chance = random.Random(seed ^ 0x9EE7)  # noqa: S311
    # Where there are no lanes, the cluster is full for a while.
    fills = seed % LANES_EVERY != LANES_AT
    plan.lasts_s = LASTS_S if fills else plan.lasts_s
    wishes = []
    for wish in plan.wishes:
        # Whoever comes later is of a higher priority, and larger: several give way for one.
        is_late = wish.at_s > plan.faults_s * 0.25
        job = replace(wish.job, preemptible=chance.random() < 0.8, once=False)
        job = replace(job, priority=int(wish.at_s) if chance.random() < 0.8 else 0)
        if fills:
            count = 4 if is_late else 8 * plan.agents
            job = replace(job, cpus_milli=2000 if is_late else 500, max_running=None)
            job = replace(job, indices=((0, count - 1, 1),), is_array=True)
        wishes.append(replace(wish, job=job))
    strangers = [replace(one, deeds=(*one.deeds, "presses", "presses")) for one in plan.strangers]
    priority = chance.choice(STRANGERS_PRIORITIES)
    return replace(plan, wishes=wishes, strangers=strangers, preemption=priority)


class PreemptionJudge:
    """Watches a cluster beside the other judges."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # For whom agents were kept when a master's last pass ended, by its name and life.
        self._kept: dict[tuple[str, int], dict[AgentId, Clearing]] = {}
        cluster.world.judges.append(self)

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Judge what a master sends."""
        if not isinstance(node.machine, MasterMachine):
            return
        state, place = node.machine.state, (node.name, node.life)
        before = self._kept.get(place, {})
        killed: dict[AgentId, list[TaskRecord]] = {}
        for effect in effects:
            message = effect.envelope.message if isinstance(effect, Send) else None
            if isinstance(message, Offers):
                self._offers(state, before, message)
            elif isinstance(message, KillTasks):
                for kill in message.kills:
                    if kill.reason is Reason.PREEMPTED:
                        task = state.frameworks[message.framework_id].tasks[kill.task_id]
                        killed.setdefault(task.agent_id, []).append(task)
        for agent_id, tasks in killed.items():
            self._cluster.world.struck("preempt", node.name, str(len(tasks)))
            self._judge(state, agent_id, tasks)
        if before or state.clearings.by_agent:
            self._kept[place] = dict(state.clearings.by_agent)

    def _offers(self, state: MasterState, before: dict[AgentId, Clearing], message: Offers) -> None:
        for offer in message.offers:
            kept = state.clearings.by_agent.get(offer.agent_id)
            if kept is not None and before.get(offer.agent_id) is kept:
                text = f"I18: {offer.framework_id} is offered what is kept for {kept.framework_id}"
                require(offer.framework_id == kept.framework_id, text)

    def _judge(self, state: MasterState, agent_id: AgentId, tasks: list[TaskRecord]) -> None:
        names = [str(task.task_id) for task in tasks]
        require(self._cluster.plan.preemption is not None, f"I18: {names} are preempted unasked")
        kept = state.clearings.by_agent.get(agent_id)
        require(kept is not None, f"I18: {names} are preempted for nobody")
        if kept is None or not isinstance(state.allocator, Ledger):
            return
        owner, agent = state.frameworks[kept.framework_id].info, state.agents[agent_id]
        highest = max(priority for _, priority, _ in kept.lots)
        for task in tasks:
            self._may_go(task, owner.framework_id, owner.role, highest, state)
        whole = state.allocator.free(agent_id)
        for task in agent.tasks.values():
            key = task.framework_id, task.task_id
            goes = task.state is TaskState.KILLING or key in kept.victims
            if goes and task.holds_resources and not _is_shared(state, task):
                whole = whole + task.resources
        offers = [state.offers[offer_id].offer for offer_id in agent.offers]
        # What it was offered since may be more than the task that it was offered for.
        mine = [offer.resources for offer in offers if offer.framework_id == kept.framework_id]
        whole = sum(mine, whole)
        need = sum((size for size, _, _ in kept.lots), EMPTY)
        text = f"I18: {names} are preempted for {need}, "
        require(_fits(whole, owner.role, need), f"{text}which does not fit into {whole} either")
        bounded = any(one.limit or one.guarantee for one in state.role_entries.values())
        # Of several sizes, chosen for one lot after the other, one may in the end be spared.
        alike = len({task.resources for task in tasks}) == 1
        for task in tasks if alike and not bounded and not mine else ():
            spared = _fits(whole - task.resources, owner.role, need)
            require(not spared, f"{text}which fits without {task.task_id}")

    def _may_go(
        self, task: TaskRecord, framework_id: str, role: str, priority: int, state: MasterState
    ) -> None:
        text = f"I18: {task.task_id} is preempted "
        require(not task.inherited or bool(task.revocable), f"{text}and is nobody's to take")
        batch = self._cluster.batch_of(task.framework_id)
        if batch is not None:
            row: dict[str, Any] = dict(batch.row("jobs", task.task_id.partition(".")[0]) or {})
            may = bool(row.get("spec", {}).get("preemptible"))
            require(may, f"{text}and was not submitted so")
        if task.framework_id == framework_id:
            has = task.revocable.priority if task.revocable else priority
            require(has < priority, f"{text}with priority {has} for one of {priority}")
        else:
            other = state.frameworks[task.framework_id].info.role
            require(other != role, f"{text}for another framework of its role")

    def saw(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """See Judges."""

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """See Judges."""

    def began(self, node: Node) -> None:
        """See Judges."""

    def failed(self, node: Node) -> None:
        """See Judges."""

    def sends(self, node: Node) -> None:
        """See Judges."""


def _fits(whole: Resources, role: str, need: Resources) -> bool:
    return whole.allocatable_to(role).take(need) is not None


def _is_shared(state: MasterState, task: TaskRecord) -> bool:
    lanes = state.frameworks[task.framework_id].lanes
    lane = lanes.get((task.agent_id, task.lane)) if task.lane else None
    return lane is not None and lane.open > 1
