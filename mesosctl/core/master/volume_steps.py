"""Volumes from one state to the next: what agents say of them, what is kept, and who is told.

Rules: as in volumes.py. What an agent tells when it registers is the truth about its disk, and what
it answers moves on only a volume that is in the state which that belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import registry
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.core.master.state import AgentRecord, MasterState, held_on
from mesosctl.core.master.waiters import VolumeKey, Waiter
from mesosctl.errors import PeerError
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import Volume, VolumeEntry, VolumeState, keys_of, total_of
from mesosctl.protocol.messages.framework import OperationResult, OperationsAnswered
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.volumes import (
    OrderVolumes,
    Volumes,
    VolumesDone,
    VolumeView,
)

_HINT = "see `mesosctl volume list`"


# --- agents ---------------------------------------------------------------------------------------
def on_done(state: MasterState, peer: str, message: VolumesDone, now: Now) -> list[Effect]:
    """What came of orders. One that is not expected came twice, and changes nothing."""
    agent_id = state.agent_of_peer[peer]
    effects: list[Effect] = []
    for result in message.results if state.mode(agent_id) is not Mode.GONE else ():
        entry = find(state.registry[agent_id], result.volume.key)
        expected = VolumeState.REMOVING if result.removed else VolumeState.MAKING
        if entry is None or entry.state is not expected:
            continue
        about = f"volume {entry.volume} of agent {state.registry[agent_id].name}"
        if result.problem:
            effects.append(Log("warning", f"{about}: {result.problem[:200]}"))
        else:
            effects.append(Log("info", f"{about} is {'removed' if result.removed else 'made'}"))
        # What could not be made is not there; what could not be removed is there as before.
        is_there = result.removed == bool(result.problem)
        request = "" if result.problem else entry.request
        ready = VolumeEntry(entry.volume, VolumeState.READY, request)
        effects += put(state, agent_id, entry.volume.key, ready if is_there else None, request)
        effects += _answer(state, agent_id, entry.volume.key, result.problem)
    return effects


def reconcile(state: MasterState, agent_id: AgentId, told: Iterable[Volume]) -> list[Effect]:
    """The agent registers with these: move its volumes on, and tell which of them changed.

    What it has in all is worked out by the caller.
    """
    entry = state.registry[agent_id]
    here = {volume.key: volume for volume in told}
    kept: list[VolumeEntry] = []
    effects: list[Effect] = []
    ended: dict[VolumeKey, None] = {}
    for one in entry.volumes:
        key = one.volume.key
        is_here = here.pop(key, None) is not None
        wanted = one.state
        if one.state is VolumeState.REMOVING and not is_here:
            ended[key] = None
            entry = replace(entry, volumes_by=one.request or entry.volumes_by)
            continue
        if one.state is VolumeState.READY and not is_here:
            text = f"agent {entry.name} has lost volume {one.volume} with all that was in it"
            effects.append(Log("warning", text))
            wanted = VolumeState.LOST
        elif is_here and one.state in (VolumeState.MAKING, VolumeState.LOST):
            ended |= dict.fromkeys([key] if one.state is VolumeState.MAKING else ())
            wanted = VolumeState.READY
        kept.append(replace(one, state=wanted))
    for volume in here.values():
        text = f"agent {entry.name} has a volume {volume} that nobody knows: it is left alone"
        effects.append(Log("warning", text))
    if tuple(kept) != entry.volumes:
        entry = replace(entry, volumes=tuple(kept))
        state.registry[agent_id] = entry
        effects.append(registry.put(agent_id, entry))
    for key in ended:
        effects += _answer(state, agent_id, key, "")
    return effects


def order_again(state: MasterState, agent_id: AgentId) -> list[Effect]:
    """Tell an agent that registered what it was told before and has not said it did."""
    volumes = state.registry[agent_id].volumes
    make = tuple([one.volume for one in volumes if one.state is VolumeState.MAKING])
    remove = tuple([one.volume for one in volumes if one.state is VolumeState.REMOVING])
    if not make and not remove:
        return []
    return state.send_to_agent(agent_id, OrderVolumes(make, remove))


def agent_away(state: MasterState, agent_id: AgentId) -> list[Effect]:
    """Nobody knows whether it has done what it was told: who waits for that need not."""
    name = state.registry[agent_id].name
    problem = f"agent {name} went away before it had answered; it goes on when it is back"
    effects: list[Effect] = []
    for of_agent, key in list(state.volume_waits):
        if of_agent == agent_id:
            effects += _answer(state, agent_id, key, problem)
    return effects


# --- what is kept ---------------------------------------------------------------------------------
def find(entry: AgentEntry, key: VolumeKey) -> VolumeEntry | None:
    """The volume of this role and id; None if the agent has none."""
    return next((one for one in entry.volumes if one.volume.key == key), None)


def put(
    state: MasterState,
    agent_id: AgentId,
    key: VolumeKey,
    changed: VolumeEntry | None,
    request: str = "",
) -> list[Effect]:
    """Keep a volume as it is now, or (None) no more; `request` is carried out by that."""
    entry = state.registry[agent_id]
    others = tuple([one for one in entry.volumes if one.volume.key != key])
    volumes = others if changed is None else (*others, changed)
    entry = replace(entry, volumes=volumes, volumes_by=request or entry.volumes_by)
    state.registry[agent_id] = entry
    agent = state.agents.get(agent_id)
    effects: list[Effect] = [registry.put(agent_id, entry)]
    if agent is not None:
        total = total_of(agent.own, entry.reserved, volumes, held_on(agent))
        # Of an agent that came back smaller something else may be left than was offered.
        effects += rescind(state, _too_many(state, agent, total))
        agent.info = replace(agent.info, total=total)
        state.show_agent(agent_id)
    return effects


def _too_many(state: MasterState, agent: AgentRecord, total: Resources) -> list[OfferId]:
    """The offers that are not contained in this beside what tasks hold."""
    free = total.without(held_on(agent))
    void = []
    for offer_id in agent.offers:
        offered = state.offers[offer_id].offer.resources
        if free.contains(offered):
            free = free - offered
        else:
            void.append(offer_id)
    return void


# --- answers --------------------------------------------------------------------------------------
def refuse(state: MasterState, waiter: Waiter, error: PeerError) -> list[Effect]:
    """Say no to an operator."""
    refusal = Refusal(waiter.re, error.code, str(error)[:500], _HINT)
    return state.send(waiter.peer, refusal)


def wait_on(state: MasterState, agent_id: AgentId, key: VolumeKey, waiter: Waiter) -> list[Effect]:
    """A request that came again: answer it, at once if it is done."""
    entry = find(state.registry[agent_id], key)
    state.volume_waits[agent_id, key] = waiter
    if entry is not None and entry.state in (VolumeState.MAKING, VolumeState.REMOVING):
        return []
    return _answer(state, agent_id, key, "")


def _answer(state: MasterState, agent_id: AgentId, key: VolumeKey, problem: str) -> list[Effect]:
    waiter = state.volume_waits.pop((agent_id, key), None)
    if waiter is None:
        return []
    if waiter.operation_id is not None:
        result = OperationResult(waiter.operation_id, problem[:500])
        return state.send(waiter.peer, OperationsAnswered((result,)))
    if problem:
        return refuse(state, waiter, PeerError("conflict", problem))
    return state.send(waiter.peer, Volumes(waiter.re, tuple(views(state, agent_id))))


def views(state: MasterState, agent_id: AgentId) -> list[VolumeView]:
    """The volumes of an agent as listings show them; none of one that is gone."""
    entry, agent = state.registry[agent_id], state.agents.get(agent_id)
    if entry.mode is Mode.GONE:
        return []
    found = []
    for one in sorted(entry.volumes, key=lambda one: one.volume.key):
        user = user_of(agent, one.volume.key) if agent is not None else None
        framework = state.frameworks.get(user[0]) if user is not None else None
        found.append(
            VolumeView(
                one.volume,
                agent_id,
                entry.name,
                one.state.value,
                framework.info.name if framework is not None else "",
                user[1] if user is not None else "",
            )
        )
    return found


def user_of(agent: AgentRecord, key: VolumeKey) -> tuple[FrameworkId, str] | None:
    """Framework and id of a task that holds this volume."""
    for (framework_id, task_id), task in agent.tasks.items():
        if task.holds_resources and key in keys_of(task.resources):
            return framework_id, task_id
    return None
