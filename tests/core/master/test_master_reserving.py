"""Reservations at the master: by operators and frameworks, kept across restarts of everybody."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.core.driver import OffersArrived, OffersRescinded, OperationsDone
from mesosctl.model.cluster import Demand
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.framework import Operation
from mesosctl.protocol.messages.maintenance import (
    DeactivateAgents,
    DeclareGone,
    Reserve,
    UndrainAgents,
    Unreserve,
)
from mesosctl.protocol.messages.query import Agents
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.test_master_maintenance import ask
from tests.core.master.test_master_quotas import cpus, quota

R = Resources.parse


def total(cluster: Any, name: str = "a1") -> str:
    """What the agent has, as listings show it."""
    agent = cluster.master.state.agents[cluster.agent_id(name)]
    return str(agent.info.total)


def request(cluster: Any, kind: Any, role: str, text: str, *agents: str) -> Any:
    """An operator's request, and the answer."""
    cluster.requests = getattr(cluster, "requests", 0) + 1
    return ask(cluster, kind(f"r{cluster.requests}", agents or ("a1",), role, R(text)))


def offers_of(scheduler: Any) -> list[Any]:
    """The offers that arrived since the last look."""
    return [offer for event in scheduler.took(OffersArrived) for offer in event.offers]


def test_what_is_reserved_is_offered_to_its_role_and_below_alone(cluster: Any) -> None:
    """Offers in the way are void; only eng/web gets the 3 CPUs, and the last one is everybody's."""
    agent = cluster.agent("a1", R("cpus:4;mem:4096"))
    other = cluster.framework("other", role="ops")
    assert [str(one.resources) for one in offers_of(other)] == ["cpus:4;mem:4096"]
    answer = request(cluster, Reserve, "eng", "cpus:3;mem:1024")
    assert isinstance(answer, Agents)
    assert str(answer.agents[0].agent.total) == "cpus:1;cpus(eng):3;mem:3072;mem(eng):1024"
    assert len(other.took(OffersRescinded)) == 1
    assert [str(one.resources) for one in offers_of(other)] == ["cpus:1;mem:3072"]
    mine = cluster.framework("mine", role="eng/web")
    [offer] = offers_of(mine)
    assert str(offer.resources) == "cpus(eng):3;mem(eng):1024"
    # A task that names no role is served from what is reserved.
    task = cluster.task(agent, "t1", "cpus:2;mem:512")
    mine.do(mine.driver.accept((offer.offer_id,), (task,), 0.0))
    [launch] = agent.took(LaunchTasks)
    assert str(launch.tasks[0].resources) == "cpus(eng):2;mem(eng):512"


def test_reservations_survive_the_master_and_show_in_the_next_round(cluster: Any) -> None:
    """Refined ones, too, and with a task on them; the agent need not know."""
    agent = cluster.agent("a1", R("cpus:4;mem:4096"))
    request(cluster, Reserve, "eng", "cpus:3;mem:1024")
    request(cluster, Reserve, "eng/backend", "cpus(eng):1")
    web = cluster.framework("web", role="eng/web")
    [offer] = offers_of(web)
    task = cluster.task(agent, "t1", "cpus(eng):2;mem(eng):512")
    web.do(web.driver.accept((offer.offer_id,), (task,), 3600.0))
    agent.update(web.driver.framework_id, "t1", TaskState.RUNNING)
    before = total(cluster)
    assert before == "cpus:1;cpus(eng):2;cpus(eng/backend):1;mem:3072;mem(eng):1024"
    cluster.new_master(2)
    for peer in (agent, web):
        peer.session.lose(cluster.now)
        cluster.connect(peer)
    assert total(cluster) == before
    backend = cluster.framework("backend", role="eng/backend")
    assert [str(one.resources) for one in offers_of(backend)] == ["cpus(eng/backend):1"]
    # The agent's own life is no matter either.
    cluster.cut(agent)
    agent.life += 1
    cluster.connect(agent)
    assert total(cluster) == before


def test_what_tasks_hold_can_neither_be_reserved_nor_given_back(cluster: Any) -> None:
    """No task is ended for it, so it is refused, with the numbers, on all agents."""
    agent = cluster.agent("a1", R("cpus:4;mem:4096"))
    cluster.agent("a2", R("cpus:4;mem:4096"))
    request(cluster, Reserve, "eng", "cpus:2", "a1")
    eng = cluster.framework("eng", role="eng")
    offer = next(one for one in offers_of(eng) if one.agent_name == "a1")
    task = cluster.task(agent, "t1", "cpus:3;mem:512")
    eng.do(eng.driver.accept((offer.offer_id,), (task,), 0.0))
    answer = request(cluster, Unreserve, "eng", "cpus:1")
    assert isinstance(answer, Refusal)
    assert answer.message == (
        "of a1 cpus:1;mem:3584 is held by no task, and cpus(eng):1 is asked for"
    )
    assert answer.code == "conflict"
    answer = request(cluster, Reserve, "ops", "cpus:2", "a1", "a2")
    assert isinstance(answer, Refusal)
    assert total(cluster, "a2") == "cpus:4;mem:4096"
    agent.update(eng.driver.framework_id, "t1", TaskState.FINISHED)
    assert isinstance(request(cluster, Unreserve, "eng", "cpus:2"), Agents)
    assert total(cluster) == "cpus:4;mem:4096"


