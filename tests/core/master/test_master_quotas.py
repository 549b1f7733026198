"""Quota set while the master runs: refused with numbers, made room for, kept across restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.driver import OffersRescinded
from mesosctl.model.cluster import Demand
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.query import Roles
from mesosctl.protocol.messages.roles import Quota, SetQuotas
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.test_master_maintenance import ask
from tests.core.master.test_master_roles import TASK, offered

TEN = Resources.parse("cpus:10;mem:10240")


def cpus(role: str, limit: int | None, guarantee: int = 0) -> Quota:
    """A quota of whole CPUs."""
    kept = {"cpus": guarantee * 1000} if guarantee else {}
    return Quota(role, {} if limit is None else {"cpus": limit * 1000}, kept)


def quota(cluster: Any, *quotas: Quota, force: bool = False) -> Any:
    """An operator's request, and the answer."""
    cluster.requests = getattr(cluster, "requests", 0) + 1
    return ask(cluster, SetQuotas(f"r{cluster.requests}", quotas, force))


def pair(cluster: Any) -> list[Any]:
    """Endless frameworks of eng/web and ops."""
    demand = Demand(TASK, 99)
    named = (("one", "eng/web"), ("two", "ops"))
    return [cluster.framework(name, role=role, demand=demand) for name, role in named]


def test_limit_and_guarantee_hold_in_the_next_round(cluster: Any) -> None:
    """10 CPUs, 3 at most for ops, 6 kept for eng: 7 and 3 instead of 5 and 5."""
    schedulers = pair(cluster)
    answer = quota(cluster, cpus("ops", 3), cpus("eng", None, 6), force=True)
    assert isinstance(answer, Roles)
    assert [(v.role, v.limit, v.guarantee) for v in answer.roles] == [
        ("eng", {}, {"cpus": 6000}),
        ("ops", {"cpus": 3000}, {}),
    ]
    cluster.agent("a1", TEN)
    assert [offered(one) for one in schedulers] == [7, 3]


def run_tasks(cluster: Any, agent: Any, scheduler: Any, count: int) -> None:
    """Take the offer that is out with so many tasks of one CPU."""
    from mesosctl.core.driver import OffersArrived

    [offer] = [o for event in scheduler.took(OffersArrived) for o in event.offers]
    tasks = [cluster.task(agent, f"t{n}", "cpus:1;mem:512") for n in range(count)]
    scheduler.do(scheduler.driver.accept((offer.offer_id,), tuple(tasks), 0.0))


def test_a_limit_below_what_is_held_is_refused_unless_forced(cluster: Any) -> None:
    """The operator is told the numbers; forced, nothing more is offered until tasks have ended."""
    ops = cluster.framework("ops", role="ops")
    agent = cluster.agent("a1", TEN)
    run_tasks(cluster, agent, ops, 5)
    answer = quota(cluster, cpus("eng", 1), cpus("ops", 4))
    assert isinstance(answer, Refusal)
    assert answer.message == ("ops holds cpus:5, more than cpus:4; tasks are not ended for it")
    assert (answer.code, answer.hint) == ("conflict", "--force sets it all the same")
    assert cluster.roles == {}, "all or none"
    answer = quota(cluster, cpus("ops", 4), force=True)
    assert isinstance(answer, Roles)
    assert answer.roles[0].consumed == {"cpus": 5000, "mem": 2_560_000}
    cluster.advance(60)
    held = [one.offer.resources.cpus_milli for one in cluster.master.state.offers.values()]
    assert sum(held) == 0


def test_guarantees_are_no_more_than_there_is(cluster: Any) -> None:
    """Two thirds twice are refused, with the sum; what another role has counts."""
    cluster.agent("a1", TEN)
    assert isinstance(quota(cluster, cpus("eng", None, 7)), Roles)
    answer = quota(cluster, cpus("ops", None, 7))
    assert isinstance(answer, Refusal)
    assert answer.message == (
        "all guarantees together are cpus:14 with that of ops, and the cluster has cpus:10"
    )
    # In one step from the one to the other it is possible.
    assert isinstance(quota(cluster, cpus("ops", None, 7), cpus("eng", None, 3)), Roles)


