"""Offers at the master: made, used once, given back once, timed out, never mixed up."""

from __future__ import annotations

import itertools
from typing import Any

from mesosctl.core.driver import OffersArrived, OffersRescinded
from mesosctl.limits import OFFER_TIMEOUT_S
from mesosctl.model.cluster import Demand
from mesosctl.model.ids import OfferId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.framework import Accept


def offers(scheduler: Any) -> list[Any]:
    return [offer for event in scheduler.took(OffersArrived) for offer in event.offers]


def amounts(scheduler: Any) -> list[str]:
    return [str(offer.resources) for offer in offers(scheduler)]


def test_the_classic_worked_example(cluster: Any) -> None:
    """One is offered <4 CPU, 4 GB>, takes <2, 1> and <1, 2>; the rest is offered to two."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    assert str(offer.resources) == "cpus:4;mem:4096"
    two = cluster.framework("two")
    assert offers(two) == []
    tasks = [
        cluster.task(agent, "t1", "cpus:2;mem:1024"),
        cluster.task(agent, "t2", "cpus:1;mem:2048"),
    ]
    one.do(one.driver.accept([offer.offer_id], tasks))
    assert [task.task_id for m in agent.took(LaunchTasks) for task in m.tasks] == ["t1", "t2"]
    assert amounts(two) == ["cpus:1;mem:1024"]
    for task in ("t1", "t2"):
        agent.update(one.driver.framework_id, task, TaskState.RUNNING)
        agent.update(one.driver.framework_id, task, TaskState.FINISHED)
    again = amounts(one) + amounts(two)
    assert sorted(again) == ["cpus:1;mem:2048", "cpus:2;mem:1024"]


def test_an_offer_is_used_once(cluster: Any) -> None:
    """What was accepted, declined or rescinded is worthless afterwards."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    one.do(one.driver.accept([offer.offer_id], [cluster.task(agent, "t1", "cpus:1;mem:64")]))
    one.do(one.driver.accept([offer.offer_id], [cluster.task(agent, "t2", "cpus:1;mem:64")]))
    assert one.states() == [("t2", TaskState.DROPPED)]
    one.do(one.session.send(Accept((OfferId("O9.9"),), (cluster.task(agent, "t3", "cpus:1"),), 1)))
    assert one.states() == [("t3", TaskState.DROPPED)]
    assert [task.task_id for m in agent.took(LaunchTasks) for task in m.tasks] == ["t1"]


def test_a_foreign_offer_is_not_taken(cluster: Any) -> None:
    """One framework cannot use, nor destroy, what is offered to another."""
    agent = cluster.agent("a1")
    one, two = cluster.framework("one"), cluster.framework("two")
    [offer] = offers(one)
    stolen = Accept((offer.offer_id,), (cluster.task(agent, "t1", "cpus:1;mem:64"),), 1)
    two.do(two.session.send(stolen))
    assert two.states() == [("t1", TaskState.DROPPED)]
    one.do(one.driver.accept([offer.offer_id], [cluster.task(agent, "t2", "cpus:1;mem:64")]))
    assert [task.task_id for m in agent.took(LaunchTasks) for task in m.tasks] == ["t2"]


def test_a_bad_task_is_refused_and_the_others_go_on(cluster: Any) -> None:
    """Each task is judged by itself; the first reason is told."""
    agent, other = cluster.agent("a1"), cluster.agent("a2")
    one = cluster.framework("one", key="user-key", role="web")
    mine = [offer for offer in offers(one) if offer.agent_id == agent.info.agent_id]
    tasks = [
        cluster.task(agent, "good", "cpus:1;mem:64"),
        cluster.task(agent, "good", "cpus:1;mem:64"),
        cluster.task(agent, "big", "cpus:4;mem:64"),
        cluster.task(other, "elsewhere", "cpus:1"),
        cluster.task(agent, "nothing", ""),
        cluster.task(agent, "as-root", "cpus:1", user="root"),
    ]
    one.do(one.driver.accept([mine[0].offer_id], tasks))
    verdicts = one.states()
    assert [name for name, _ in verdicts] == ["good", "big", "elsewhere", "nothing", "as-root"]
    assert {state for _, state in verdicts} == {TaskState.ERROR}
    [launch] = agent.took(LaunchTasks)
    assert [(task.task_id, task.command.user) for task in launch.tasks] == [("good", "me")]


