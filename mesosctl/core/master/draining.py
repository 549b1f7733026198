"""Drains: agents that are emptied, frameworks that are asked beforehand, the end at the deadline.

Rules:
- A deadline is kept as wall time, because it has to survive this process; while the process runs it
  is counted on the monotonic clock. After a restart it is never further away than when it was set,
  whatever the wall clock was set to meanwhile.
- Frameworks with tasks on the agent get an inverse offer. What they answer is shown, and no more.
- At the deadline what is left is ended, and again whenever the agent comes back with something.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.core.master.state import FrameworkRecord, InverseRecord, MasterState
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.tasks import TERMINAL, Reason
from mesosctl.protocol.messages.agent import KillTasks, TaskKill
from mesosctl.protocol.messages.maintenance import (
    AnswerInverseOffers,
    InverseOffer,
    InverseOffers,
    RescindInverseOffers,
)

ASKED, ACCEPTED, DECLINED = "asked", "accepted", "declined"


# --- time -----------------------------------------------------------------------------------------
def recover(state: MasterState, now: Now) -> None:
    """Take up the drains of the registry where the master before this one left them."""
    for agent_id, entry in state.registry.items():
        if _has_deadline(entry):
            left_s = (entry.deadline or 0.0) - now.wall
            state.drain_at[agent_id] = now.mono + min(max(0.0, left_s), entry.deadline_s or 0.0)


def _has_deadline(entry: AgentEntry) -> bool:
    return entry.mode is Mode.DRAINING and entry.deadline_s is not None


def deadline(state: MasterState) -> float | None:
    """When the next drain is over."""
    return min(state.drain_at.values(), default=None)


def left_s(state: MasterState, agent_id: AgentId, now: Now) -> float | None:
    """How long this agent's tasks have; None where there is no deadline."""
    if not _has_deadline(state.registry[agent_id]):
        return None
    return max(0.0, state.drain_at.get(agent_id, now.mono) - now.mono)


def expire(state: MasterState, now: Now) -> list[Effect]:
    """End what is left on agents whose deadline has come."""
    effects: list[Effect] = []
    for agent_id in [agent_id for agent_id, at in state.drain_at.items() if at <= now.mono]:
        del state.drain_at[agent_id]
        effects += _end_tasks(state, agent_id)
    return effects


def _end_tasks(state: MasterState, agent_id: AgentId) -> list[Effect]:
    entry = state.registry[agent_id]
    agent = state.agents.get(agent_id)
    kills: dict[FrameworkId, list[TaskKill]] = {}
    for task in agent.tasks.values() if agent is not None else ():
        if task.state not in TERMINAL:
            kill = TaskKill(task.task_id, agent_id, reason=Reason.DRAINED, text=entry.reason)
            kills.setdefault(task.framework_id, []).append(kill)
    if not kills:
        return []
    count = sum(map(len, kills.values()))
    text = f"agent {entry.name} ({agent_id}): the deadline of its drain is over, {count} tasks end"
    effects: list[Effect] = [Log("info", text)]
    for framework_id, some in kills.items():
        effects += state.send_to_agent(agent_id, KillTasks(framework_id, tuple(some)))
    return effects


# --- beginning and end ----------------------------------------------------------------------------
def changed(state: MasterState, agent_id: AgentId, now: Now) -> list[Effect]:
    """An operator decided something new of this agent: begin its drain, or give one up."""
    effects = _take_back(state, [i for i, one in state.inverse.items() if one.agent_id == agent_id])
    state.drain_at.pop(agent_id, None)
    entry = state.registry[agent_id]
    if _has_deadline(entry):
        state.drain_at[agent_id] = now.mono + (entry.deadline_s or 0.0)
    return effects + ask_back(state, agent_id, now)


def agent_is_back(state: MasterState, agent_id: AgentId, now: Now) -> list[Effect]:
    """It may have brought tasks that nobody was asked about, or that should have ended."""
    effects = ask_back(state, agent_id, now)
    if _has_deadline(state.registry[agent_id]) and agent_id not in state.drain_at:
        effects += _end_tasks(state, agent_id)
    return effects


# --- inverse offers -------------------------------------------------------------------------------
def ask_back(state: MasterState, agent_id: AgentId, now: Now) -> list[Effect]:
    """Ask the frameworks with tasks on a draining agent to leave it, those not asked yet."""
    agent = state.agents.get(agent_id)
    if agent is None or state.mode(agent_id) is not Mode.DRAINING:
        return []
    concerned = {task.framework_id: None for task in agent.tasks.values() if task.holds_resources}
    effects: list[Effect] = []
    for framework_id in concerned:
        framework = state.frameworks[framework_id]
        effects += _ask(state, framework, [agent_id], now)
    return effects


def framework_is_here(state: MasterState, framework: FrameworkRecord, now: Now) -> list[Effect]:
    """Ask a framework that subscribed about every draining agent with tasks of it."""
    agents = {task.agent_id: None for task in framework.tasks.values() if task.holds_resources}
    draining = [one for one in agents if state.mode(one) is Mode.DRAINING]
    return _ask(state, framework, draining, now)


def _ask(
    state: MasterState, framework: FrameworkRecord, agents: Iterable[AgentId], now: Now
) -> list[Effect]:
    framework_id = framework.info.framework_id
    asked = {one.agent_id for one in state.inverse.values() if one.framework_id == framework_id}
    offers = []
    for agent_id in agents:
        if agent_id in asked or not framework.peer:
            continue
        entry = state.registry[agent_id]
        state.inverse_made += 1
        # The epoch keeps those of two masters apart.
        offer_id = OfferId(f"I{state.sessions.epoch}.{state.inverse_made}")
        state.inverse[offer_id] = InverseRecord(framework_id, agent_id)
        time_s = left_s(state, agent_id, now)
        offers.append(
            InverseOffer(offer_id, agent_id, entry.name, time_s, entry.deadline, entry.reason)
        )
    return state.send(framework.peer, InverseOffers(tuple(offers))) if offers else []


def _take_back(state: MasterState, offer_ids: Iterable[OfferId]) -> list[Effect]:
    void: dict[FrameworkId, list[OfferId]] = {}
    for offer_id in offer_ids:
        void.setdefault(state.inverse.pop(offer_id).framework_id, []).append(offer_id)
    effects: list[Effect] = []
    for framework_id, ids in void.items():
        framework = state.frameworks.get(framework_id)
        peer = framework.peer if framework is not None else ""
        effects += state.send(peer, RescindInverseOffers(tuple(ids)))
    return effects


def forget_framework(state: MasterState, framework_id: FrameworkId) -> None:
    """The framework is not connected any more: what it was asked is void."""
    for offer_id in [i for i, one in state.inverse.items() if one.framework_id == framework_id]:
        del state.inverse[offer_id]


def on_answer(
    state: MasterState, peer: str, message: AnswerInverseOffers, now: Now
) -> list[Effect]:
    """Remember what a framework says to being asked; nothing depends on it."""
    framework_id = state.framework_of_peer[peer]
    for answer, offer_ids in ((ACCEPTED, message.accepted), (DECLINED, message.declined)):
        for offer_id in offer_ids:
            asked = state.inverse.get(offer_id)
            if asked is not None and asked.framework_id == framework_id:
                asked.answer = answer
    return []


def answers(state: MasterState, agent_id: AgentId) -> dict[str, str]:
    """What the frameworks that were asked to leave this agent said, by their ids."""
    return {
        one.framework_id: one.answer or ASKED
        for one in state.inverse.values()
        if one.agent_id == agent_id
    }
