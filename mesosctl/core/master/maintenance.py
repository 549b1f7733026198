"""What operators decide of agents: withheld from frameworks, given back, declared gone.

Rules:
- A decision is in the registry before anybody is told of it, so that it outlives everyone.
- An agent is named by its id or its name; agents of one request are all changed, or none is.
- A withheld agent has no offers outstanding. Its tasks are not touched by that.
- Gone is the operator's word that a host is dead, and so the proof that its tasks are. An agent
  that is connected nevertheless ends them itself first, and says what became of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import draining, registry
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.core.master.state import MasterState, TaskRecord, amounts_held
from mesosctl.core.master.unreachable import forget
from mesosctl.errors import PeerError
from mesosctl.limits import DRAIN_MAX_S, REASON_CHARS_MAX
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TERMINAL, Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import ReturnLanes, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import AgentChanged
from mesosctl.protocol.messages.maintenance import (
    AgentsWithheld,
    DeactivateAgents,
    DeclareGone,
    DrainAgents,
    UndrainAgents,
    WithheldAgent,
)
from mesosctl.protocol.messages.query import Agents, AgentView
from mesosctl.protocol.messages.session import Refusal

GONE_CODE = "gone"
_GONE_HINT = (
    "end what it left with --recover cleanup, or name an empty --work-dir: it joins as a new agent"
)


# --- requests -------------------------------------------------------------------------------------
def on_deactivate(
    state: MasterState, peer: str, message: DeactivateAgents, now: Now
) -> list[Effect]:
    """Withhold agents; their tasks go on."""
    wanted = AgentEntry("", mode=Mode.DEACTIVATED, reason=message.reason[:REASON_CHARS_MAX])
    return _change(state, peer, message.request_id, message.agents, wanted, now)


def on_drain(state: MasterState, peer: str, message: DrainAgents, now: Now) -> list[Effect]:
    """Withhold agents and have them emptied, at the deadline by force."""
    wanted = AgentEntry(
        "",
        mode=Mode.DRAINING,
        reason=message.reason[:REASON_CHARS_MAX],
        deadline_s=message.deadline_s,
        deadline=None if message.deadline_s is None else now.wall + message.deadline_s,
    )
    if message.deadline_s is not None and not 0 <= message.deadline_s <= DRAIN_MAX_S:
        text = f"a deadline is between 0 and {DRAIN_MAX_S / 86_400:g} days away"
        return state.send(peer, Refusal(state.sessions.answered(peer), "invalid", text))
    return _change(state, peer, message.request_id, message.agents, wanted, now)


def on_undrain(state: MasterState, peer: str, message: UndrainAgents, now: Now) -> list[Effect]:
    """Give agents back to frameworks."""
    return _change(state, peer, message.request_id, message.agents, AgentEntry(""), now)


def on_gone(state: MasterState, peer: str, message: DeclareGone, now: Now) -> list[Effect]:
    """Take the operator's word that agents are dead."""
    wanted = AgentEntry("", mode=Mode.GONE, reason=message.reason[:REASON_CHARS_MAX])
    return _change(state, peer, message.request_id, message.agents, wanted, now)


def _change(
    state: MasterState,
    peer: str,
    request: str,
    words: tuple[str, ...],
    wanted: AgentEntry,
    now: Now,
) -> list[Effect]:
    """Bring these agents into the mode of `wanted`, all of them or none, and show them."""
    re = state.sessions.answered(peer)
    try:
        registry.check_request(request)
        agent_ids = resolve(state, words, wanted.mode)
    except PeerError as error:
        return state.send(peer, Refusal(re, error.code, str(error)[:500], "see `mesosctl agents`"))
    by = state.name_of(peer)
    effects: list[Effect] = []
    for agent_id in agent_ids:
        known = state.registry[agent_id]
        if known.request == request or (known.mode is wanted.mode and not _is_news(known, wanted)):
            continue
        entry = replace(
            known,
            mode=wanted.mode,
            reason=wanted.reason,
            deadline_s=wanted.deadline_s,
            deadline=wanted.deadline,
            since=now.wall,
            request=request,
        )
        state.registry[agent_id] = entry
        effects.append(registry.put(agent_id, entry))
        effects.append(Log("info", _told(agent_id, entry, by)))
        effects += _carry_out(state, agent_id, entry, now)
    views = tuple([agent_view(state, agent_id, now) for agent_id in agent_ids])
    return [*effects, *state.send(peer, Agents(re, views))]


