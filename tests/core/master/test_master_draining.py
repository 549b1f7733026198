"""Drains at the master: who is asked, what happens at the deadline, restarts and clocks between."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.core.driver import InverseOffersArrived, InverseOffersRescinded
from mesosctl.core.machine import Now
from mesosctl.core.master import MasterMachine
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks
from mesosctl.protocol.messages.maintenance import (
    DeactivateAgents,
    DeclareGone,
    DrainAgents,
    InverseOffer,
    UndrainAgents,
)
from mesosctl.protocol.messages.query import Agents, AgentView, ListAgents
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.test_master_maintenance import ask, names_offered, states
from tests.core.master.test_master_tasks import launch


def drain(cluster: Any, *names: str, deadline_s: float | None = None, request: str = "d") -> None:
    answer = ask(cluster, DrainAgents(request, names, deadline_s, "kernel"))
    assert isinstance(answer, Agents), answer


def shown(cluster: Any, name: str) -> AgentView:
    answer = ask(cluster, ListAgents((name,)))
    assert isinstance(answer, Agents)
    [view] = answer.agents
    return view


def asked(scheduler: Any) -> list[InverseOffer]:
    return [offer for event in scheduler.took(InverseOffersArrived) for offer in event.offers]


def killed(agent: Any) -> list[tuple[str, str, Reason, str]]:
    return [
        (message.framework_id, kill.task_id, kill.reason, kill.text)
        for message in agent.took(KillTasks)
        for kill in message.kills
    ]


def test_frameworks_with_tasks_there_are_told_beforehand(cluster: Any) -> None:
    """With the time they have, and why; those that have nothing there are not asked."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    two = cluster.framework("two")
    drain(cluster, "a1", deadline_s=600.0)
    [offer] = asked(one)
    assert (offer.agent_name, offer.deadline_s, offer.reason) == ("a1", 600.0, "kernel")
    assert offer.deadline == cluster.now.wall + 600
    assert asked(two) == []
    view = shown(cluster, "a1")
    assert (view.state, view.tasks, view.deadline_s) == ("draining", 1, 600.0)
    assert view.answers == {one.driver.framework_id: "asked"}
    one.do(one.driver.answer_inverse([offer.inverse_offer_id]))
    assert shown(cluster, "a1").answers == {one.driver.framework_id: "accepted"}
    one.do(one.driver.answer_inverse((), [offer.inverse_offer_id]))
    assert shown(cluster, "a1").answers == {one.driver.framework_id: "declined"}
    two.do(two.driver.answer_inverse([offer.inverse_offer_id]))
    assert shown(cluster, "a1").answers == {one.driver.framework_id: "declined"}


def test_at_the_deadline_what_is_left_is_ended_with_its_own_grace(cluster: Any) -> None:
    """Tasks of every framework, also one that is away and one that said no."""
    agent = cluster.agent("a1")
    one, two = cluster.framework("one"), None
    launch(cluster, agent, one, "t1", "t2")
    two = cluster.framework("two")
    launch(cluster, agent, two, "t3")
    drain(cluster, "a1", deadline_s=60.0)
    one.do(one.driver.answer_inverse((), [offer.inverse_offer_id for offer in asked(one)]))
    cluster.cut(two)
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED)
    cluster.advance(59)
    assert killed(agent) == []
    cluster.advance(2)
    assert killed(agent) == [
        (one.driver.framework_id, "t2", Reason.DRAINED, "kernel"),
        (two.driver.framework_id, "t3", Reason.DRAINED, "kernel"),
    ]
    for framework, task in ((one, "t2"), (two, "t3")):
        agent.update(framework.driver.framework_id, task, TaskState.KILLED, reason=Reason.DRAINED)
    assert shown(cluster, "a1").state == "drained"
    cluster.advance(100)
    assert killed(agent) == []
    assert names_offered(one) == []


def test_without_a_deadline_tasks_may_finish(cluster: Any) -> None:
    """However long that takes; then it says that it is empty."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1")
    assert asked(one)[0].deadline_s is None
    cluster.advance(10_000)
    assert killed(agent) == []
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED)
    assert states(cluster) == {"a1": "drained"}


def test_undrain_takes_it_all_back(cluster: Any) -> None:
    """The inverse offer is void, the deadline does not come, and the agent is offered again."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0)
    [offer] = asked(one)
    ask(cluster, UndrainAgents("u", ("a1",)))
    [rescinded] = one.took(InverseOffersRescinded)
    assert rescinded.inverse_offer_ids == (offer.inverse_offer_id,)
    assert one.driver.inverse_offers == {}
    assert names_offered(one) == ["a1"]
    cluster.advance(100)
    assert killed(agent) == []


