"""Reservations at the master: by operators, and by frameworks from their offers.

Rules:
- The registry has them before anybody is told or uses them; agents need not know. What an agent
  tells of itself is what it has without them.
- Only what no task holds can be reserved or given back; offers in the way are rescinded.
- A framework may do it with what it is offered, for its own role and those below it.
- What is reserved counts against the quota of its role: nothing may be reserved beyond a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import registry, roles, volumes
from mesosctl.core.master.maintenance import agent_view, resolve
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.core.master.state import FrameworkRecord, MasterState, held_on
from mesosctl.errors import PeerError
from mesosctl.limits import RESERVATIONS_MAX
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import AgentId, is_role
from mesosctl.model.records import dataclass
from mesosctl.model.reservations import (
    Reservation,
    problem_of,
    renamed,
    reserved,
    unreserved,
)
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.tasks import TERMINAL, TaskReport
from mesosctl.model.values import is_within, role_of, top_of
from mesosctl.model.volumes import DISK, VOLUMES, total_of
from mesosctl.protocol.messages.framework import Operation, OperationResult, OperationsAnswered
from mesosctl.protocol.messages.maintenance import Reserve, Unreserve
from mesosctl.protocol.messages.query import Agents
from mesosctl.protocol.messages.session import Refusal

RESERVE, UNRESERVE = "reserve", "unreserve"
_KINDS = f"{RESERVE}, {UNRESERVE}, {volumes.CREATE} and {volumes.DESTROY}"


# --- operators ------------------------------------------------------------------------------------
def on_reserve(state: MasterState, peer: str, message: Reserve, now: Now) -> list[Effect]:
    """Keep resources of agents for a role."""
    return _change(state, peer, message, RESERVE, now)


def on_unreserve(state: MasterState, peer: str, message: Unreserve, now: Now) -> list[Effect]:
    """Give resources of agents back."""
    return _change(state, peer, message, UNRESERVE, now)


def _change(
    state: MasterState, peer: str, message: Reserve | Unreserve, kind: str, now: Now
) -> list[Effect]:
    """Reserve on all of these agents or on none, and show them."""
    re = state.sessions.answered(peer)
    try:
        registry.check_request(message.request_id)
        agent_ids = resolve(state, message.agents, Mode.IN_USE)
        asked = [one for one in agent_ids if not _is_done(state, one, message.request_id)]
        plans = [_plan(state, one, kind, message.role, message.resources) for one in asked]
        for plan in plans:
            _check_free(state, plan)
            _check_total(state, plan)
        _check_quota(state, message.role, plans)
    except PeerError as error:
        return state.send(peer, Refusal(re, error.code, str(error)[:500], "see `mesosctl agents`"))
    by = state.name_of(peer)
    effects: list[Effect] = []
    for plan in plans:
        name = state.registry[plan.agent_id].name
        text = f"agent {name} ({plan.agent_id}): {plan.taken} is {plan.made}, by the word of {by}"
        effects += [*_make_room(state, plan), *_carry_out(state, plan, message.request_id)]
        effects.append(Log("info", text))
    views = tuple([agent_view(state, agent_id, now) for agent_id in agent_ids])
    return [*effects, *state.send(peer, Agents(re, views))]


def _is_done(state: MasterState, agent_id: AgentId, request: str) -> bool:
    return state.registry[agent_id].reserved_by == request


def _check_free(state: MasterState, plan: Plan) -> None:
    """Whether no task holds what is to be changed. Raises PeerError."""
    agent = state.agents[plan.agent_id]
    free = agent.info.total.without(held_on(agent))
    if not free.contains(plan.taken):
        name = agent.info.name
        text = f"of {name} {free} is held by no task, and {plan.taken} is asked for"
        raise PeerError("conflict", text + _in_volumes(state, plan))


def _in_volumes(state: MasterState, plan: Plan) -> str:
    """What volumes have to do with it that so little is free."""
    roles_of = {role_of(key) for key, _ in plan.taken.items() if key.startswith(f"{DISK}(")}
    mine = [one.volume for one in state.registry[plan.agent_id].volumes]
    disk = Resources.sum_scalars(one.disk for one in mine if one.role in roles_of)
    return f"; {disk} is in volumes (mesosctl volume list)" if disk else ""


def _make_room(state: MasterState, plan: Plan) -> list[Effect]:
    """Rescind offers, the newest first, until what is to be changed is free."""
    agent = state.agents[plan.agent_id]
    free = state.free(agent)
    void = []
    for offer_id in reversed(list(agent.offers)):
        if free.contains(plan.taken):
            break
        free = free + state.offers[offer_id].offer.resources
        void.append(offer_id)
    return rescind(state, void)


# --- frameworks -----------------------------------------------------------------------------------
def operate(
    state: MasterState,
    framework: FrameworkRecord,
    offer: Offer,
    operations: Sequence[Operation],
    offered: Resources,
) -> tuple[Resources, list[Effect]]:
    """Do operations with what was offered, one after the other; what that is then."""
    effects: list[Effect] = []
    results = []
    for one in operations:
        try:
            if one.kind in (volumes.CREATE, volumes.DESTROY):
                offered, begun = volumes.operate(state, framework, offer, one, offered)
                effects += begun
                continue
            plan = _framework_plan(state, framework, offer, one, offered)
        except PeerError as error:
            results.append(OperationResult(one.operation_id, str(error)[:500]))
            continue
        effects += _carry_out(state, plan, "")
        offered = offered - plan.taken + plan.made
        results.append(OperationResult(one.operation_id))
    if results:
        effects += state.send(framework.peer, OperationsAnswered(tuple(results)))
    return offered, effects


def refuse_all(
    state: MasterState, framework: FrameworkRecord, operations: Iterable[Operation], why: str
) -> list[Effect]:
    """Say of these operations that none was done."""
    results = tuple([OperationResult(one.operation_id, why) for one in operations])
    return state.send(framework.peer, OperationsAnswered(results)) if results else []


def _framework_plan(
    state: MasterState,
    framework: FrameworkRecord,
    offer: Offer,
    operation: Operation,
    offered: Resources,
) -> Plan:
    mine = framework.info.role
    if not is_within(operation.role, mine):
        raise PeerError("not-permitted", f"{operation.role[:40]} is not {mine} or below it")
    plan = _plan(state, offer.agent_id, operation.kind, operation.role, operation.resources)
    if not offered.contains(plan.taken):
        raise PeerError("conflict", f"{plan.taken} is more than the offered {offered}")
    _check_total(state, plan)
    _check_quota(state, operation.role, [plan])
    return plan


# --- plans ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Plan:
    """A change of one agent: from what is `taken` what is `made`, and what is kept of it then."""

    agent_id: AgentId
    taken: Resources
    made: Resources
    reserved: tuple[Reservation, ...]
    total: Resources


def _plan(
    state: MasterState, agent_id: AgentId, kind: str, role: str, resources: Resources
) -> Plan:
    """What a request comes to. Raises PeerError with the code and text of its refusal."""
    agent, entry = state.agents.get(agent_id), state.registry[agent_id]
    if agent is None:
        text = f"agent {entry.name} has not been here since the start of this master"
        raise PeerError("conflict", text)
    if not is_role(role) or role == "*":
        text = "nothing is reserved to the role *, which is everybody's"
        no_role = f"{role[:40]!r} is no role: write eng or eng/backend"
        raise PeerError("invalid", text if role == "*" else no_role)
    if kind == RESERVE:
        problem = problem_of(role, resources)
        if VOLUMES in resources.names():
            problem = "volumes are not reserved but made, of disk that is"
        taken, made = resources, renamed(resources, role)
        kept = reserved(entry.reserved, role, resources)
    elif kind == UNRESERVE:
        taken = renamed(resources, role)
        back = unreserved(entry.reserved, role, resources)
        problem = "" if back and resources else _not_reserved(entry, role, resources)
        kept, made = back or ((), EMPTY)
    else:
        problem = f"{kind[:40]!r} is no operation: there are {_KINDS}"
    if problem:
        raise PeerError("invalid", problem)
    if len(kept) > RESERVATIONS_MAX:
        raise PeerError("conflict", f"{entry.name} has {RESERVATIONS_MAX} reservations already")
    total = total_of(agent.own, kept, entry.volumes, held_on(agent))
    return Plan(agent_id, taken, made, kept, total)


def _check_total(state: MasterState, plan: Plan) -> None:
    """Whether the agent has it, which may have come back smaller. Raises PeerError."""
    agent = state.agents[plan.agent_id]
    if not plan.total.contains(held_on(agent) + plan.made):
        raise PeerError("conflict", f"{agent.info.name} has less than is reserved of it")


def _not_reserved(entry: AgentEntry, role: str, resources: Resources) -> str:
    mine = EMPTY
    for one in entry.reserved:
        if one.role == role:
            mine = mine + renamed(one.resources, "")
    what = f"of {entry.name} {mine} is reserved to {role} by command or framework"
    return f"{what}, not {resources}; what its --resources reserve stays"


def _check_quota(state: MasterState, role: str, plans: Sequence[Plan]) -> None:
    """Whether a role with a limit may have so much more. Raises PeerError."""
    top = top_of(role)
    entry = state.role_entries.get(top)
    if entry is None or not entry.limit:
        return
    more = _counted(top, [plan.made for plan in plans])
    less = _counted(top, [plan.taken for plan in plans])
    held = roles.consumption(state, top)
    for name, most in entry.limit.items():
        grown = more.get(name, 0) - less.get(name, 0)
        if grown > 0 and held.get(name, 0) + grown > most:
            now, then = (roles.amounts_text({name: a}) for a in (held.get(name, 0), most))
            raise PeerError("conflict", f"the quota of {top} is {then}, and it holds {now}")


def _counted(top: str, bags: Iterable[Resources]) -> Mapping[str, int]:
    """What of these resources is reserved to a role of the top or below it."""
    parts = [bag.only(k for k, _ in bag.items() if is_within(role_of(k), top)) for bag in bags]
    return Resources.sum_scalars(parts).quantities()


def _carry_out(state: MasterState, plan: Plan, request: str) -> list[Effect]:
    agent, entry = state.agents[plan.agent_id], state.registry[plan.agent_id]
    entry = replace(entry, reserved=plan.reserved, reserved_by=request or entry.reserved_by)
    state.registry[plan.agent_id] = entry
    agent.info = replace(agent.info, total=plan.total)
    state.show_agent(plan.agent_id)
    return [registry.put(plan.agent_id, entry)]


def held_by(tasks: Iterable[TaskReport]) -> Resources:
    """What these tasks of one agent hold, each lane once."""
    holders = {}
    for task in tasks:
        if task.state not in TERMINAL:
            alone = "" if task.lane else task.task_id
            holders[task.framework_id, task.lane, alone] = task.resources
    held = EMPTY
    for one in holders.values():
        held = held + one
    return held
