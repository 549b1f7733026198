"""Questions to the master: what is there, who is who, where is what."""

from __future__ import annotations

from mesosctl.core.machine import Effect, Now
from mesosctl.core.master.frameworks import remove_framework
from mesosctl.core.master.maintenance import agent_view, agents_named
from mesosctl.core.master.roles import share_milli
from mesosctl.core.master.state import MasterState, amounts_held
from mesosctl.model.ids import FrameworkId
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.framework import StopFramework
from mesosctl.protocol.messages.query import (
    Agents,
    DescribeMaster,
    Done,
    FindFramework,
    FrameworkFound,
    Frameworks,
    FrameworkView,
    ListAgents,
    ListFrameworks,
    ListOffers,
    MasterIs,
    OfferView,
    OutstandingOffers,
    PrincipalIs,
    TeardownFramework,
    WhoIs,
)
from mesosctl.protocol.messages.session import Refusal


def _held(state: MasterState, framework: FrameworkId) -> tuple[Resources, Resources, int, int]:
    """Used and offered resources, running tasks and offers of a framework."""
    tasks = list(state.frameworks[framework].tasks.values())
    used = Resources.sum_scalars(amounts_held(tasks))
    offers = state.frameworks[framework].offers
    offered = Resources.sum_scalars(state.offers[offer_id].offer.resources for offer_id in offers)
    return used, offered, sum(task.holds_resources for task in tasks), len(offers)


def _total(state: MasterState) -> Resources:
    return Resources.sum_scalars(agent.info.total for agent in state.agents.values())


def on_list_agents(state: MasterState, peer: str, message: ListAgents, now: Now) -> list[Effect]:
    """Every agent of the registry, or those that are named, with what they hold."""
    named = agents_named(state, message.agents)
    views = tuple([agent_view(state, agent_id, now) for agent_id in named])
    return state.send(peer, Agents(state.sessions.answered(peer), views))


def on_list_frameworks(
    state: MasterState, peer: str, message: ListFrameworks, now: Now
) -> list[Effect]:
    """Every framework with what it holds."""
    total = _total(state)
    views = []
    for framework_id, framework in state.frameworks.items():
        if framework_id in state.removed:
            continue
        used, offered, tasks, offers = _held(state, framework_id)
        views.append(
            FrameworkView(
                framework.info,
                framework.state,
                used,
                offered,
                tasks,
                offers,
                share_milli(used + offered, total),
                framework.subscribed_wall,
            )
        )
    return state.send(peer, Frameworks(state.sessions.answered(peer), tuple(views)))


def on_list_offers(state: MasterState, peer: str, message: ListOffers, now: Now) -> list[Effect]:
    """Every outstanding offer and its age."""
    views = []
    for offer_id, outstanding in state.offers.items():
        offer = outstanding.offer
        views.append(
            OfferView(
                offer_id,
                offer.framework_id,
                state.frameworks[offer.framework_id].info.name,
                offer.agent_id,
                offer.agent_name,
                offer.role,
                offer.resources,
                now.mono - outstanding.made_at,
            )
        )
    return state.send(peer, OutstandingOffers(state.sessions.answered(peer), tuple(views)))


def on_find_framework(
    state: MasterState, peer: str, message: FindFramework, now: Now
) -> list[Effect]:
    """Where clients of the named framework connect to."""
    re = state.sessions.answered(peer)
    for framework_id, framework in state.frameworks.items():
        info = framework.info
        if info.name == message.name and framework.peer and info.address:
            found = FrameworkFound(re, framework_id, info.name, info.address, info.public_key)
            return state.send(peer, found)
    text = f"no framework named {message.name!r} is connected to this master"
    hint = "it may be starting; otherwise start one with `mesosctl framework`"
    return state.send(peer, Refusal(re, "unavailable", text, hint))


def on_who_is(state: MasterState, peer: str, message: WhoIs, now: Now) -> list[Effect]:
    """Who holds a key, for a framework that is asked by it."""
    re = state.sessions.answered(peer)
    return state.send(peer, PrincipalIs(re, message.key, state.principals.get(message.key)))


def on_teardown_framework(
    state: MasterState, peer: str, message: TeardownFramework, now: Now
) -> list[Effect]:
    """End a framework on the word of an operator or of its own key."""
    re = state.sessions.answered(peer)
    framework = state.frameworks.get(message.framework_id)
    if framework is None or message.framework_id in state.removed:
        text = f"no framework {message.framework_id[:40]!r}"
        return state.send(peer, Refusal(re, "not-found", text, "see `mesosctl frameworks`"))
    principal = state.principal(peer)
    owner = framework.key == state.sessions.key(peer)
    if principal is None or not (owner or "operator" in principal.kinds):
        text = f"only its own key or an operator may end framework {message.framework_id}"
        return state.send(peer, Refusal(re, "not-permitted", text))
    effects = remove_framework(state, framework, "torn down by an operator", now)
    return [*effects, *state.send(peer, Done(re))]


def on_describe(state: MasterState, peer: str, message: DescribeMaster, now: Now) -> list[Effect]:
    """Who this master is."""
    answer = MasterIs(
        state.sessions.answered(peer),
        state.cluster_name,
        state.version,
        state.allocator_name,
        sum(1 for agent in state.agents.values() if agent.peer),
        sum(1 for framework in state.frameworks.values() if framework.peer),
        {"epoch": str(state.sessions.epoch), "cluster": state.sessions.cluster},
    )
    return state.send(peer, answer)


def stop_framework(state: MasterState, name: str) -> list[Effect]:
    """Ask the framework of this name to stop; its jobs stay queued."""
    effects: list[Effect] = []
    for framework in state.frameworks.values():
        if framework.info.name == name:
            effects += state.send(framework.peer, StopFramework())
    return effects