@pytest.mark.parametrize(
    ("kind", "role", "text", "told"),
    [
        (Reserve, "*", "cpus:1", "the role *"),
        (Reserve, "-x", "cpus:1", "is no role"),
        (Reserve, "eng", "cpus(ops):1", "roles below it, not to eng"),
        (Reserve, "eng", "cpus:5", "and cpus:5 is asked for"),
        (Unreserve, "eng", "cpus:1", "nothing is reserved to eng by command or framework"),
        (Unreserve, "ops", "cpus:1", "what its --resources reserve stays"),
    ],
)
def test_what_cannot_be_is_refused(
    cluster: Any, kind: Any, role: str, text: str, told: str
) -> None:
    """One line, and nothing changes."""
    cluster.agent("a1", R("cpus:4;mem:4096;cpus(ops):2"))
    answer = request(cluster, kind, role, text)
    assert isinstance(answer, Refusal)
    assert told in answer.message, answer.message
    assert total(cluster) == "cpus:4;cpus(ops):2;mem:4096"


def test_a_repeated_request_reserves_once(cluster: Any) -> None:
    """The answer was lost and the command asks again."""
    cluster.agent("a1", R("cpus:4;mem:4096"))
    message = Reserve("same", ("a1",), "eng", R("cpus:1"))
    ask(cluster, message)
    assert isinstance(ask(cluster, message), Agents)
    assert total(cluster) == "cpus:3;cpus(eng):1;mem:4096"


def test_a_reservation_stays_when_the_agent_is_drained_and_ends_when_it_is_gone(
    cluster: Any,
) -> None:
    """What operators decide of one thing must not undo what they decided of another."""
    cluster.agent("a1", R("cpus:4;mem:4096"))
    request(cluster, Reserve, "eng", "cpus:1")
    ask(cluster, DeactivateAgents("d1", ("a1",), "disk"))
    ask(cluster, UndrainAgents("d2", ("a1",)))
    assert total(cluster) == "cpus:3;cpus(eng):1;mem:4096"
    ask(cluster, DeclareGone("d3", ("a1",)))
    assert isinstance(request(cluster, Unreserve, "eng", "cpus:1"), Refusal)


def test_a_limit_counts_what_is_reserved(cluster: Any) -> None:
    """Nothing is reserved beyond it; refining changes nothing of the sum."""
    cluster.agent("a1", R("cpus:4;mem:4096"))
    quota(cluster, cpus("eng", 2))
    assert isinstance(request(cluster, Reserve, "eng", "cpus:2"), Agents)
    answer = request(cluster, Reserve, "eng/web", "cpus:1")
    assert isinstance(answer, Refusal)
    assert answer.message == "the quota of eng is cpus:2, and it holds cpus:2"
    assert isinstance(request(cluster, Reserve, "eng/web", "cpus(eng):1"), Agents)


def operate(scheduler: Any, offer: Any, *operations: Operation, tasks: Any = ()) -> list[str]:
    """Accept with operations; their problems."""
    scheduler.do(scheduler.driver.accept((offer.offer_id,), tasks, 0.0, operations))
    return [one.problem for event in scheduler.took(OperationsDone) for one in event.results]


def test_a_framework_reserves_what_it_is_offered_and_uses_it_at_once(cluster: Any) -> None:
    """Reserve, refine, launch on it, in one acceptance; others do not get it any more."""
    agent = cluster.agent("a1", R("cpus:4;mem:4096"))
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    task = cluster.task(agent, "t1", "cpus(eng):1;mem:512")
    problems = operate(
        eng,
        offer,
        Operation("o1", "reserve", "eng", R("cpus:3")),
        Operation("o2", "reserve", "eng/web", R("cpus(eng):2")),
        Operation("o3", "unreserve", "eng/web", R("cpus:1")),
        tasks=(task,),
    )
    assert problems == ["", "", ""]
    assert total(cluster) == "cpus:1;cpus(eng):2;cpus(eng/web):1;mem:4096"
    [launch] = agent.took(LaunchTasks)
    assert str(launch.tasks[0].resources) == "cpus(eng):1;mem:512"
    cluster.new_master(2)
    for peer in (agent, eng):
        peer.session.lose(cluster.now)
        cluster.connect(peer)
    assert total(cluster) == "cpus:1;cpus(eng):2;cpus(eng/web):1;mem:4096"


def test_bad_operations_are_answered_and_the_others_done(cluster: Any) -> None:
    """Each by its id; a framework may not reserve for others, nor more than it is offered."""
    cluster.agent("a1", R("cpus:4;mem:4096;cpus(eng):1"))
    quota(cluster, cpus("eng", 4))
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    problems = operate(
        eng,
        offer,
        Operation("o1", "reserve", "ops", R("cpus:1")),
        Operation("o2", "reserve", "eng", R("cpus:5")),
        Operation("o3", "unreserve", "eng", R("cpus:1")),
        Operation("o4", "sell", "eng", R("cpus:1")),
        Operation("o5", "reserve", "eng", R("mem:1024")),
    )
    assert problems[0] == "ops is not eng or below it"
    assert "more than the offered" in problems[1]
    assert "what its --resources reserve stays" in problems[2]
    assert "'sell' is no operation" in problems[3]
    assert problems[4] == ""
    assert operate(eng, offer, Operation("o6", "reserve", "eng", R("cpus:1"))) == [
        f"offer {offer.offer_id} is not outstanding"
    ]


def test_demand_of_a_role_with_reservations_is_served_from_them_first(cluster: Any) -> None:
    """A framework that states a task gets pieces under whatever keys its role may use."""
    cluster.agent("a1", R("cpus:2;mem:4096"))
    request(cluster, Reserve, "eng", "cpus:1;mem:1024")
    cluster.framework("other", role="ops", demand=Demand(R("cpus:9"), 1))
    eng = cluster.framework("eng", role="eng", demand=Demand(R("cpus:1;mem:512"), 1))
    [offer] = offers_of(eng)
    assert str(offer.resources) == "cpus(eng):1;mem(eng):512"
