"""Which absent agents count as unreachable, and who was told so.

Rules:
- An agent that is away for the agent timeout is unreachable; one that a restarted master only knows
  from its registry has longer to come back. Nothing is concluded earlier, and nobody is told.
- How many become so at once is limited: when a switch takes half of a large cluster along, that
  half must not be run again within a second. Which of them come first: those away longest.
- Whoever was told that an agent is unreachable is told when it is back, before anything else that
  the master says under the same session: leases are counted on this (docs/decisions/leases.md).
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master.registry import Mode
from mesosctl.core.master.state import AgentRecord, MasterState
from mesosctl.core.session import heartbeat_of
from mesosctl.limits import (
    AGENTS_RETURN_S,
    HEARTBEAT_S,
    HEARTBEATS_MISSED_MAX,
    RECONNECT_EACH_S,
)
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.protocol.messages.framework import AgentChanged


def expect_all(state: MasterState, now: Now) -> None:
    """The master starts: every agent of the registry is expected back."""
    agents = len(state.registry)
    # Those of a large cluster notice later that the master was gone, and return one by one.
    by = now.mono + state.agent_timeout_s + AGENTS_RETURN_S + agents * RECONNECT_EACH_S
    by += (heartbeat_of(agents) - HEARTBEAT_S) * HEARTBEATS_MISSED_MAX
    expected = [one for one in state.registry if state.mode(one) is not Mode.GONE]
    state.absent = dict.fromkeys(expected, by)


def left(state: MasterState, agent: AgentRecord, since: float) -> None:
    """An agent is away; it was last certain to be there at `since` monotonic seconds."""
    agent.away_since = since
    state.absent[agent.info.agent_id] = since + state.agent_timeout_s


def is_unreachable(state: MasterState, agent_id: AgentId) -> bool:
    """Whether this agent counts as unreachable, which its frameworks were told or may be."""
    agent = state.agents.get(agent_id)
    return agent_id in state.missing or (agent is not None and agent.told_unreachable)


def tell_of_missing(state: MasterState, agent_id: AgentId, framework_id: FrameworkId) -> None:
    """Remember that a framework was told of an agent that never registered here."""
    if agent_id in state.missing:
        state.missing[agent_id][framework_id] = None


def tell_unreachable(state: MasterState, now: Now) -> list[Effect]:
    """Count agents as unreachable that are overdue, as far as the limit lets us."""
    overdue = [(due, agent_id) for agent_id, due in state.absent.items() if due <= now.mono]
    overdue.sort()
    effects: list[Effect] = []
    for number, (_, agent_id) in enumerate(overdue):
        if not state.removals.take(now.mono):
            return [*effects, *_say_limited(state, len(overdue) - number)]
        del state.absent[agent_id]
        agent = state.agents.get(agent_id)
        if agent is None:
            state.missing[agent_id] = {}
            text = f"agent {agent_id} did not come back after the start of this master"
        else:
            agent.told_unreachable = True
            effects += tell_frameworks(state, agent, "unreachable", {})
            text = f"agent {agent.info.name} ({agent_id}) has been away for too long"
        effects.append(Log("warning", f"{text}: it counts as unreachable"))
    state.removals.is_told = False
    return effects


def _say_limited(state: MasterState, left: int) -> list[Effect]:
    if state.removals.is_told:
        return []
    state.removals.is_told = True
    text = f"{left} more agents do not answer; one every {state.removals.every_s:g} s is counted as"
    return [Log("warning", f"{text} unreachable from here on, for many at once are a network's")]


def deadline(state: MasterState) -> float | None:
    """When tell_unreachable() has something to do."""
    first = min(state.absent.values(), default=None)
    return None if first is None else max(first, state.removals.ready_at())


def forget(state: MasterState, agent_id: AgentId) -> None:
    """The agent was declared gone: it is not waited for any more."""
    state.absent.pop(agent_id, None)
    state.missing.pop(agent_id, None)
    agent = state.agents.get(agent_id)
    if agent is not None:
        agent.away_since, agent.told_unreachable = None, False


def returned(state: MasterState, agent: AgentRecord) -> list[Effect]:
    """The agent registered: tell everyone who believes that it is unreachable."""
    agent_id = agent.info.agent_id
    agent.away_since = None
    state.absent.pop(agent_id, None)
    told = state.missing.pop(agent_id, None)
    was_unreachable, agent.told_unreachable = agent.told_unreachable, False
    if told is None and not was_unreachable:
        return []
    return tell_frameworks(state, agent, "registered", told or {})


def tell_frameworks(
    state: MasterState, agent: AgentRecord, word: str, also: dict[FrameworkId, None]
) -> list[Effect]:
    """Tell every framework with a task on this agent, and `also` these, what became of it."""
    concerned = {**dict.fromkeys(task.framework_id for task in agent.tasks.values()), **also}
    effects: list[Effect] = []
    for framework_id in concerned:
        framework = state.frameworks.get(framework_id)
        changed = AgentChanged(agent.info.agent_id, agent.info.name, word)
        effects += state.send(framework.peer, changed) if framework is not None else []
    return effects