def _is_news(known: AgentEntry, wanted: AgentEntry) -> bool:
    """Whether a decision differs from the one that holds, other than by who asked for it."""
    if known.mode is Mode.GONE or known.mode is Mode.IN_USE:
        return False
    # A deadline counts from the request on.
    return known.reason != wanted.reason or (known.deadline, wanted.deadline) != (None, None)


def _told(agent_id: AgentId, entry: AgentEntry, by: str) -> str:
    what = entry.mode.value or "in use again"
    why = f": {entry.reason}" if entry.reason else ""
    return f"agent {entry.name} ({agent_id}) is {what} by the word of {by}{why}"


def _carry_out(state: MasterState, agent_id: AgentId, entry: AgentEntry, now: Now) -> list[Effect]:
    agent = state.agents.get(agent_id)
    effects = rescind(state, list(agent.offers) if agent is not None else [])
    if entry.mode is Mode.IN_USE:
        # It was asked back by an operator: refusals from before are not what that operator meant.
        state.filters.drop_agent(agent_id)
    else:
        effects += state.send_to_agent(agent_id, ReturnLanes())
    state.show_agent(agent_id)
    effects += _tell_all(state, AgentsWithheld((_withheld(agent_id, entry),)))
    effects += draining.changed(state, agent_id, now)
    if entry.mode is Mode.GONE:
        if agent is not None and agent.peer:
            # It ends its tasks and says so. What it does not answer for is told when it has left.
            return [*effects, *state.send(agent.peer, gone_refusal(state, agent.peer, entry))]
        effects += finish_gone(state, agent_id, now)
    return effects


# --- names ----------------------------------------------------------------------------------------
def resolve(state: MasterState, words: tuple[str, ...], mode: Mode) -> list[AgentId]:
    """The ids that these words mean. Raises PeerError with the code and text of the refusal."""
    if not words:
        raise PeerError("invalid", "no agent is named")
    found: dict[AgentId, None] = {}
    for word in words:
        agent_id = _find(state, word)
        entry = state.registry[agent_id]
        if entry.mode is Mode.GONE and mode is not Mode.GONE:
            raise PeerError("conflict", f"agent {entry.name} ({agent_id}) was declared gone")
        found[agent_id] = None
    return list(found)


def _find(state: MasterState, word: str) -> AgentId:
    if word in state.registry:
        return AgentId(word)
    named = [agent_id for agent_id, entry in state.registry.items() if entry.name == word]
    # An id that is gone stands aside for the agent that took its name.
    alive = [agent_id for agent_id in named if state.mode(agent_id) is not Mode.GONE]
    candidates = alive or named
    if not candidates:
        raise PeerError("not-found", f"no agent {word[:40]!r}")
    if len(candidates) > 1:
        shown = ", ".join(f"{one} ({state_word(state, one)})" for one in candidates[:10])
        raise PeerError(
            "conflict", f"{word} is the name of several agents, name one by its id: {shown}"
        )
    return candidates[0]


# --- showing --------------------------------------------------------------------------------------
def state_word(state: MasterState, agent_id: AgentId) -> str:
    """What listings call the state of an agent."""
    mode = state.mode(agent_id)
    agent = state.agents.get(agent_id)
    if mode is Mode.GONE:
        return mode.value
    if agent is None or not agent.peer:
        return "unreachable"
    if mode is Mode.DRAINING and not any(task.holds_resources for task in agent.tasks.values()):
        return "drained"
    return mode.value or "registered"


