"""Operators at the master: agents withheld, given back, declared gone; across restarts of it."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.core.driver import (
    AgentMoved,
    AgentsHeldBack,
    OffersArrived,
    OffersRescinded,
    StatusArrived,
)
from mesosctl.core.machine import Received, Send
from mesosctl.core.master.registry import load
from mesosctl.errors import StorageFailed
from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks, LaunchTasks, TaskKill
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.maintenance import DeactivateAgents, DeclareGone, UndrainAgents
from mesosctl.protocol.messages.query import Agents, ListAgents
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.test_master_tasks import acknowledge_all, launch


def ask(cluster: Any, message: Message, key: str = "op") -> Message:
    """A command's question on a connection of its own, and its answer."""
    cluster.asked = getattr(cluster, "asked", 0) + 1
    name = f"ask{cluster.asked}"
    envelope = Envelope("", 0, f"s-{name}", 1, message)
    effects = cluster.master.handle(Received(name, key, envelope), cluster.now)
    answers = [one for one in effects if isinstance(one, Send) and one.peer == name]
    cluster._done([one for one in effects if one not in answers])
    cluster.settle()
    [answer] = answers
    return answer.envelope.message


def states(cluster: Any) -> dict[str, str]:
    answer = ask(cluster, ListAgents())
    assert isinstance(answer, Agents)
    return {view.agent.name: view.state for view in answer.agents}


def names_offered(scheduler: Any) -> list[str]:
    return [offer.agent_name for event in scheduler.took(OffersArrived) for offer in event.offers]


def test_a_deactivated_agent_is_offered_to_nobody_until_it_is_undrained(cluster: Any) -> None:
    """Offers that were out are void at once, tasks go on, and afterwards all is as before."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    two = cluster.framework("two")
    assert names_offered(two) == ["a1"]
    [view] = ask(cluster, DeactivateAgents("r1", ("a1",), "disk")).agents
    assert (view.state, view.mode, view.reason, view.tasks) == (
        "deactivated",
        "deactivated",
        "disk",
        1,
    )
    assert len(two.took(OffersRescinded)) == 1
    cluster.advance(60)
    assert names_offered(one) == names_offered(two) == []
    assert agent.took(KillTasks) == []
    told = [held for event in two.took(AgentsHeldBack) for held in event.agents]
    assert [(held.name, held.mode, held.reason) for held in told] == [("a1", "deactivated", "disk")]
    ask(cluster, UndrainAgents("r2", ("a1",)))
    assert names_offered(one) + names_offered(two) == ["a1"]
    [event] = two.took(AgentsHeldBack)
    assert event.agents[0].mode == ""


def test_an_accept_on_its_way_when_the_agent_is_deactivated_starts_nothing(cluster: Any) -> None:
    """The offer is void by then, and the framework is told that nothing started."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    [event] = one.took(OffersArrived)
    ask(cluster, DeactivateAgents("r1", ("a1",)))
    task = cluster.task(agent, "t1", "cpus:1;mem:64")
    one.do(one.driver.accept([event.offers[0].offer_id], [task]))
    assert one.states() == [("t1", TaskState.DROPPED)]
    assert agent.took(LaunchTasks) == []


def test_what_an_operator_decided_survives_the_master(cluster: Any) -> None:
    """And is told to frameworks that subscribe, also before the agent is back."""
    agent = cluster.agent("a1")
    cluster.agent("a2")
    ask(cluster, DeactivateAgents("r1", ("a1",), "disk"))
    cluster.new_master(2)
    assert states(cluster) == {"a1": "unreachable", "a2": "unreachable"}
    one = cluster.framework("one")
    [event] = one.took(AgentsHeldBack)
    assert [(held.name, held.mode) for held in event.agents] == [("a1", "deactivated")]
    cluster.connect(agent)
    assert states(cluster)["a1"] == "deactivated"
    assert names_offered(one) == []


def test_all_agents_of_a_request_or_none(cluster: Any) -> None:
    """A misspelt name must not leave half of a rack out of use."""
    cluster.agent("a1")
    cluster.agent("a2")
    refusal = ask(cluster, DeactivateAgents("r1", ("a1", "a3", "a2")))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.message) == ("not-found", "no agent 'a3'")
    assert states(cluster) == {"a1": "registered", "a2": "registered"}
    ask(cluster, DeactivateAgents("r2", ("a1", "a2")))
    assert states(cluster) == {"a1": "deactivated", "a2": "deactivated"}


def test_a_name_of_several_agents_is_refused_with_their_ids(cluster: Any) -> None:
    """Nobody guesses which of them is meant; the id says it, and what is gone does not count."""
    old = cluster.agent("a1")
    cluster.cut(old)
    new = cluster.agent("a1")
    refusal = ask(cluster, DeactivateAgents("r1", ("a1",)))
    assert isinstance(refusal, Refusal) and refusal.code == "conflict"
    assert f"{old.info.agent_id} (unreachable)" in refusal.message
    assert f"{new.info.agent_id} (registered)" in refusal.message
    ask(cluster, DeclareGone("r2", (old.info.agent_id,)))
    [view] = ask(cluster, DeactivateAgents("r3", ("a1",))).agents
    assert view.agent.agent_id == new.info.agent_id


