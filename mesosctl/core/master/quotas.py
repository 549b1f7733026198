"""Quota at the master: what operators set, when it is refused, how room is made for it.

Rules:
- A request changes all of its roles or none. It is refused where a role holds more than its limit,
  or more is guaranteed than the cluster has, unless it says that this is meant.
- What is offered does not count as held: offers that stand in the way of a new quota are rescinded.
  Tasks go on.
- A master that was started anew knows what a role holds when the agents have told of their tasks.
  Until then, and for ten minutes at the most, roles with a limit get nothing.
Source: Apache Mesos, docs/quota.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mesosctl.core.machine import Effect, Now
from mesosctl.core.master import roles
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.registry import RoleEntry
from mesosctl.core.master.state import MasterState
from mesosctl.errors import PeerError
from mesosctl.limits import LIMITS_WAIT_S, QUOTA_NAMES_MAX
from mesosctl.model.ids import OfferId
from mesosctl.model.resources import Resources
from mesosctl.model.values import AMOUNT_MAX, SCALARS, is_name, is_within, top_of
from mesosctl.protocol.messages.query import Roles
from mesosctl.protocol.messages.roles import Quota, SetQuotas
from mesosctl.protocol.messages.session import Refusal


def on_set_quotas(state: MasterState, peer: str, message: SetQuotas, now: Now) -> list[Effect]:
    """Set, change or end quotas."""
    re = state.sessions.answered(peer)
    named = tuple([quota.role for quota in message.quotas])
    try:
        wanted = _wanted(state, message, named)
    except PeerError as error:
        hint = "--force sets it all the same" if error.code == "conflict" else ""
        return state.send(peer, Refusal(re, error.code, str(error)[:500], hint))
    effects = roles.keep(state, peer, wanted)
    for role, entry in wanted.items():
        effects += rescind(state, _above_limit(state, role, entry.limit or {}))
        effects += rescind(state, _in_the_way(state, role, entry.guarantee or {}))
        for framework in state.frameworks.values():
            if is_within(framework.info.role, role):
                state.show_framework(framework)
    return [*effects, *state.send(peer, Roles(re, tuple(roles.views(state, named))))]


# --- what is refused ------------------------------------------------------------------------------
def _wanted(state: MasterState, message: SetQuotas, named: tuple[str, ...]) -> dict[str, RoleEntry]:
    """The entries as they are to be. Raises PeerError with the code and text of the refusal."""
    roles.check_request(state, message.request_id, named)
    if len(dict.fromkeys(named)) < len(named):
        raise PeerError("invalid", "a role is named twice")
    known = roles.entries(state, named, message.request_id)
    wanted = {}
    for quota in message.quotas:
        if quota.role not in known:
            continue
        _check(quota)
        if not message.force:
            _check_names(state, quota)
            _check_held(state, quota)
        entry = known[quota.role]
        limit, guarantee = dict(quota.limit) or None, dict(quota.guarantee) or None
        wanted[quota.role] = replace(
            entry, limit=limit, guarantee=guarantee, request=message.request_id
        )
    if not message.force:
        _check_capacity(state, wanted)
    return wanted


def _check(quota: Quota) -> None:
    role = quota.role
    if "/" in role:
        top = top_of(role)
        raise PeerError("invalid", f"{role} is below {top}: quota is for roles of the top")
    for amounts in (quota.limit, quota.guarantee):
        if len(amounts) > QUOTA_NAMES_MAX:
            raise PeerError("invalid", f"more than {QUOTA_NAMES_MAX} names")
        for name, amount in amounts.items():
            if not is_name(name) or not 0 <= amount <= AMOUNT_MAX:
                raise PeerError("invalid", f"{name[:40]!r}: {amount} is no amount of a resource")
    for name, least in quota.guarantee.items():
        if least > quota.limit.get(name, least):
            most, kept = _text(name, quota.limit[name]), _text(name, least)
            raise PeerError("invalid", f"{role}: the guarantee {kept} is above the limit {most}")


def _check_names(state: MasterState, quota: Quota) -> None:
    """A mistyped name would bound nothing."""
    there = Resources.sum_scalars(agent.info.total for agent in state.agents.values())
    for name in {**quota.limit, **quota.guarantee}:
        if name not in SCALARS and state.agents and name not in there.quantities():
            raise PeerError("conflict", f"no agent has an amount of {name}")


def _check_held(state: MasterState, quota: Quota) -> None:
    held = roles.consumption(state, quota.role)
    for name, most in quota.limit.items():
        if held.get(name, 0) > most:
            text = f"{quota.role} holds {_text(name, held[name])}, more than {_text(name, most)}"
            raise PeerError("conflict", f"{text}; tasks are not ended for it")


def _check_capacity(state: MasterState, wanted: Mapping[str, RoleEntry]) -> None:
    """Whether all guarantees, old and new, are there to be given."""
    there = Resources.sum_scalars(agent.info.total for agent in state.agents.values())
    sums: dict[str, int] = {}
    for entry in {**state.role_entries, **wanted}.values():
        for name, least in (entry.guarantee or {}).items():
            sums[name] = sums.get(name, 0) + least
    for role, entry in wanted.items():
        for name in entry.guarantee or {}:
            have = there.quantities().get(name, 0)
            if sums[name] > have:
                text = f"all guarantees together are {_text(name, sums[name])} with that of {role}"
                raise PeerError("conflict", f"{text}, and the cluster has {_text(name, have)}")


def _text(name: str, amount: int) -> str:
    return roles.amounts_text({name: amount})


# --- room -----------------------------------------------------------------------------------------
def _above_limit(state: MasterState, role: str, limit: Mapping[str, int]) -> list[OfferId]:
    """Offers to the role that would take it over its limit, the newest first."""
    held = roles.consumption(state, role)
    mine = [
        (offer_id, one.offer.resources.unreserved().quantities())
        for offer_id, one in state.offers.items()
        if is_within(one.offer.role, role)
    ]
    over = {
        name: held.get(name, 0) + sum(amounts.get(name, 0) for _, amounts in mine) - most
        for name, most in limit.items()
    }
    return _until_enough(mine, over)


def _in_the_way(state: MasterState, role: str, guarantee: Mapping[str, int]) -> list[OfferId]:
    """Offers to roles without a guarantee that hold what this one lacks, the newest first."""
    if not guarantee:
        return []
    held = roles.consumption(state, role)
    lacking = {name: least - held.get(name, 0) for name, least in guarantee.items()}
    for name, amount in _free(state).items():
        lacking[name] = lacking.get(name, 0) - amount
    others = []
    for offer_id, one in state.offers.items():
        amounts = one.offer.resources.unreserved().quantities()
        entry = state.role_entries.get(top_of(one.offer.role))
        if is_within(one.offer.role, role):
            for name, amount in amounts.items():
                lacking[name] = lacking.get(name, 0) - amount
        elif entry is None or not entry.guarantee:
            others.append((offer_id, amounts))
    return _until_enough(others, lacking)


def _free(state: MasterState) -> Mapping[str, int]:
    return Resources.sum_scalars(
        state.free(agent).unreserved()
        for agent_id, agent in state.agents.items()
        if state.is_offerable(agent_id)
    ).quantities()


def _until_enough(
    offers: list[tuple[OfferId, Mapping[str, int]]], needed: dict[str, int]
) -> list[OfferId]:
    """Of these offers, the newest ones that hold what is needed of each name together."""
    chosen = []
    for offer_id, amounts in reversed(offers):
        if any(amounts.get(name, 0) for name, amount in needed.items() if amount > 0):
            chosen.append(offer_id)
            for name in needed:
                needed[name] -= amounts.get(name, 0)
    return chosen


# --- after a start --------------------------------------------------------------------------------
def begin_wait(state: MasterState, now: Now) -> None:
    """The master starts: agents of the registry may run tasks of roles with a limit."""
    if state.absent:
        state.limits_wait_until = now.mono + LIMITS_WAIT_S


def end_wait(state: MasterState, now: Now) -> None:
    """Let roles with a limit take part when every agent is back or counts as unreachable."""
    if state.limits_wait_until is None:
        return
    if now.mono < state.limits_wait_until and any(one not in state.agents for one in state.absent):
        return
    state.limits_wait_until = None
    limited = [role for role, entry in state.role_entries.items() if entry.limit is not None]
    for framework in state.frameworks.values():
        if top_of(framework.info.role) in limited:
            state.show_framework(framework)
