"""How a need fits into the cluster: asked by frameworks for those who ask why their tasks wait.

A pure function over the master's state: nothing is changed by it.

Rules:
- Every agent that is not gone is in exactly one group, by what keeps a task off it first: its
  constraint, its volume, its size, an operator, its silence, what is in use, what was refused.
- One question costs a look at every agent for each of its needs. Of large clusters only as many
  needs are answered as LOOKS_MAX allows, and one at the least.
"""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.rivals import rivals
from mesosctl.core.machine import Effect, Now
from mesosctl.core.master.preemption import ending
from mesosctl.core.master.registry import Mode
from mesosctl.core.master.state import AgentRecord, FrameworkRecord, MasterState
from mesosctl.errors import UsageError
from mesosctl.model.constraints import Where, misses, parse_constraint
from mesosctl.model.fit import AgentGroup, Fit, Lack, Need, QuotaRoom
from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.values import format_value, is_within, name_of, top_of
from mesosctl.model.volumes import volume_ids
from mesosctl.protocol.messages.explain import Fits, HowFits
from mesosctl.protocol.messages.session import Refusal

# Agents looked at for one question: a tenth of a second, while everybody else waits.
LOOKS_MAX = 20_000
NEEDS_MAX = 50
GROUPS_MAX = 20
NAMES_MAX = 10
SPREAD_TEXT = "a task of the job is there"


class _Verdict(NamedTuple):
    """What keeps a need off an agent. `have` is what the agent has of what is lacking."""

    reason: str
    lacking: tuple[str, ...] = ()
    have: Resources = EMPTY
    text: str = ""
    left_s: float | None = None


@dataclass(slots=True)
class _Group:
    agents: int = 0
    names: list[str] = field(default_factory=list)
    most: dict[str, tuple[int, str]] = field(default_factory=dict)
    left_s: float | None = None