def test_offers_in_the_way_of_a_quota_are_rescinded(cluster: Any) -> None:
    """Both hold 5 CPUs in offers; a limit of 2 takes one back, a guarantee of 9 the other."""
    eng, ops = pair(cluster)
    cluster.agent("a1", TEN)
    assert [offered(eng), offered(ops)] == [5, 5]
    quota(cluster, cpus("ops", 2))
    assert len(ops.took(OffersRescinded)) == 1
    assert [offered(eng), offered(ops)] == [3, 2]
    quota(cluster, cpus("ops", None), cpus("eng", None, 9))
    assert len(ops.took(OffersRescinded)) == 1
    assert [offered(eng), offered(ops)] == [1, 1]


@pytest.mark.parametrize(
    ("quotas", "told"),
    [
        ((), "no role is named"),
        ((cpus("eng/web", 1),), "eng/web is below eng: quota is for roles of the top"),
        ((cpus("eng", 1), cpus("eng", 2)), "a role is named twice"),
        ((cpus("eng", 1, 2),), "the guarantee cpus:2 is above the limit cpus:1"),
        ((Quota("eng", {"cpus(web)": 1}),), "is no amount of a resource"),
        ((Quota("eng", {"cpus": -1}),), "is no amount of a resource"),
        ((Quota("eng", {"cpu": 1000}),), "no agent has an amount of cpu"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    cluster: Any, quotas: tuple[Quota, ...], told: str
) -> None:
    """One line, and nothing is kept of it."""
    cluster.agent("a1", TEN)
    answer = quota(cluster, *quotas)
    assert isinstance(answer, Refusal)
    assert told in answer.message
    assert cluster.roles == {}


def test_a_limit_waits_for_the_agents_after_a_restart(cluster: Any) -> None:
    """3 of 3 run on a1; a2 comes back first, and nothing of it may go to the role meanwhile."""
    ops = cluster.framework("ops", role="ops", demand=Demand(TASK, 99))
    first = cluster.agent("a1", TEN)
    quota(cluster, cpus("ops", 3))
    offer_cpus = offered
    cluster.advance(1)
    from mesosctl.core.driver import OffersArrived

    found = [o for event in ops.took(OffersArrived) for o in event.offers]
    tasks = [cluster.task(first, f"t{n}", "cpus:1;mem:512") for n in range(3)]
    ops.do(ops.driver.accept((found[-1].offer_id,), tuple(tasks), 0.0))
    second = cluster.agent("a2", TEN)
    cluster.new_master(2)
    for peer in (ops, second):
        peer.session.lose(cluster.now)
        cluster.connect(peer)
    assert offer_cpus(ops) == 0
    first.session.lose(cluster.now)
    cluster.connect(first)
    assert offer_cpus(ops) == 0
    quota(cluster, cpus("ops", 4))
    assert offer_cpus(ops) == 1


def test_an_agent_that_stays_away_does_not_hold_a_limited_role_for_ever(cluster: Any) -> None:
    """When it counts as unreachable, the role gets its part of what is there."""
    ops = cluster.framework("ops", role="ops", demand=Demand(TASK, 99))
    cluster.agent("a1", TEN)
    quota(cluster, cpus("ops", 3))
    cluster.new_master(2)
    ops.session.lose(cluster.now)
    cluster.connect(ops)
    offered(ops)
    cluster.agent("a2", TEN)
    assert offered(ops) == 0
    cluster.advance(120)
    assert offered(ops) > 0
    offers = cluster.master.state.offers.values()
    assert sum(one.offer.resources.cpus_milli for one in offers) <= 3000


def test_a_repeated_request_does_not_bring_an_old_quota_back(cluster: Any) -> None:
    """The command asks again because the answer was lost; another decided in between."""
    cluster.agent("a1", TEN)
    first = SetQuotas("same", (cpus("eng", 1),))
    ask(cluster, first)
    entry = cluster.master.state.role_entries["eng"]
    assert entry.limit == {"cpus": 1000}
    ask(cluster, replace(first, quotas=(cpus("eng", 2),)))
    assert cluster.master.state.role_entries["eng"] == entry
