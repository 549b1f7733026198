"""How a need fits: each agent in one group, with the numbers that keep a task off it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesosctl.core.driver import Answered, OffersArrived
from mesosctl.model.cluster import Demand
from mesosctl.model.constraints import Where
from mesosctl.model.fit import Fit, Lack, Need, QuotaRoom
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.explain import Fits, HowFits
from mesosctl.protocol.messages.maintenance import DeactivateAgents
from mesosctl.protocol.messages.roles import Quota, SetQuotas
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.conftest import Cluster, FakeAgent
from tests.core.master.test_master_maintenance import ask

MIB = 1000


def fit(scheduler: Any, resources: str, where: Where | None = None) -> Fit:
    """What the master says of one need."""
    need = Need(Resources.parse(resources), where or Where())
    scheduler.do(scheduler.driver.ask(HowFits("q1", (need,))))
    [answer] = scheduler.took(Answered)
    assert isinstance(answer.message, Fits), answer.message
    assert answer.message.request == "q1"
    return answer.message.fits[0]


def groups(found: Fit) -> dict[str, tuple[int, tuple[str, ...]]]:
    """How many agents, and which, by reason."""
    assert sum(group.agents for group in found.groups) == found.agents
    return {group.reason: (group.agents, group.names) for group in found.groups}


def agent(cluster: Cluster, name: str, total: str, **attributes: str) -> FakeAgent:
    """An agent that registered."""
    made = FakeAgent(cluster, name, Resources.parse(total))
    made.info = replace(made.info, attributes=attributes)
    cluster.connect(made)
    return made


def launch(cluster: Cluster, scheduler: Any, agent: FakeAgent, task: str, resources: str) -> None:
    """Run a task on what is offered there, and leave the rest without a refusal."""
    [offer] = [
        offer for offer in scheduler.driver.offers.values() if offer.agent_id == agent.info.agent_id
    ]
    made = cluster.task(agent, task, resources)
    scheduler.do(scheduler.driver.accept([offer.offer_id], [made], 0.0))
    agent.update(scheduler.driver.framework_id, task, TaskState.RUNNING)
    scheduler.took(OffersArrived)


def test_without_agents_nothing_fits(cluster: Cluster) -> None:
    """There is nothing to be told apart."""
    found = fit(cluster.framework("one"), "cpus:1;mem:64")
    assert found == Fit(0) and found.verdict == "never"


def test_agents_that_are_too_small_are_told_with_the_largest(cluster: Cluster) -> None:
    """What would have to be asked for is in the answer."""
    agent(cluster, "a1", "cpus:4;mem:4096")
    agent(cluster, "a2", "cpus:8;mem:2048")
    found = fit(cluster.framework("one"), "cpus:2;mem:8192")
    assert found.verdict == "never"
    assert groups(found) == {"NeverFits": (2, ("a1", "a2"))}
    assert found.groups[0].lacks == (Lack("mem", 8192 * MIB, 4096 * MIB, "a1"),)


def test_what_is_in_use_is_told_with_what_is_free(cluster: Cluster) -> None:
    """Numbers of the moment: what the agents have free, not what they have."""
    one = cluster.framework("one")
    a1 = agent(cluster, "a1", "cpus:4;mem:4096")
    a2 = agent(cluster, "a2", "cpus:4;mem:4096")
    launch(cluster, one, a1, "t1", "cpus:3;mem:512")
    launch(cluster, one, a2, "t2", "cpus:2;mem:512")
    one.do(one.driver.suppress())
    for offer in list(one.driver.offers):
        one.do(one.driver.decline([offer], 0.0))
    found = fit(one, "cpus:3;mem:512")
    assert found.verdict == "idle" and groups(found) == {"Resources": (2, ("a1", "a2"))}
    assert found.groups[0].lacks == (Lack("cpus", 3000, 2000, "a2"),)


def test_offers_are_told_with_who_has_them(cluster: Cluster) -> None:
    """What is offered is in nobody's use: it may be free in a moment."""
    agent(cluster, "a1", "cpus:4;mem:4096")
    one, two = cluster.framework("one"), cluster.framework("two")
    assert groups(fit(one, "cpus:3;mem:512")) == {"OfferPending": (1, ("a1",))}
    found = fit(two, "cpus:3;mem:512")
    assert groups(found) == {"Resources": (1, ("a1",))}
    assert found.groups[0].text == "offered to one"