def test_only_operators_may(cluster: Any) -> None:
    """A framework's or a client's key takes no hosts out of use."""
    cluster.agent("a1")
    for message in (
        DeactivateAgents("r1", ("a1",)),
        UndrainAgents("r2", ("a1",)),
        DeclareGone("r3", ("a1",)),
    ):
        refusal = ask(cluster, message, key="user-key")
        assert isinstance(refusal, Refusal) and refusal.code == "not-permitted"
    assert states(cluster) == {"a1": "registered"}


def test_a_request_that_is_repeated_undoes_nothing(cluster: Any) -> None:
    """A client repeats what was not answered; another operator may have spoken since."""
    cluster.agent("a1")
    request = DeactivateAgents("r1", ("a1",))
    ask(cluster, request)
    before = cluster.registry[cluster.agent_id("a1")]
    cluster.advance(5)
    ask(cluster, request)
    assert cluster.registry[cluster.agent_id("a1")] == before


def test_gone_frees_the_tasks_of_an_agent_that_never_returns(cluster: Any) -> None:
    """The operator's word is the proof that silence never was."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2")
    agent.update(one.driver.framework_id, "t1", TaskState.RUNNING)
    cluster.cut(agent)
    cluster.advance(20)
    one.told.clear()
    [view] = ask(cluster, DeclareGone("r1", ("a1",), "burnt down")).agents
    assert (view.state, view.tasks) == ("gone", 0)
    assert [(moved.name, moved.state) for moved in one.took(AgentMoved)] == [("a1", "gone")]
    updates = [update for event in one.took(StatusArrived) for update in event.updates]
    assert [(u.task_id, u.state, u.reason) for u in updates] == [
        ("t1", TaskState.GONE, Reason.AGENT_GONE),
        ("t2", TaskState.GONE, Reason.AGENT_GONE),
    ]
    assert updates[0].message == "its agent a1 was declared gone: burnt down"
    assert cluster.master.state.agents == {}


@pytest.mark.parametrize("epochs", [1, 2])
def test_reconciliation_says_gone_for_good(cluster: Any, epochs: int) -> None:
    """A framework that was away when it was said hears it when it asks, of any later master."""
    agent = cluster.agent("a1")
    agent_id = agent.info.agent_id
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    cluster.cut(agent)
    cluster.cut(one)
    ask(cluster, DeclareGone("r1", ("a1",)))
    if epochs == 2:
        cluster.new_master(2)
    cluster.connect(one)
    one.do(one.driver.reconcile([(TaskId("t1"), agent_id)]))
    assert one.states() == [("t1", TaskState.GONE)]
    one.do(one.driver.kill((TaskKill(TaskId("t1"), agent_id),)))
    assert one.states() == [("t1", TaskState.GONE)]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_gone_agent_that_returns_is_refused(cluster: Any, epochs: int) -> None:
    """Its tasks may run elsewhere: it must not be an agent again, and is told what to do."""
    agent = cluster.agent("a1")
    cluster.cut(agent)
    ask(cluster, DeclareGone("r1", ("a1",), "burnt"))
    if epochs == 2:
        cluster.new_master(2)
    one = cluster.framework("one")
    cluster.connect(agent)
    [refusal] = agent.took(Refusal)
    assert refusal.code == "gone" and "--recover cleanup" in refusal.hint
    assert names_offered(one) == []
    assert states(cluster) == {"a1": "gone"}


def test_a_connected_agent_that_is_declared_gone_ends_its_tasks_itself(cluster: Any) -> None:
    """As long as it answers, its own word is the better one; the rest is over when it has left."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2")
    ask(cluster, DeclareGone("r1", ("a1",)))
    [refusal] = agent.took(Refusal)
    assert refusal.code == "gone"
    assert one.states() == []
    agent.update(one.driver.framework_id, "t1", TaskState.KILLED, reason=Reason.AGENT_GONE)
    assert one.states() == [("t1", TaskState.KILLED)]
    cluster.cut(agent)
    assert one.states() == [("t2", TaskState.GONE)]
    cluster.advance(100)
    assert names_offered(one) == []


def test_an_end_that_was_heard_of_before_is_not_lost_by_gone(cluster: Any) -> None:
    """The true end of a task is told to its framework, whatever became of the agent."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    cluster.cut(one)
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED, exit_code=0)
    cluster.cut(agent)
    ask(cluster, DeclareGone("r1", ("a1",)))
    one.told.clear()
    cluster.connect(one)
    assert acknowledge_all(one) == [("t1", TaskState.FINISHED)]
    assert cluster.master.state.agents == {}
    assert agent.took(Acknowledge) == []


def test_what_is_gone_is_not_brought_back(cluster: Any) -> None:
    """Its tasks were given up; saying it twice is no mistake."""
    agent = cluster.agent("a1")
    cluster.cut(agent)
    ask(cluster, DeclareGone("r1", ("a1",)))
    refusal = ask(cluster, UndrainAgents("r2", ("a1",)))
    assert isinstance(refusal, Refusal) and refusal.code == "conflict"
    assert "was declared gone" in refusal.message
    assert isinstance(ask(cluster, DeclareGone("r3", ("a1",))), Agents)


def test_a_registry_that_is_none_is_not_an_empty_one() -> None:
    """To forget who is gone would admit them again."""
    with pytest.raises(StorageFailed, match="cannot be understood"):
        load({"A1": {"name": "a1"}})
