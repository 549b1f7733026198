"""Roles at the master: what options and operators set for them, and how listings show them.

Rules:
- What an operator sets is in the registry before anybody is told of it; it goes before the options,
  and holds for a role that nobody has yet as well.
- A change is for the next allocation: nothing is taken back for a weight or a priority.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mesosctl.allocation.base import RoleTerms
from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import registry
from mesosctl.core.master.registry import RoleEntry
from mesosctl.core.master.state import MasterState, RoleSettings, amounts_held
from mesosctl.errors import PeerError
from mesosctl.limits import PRIORITY_MAX, ROLES_SET_MAX, WEIGHT_MILLI_MAX
from mesosctl.model.ids import is_role
from mesosctl.model.resources import Resources
from mesosctl.model.values import format_value, is_within, key_order, role_of
from mesosctl.protocol.messages.query import ListRoles, Roles, RoleView
from mesosctl.protocol.messages.roles import SetRoles
from mesosctl.protocol.messages.session import Refusal

_NOTHING = RoleEntry()


# --- what holds -----------------------------------------------------------------------------------
def settings(state: MasterState, role: str) -> RoleSettings:
    """The weight and the priority that hold for a role."""
    given = state.roles.get(role, RoleSettings())
    entry = state.role_entries.get(role, _NOTHING)
    weight_milli = given.weight_milli if entry.weight_milli is None else entry.weight_milli
    return RoleSettings(weight_milli, given.priority if entry.priority is None else entry.priority)


def show_role(state: MasterState, role: str) -> None:
    """Tell the allocator what holds for a role."""
    held = settings(state, role)
    entry = state.role_entries.get(role, _NOTHING)
    terms = RoleTerms(held.weight_milli, held.priority, entry.limit, entry.guarantee)
    state.allocator.set_role(role, terms)
    state.allocation_wanted = True


def show_all(state: MasterState) -> None:
    """Tell the allocator what holds for every role of which anything was said."""
    for role in {**dict.fromkeys(state.roles), **dict.fromkeys(state.role_entries)}:
        show_role(state, role)


# --- requests -------------------------------------------------------------------------------------
def on_set_roles(state: MasterState, peer: str, message: SetRoles, now: Now) -> list[Effect]:
    """Set weights and priorities."""
    re = state.sessions.answered(peer)
    try:
        wanted = _wanted(state, message)
    except PeerError as error:
        return state.send(peer, Refusal(re, error.code, str(error)[:500], "see `mesosctl roles`"))
    effects = keep(state, peer, wanted)
    return [*effects, *state.send(peer, Roles(re, tuple(views(state, message.roles))))]


def _wanted(state: MasterState, message: SetRoles) -> dict[str, RoleEntry]:
    """The entries as they are to be. Raises PeerError with the code and text of the refusal."""
    check_request(state, message.request_id, message.roles)
    weight, priority = message.weight_milli, message.priority
    if weight is None and priority is None:
        raise PeerError("invalid", "neither a weight nor a priority is given")
    if weight is not None and not 1 <= weight <= WEIGHT_MILLI_MAX:
        most = WEIGHT_MILLI_MAX // 1000
        raise PeerError("invalid", f"a weight is between 0.001 and {most}, not {weight / 1000:g}")
    if priority is not None and abs(priority) > PRIORITY_MAX:
        raise PeerError("invalid", f"a priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}")
    wanted = {}
    for role, entry in entries(state, message.roles, message.request_id).items():
        wanted[role] = replace(
            entry,
            weight_milli=entry.weight_milli if weight is None else weight,
            priority=entry.priority if priority is None else priority,
            request=message.request_id,
        )
    return wanted


def check_request(state: MasterState, request: str, roles: tuple[str, ...]) -> None:
    """Whether an operator may ask for something of these roles at all. Raises PeerError."""
    registry.check_request(request)
    if not roles:
        raise PeerError("invalid", "no role is named")
    for role in roles:
        if not is_role(role):
            raise PeerError("invalid", f"{role[:40]!r} is no role: write eng or eng/backend")
    if len({**dict.fromkeys(roles), **dict.fromkeys(state.role_entries)}) > ROLES_SET_MAX:
        raise PeerError("conflict", f"settings are kept of {ROLES_SET_MAX} roles at the most")


def entries(state: MasterState, roles: Iterable[str], request: str) -> dict[str, RoleEntry]:
    """What is kept of these roles now, but of those that this very request has changed already."""
    found = {role: state.role_entries.get(role, _NOTHING) for role in roles}
    return {role: entry for role, entry in found.items() if entry.request != request}


def keep(state: MasterState, peer: str, wanted: dict[str, RoleEntry]) -> list[Effect]:
    """Make these entries what holds."""
    by = state.name_of(peer)
    effects: list[Effect] = []
    for role, entry in wanted.items():
        before = _told(state, role)
        state.role_entries[role] = entry
        effects.append(registry.put_role(role, entry))
        if before != _told(state, role):
            text = f"role {role}: {_told(state, role)}, by the word of {by}"
            effects.append(Log("info", text))
        show_role(state, role)
    return effects


def _told(state: MasterState, role: str) -> str:
    held, entry = settings(state, role), state.role_entries.get(role, _NOTHING)
    text = f"weight {held.weight_milli / 1000:g}, priority {held.priority}"
    for word, amounts in (("limit", entry.limit), ("guarantee", entry.guarantee)):
        text += f", {word} {amounts_text(amounts)}" if amounts else ""
    return text


def amounts_text(amounts: Mapping[str, int]) -> str:
    """Thousandths by name as people write them, also those that are 0."""
    keys = sorted(amounts, key=key_order)
    return ";".join(f"{name}:{format_value(amounts[name])}" for name in keys)


def consumption(state: MasterState, top: str) -> dict[str, int]:
    """What counts against the quota of a role of the top: see allocation/quota.py."""
    members = [one for one in state.frameworks.values() if is_within(one.info.role, top)]
    bags = [bag.unreserved() for one in members for bag in amounts_held(one.tasks.values())]
    for agent in state.agents.values():
        total = agent.info.total
        if not total.is_plain():
            keys = [k for k, _ in total.items() if is_within(role_of(k), top)]
            bags.append(total.only(keys))
    bags += [
        one.volume.disk
        for agent_id in state.agents
        if state.mode(agent_id) is not registry.Mode.GONE
        for one in state.registry[agent_id].volumes
        if is_within(one.volume.role, top)
    ]
    return dict(Resources.sum_scalars(bags).quantities())


# --- showing --------------------------------------------------------------------------------------
def on_list_roles(state: MasterState, peer: str, message: ListRoles, now: Now) -> list[Effect]:
    """Every role that has frameworks or settings."""
    named = {**dict.fromkeys(state.roles), **dict.fromkeys(state.role_entries)}
    named.update(dict.fromkeys(one.info.role for one in state.frameworks.values()))
    return state.send(peer, Roles(state.sessions.answered(peer), tuple(views(state, named))))


def views(state: MasterState, roles: Iterable[str]) -> list[RoleView]:
    """These roles as listings show them, by name: what each and all below it hold."""
    total = Resources.sum_scalars(agent.info.total for agent in state.agents.values())
    held = {
        framework_id: Resources.sum_scalars(
            [
                *amounts_held(framework.tasks.values()),
                *(state.offers[offer_id].offer.resources for offer_id in framework.offers),
            ]
        )
        for framework_id, framework in state.frameworks.items()
    }
    found = []
    for role in sorted(dict.fromkeys(roles)):
        members = [one for one in state.frameworks.values() if is_within(one.info.role, role)]
        used = Resources.sum_scalars(held[one.info.framework_id] for one in members)
        own = sum(one.info.role == role for one in members)
        terms = settings(state, role)
        share = share_milli(used, total)
        view = RoleView(role, terms.weight_milli, terms.priority, own, used, share)
        entry = state.role_entries.get(role, _NOTHING)
        if entry.limit or entry.guarantee:
            limit, guarantee = entry.limit or {}, entry.guarantee or {}
            held_now = consumption(state, role)
            view = replace(view, limit=limit, guarantee=guarantee, consumed=held_now)
        found.append(view)
    return found


def share_milli(held: Resources, total: Resources) -> int:
    """The dominant share in thousandths of the cluster, rounded down."""
    whole = total.quantities()
    shares = (
        1000 * amount // whole[name]
        for name, amount in held.quantities().items()
        if whole.get(name, 0) > 0
    )
    return max(shares, default=0)