def test_filters_are_told_with_the_seconds_left(cluster: Cluster) -> None:
    """A declined offer is why nothing comes, although it would fit."""
    agent(cluster, "a1", "cpus:4;mem:4096")
    one = cluster.framework("one")
    one.do(one.driver.decline(list(one.driver.offers), 20.0))
    cluster.advance(5.0)
    found = fit(one, "cpus:3;mem:512")
    assert groups(found) == {"Filtered": (1, ("a1",))} and found.verdict == "now"
    assert found.groups[0].left_s is not None and 14.0 <= found.groups[0].left_s <= 15.0


def test_what_operators_and_networks_take_away(cluster: Cluster) -> None:
    """Withheld and silent agents may come back: that is not never."""
    agent(cluster, "a1", "cpus:4;mem:4096")
    a2 = agent(cluster, "a2", "cpus:4;mem:4096")
    agent(cluster, "a3", "cpus:1;mem:512")
    one = cluster.framework("one")
    ask(cluster, DeactivateAgents("r1", ("a1",), "kernel"))
    cluster.cut(a2)
    found = fit(one, "cpus:3;mem:512")
    assert groups(found) == {
        "Draining": (1, ("a1",)),
        "Unreachable": (1, ("a2",)),
        "NeverFits": (1, ("a3",)),
    }
    assert [g.text for g in found.groups if g.reason == "Draining"] == ["deactivated: kernel"]
    assert found.verdict == "idle" and found.count("back") == 2


def test_constraints_are_told_with_what_agents_have(cluster: Cluster) -> None:
    """The part that does not hold, and what is there instead."""
    agent(cluster, "a1", "cpus:4;mem:4096", rack="r1", ssd="true")
    a2 = agent(cluster, "a2", "cpus:4;mem:4096", rack="r2", ssd="true")
    one = cluster.framework("one", suppressed=True)
    where = Where("ssd && rack==r1")
    found = fit(one, "cpus:1;mem:64", where)
    assert groups(found) == {"": (1, ("a1",)), "Constraint": (1, ("a2",))}
    texts = {group.reason: group.text for group in found.groups}
    assert texts["Constraint"] == "rack==r1 (rack is r2)"
    spread = fit(one, "cpus:1;mem:64", Where("", (a2.info.agent_id,)))
    assert groups(spread) == {"": (1, ("a1",)), "Constraint": (1, ("a2",))}


def test_reservations_of_others_are_told(cluster: Cluster) -> None:
    """An agent may be large enough, and not for this role."""
    agent(cluster, "a1", "cpus:1;mem:4096;cpus(ads):4")
    found = fit(cluster.framework("one"), "cpus:2;mem:64")
    assert groups(found) == {"Reserved": (1, ("a1",))} and found.verdict == "never"
    assert found.groups[0].text == "ads"
    ads = fit(cluster.framework("two", role="ads", suppressed=True), "cpus:2;mem:64")
    assert "Reserved" not in groups(ads) and ads.verdict != "never"


def test_ranges_and_sets_are_told_by_what_is_asked(cluster: Cluster) -> None:
    """There is no most of these."""
    agent(cluster, "a1", "cpus:4;mem:4096;ports:[31000-31009]")
    found = fit(cluster.framework("one"), "cpus:1;mem:64;ports:[40000-40001]")
    assert found.groups[0].lacks == (Lack("ports", 0, 0, "a1", "[40000-40001]"),)