def on_how_fits(state: MasterState, peer: str, message: HowFits, now: Now) -> list[Effect]:
    """Answer a framework, as many of its needs as may be looked at."""
    re = state.sessions.answered(peer)
    framework = state.frameworks[state.framework_of_peer[peer]]
    most = max(1, min(NEEDS_MAX, LOOKS_MAX // max(1, len(state.agents))))
    try:
        fits = [fit_of(state, framework, need, now) for need in message.needs[:most]]
    except UsageError as error:
        return state.send(peer, Refusal(re, "invalid", error.message[:500]))
    return state.send(peer, Fits(re, message.request, tuple(fits)))


def fit_of(state: MasterState, framework: FrameworkRecord, need: Need, now: Now) -> Fit:
    """How it fits now. Raises UsageError for a constraint that is none."""
    refused = _refused(state, framework, now)
    sizes = _Sizes(framework.info.role, need.resources)
    groups: dict[tuple[str, tuple[str, ...], str], _Group] = {}
    agents = 0
    for agent_id, agent in state.agents.items():
        if state.mode(agent_id) is Mode.GONE:
            continue
        agents += 1
        verdict = _judge(state, framework, agent, need.where, sizes, refused.get(agent_id, ()))
        group = groups.setdefault((verdict.reason, verdict.lacking, verdict.text), _Group())
        _enter(group, agent.info.name, verdict)
    for agent_id in state.missing:
        # Admitted by an earlier master, and not heard of since: nobody knows what it has.
        entry = state.registry.get(agent_id)
        if entry is not None and agent_id not in state.agents:
            agents += 1
            group = groups.setdefault(("Unreachable", (), ""), _Group())
            _enter(group, entry.name, _Verdict("Unreachable"))
    allocator = state.allocator
    framework_id = framework.info.framework_id
    return Fit(
        agents,
        _listed(groups, need),
        rivals(allocator, framework_id) if isinstance(allocator, Ledger) else (),
        _quota(state, framework, need),
    )


_Refusals = dict[str, list[tuple[Resources, float]]]


def _refused(state: MasterState, framework: FrameworkRecord, now: Now) -> _Refusals:
    found: _Refusals = {}
    for entry in state.filters.listing(now.mono, framework.info.framework_id):
        found.setdefault(entry.agent, []).append((entry.resources, entry.seconds_left))
    return found


def _enter(group: _Group, name: str, verdict: _Verdict) -> None:
    group.agents += 1
    if len(group.names) < NAMES_MAX:
        group.names.append(name)
    have = verdict.have.quantities() if verdict.lacking else {}
    for lacking in verdict.lacking:
        most = have.get(lacking, 0)
        if lacking not in group.most or most > group.most[lacking][0]:
            group.most[lacking] = most, name
    if verdict.left_s is not None:
        known = verdict.left_s if group.left_s is None else group.left_s
        group.left_s = min(known, verdict.left_s)


def _listed(
    groups: dict[tuple[str, tuple[str, ...], str], _Group], need: Need
) -> tuple[AgentGroup, ...]:
    asked = need.resources.quantities()
    texts = {name_of(key): format_value(value) for key, value in need.resources.items()}
    listed = [
        AgentGroup(
            reason,
            group.agents,
            tuple(group.names),
            tuple(
                [
                    Lack(
                        name,
                        asked.get(name, 0),
                        *group.most[name],
                        "" if name in asked else texts[name],
                    )
                    for name in lacking
                ]
            ),
            text,
            group.left_s,
        )
        for (reason, lacking, text), group in groups.items()
    ]
    listed.sort(key=lambda group: -group.agents)
    kept = listed[:GROUPS_MAX]
    # Many small groups of one reason are one: what each agent misses is then not told.
    rest: dict[str, AgentGroup] = {}
    for group in listed[GROUPS_MAX:]:
        known = rest.get(group.reason)
        count = group.agents + (known.agents if known else 0)
        names = (*(known.names if known else ()), *group.names)[:NAMES_MAX]
        rest[group.reason] = AgentGroup(group.reason, count, names)
    return (*kept, *rest.values())


# --- one agent ------------------------------------------------------------------------------------
class _Sizes:
    """What a need takes of agents: worked out once for each size, for most agents are alike."""

    def __init__(self, role: str, need: Resources) -> None:
        self.need = need
        self.volumes = volume_ids(need)
        self._role = role
        self._usable: dict[Resources, tuple[Resources, Resources | None]] = {}
        self._small: dict[Resources, _Verdict] = {}

    def of(self, resources: Resources) -> tuple[Resources, Resources | None]:
        """What of these the role may use, and what the need would take of that."""
        found = self._usable.get(resources)
        if found is None:
            usable = resources.allocatable_to(self._role)
            found = self._usable[resources] = usable, usable.take(self.need)
        return found

    def too_small(self, total: Resources, usable: Resources) -> _Verdict:
        """The verdict on an agent that could not take it if it were idle."""
        found = self._small.get(total)
        if found is None:
            found = self._small[total] = _too_small(total, usable, self.need)
        return found


_FITS = _Verdict("")


def _judge(
    state: MasterState,
    framework: FrameworkRecord,
    agent: AgentRecord,
    where: Where,
    sizes: _Sizes,
    refused: list[tuple[Resources, float]] | tuple[()],
) -> _Verdict:
    missed = _missed(state, agent, where)
    if missed:
        return _Verdict("Constraint", text=missed)
    info = agent.info
    usable, taken = sizes.of(info.total)
    if taken is None and sizes.volumes and not sizes.volumes <= volume_ids(usable):
        return _no_volume(state, agent, framework.info.role, sizes.volumes)
    if taken is None:
        return sizes.too_small(info.total, usable)
    entry = state.registry.get(info.agent_id)
    if entry is not None and entry.mode is not Mode.IN_USE:
        return _Verdict(
            "Draining", text=f"{entry.mode}: {entry.reason}" if entry.reason else entry.mode
        )
    if not agent.peer:
        return _Verdict("Unreachable")
    free, taken = sizes.of(state.free(agent))
    kept = state.clearings.by_agent.get(info.agent_id)
    if kept is not None:
        if kept.framework_id == framework.info.framework_id and kept.is_for(sizes.need):
            return _Verdict("Preempting", text=_ending(state, info.agent_id))
        if taken is not None:
            name = state.frameworks[kept.framework_id].info.name
            return _Verdict("Resources", text=f"kept for {name}, for which others were preempted")
    if taken is None:
        return _in_use(state, framework, agent, free, sizes.need)
    if not refused:
        return _FITS
    left = [left_s for resources, left_s in refused if resources.contains(taken)]
    return _Verdict("Filtered", left_s=max(left)) if left else _FITS


def _missed(state: MasterState, agent: AgentRecord, where: Where) -> str:
    """What of a constraint the agent does not fulfil; empty if nothing."""
    if agent.info.agent_id in where.not_on:
        return SPREAD_TEXT
    if not where.constraint:
        return ""
    return misses(parse_constraint(where.constraint), state.wheres.place(agent.info))


def _ending(state: MasterState, agent_id: AgentId) -> str:
    count = ending(state, agent_id)
    return f"{count} preempted task{' has' if count == 1 else 's have'} yet to end"


def _no_volume(
    state: MasterState, agent: AgentRecord, role: str, wanted: frozenset[str]
) -> _Verdict:
    """The agent lacks a volume that the role could use: it has it not, or not now."""
    entry = state.registry[agent.info.agent_id]
    ready = volume_ids(agent.info.total.allocatable_to(role))
    name = min(wanted - ready)
    for one in entry.volumes:
        if one.volume.volume_id == name and is_within(role, one.volume.role):
            word = f"volume {name} of role {one.volume.role} is {one.state}"
            return _Verdict("NoVolume", text=word)
    return _Verdict("NoVolume", text=f"no volume {name} of role {role}")


def _too_small(total: Resources, usable: Resources, need: Resources) -> _Verdict:
    lacking = _lacking(usable, need)
    if total.take(need) is not None:
        # Its own and other roles' together would do.
        roles = {
            key.partition("(")[2].rstrip(")"): None for key, _ in total.without(usable).items()
        }
        return _Verdict("Reserved", lacking, usable, ", ".join(roles))
    return _Verdict("NeverFits", lacking, usable)


def _in_use(
    state: MasterState,
    framework: FrameworkRecord,
    agent: AgentRecord,
    free: Resources,
    need: Resources,
) -> _Verdict:
    """What is free is too little: it is in use, or offered to us or to somebody else."""
    mine, others = free, free
    names: dict[str, None] = {}
    for offer_id in agent.offers:
        offer = state.offers[offer_id].offer
        if offer.framework_id == framework.info.framework_id:
            mine = mine + offer.resources
        else:
            others = others + offer.resources
            names[state.frameworks[offer.framework_id].info.name] = None
    if mine.take(need) is not None:
        return _Verdict("OfferPending")
    text = f"offered to {', '.join(names)}" if others.take(need) is not None else ""
    return _Verdict("Resources", _lacking(free, need), free, text)


def _lacking(have: Resources, need: Resources) -> tuple[str, ...]:
    """The names of which there is too little, each by itself."""
    amounts = have.quantities()
    lacking = []
    for key, value in need.items():
        name = name_of(key)
        if isinstance(value, int):
            is_short = amounts.get(name, 0) < value
        else:
            is_short = have.take(Resources.from_wire({key: need.to_wire()[key]})) is None
        if is_short:
            lacking.append(name)
    return tuple(lacking)


# --- the role -------------------------------------------------------------------------------------
def _quota(state: MasterState, framework: FrameworkRecord, need: Need) -> tuple[QuotaRoom, ...]:
    """What of the need is more than the role may still be granted; what it is offered it has."""
    allocator, role = state.allocator, framework.info.role
    standing = allocator.standing(role) if isinstance(allocator, Ledger) else None
    if standing is None or not isinstance(allocator, Ledger):
        return ()
    top = top_of(role)
    beside = _reserved_free(state, role) if allocator.quota.has_reservations(top) else {}
    offered: dict[str, int] = {}
    for offer_id in framework.offers:
        for name, amount in state.offers[offer_id].offer.resources.quantities().items():
            offered[name] = offered.get(name, 0) + amount
    found = []
    for name, amount in need.resources.quantities().items():
        room = standing.room.get(name)
        if room is None or beside.get(name, 0) >= amount:
            continue
        if room + offered.get(name, 0) < amount:
            found.append(QuotaRoom(top, name, standing.limit.get(name), room, amount))
    return tuple(found)


def _reserved_free(state: MasterState, role: str) -> dict[str, int]:
    """The most that is free on one agent of what the role has reserved: no quota bounds that."""
    most: dict[str, int] = {}
    for agent in state.agents.values():
        if agent.info.total.is_plain():
            continue
        mine = state.free(agent).allocatable_to(role)
        for name, amount in mine.without(mine.unreserved()).quantities().items():
            most[name] = max(amount, most.get(name, 0))
    return most