def test_a_second_drain_sets_another_deadline(cluster: Any) -> None:
    """Sooner or later than the first; frameworks are asked anew."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0, request="d1")
    asked(one)
    drain(cluster, "a1", deadline_s=600.0, request="d2")
    assert [offer.deadline_s for offer in asked(one)] == [600.0]
    cluster.advance(500)
    assert killed(agent) == []
    cluster.advance(101)
    assert len(killed(agent)) == 1


def test_a_repeated_request_does_not_move_the_deadline(cluster: Any) -> None:
    """A client that heard no answer repeats it; the tasks' time does not begin anew."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0, request="d1")
    cluster.advance(30)
    drain(cluster, "a1", deadline_s=60.0, request="d1")
    cluster.advance(31)
    assert len(killed(agent)) == 1


@pytest.mark.parametrize("back_first", ["agent", "framework"])
def test_a_drain_survives_the_master(cluster: Any, back_first: str) -> None:
    """Frameworks are asked again, with what is left of their time; the deadline stays."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0)
    asked(one)
    cluster.advance(20)
    cluster.new_master(2)
    for peer in (agent, one) if back_first == "agent" else (one, agent):
        cluster.connect(peer)
    [offer] = asked(one)
    assert offer.deadline_s == pytest.approx(40.0)
    cluster.advance(39)
    assert killed(agent) == []
    cluster.advance(2)
    assert len(killed(agent)) == 1


def test_a_deadline_that_passed_while_nobody_was_there(cluster: Any) -> None:
    """The agent's tasks are ended as soon as it is back, whoever was away meanwhile."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0)
    cluster.advance(100)
    assert len(killed(agent)) == 1
    cluster.cut(agent)
    cluster.connect(agent)
    assert len(killed(agent)) == 1
    cluster.new_master(2)
    cluster.advance(1)
    cluster.connect(agent)
    assert len(killed(agent)) == 1


@pytest.mark.parametrize(("leap_s", "left_s"), [(-1e6, 60.0), (1e6, 0.0)])
def test_a_wall_clock_that_leaps_is_bounded(cluster: Any, leap_s: float, left_s: float) -> None:
    """Across a restart nothing better is there; a drain never lasts longer than it was given."""
    cluster.agent("a1")
    drain(cluster, "a1", deadline_s=60.0)
    rows = cluster.registry
    again: MasterMachine = cluster.new_master(2)
    again.state.drain_at.clear()
    from mesosctl.core.master import draining

    draining.recover(again.state, Now(500.0, 1e9 + leap_s))
    assert again.state.drain_at == {cluster.agent_id("a1"): 500.0 + left_s}
    assert rows == cluster.registry


def test_a_task_that_a_framework_launched_just_before_is_ended_too(cluster: Any) -> None:
    """Staging counts: the master knows of it, and the agent gets the order to end it behind it."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=0.0)
    cluster.advance(0.1)
    assert [task for _, task, _, _ in killed(agent)] == ["t1"]


@pytest.mark.parametrize("after", [DeactivateAgents, DeclareGone])
def test_another_decision_ends_the_drain(cluster: Any, after: Any) -> None:
    """The last word of an operator holds."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0)
    ask(cluster, after("x", ("a1",)))
    assert len(one.took(InverseOffersRescinded)) == 1
    cluster.advance(100)
    assert killed(agent) == []
    assert cluster.master.state.drain_at == {}


def test_a_framework_that_leaves_is_asked_again_when_it_is_back(cluster: Any) -> None:
    """What it was asked does not outlive its session."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    drain(cluster, "a1", deadline_s=60.0)
    [first] = asked(one)
    cluster.cut(one)
    assert shown(cluster, "a1").answers == {}
    cluster.connect(one)
    [second] = asked(one)
    assert first.inverse_offer_id != second.inverse_offer_id


def test_an_agent_that_is_away_is_not_called_drained(cluster: Any) -> None:
    """Nobody knows what runs there."""
    agent = cluster.agent("a1")
    drain(cluster, "a1")
    assert states(cluster) == {"a1": "drained"}
    cluster.cut(agent)
    assert states(cluster) == {"a1": "unreachable"}
    assert shown(cluster, "a1").mode == "draining"


@pytest.mark.parametrize("deadline_s", [-1.0, 1e12])
def test_a_deadline_that_makes_no_sense_is_refused(cluster: Any, deadline_s: float) -> None:
    """It is the operator's mistake, and must not become a drain for ever or at once."""
    cluster.agent("a1")
    answer = ask(cluster, DrainAgents("d", ("a1",), deadline_s))
    assert isinstance(answer, Refusal) and answer.code == "invalid"
    assert states(cluster) == {"a1": "registered"}


def test_the_reason_of_a_kill_is_not_the_frameworks_to_choose(cluster: Any) -> None:
    """Its own wish must not look like an operator's drain, after which nothing is counted."""
    from mesosctl.model.ids import TaskId
    from mesosctl.protocol.messages.agent import TaskKill

    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    one.do(one.driver.kill((TaskKill(TaskId("t1"), reason=Reason.DRAINED, text="me"),)))
    assert killed(agent) == [(one.driver.framework_id, "t1", Reason.KILL_REQUESTED, "")]