def test_who_is_before_us_is_told_with_shares(cluster: Cluster) -> None:
    """A role with a lower share over its weight is offered first; a lower weight changes that."""
    batch = cluster.framework(
        "batch", role="batch", demand=Demand(Resources.parse("cpus:3;mem:64"), 1)
    )
    a1 = agent(cluster, "a1", "cpus:4;mem:4096")
    launch(cluster, batch, a1, "t1", "cpus:3;mem:64")
    batch.do(batch.driver.decline(list(batch.driver.offers), 100.0))
    web = cluster.framework("web", role="web", demand=Demand(Resources.parse("cpus:2;mem:64"), 1))
    found = fit(batch, "cpus:3;mem:64")
    [rival] = found.rivals
    assert (rival.reason, rival.theirs.name, rival.ours.name) == ("Share", "web", "batch")
    assert (rival.theirs.share_milli, rival.ours.share_milli) == (0, 750)
    assert rival.ours.dominant == "cpus"
    assert fit(web, "cpus:2;mem:64").rivals == ()
    web.do(web.driver.suppress())
    assert fit(batch, "cpus:3;mem:64").rivals == ()


def test_a_question_that_is_none_is_refused(cluster: Cluster) -> None:
    """It comes from a framework, and its constraint from a user."""
    agent(cluster, "a1", "cpus:4;mem:4096")
    one = cluster.framework("one")
    need = Need(Resources.parse("cpus:1"), Where("rack="))
    one.do(one.driver.ask(HowFits("q1", (need,))))
    [answer] = one.took(Answered)
    assert isinstance(answer.message, Refusal) and answer.message.code == "invalid"


def test_only_as_much_is_answered_as_may_be_looked_at(cluster: Cluster, monkeypatch: Any) -> None:
    """A question of many needs to a master of many agents would keep everybody waiting."""
    monkeypatch.setattr("mesosctl.core.master.fitting.LOOKS_MAX", 4)
    for number in range(3):
        agent(cluster, f"a{number}", "cpus:4;mem:4096")
    one = cluster.framework("one")
    needs = tuple([Need(Resources.parse(f"cpus:{n}"), Where()) for n in (1, 2, 3)])
    one.do(one.driver.ask(HowFits("q1", needs)))
    [answer] = one.took(Answered)
    assert len(answer.message.fits) == 1


def test_a_cluster_of_many_kinds_is_told_in_few_groups(cluster: Cluster) -> None:
    """A thousand racks are not a thousand lines; the sums stay right."""
    for number in range(30):
        agent(cluster, f"a{number}", "cpus:4;mem:4096", rack=f"r{number}")
    found = fit(cluster.framework("one"), "cpus:1;mem:64", Where("rack==none"))
    assert len(found.groups) <= 21
    assert sum(group.agents for group in found.groups) == 30


def test_a_limit_is_told_with_what_is_left(cluster: Cluster) -> None:
    """What the role holds counts, and what it has reserved goes beside it."""
    batch = cluster.framework("batch", role="batch")
    a1 = agent(cluster, "a1", "cpus:4;mem:4096")
    launch(cluster, batch, a1, "t1", "cpus:1;mem:64")
    batch.do(batch.driver.decline(list(batch.driver.offers), 100.0))
    ask(cluster, SetQuotas("r1", (Quota("batch", {"cpus": 2000}),)))
    found = fit(batch, "cpus:2;mem:64")
    assert found.quota == (QuotaRoom("batch", "cpus", 2000, 1000, 2000),)
    assert found.verdict == "idle" and fit(batch, "cpus:1;mem:64").quota == ()
    assert fit(batch, "cpus:3;mem:64").verdict == "never"
    agent(cluster, "a2", "cpus:1;mem:4096;cpus(batch):3")
    assert fit(batch, "cpus:3;mem:64").quota == ()


def test_what_is_kept_for_others_is_told(cluster: Cluster) -> None:
    """Headroom of another role's guarantee is free, and not for us."""
    batch = cluster.framework("batch", role="batch", suppressed=True)
    agent(cluster, "a1", "cpus:4;mem:4096")
    ask(cluster, SetQuotas("r1", (Quota("web", {}, {"cpus": 3000}),)))
    assert fit(batch, "cpus:2;mem:64").quota == (QuotaRoom("batch", "cpus", None, 1000, 2000),)
