"""Offers: made from the allocator's grants, answered, rescinded, timed out; each exactly once.

Rules: an offer is used up by its first answer, whatever follows. Its resources come back to the
allocator in the same step in which it leaves the book. A framework that lets offers time out is
filtered for that agent as if it had declined, for longer each time it stays silent.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.machine import Effect, Now
from mesosctl.core.master.state import FrameworkRecord, MasterState, OutstandingOffer
from mesosctl.limits import REFUSE_MAX_S, REFUSE_S, SILENT_FILTER_MAX_S
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import Volume, keys_of
from mesosctl.protocol.messages.framework import Offers, Rescind


def make_offers(state: MasterState, now: Now) -> list[Effect]:
    """One allocation over what has changed; what comes of it is."""
    expire_filters(state, now)
    gatherings, clearings = state.gatherings, state.clearings
    gatherings.prepare(state, now)
    holds_any = bool(gatherings.by_agent or clearings.by_agent)
    state.allocation_wanted = False

    def refuses(framework: str, agent: str, resources: Resources) -> bool:
        info = state.agents[AgentId(agent)].info
        if state.wheres.excludes(FrameworkId(framework), info):
            return True
        if holds_any and (
            gatherings.holds_back(framework, agent, resources)
            or clearings.holds_back(framework, agent, resources)
        ):
            return True
        return state.filters.blocks(framework, agent, resources, now.mono)

    made: dict[FrameworkId, list[Offer]] = {}
    for grant in state.allocator.allocate(refuses):
        framework_id, agent_id = FrameworkId(grant.framework), AgentId(grant.agent)
        state.offers_made += 1
        agent, framework = state.agents[agent_id], state.frameworks[framework_id]
        offer = Offer(
            # The epoch keeps the offers of two masters apart.
            OfferId(f"O{state.sessions.epoch}.{state.offers_made}"),
            framework_id,
            agent_id,
            agent.info.name,
            grant.role,
            grant.resources,
            agent.info.attributes,
            _volumes_in(state, agent_id, grant.resources),
        )
        state.allocator.charge(framework_id, agent_id, grant.resources)
        state.offers[offer.offer_id] = OutstandingOffer(offer, now.mono)
        agent.offers[offer.offer_id] = framework.offers[offer.offer_id] = None
        made.setdefault(framework_id, []).append(offer)
        if holds_any:
            gatherings.granted(state, framework_id, grant.resources)
            clearings.granted(state, offer)
    gatherings.begin(state, now)
    effects: list[Effect] = []
    for framework_id, offers in made.items():
        effects += state.send(state.frameworks[framework_id].peer, Offers(tuple(offers)))
    return effects


def _volumes_in(state: MasterState, agent_id: AgentId, resources: Resources) -> tuple[Volume, ...]:
    """More of the volumes that are among these resources."""
    entry = state.registry.get(agent_id)
    if entry is None or not entry.volumes:
        return ()
    offered = keys_of(resources)
    return tuple([one.volume for one in entry.volumes if one.volume.key in offered])


def expire_filters(state: MasterState, now: Now) -> None:
    """Drop the filters that are over, and look again at their agents."""
    for agent_id in state.filters.expire(now.mono):
        state.show_agent(AgentId(agent_id))


def take_back(state: MasterState, offer_id: OfferId) -> Offer | None:
    """Remove an offer from the book and give its resources back; None when it is not there."""
    outstanding = state.offers.pop(offer_id, None)
    if outstanding is None:
        return None
    offer = outstanding.offer
    state.clearings.given.pop(offer_id, None)
    del state.agents[offer.agent_id].offers[offer_id]
    del state.frameworks[offer.framework_id].offers[offer_id]
    state.allocator.release(offer.framework_id, offer.agent_id, offer.resources)
    state.allocation_wanted = True
    return offer


def refuse(
    state: MasterState, offer: Offer, resources: Resources, refuse_s: float, now: Now
) -> None:
    """Filter what a framework left of an offer, for as long as it asked."""
    if refuse_s == 0 or resources.is_empty():
        return
    if refuse_s < 0:
        refuse_s = REFUSE_S
    # At least one full allocation round has to honour a refusal.
    lasting = min(max(refuse_s, state.allocation_interval_s), REFUSE_MAX_S)
    state.filters.refuse(offer.framework_id, offer.agent_id, resources, now.mono + lasting)


def rescind(state: MasterState, offer_ids: Iterable[OfferId]) -> list[Effect]:
    """Take offers back and tell the frameworks that they are void."""
    void: dict[FrameworkId, list[OfferId]] = {}
    for offer_id in offer_ids:
        offer = take_back(state, offer_id)
        if offer is not None:
            void.setdefault(offer.framework_id, []).append(offer_id)
    effects: list[Effect] = []
    for framework_id, ids in void.items():
        effects += state.send(state.frameworks[framework_id].peer, Rescind(tuple(ids)))
    return effects


def time_out(state: MasterState, now: Now) -> list[Effect]:
    """Rescind what nobody answered, and filter its agent for the silent framework."""
    overdue = []
    # Offers are kept in the order in which they were made: the first one in time ends the search.
    for offer_id, outstanding in state.offers.items():
        if outstanding.made_at + state.offer_timeout_s > now.mono:
            break
        overdue.append((offer_id, outstanding.offer))
    silent: dict[FrameworkId, FrameworkRecord] = {}
    for _, offer in overdue:
        framework = state.frameworks[offer.framework_id]
        silent[offer.framework_id] = framework
        state.clearings.declined(offer, now)
        lasting = framework.silent_s or state.offer_timeout_s
        state.filters.refuse(
            offer.framework_id, offer.agent_id, offer.resources, now.mono + lasting
        )
    for framework in silent.values():
        doubled = 2 * (framework.silent_s or state.offer_timeout_s)
        framework.silent_s = min(doubled, SILENT_FILTER_MAX_S)
    return rescind(state, [offer_id for offer_id, _ in overdue])


def deadline(state: MasterState) -> float | None:
    """When the oldest offer times out."""
    for outstanding in state.offers.values():
        return outstanding.made_at + state.offer_timeout_s
    return None