def test_declined_resources_come_back_when_the_filter_ends(cluster: Any) -> None:
    """A refusal holds for its seconds, and not for more than was refused."""
    cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    one.do(one.driver.decline([offer.offer_id], 20))
    cluster.advance(19)
    assert offers(one) == []
    cluster.advance(3)
    assert amounts(one) == ["cpus:4;mem:4096"]


def test_revive_ends_every_refusal(cluster: Any) -> None:
    """New work must not wait for an old no."""
    cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    one.do(one.driver.decline([offer.offer_id], 1000))
    one.do(one.driver.revive(Demand(Resources.parse("cpus:1;mem:64"), 3)))
    assert len(offers(one)) == 1


def test_suppress_stops_offers_until_revive(cluster: Any) -> None:
    """A framework without work leaves the pool to others."""
    cluster.agent("a1")
    one = cluster.framework("one", suppressed=True)
    assert offers(one) == []
    cluster.agent("a2")
    assert offers(one) == []
    one.do(one.driver.revive())
    assert len(offers(one)) == 2


def test_a_silent_framework_is_filtered_for_longer_each_time(cluster: Any) -> None:
    """Offers that nobody answers go to others, and the silent one is asked less and less."""
    cluster.agent("a1")
    silent = cluster.framework("silent")
    made_at = []
    for _ in range(4):
        while not offers(silent):
            cluster.advance(1)
        made_at.append(cluster.time_s)
    gaps = [b - a for a, b in itertools.pairwise(made_at)]
    # Each gap is the offer timeout and the filter: 30+30, 30+60, 30+120.
    expected = [OFFER_TIMEOUT_S * (1 + factor) for factor in (1, 2, 4)]
    assert all(abs(a - b) <= 3 for a, b in zip(gaps, expected, strict=True)), gaps
    assert silent.took(OffersRescinded)


def test_who_answers_nothing_keeps_nobody_waiting_longer_than_the_offer_timeout(
    cluster: Any,
) -> None:
    """One that takes every offer there is holds the others up once, and for that long."""
    for name in ("a1", "a2"):
        cluster.agent(name)
    silent = cluster.framework("silent")
    assert len(offers(silent)) == 2
    two = cluster.framework("two")
    cluster.advance(OFFER_TIMEOUT_S - 2)
    assert offers(two) == []
    cluster.advance(2)
    found = offers(two)
    assert [str(one.resources) for one in found] == ["cpus:4;mem:4096"] * 2
    assert offers(silent) == []


def test_offers_of_an_agent_that_leaves_are_rescinded(cluster: Any) -> None:
    """Nothing is launched on a machine that does not answer."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    cluster.cut(agent)
    [rescinded] = one.took(OffersRescinded)
    assert rescinded.offer_ids == (offer.offer_id,)
    one.do(one.driver.accept([offer.offer_id], [cluster.task(agent, "t1", "cpus:1")]))
    assert one.states() == [("t1", TaskState.DROPPED)]


def test_offers_of_a_framework_that_leaves_go_to_the_others(cluster: Any) -> None:
    """A dead framework holds nothing back."""
    cluster.agent("a1")
    one, two = cluster.framework("one"), cluster.framework("two")
    assert len(offers(one)) == 1
    cluster.cut(one)
    assert amounts(two) == ["cpus:4;mem:4096"]


def test_reasons_are_told_with_the_verdict(cluster: Any) -> None:
    """A refusal without a reason cannot be acted on."""
    from mesosctl.core.driver import StatusArrived

    agent = cluster.agent("a1")
    one = cluster.framework("one")
    [offer] = offers(one)
    one.do(one.driver.accept([offer.offer_id], [cluster.task(agent, "big", "cpus:400")]))
    [event] = one.took(StatusArrived)
    assert event.updates[0].reason is Reason.TASK_INVALID
    assert "cpus:400" in event.updates[0].message
