"""Which agents the master counts as unreachable, when, how many at once, and who hears of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.driver import AgentMoved, OffersArrived
from mesosctl.core.master.registry import AgentEntry
from mesosctl.core.master.state import Removals
from mesosctl.limits import AGENT_TIMEOUT_S, AGENTS_RETURN_S, UNREACHABLE_BURST, UNREACHABLE_EVERY_S
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from tests.core.master.conftest import Cluster, FakeAgent


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def on_every_agent(cluster: Cluster, count: int) -> tuple[list[Any], Any]:
    """Agents, and a framework with a task on each."""
    agents = [cluster.agent(f"a{number}") for number in range(count)]
    one = cluster.framework("one")
    for event in one.took(OffersArrived):
        for offer in event.offers:
            agent = next(a for a in agents if a.info.agent_id == offer.agent_id)
            task = cluster.task(agent, f"t-{agent.info.name}", "cpus:1;mem:64")
            one.do(one.driver.accept([offer.offer_id], [task]))
    one.told.clear()
    return agents, one


def words(one: Any) -> list[str]:
    return [event.state for event in one.took(AgentMoved)]


def test_many_at_once_become_unreachable_one_by_one(cluster: Cluster) -> None:
    """A switch that takes half of the cluster along must not make it all run again."""
    agents, one = on_every_agent(cluster, UNREACHABLE_BURST + 5)
    for agent in agents:
        cluster.cut(agent)
    cluster.advance(AGENT_TIMEOUT_S)
    assert words(one) == ["unreachable"] * UNREACHABLE_BURST
    cluster.advance(UNREACHABLE_EVERY_S * 2.5)
    assert words(one) == ["unreachable"] * 2
    for agent in agents:
        cluster.connect(agent)
    assert words(one) == ["registered"] * (UNREACHABLE_BURST + 2)
    cluster.advance(60)
    assert words(one) == []


def test_nothing_is_concluded_before_it_is_told(cluster: Cluster) -> None:
    """What was answered by questions alone would not be taken back when the agent returns."""
    (agent,), one = on_every_agent(cluster, 1)
    cluster.cut(agent)
    cluster.advance(AGENT_TIMEOUT_S - 1)
    one.do(one.driver.reconcile([(TaskId("t-a0"), agent.info.agent_id)]))
    assert one.states() == []
    cluster.advance(1.1)
    one.do(one.driver.reconcile([(TaskId("t-a0"), agent.info.agent_id)]))
    assert one.states() == [("t-a0", TaskState.UNREACHABLE)]


def test_silence_counts_from_the_last_word(cluster: Cluster) -> None:
    """An agent whose connection only seems to stand is noticed after 15 s, not after twice that."""
    (agent,), one = on_every_agent(cluster, 1)
    name = cluster.name_of.pop(id(agent))
    del cluster.peers[name]
    cluster.advance(AGENT_TIMEOUT_S + 0.1)
    assert words(one) == ["unreachable"]


def test_an_agent_that_does_not_come_back_to_a_new_master_is_unreachable_in_time(
    cluster: Cluster,
) -> None:
    """Otherwise a host that died together with the master would be waited for for ever."""
    (agent,), one = on_every_agent(cluster, 1)
    ref = (TaskId("t-a0"), agent.info.agent_id)
    cluster.cut(agent)
    cluster.new_master(2)
    cluster.connect(one)
    one.do(one.driver.reconcile([ref]))
    cluster.advance(AGENT_TIMEOUT_S + AGENTS_RETURN_S - 1)
    one.do(one.driver.reconcile([ref]))
    assert one.states() == []
    cluster.advance(1.1)
    one.do(one.driver.reconcile([ref]))
    assert one.states() == [("t-a0", TaskState.UNREACHABLE)]
    one.took(AgentMoved)
    cluster.connect(agent)
    assert words(one) == ["registered"]


def test_tokens_come_back_and_never_pile_up() -> None:
    """Each agent beyond the burst has to wait; a quiet year does not make a larger burst."""
    bucket = Removals(burst=3, every_s=2.0, tokens=3.0, filled_at=0.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.ready_at() == pytest.approx(12.0)
    assert [bucket.take(12.0), bucket.take(12.0)] == [True, False]
    assert [bucket.take(1e6) for _ in range(4)] == [True, True, True, False]


def test_an_agent_may_come_back_smaller_than_what_it_was_given(cluster: Cluster) -> None:
    """What never reached it is forgotten first; what it holds fits into what it has."""
    agent, one = cluster.agent("a1"), cluster.framework("one")
    [event] = one.took(OffersArrived)
    tasks = [cluster.task(agent, name, "cpus:1;mem:64") for name in ("t1", "t2", "t3")]
    one.do(one.driver.accept([event.offers[0].offer_id], tasks))
    one.told.clear()
    cluster.cut(agent)
    for key in list(agent.tasks):
        if key[1] != "t1":
            del agent.tasks[key]
    agent.info = replace(agent.info, total=Resources.parse("cpus:1.5;mem:128"))
    cluster.connect(agent)
    assert sorted(one.states()) == [("t2", TaskState.DROPPED), ("t3", TaskState.DROPPED)]
    [event] = one.took(OffersArrived)
    assert str(event.offers[0].resources) == "cpus:0.5;mem:64"


def test_agents_of_a_large_cluster_are_asked_for_rarer_signs_of_life(cluster: Cluster) -> None:
    """The master expects them as rarely as it asked them to come, and not as rarely as that."""
    cluster.agent("small")
    for number in range(4_000):
        cluster.master.state.registry[AgentId(f"B{number}")] = AgentEntry("key")
    large = cluster.agent("large")
    assert large.session.heartbeat_s == 10.0
    one = cluster.framework("one")
    one.took(OffersArrived)
    cluster.advance(60)
    assert words(one) == []
    for agent in (cluster.peers[name][0] for name in list(cluster.peers)):
        if isinstance(agent, FakeAgent):
            del cluster.peers[cluster.name_of.pop(id(agent))]
    gone = []
    for _ in range(8):
        cluster.advance(5)
        gone.append(len(cluster.master.state.agent_of_peer))
    # The small one within 15 s of its last ping, the large one within 30.
    assert gone[2:] == [1, 1, 1, 0, 0, 0]
