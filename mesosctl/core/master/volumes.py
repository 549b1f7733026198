"""Persistent volumes at the master: by operators, and by frameworks from their offers.

Rules:
- The registry has a volume before its agent is told of it, and until that has removed its data; so
  whoever dies in between, it is gone on with when the agent is here. What an agent tells when it
  registers, and what it answers, moves volumes from one state to the next; nothing else does.
- The disk is taken when a volume is asked for, and given back when its data are gone.
- Only a ready volume is offered, and only one that no task holds and nobody is offered is removed.
- A volume whose data an agent does not have any more is lost, and said to be; it is nobody's to
  use, and is destroyed like others. Data that the registry does not know are left alone.
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import registry
from mesosctl.core.master import volume_steps as steps
from mesosctl.core.master.maintenance import agents_named, resolve
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.registry import Mode
from mesosctl.core.master.state import AgentRecord, FrameworkRecord, MasterState, held_on
from mesosctl.core.master.waiters import VolumeKey, Waiter
from mesosctl.errors import PeerError
from mesosctl.limits import VOLUMES_MAX
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import AgentId, is_role
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import (
    DISK,
    Volume,
    VolumeEntry,
    VolumeState,
    clash,
    is_volume_id,
)
from mesosctl.protocol.messages.framework import Operation
from mesosctl.protocol.messages.volumes import (
    CreateVolume,
    DestroyVolume,
    ListVolumes,
    OrderVolumes,
    Volumes,
)

CREATE, DESTROY = "create", "destroy"


# --- operators ------------------------------------------------------------------------------------
def on_create(state: MasterState, peer: str, message: CreateVolume, now: Now) -> list[Effect]:
    """Have a volume made of disk that is reserved to its role."""
    volume = message.volume
    waiter = Waiter(peer, state.sessions.answered(peer))
    try:
        registry.check_request(message.request_id)
        [agent_id] = resolve(state, (message.agent,), Mode.IN_USE)
        if _is_known(state, agent_id, volume.key, message.request_id):
            return steps.wait_on(state, agent_id, volume.key, waiter)
        agent = _present(state, agent_id)
        _check_new(state, agent_id, volume)
        free = agent.info.total.without(held_on(agent))
        if not free.contains(volume.disk):
            raise PeerError("conflict", _too_little(agent, free, volume))
        effects = _make_room(state, agent, volume.disk)
    except PeerError as error:
        return steps.refuse(state, waiter, error)
    text = f"volume {volume} is to be made on agent {agent.info.name}, by the word of "
    effects.append(Log("info", text + state.name_of(peer)))
    return effects + _begin(state, agent_id, volume, message.request_id, waiter)


def on_destroy(state: MasterState, peer: str, message: DestroyVolume, now: Now) -> list[Effect]:
    """Have a volume removed that no task uses; offers in the way are rescinded."""
    key = message.role, message.volume_id
    waiter = Waiter(peer, state.sessions.answered(peer))
    try:
        registry.check_request(message.request_id)
        [agent_id] = resolve(state, (message.agent,), Mode.IN_USE)
        if _is_known(state, agent_id, key, message.request_id):
            return steps.wait_on(state, agent_id, key, waiter)
        agent = _present(state, agent_id)
        entry = _unused(state, agent, key)
        effects = _make_room(state, agent, _offered_as(entry))
    except PeerError as error:
        return steps.refuse(state, waiter, error)
    text = f"volume {entry.volume} of agent {agent.info.name} is to be destroyed, by the word of "
    effects.append(Log("info", text + state.name_of(peer)))
    return effects + _end(state, agent_id, entry, message.request_id, waiter)


def on_list(state: MasterState, peer: str, message: ListVolumes, now: Now) -> list[Effect]:
    """Every volume, or those of the agents that are named."""
    named = agents_named(state, message.agents)
    views = tuple([view for agent_id in named for view in steps.views(state, agent_id)])
    return state.send(peer, Volumes(state.sessions.answered(peer), views))


# --- frameworks -----------------------------------------------------------------------------------
def operate(
    state: MasterState,
    framework: FrameworkRecord,
    offer: Offer,
    operation: Operation,
    offered: Resources,
) -> tuple[Resources, list[Effect]]:
    """Begin an operation with what was offered; what is left of that. Raises PeerError.

    It is answered when the agent has done it.
    """
    agent = _present(state, offer.agent_id)
    waiter = Waiter(framework.peer, 0, operation.operation_id)
    if operation.kind == CREATE:
        volume = Volume(operation.volume_id, operation.role, _disk_of(operation))
        _check_new(state, offer.agent_id, volume)
        if not offered.contains(volume.disk):
            raise PeerError("conflict", f"{volume.disk} is more than the offered {offered}")
        return offered - volume.disk, _begin(state, offer.agent_id, volume, "", waiter)
    entry = _unused(state, agent, (operation.role, operation.volume_id))
    volume = entry.volume
    if not offered.contains(volume.itself):
        raise PeerError("conflict", f"volume {volume} is not offered")
    return offered - volume.itself, _end(state, offer.agent_id, entry, "", waiter)


def _disk_of(operation: Operation) -> int:
    """How much a volume takes, written with its role or without. Raises PeerError."""
    entries = dict(operation.resources.items())
    amount = entries.pop(DISK, None) or entries.pop(f"{DISK}({operation.role})", None)
    if entries or not isinstance(amount, int):
        raise PeerError("invalid", "a volume is made of disk that is reserved to its role, alone")
    return amount


# --- what may be ----------------------------------------------------------------------------------
def _present(state: MasterState, agent_id: AgentId) -> AgentRecord:
    agent = state.agents.get(agent_id)
    if agent is None or not agent.peer:
        name = state.registry[agent_id].name
        text = f"agent {name} does not answer, and volumes are made and destroyed by their agent"
        raise PeerError("conflict", text)
    return agent


def _check_new(state: MasterState, agent_id: AgentId, volume: Volume) -> None:
    entry = state.registry[agent_id]
    if not is_volume_id(volume.volume_id):
        shown = volume.volume_id[:40]
        text = f"{shown!r} is no volume: write letters, digits, _ and -, 64 at the most"
        raise PeerError("invalid", text)
    if not is_role(volume.role) or volume.role == "*":
        raise PeerError("invalid", "a volume is of a role that disk is reserved to, and not of *")
    if volume.disk_milli <= 0:
        raise PeerError("invalid", "a volume needs some disk")
    known = clash(entry.volumes, volume.role, volume.volume_id)
    if known is not None:
        raise PeerError("conflict", f"{entry.name} has a volume {known.volume} ({known.state})")
    if len(entry.volumes) >= VOLUMES_MAX:
        raise PeerError("conflict", f"{entry.name} has {VOLUMES_MAX} volumes already")


def _too_little(agent: AgentRecord, free: Resources, volume: Volume) -> str:
    mine = free.only([f"{DISK}({volume.role})"])
    return (
        f"of the disk of {agent.info.name} {mine} is reserved to {volume.role}, in no volume and"
        f" held by no task; {volume.disk} is asked for"
    )


def _unused(state: MasterState, agent: AgentRecord, key: VolumeKey) -> VolumeEntry:
    """The volume, which may be destroyed. Raises PeerError."""
    entry = steps.find(state.registry[agent.info.agent_id], key)
    if entry is None:
        raise PeerError("not-found", f"{agent.info.name} has no volume {key[1][:64]} of {key[0]}")
    if entry.state in (VolumeState.MAKING, VolumeState.REMOVING):
        raise PeerError("conflict", f"volume {entry.volume} is {entry.state} just now")
    user = steps.user_of(agent, key)
    if user is not None:
        text = f"volume {entry.volume} is used by task {user[1]}: wait for its end, or end it"
        raise PeerError("conflict", text)
    return entry


def _offered_as(entry: VolumeEntry) -> Resources:
    return entry.volume.itself if entry.state is VolumeState.READY else Resources()


def _make_room(state: MasterState, agent: AgentRecord, wanted: Resources) -> list[Effect]:
    """Rescind offers, the newest first, until this is free."""
    free = state.free(agent)
    void = []
    for offer_id in reversed(list(agent.offers)):
        if free.contains(wanted):
            break
        free = free + state.offers[offer_id].offer.resources
        void.append(offer_id)
    return rescind(state, void)


# --- what is begun --------------------------------------------------------------------------------
def _is_known(state: MasterState, agent_id: AgentId, key: VolumeKey, request: str) -> bool:
    """Whether this very request was carried out, or is under way."""
    entry = state.registry[agent_id]
    known = steps.find(entry, key)
    return entry.volumes_by == request or (known is not None and known.request == request)


def _begin(
    state: MasterState, agent_id: AgentId, volume: Volume, request: str, waiter: Waiter
) -> list[Effect]:
    made = VolumeEntry(volume, VolumeState.MAKING, request)
    effects = steps.put(state, agent_id, volume.key, made)
    state.volume_waits[agent_id, volume.key] = waiter
    return effects + state.send_to_agent(agent_id, OrderVolumes(make=(volume,)))


def _end(
    state: MasterState, agent_id: AgentId, entry: VolumeEntry, request: str, waiter: Waiter
) -> list[Effect]:
    volume = entry.volume
    over = VolumeEntry(volume, VolumeState.REMOVING, request)
    effects = steps.put(state, agent_id, volume.key, over)
    state.volume_waits[agent_id, volume.key] = waiter
    return effects + state.send_to_agent(agent_id, OrderVolumes(remove=(volume,)))