def agent_view(state: MasterState, agent_id: AgentId, now: Now) -> AgentView:
    """An agent as listings show it, also one that has not come back since this master started."""
    entry = state.registry[agent_id]
    agent = state.agents.get(agent_id)
    tasks = [task for task in agent.tasks.values() if task.holds_resources] if agent else []
    offers = agent.offers if agent else ()
    offered = (state.offers[offer_id].offer.resources for offer_id in offers)
    return AgentView(
        agent.info if agent else AgentInfo(agent_id, entry.name, Resources()),
        state_word(state, agent_id),
        Resources.sum_scalars(amounts_held(tasks)),
        Resources.sum_scalars(offered),
        len(tasks),
        agent.registered_wall if agent else 0.0,
        entry.mode.value,
        entry.reason,
        entry.deadline,
        draining.left_s(state, agent_id, now),
        draining.answers(state, agent_id),
    )


# --- telling frameworks ---------------------------------------------------------------------------
def _withheld(agent_id: AgentId, entry: AgentEntry) -> WithheldAgent:
    return WithheldAgent(agent_id, entry.name, entry.mode.value, entry.reason)


def withheld_agents(state: MasterState) -> tuple[WithheldAgent, ...]:
    """Every agent that an operator took out of use and that may come back into it."""
    return tuple(
        [
            _withheld(agent_id, entry)
            for agent_id, entry in state.registry.items()
            if entry.mode not in (Mode.IN_USE, Mode.GONE)
        ]
    )


def _tell_all(state: MasterState, message: Message) -> list[Effect]:
    effects: list[Effect] = []
    for framework in state.frameworks.values():
        effects += state.send(framework.peer, message)
    return effects


# --- the end of an agent --------------------------------------------------------------------------
def gone_refusal(state: MasterState, peer: str, entry: AgentEntry) -> Refusal:
    """What an agent is told that was declared gone."""
    why = f" ({entry.reason})" if entry.reason else ""
    text = f"agent {entry.name} was declared gone{why} and its tasks were given up"
    return Refusal(state.sessions.answered(peer), GONE_CODE, text[:500], _GONE_HINT)


def finish_gone(state: MasterState, agent_id: AgentId, now: Now) -> list[Effect]:
    """The agent is neither here nor coming back: what it held is over."""
    entry = state.registry[agent_id]
    agent = state.agents.get(agent_id)
    effects = _tell_all(state, AgentChanged(agent_id, entry.name, Mode.GONE.value))
    forget(state, agent_id)
    if agent is None:
        return effects
    ended: dict[FrameworkId, list[StatusUpdate]] = {}
    for task in list(agent.tasks.values()):
        if task.update is not None and task.update.is_terminal:
            # Its true end is known here; it is told again until the framework has taken it.
            continue
        update = gone_update(task.framework_id, task.task_id, agent_id, entry, now)
        ended.setdefault(task.framework_id, []).append(update)
        _drop_task(state, task)
    for framework_id, updates in ended.items():
        framework = state.frameworks.get(framework_id)
        if framework is not None:
            effects += state.send(framework.peer, StatusUpdates(tuple(updates)))
    agent.info = replace(agent.info, total=Resources())
    state.show_agent(agent_id)
    state.bury_agent(agent)
    return effects


def _drop_task(state: MasterState, task: TaskRecord) -> None:
    if task.state not in TERMINAL:
        state.set_state(task, TaskState.GONE)
    state.forget_task(task)


def gone_update(
    framework_id: FrameworkId, task_id: str, agent_id: AgentId, entry: AgentEntry, now: Now
) -> StatusUpdate:
    """That a task ended with its agent, as far as anybody knows."""
    why = f": {entry.reason}" if entry.reason else ""
    return StatusUpdate(
        framework_id,
        task_id,  # type: ignore[arg-type]
        agent_id,
        TaskState.GONE,
        reason=Reason.AGENT_GONE,
        message=f"its agent {entry.name} was declared gone{why}"[:500],
        at=now.wall,
    )


def agents_named(state: MasterState, words: Iterable[str]) -> list[AgentId]:
    """The agents of these names and ids; all there are for none. Unknown words mean nobody."""
    wanted = tuple(words)
    return [
        agent_id
        for agent_id, entry in state.registry.items()
        if not wanted or agent_id in wanted or entry.name in wanted
    ]
