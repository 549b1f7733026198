"""Agents that a framework wants nothing of are not offered to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesosctl.core.driver import Answered, OffersArrived, SubscriptionFailed
from mesosctl.model.cluster import Demand
from mesosctl.model.constraints import Where, place_of
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.conftest import FOUR, Cluster, FakeAgent

R1 = (Where("rack==r1"),)
ONE = Resources.parse("cpus:1;mem:512")


def offered(scheduler: Any) -> list[str]:
    """The names of the agents that it was offered, drained."""
    told = [offer for event in scheduler.took(OffersArrived) for offer in event.offers]
    return sorted(offer.agent_name for offer in told)


def agent(cluster: Cluster, name: str, **attributes: str) -> FakeAgent:
    """An agent with attributes that registered."""
    made = FakeAgent(cluster, name, FOUR)
    made.info = replace(made.info, attributes=attributes)
    cluster.connect(made)
    return made


def test_only_agents_that_are_wanted_are_offered(cluster: Cluster) -> None:
    """An offer that would be declined is not made; those that come later are judged, too."""
    agent(cluster, "a1", rack="r1")
    agent(cluster, "a2", rack="r2")
    one = cluster.framework("one", where=R1)
    assert offered(one) == ["a1"]
    agent(cluster, "a3", rack="r1")
    agent(cluster, "a4")
    assert offered(one) == ["a3"]


def test_a_framework_that_says_nothing_is_offered_everything(cluster: Cluster) -> None:
    """As before there were constraints."""
    agent(cluster, "a1", rack="r1")
    agent(cluster, "a2")
    assert offered(cluster.framework("one")) == ["a1", "a2"]


def test_any_of_several_places_will_do(cluster: Cluster) -> None:
    """A framework with several jobs wants what any of them could use."""
    a1 = agent(cluster, "a1", rack="r1")
    agent(cluster, "a2", rack="r2")
    agent(cluster, "a3", rack="r3")
    wheres = (Where("rack==r1", (a1.info.agent_id,)), Where("rack==r2"))
    assert offered(cluster.framework("one", where=wheres)) == ["a2"]


def test_revive_says_it_anew(cluster: Cluster) -> None:
    """What is said last holds, also nothing; the demand is another matter."""
    agent(cluster, "a1", rack="r1")
    agent(cluster, "a2", rack="r2")
    one = cluster.framework("one", where=R1)
    assert offered(one) == ["a1"]
    one.do(one.driver.revive(Demand(ONE, 1), (Where("rack==r2"),)))
    assert offered(one) == ["a2"]
    [offer] = [held for held in one.driver.offers.values() if held.agent_name == "a1"]
    one.do(one.driver.decline([offer.offer_id], 0.0))
    assert offered(one) == []
    one.do(one.driver.revive())
    assert offered(one) == ["a1"]


def test_what_one_does_not_want_another_gets(cluster: Cluster) -> None:
    """A constrained framework is in nobody's way, however low its share is."""
    agent(cluster, "a2", rack="r2")
    one = cluster.framework("one", where=R1)
    two = cluster.framework("two")
    assert (offered(one), offered(two)) == ([], ["a2"])


def test_an_agent_with_new_attributes_is_judged_anew(cluster: Cluster) -> None:
    """An agent that was moved to another rack says so when it registers."""
    a1 = agent(cluster, "a1", rack="r2")
    one = cluster.framework("one", where=R1)
    assert offered(one) == []
    cluster.cut(a1)
    a1.info = replace(a1.info, attributes={"rack": "r1"})
    a1.life += 1
    cluster.connect(a1)
    assert offered(one) == ["a1"]


def test_what_is_no_constraint_is_refused(cluster: Cluster) -> None:
    """The master does not guess, and what was said before goes on holding."""
    agent(cluster, "a1", rack="r1")
    agent(cluster, "a2", rack="r2")
    one = cluster.framework("one", where=R1)
    assert offered(one) == ["a1"]
    one.do(one.driver.revive(None, (Where("rack="),)))
    [answer] = one.took(Answered)
    assert isinstance(answer.message, Refusal) and answer.message.code == "invalid"
    assert "character" in answer.message.message
    assert offered(one) == []
    one.do(one.driver.revive(None, tuple([Where(f"rack==r{n}") for n in range(65)])))
    assert len(one.took(Answered)) == 1
    two = cluster.framework("two", where=(Where("=="),))
    [failed] = two.took(SubscriptionFailed)
    assert failed.code == "invalid"


racks = st.sampled_from(["r1", "r2", "r3"])
wheres = st.lists(
    st.one_of(
        st.builds(lambda rack: Where(f"rack=={rack}"), racks),
        st.builds(lambda rack: Where(f"rack!={rack} && !ssd"), racks),
        st.just(Where("ssd || agent==a1")),
    ),
    max_size=2,
).map(tuple)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("agent"), st.integers(0, 3), racks, st.booleans()),
        st.tuples(st.just("revive"), st.integers(0, 2), wheres),
        st.tuples(st.just("decline"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 6)),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=80, deadline=None)
def test_a_constrained_agent_is_never_offered(walk: list[tuple[Any, ...]]) -> None:
    """Whatever agents register with, frameworks say, decline and wait for: never one offer more."""
    cluster = Cluster()
    frameworks = [cluster.framework(f"f{n}") for n in range(3)]
    said: list[tuple[Where, ...]] = [(), (), ()]
    agents: dict[str, FakeAgent] = {}

    def look() -> None:
        for number, framework in enumerate(frameworks):
            for event in framework.took(OffersArrived):
                for offer in event.offers:
                    place = place_of(offer.agent_id, offer.agent_name, offer.attributes)
                    wanted = said[number]
                    assert not wanted or any(where.accepts(place) for where in wanted)

    for step in walk:
        match step:
            case ("agent", number, rack, ssd):
                name = f"a{number}"
                if name in agents:
                    cluster.cut(agents[name])
                made = agents.setdefault(name, FakeAgent(cluster, name, FOUR))
                attributes = {"rack": rack, "ssd": str(ssd).lower()}
                made.info = replace(made.info, attributes=attributes)
                made.life += 1
                cluster.connect(made)
            case ("revive", number, wanted):
                said[number] = wanted
                framework = frameworks[number]
                framework.do(framework.driver.revive(Demand(ONE, 2), wanted))
            case ("decline", number, forgets):
                framework = frameworks[number]
                ids = list(framework.driver.offers)
                framework.do(framework.driver.decline(ids, 0.0 if forgets else 3.0))
            case ("wait", seconds):
                cluster.advance(seconds)
        look()
