"""Weights and priorities set while the master runs: what holds, and what survives it."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.core.driver import OffersArrived
from mesosctl.core.master.registry import load_roles
from mesosctl.core.master.state import RoleSettings
from mesosctl.errors import StorageFailed
from mesosctl.model.cluster import Demand
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.query import ListRoles, Roles
from mesosctl.protocol.messages.roles import SetRoles
from mesosctl.protocol.messages.session import Refusal
from tests.core.master.test_master_maintenance import ask

TASK = Resources.parse("cpus:1;mem:512")


def offered(scheduler: Any) -> int:
    """CPUs in the offers that arrived since the last look."""
    return sum(
        offer.resources.cpus_milli // 1000
        for event in scheduler.took(OffersArrived)
        for offer in event.offers
    )


def shares(cluster: Any) -> dict[str, tuple[float, int]]:
    answer = ask(cluster, ListRoles())
    assert isinstance(answer, Roles)
    return {view.role: (view.weight_milli / 1000, view.priority) for view in answer.roles}


def test_a_weight_holds_in_the_next_round_and_after_a_restart(cluster: Any) -> None:
    """9 CPUs: 4 or 5 each; with 2 : 1 it is 6 and 3, also for a master that was started anew."""
    schedulers = [
        cluster.framework(role, role=role, demand=Demand(TASK, 99)) for role in ("eng", "ops")
    ]
    answer = ask(cluster, SetRoles("r1", ("eng",), weight_milli=2000))
    assert isinstance(answer, Roles)
    assert [(view.role, view.weight_milli, view.frameworks) for view in answer.roles] == [
        ("eng", 2000, 1)
    ]
    agent = cluster.agent("a1", Resources.parse("cpus:9;mem:9216"))
    assert [offered(one) for one in schedulers] == [6, 3]
    cluster.new_master(2)
    for peer in (*schedulers, agent):
        peer.session.lose(cluster.now)
        cluster.connect(peer)
    assert shares(cluster)["eng"] == (2.0, 0)
    assert [offered(one) for one in schedulers] == [6, 3]


def test_each_setting_is_changed_alone_and_options_stand_behind(cluster: Any) -> None:
    """An operator who sets a priority does not mean the weight, whoever gave that."""
    cluster.master.state.roles = {"eng": RoleSettings(3000, 7)}
    ask(cluster, SetRoles("r1", ("eng", "eng/web"), priority=-2))
    assert shares(cluster) == {"eng": (3.0, -2), "eng/web": (1.0, -2)}
    ask(cluster, SetRoles("r2", ("eng",), weight_milli=500))
    assert shares(cluster)["eng"] == (0.5, -2)


def test_a_repeated_request_changes_nothing_more(cluster: Any) -> None:
    """The answer was lost, somebody else decided otherwise, and the command asks again."""
    first = SetRoles("r1", ("eng",), weight_milli=2000)
    ask(cluster, first)
    assert isinstance(ask(cluster, first), Roles)
    assert shares(cluster)["eng"] == (2.0, 0)
    ask(cluster, SetRoles("r2", ("eng",), weight_milli=4000, priority=1))
    assert shares(cluster)["eng"] == (4.0, 1)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (SetRoles("", ("eng",), 1000), "needs an id"),
        (SetRoles("r", (), 1000), "no role is named"),
        (SetRoles("r", ("eng", "-x"), 1000), "'-x' is no role"),
        (SetRoles("r", ("eng",)), "neither a weight nor a priority"),
        (SetRoles("r", ("eng",), 0), "a weight is between 0.001 and 1000000"),
        (SetRoles("r", ("eng",), 10**12), "a weight is between"),
        (SetRoles("r", ("eng",), None, 10**7), "a priority is between"),
    ],
)
def test_what_makes_no_sense_is_refused_for_all_roles(
    cluster: Any, message: SetRoles, told: str
) -> None:
    """All or none: a mistyped name does not leave half of a request behind."""
    answer = ask(cluster, message)
    assert isinstance(answer, Refusal)
    assert told in answer.message
    assert cluster.roles == {}


def test_only_operators_may_set_roles(cluster: Any) -> None:
    """A framework would give itself the cluster."""
    answer = ask(cluster, SetRoles("r", ("web",), 1000), key="user-key")
    assert isinstance(answer, Refusal)
    assert answer.code == "not-permitted"
    assert cluster.roles == {}


def test_a_role_counts_what_is_below_it(cluster: Any) -> None:
    """4 of 4 CPUs are offered to eng/web, so eng has all of them, too."""
    cluster.framework("one", role="eng/web")
    cluster.agent("a1")
    ask(cluster, SetRoles("r1", ("eng",), weight_milli=2000))
    answer = ask(cluster, ListRoles())
    assert isinstance(answer, Roles)
    found = {view.role: (view.frameworks, view.share_milli) for view in answer.roles}
    assert found == {"eng": (0, 1000), "eng/web": (1, 1000)}


def test_entries_that_are_not_ours_stop_the_master() -> None:
    """They never mean that nothing was set."""
    with pytest.raises(StorageFailed, match="cannot be understood"):
        load_roles({"eng": {"weight_milli": "heavy"}})
