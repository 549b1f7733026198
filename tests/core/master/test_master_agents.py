"""Agents at the master: what comes late of them changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesosctl.core.driver import OffersArrived
from mesosctl.core.machine import PeerLost, Received, Send
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import LaunchTasks, RegisterAgent
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Refusal, Reset


def arrives(cluster: Any, peer: str, seq: int, message: Message) -> list[Message]:
    """What the master answers when this comes along a connection that nobody serves here."""
    envelope = Envelope("", 0, "late", seq, message)
    effects = cluster.master.handle(Received(peer, "op", envelope), cluster.now)
    cluster.master.check()
    return [one.envelope.message for one in effects if isinstance(one, Send) and one.peer == peer]


def with_task(cluster: Any) -> tuple[Any, Any]:
    """An agent in the second session of its third life, and a framework with a task on it."""
    agent = cluster.agent("a1")
    agent.session._hello = lambda: RegisterAgent(
        agent.info, tuple(agent.tasks.values()), tuple(agent.frameworks.values()), 3, 2
    )
    cluster.cut(agent)
    cluster.connect(agent)
    one = cluster.framework("one")
    [event] = one.took(OffersArrived)
    task = cluster.task(agent, "t1", "cpus:1;mem:64")
    one.do(one.driver.accept([event.offers[0].offer_id], [task]))
    assert len(agent.took(LaunchTasks)) == 1
    return agent, one


def test_what_an_agent_says_later_counts(cluster: Any) -> None:
    """A next session, a next life, and one that does not count its lives are believed."""
    for opened in [(3, 3), (4, 1), (0, 0)]:
        fresh = type(cluster)()
        agent, _ = with_task(fresh)
        assert Reset("replaced") not in arrives(
            fresh, "next", 1, RegisterAgent(agent.info, (), (), *opened)
        )
        assert fresh.master.state.agents[agent.info.agent_id].tasks == {}


def test_lateness_is_known_while_the_newer_session_is_over(cluster: Any) -> None:
    """The connection may be lost meanwhile: what comes late is no better for that."""
    agent, one = with_task(cluster)
    cluster.cut(agent)
    assert arrives(cluster, "late", 1, RegisterAgent(agent.info, (), (), 3, 1)) == [
        Reset("replaced")
    ]
    cluster.master.handle(PeerLost("late"), cluster.now)
    assert one.states() == []
    cluster.new_master(2)
    arrives(cluster, "any", 1, RegisterAgent(agent.info, (), (), 1, 1))
    assert list(cluster.master.state.agents) == [agent.info.agent_id]


def test_a_list_that_came_late_to_a_new_master_ends_nothing_anew(cluster: Any) -> None:
    """What ended since and was acknowledged is in it: no other end of it may be told."""
    agent, one = with_task(cluster)
    late = agent.session._hello()
    late = replace(late, tasks=(replace(late.tasks[0], state=TaskState.RUNNING),))
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED)
    assert one.states() == [("t1", TaskState.FINISHED)]
    agent.tasks.clear()
    agent.session.lose(cluster.now)
    one.session.lose(cluster.now)
    cluster.new_master(2)
    arrives(cluster, "late", 1, late)
    cluster.connect(one)
    assert agent.info.agent_id in cluster.master.state.agents
    agent.session._hello = lambda: RegisterAgent(agent.info, (), (), 3, 3)
    cluster.connect(agent)
    assert cluster.master.state.agents[agent.info.agent_id].tasks == {}
    assert one.states() == []


def test_what_a_late_list_lacks_may_run_all_the_same(cluster: Any) -> None:
    """Told that it had never started, a framework would start it anew, though for once only."""
    agent, one = with_task(cluster)
    late = replace(agent.session._hello(), tasks=())
    refs = [(TaskId("t1"), agent.info.agent_id)]
    agent.session.lose(cluster.now)
    one.session.lose(cluster.now)
    cluster.new_master(2)
    arrives(cluster, "late", 1, late)
    cluster.connect(one)
    one.do(one.driver.reconcile(refs))
    assert one.states() == []
    agent.session._hello = lambda: RegisterAgent(agent.info, (), (), 3, 3)
    cluster.connect(agent)
    one.do(one.driver.reconcile(refs))
    assert one.states() == [("t1", TaskState.DROPPED)]


def test_a_session_is_one_agents(cluster: Any) -> None:
    """Whoever registers twice along one connection would be two agents there, or none."""
    agent = cluster.agent("a1")
    assert len(arrives(cluster, "p", 1, RegisterAgent(agent.info, (), (), 5, 1))) == 1
    for agent_id in (agent.info.agent_id, AgentId("A2")):
        second = RegisterAgent(replace(agent.info, agent_id=agent_id), (), (), 5, 2)
        seq = 2 + (agent_id == "A2")
        [refusal] = arrives(cluster, "p", seq, second)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "invalid"
    assert list(cluster.master.state.agents) == [agent.info.agent_id]
