"""Lanes at the master: charged once, refused where they do not fit, given back by operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesosctl.core.driver import OffersArrived, StatusArrived
from mesosctl.model.ids import FrameworkId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskReport, TaskState
from mesosctl.protocol.messages.agent import LaunchTasks, ReturnLanes
from mesosctl.protocol.messages.maintenance import DrainAgents, UndrainAgents
from mesosctl.protocol.messages.query import Agents, ListAgents
from tests.core.master.test_master_maintenance import ask
from tests.core.master.test_master_tasks import acknowledge_all

ONE_CPU = "cpus:1;mem:64"


def lane(cluster: Any, agent: Any, *names: str, size: str = ONE_CPU, name: str = "") -> list[Any]:
    """Tasks of a lane that is called after the first of them."""
    return [replace(cluster.task(agent, one, size), lane=name or names[0]) for one in names]


def accept(scheduler: Any, tasks: list[Any]) -> None:
    """Use the one outstanding offer."""
    [event] = scheduler.took(OffersArrived)
    scheduler.do(scheduler.driver.accept([event.offers[0].offer_id], tasks, 0.0))


def used(cluster: Any) -> str:
    agents = ask(cluster, ListAgents())
    assert isinstance(agents, Agents)
    return str(agents.agents[0].used)


def launched(agent: Any) -> list[str]:
    return [task.task_id for message in agent.took(LaunchTasks) for task in message.tasks]


def refusals(scheduler: Any) -> list[tuple[str, str]]:
    updates = [update for event in scheduler.took(StatusArrived) for update in event.updates]
    return [(update.task_id, f"{update.reason}: {update.message}") for update in updates]


def test_a_lane_is_charged_once_until_its_last_task_has_ended(cluster: Any) -> None:
    """That is what lets a list of tasks into the room of one; and nothing is free too early."""
    agent = cluster.agent("a1", Resources.parse(ONE_CPU))
    one = cluster.framework("one")
    accept(one, lane(cluster, agent, "t1", "t2", "t3"))
    assert launched(agent) == ["t1", "t2", "t3"]
    assert used(cluster) == "cpus:1;mem:64"
    framework_id = one.driver.framework_id
    for name in ("t2", "t1"):
        agent.update(framework_id, name, TaskState.FINISHED)
        acknowledge_all(one)
        assert used(cluster) == "cpus:1;mem:64" and one.took(OffersArrived) == []
    agent.update(framework_id, "t3", TaskState.DROPPED)
    [event] = one.took(OffersArrived)
    assert str(event.offers[0].resources) == "cpus:1;mem:64"
    acknowledge_all(one)
    assert cluster.master.state.frameworks[framework_id].lanes == {}


def test_a_new_master_charges_lanes_once(cluster: Any) -> None:
    """It knows of them only from what agents bring along."""
    cluster.new_master(2)
    agent = cluster.agent("a1", Resources.parse(ONE_CPU))
    cluster.cut(agent)
    framework_id = FrameworkId("F9")
    for name in ("t1", "t2"):
        report = TaskReport(
            framework_id, name, name, Resources.parse(ONE_CPU), TaskState.STAGING, "t1"
        )
        agent.tasks[framework_id, name] = report
    cluster.new_master(3)
    cluster.connect(agent)
    assert used(cluster) == "cpus:1;mem:64"


def test_tasks_of_another_size_are_refused_and_the_lane_goes_on(cluster: Any) -> None:
    """What they hold together has one size, or nobody could say what it is."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    odd = lane(cluster, agent, "t2", size="cpus:2;mem:64", name="t1")
    accept(one, [*lane(cluster, agent, "t1"), *odd, *lane(cluster, agent, "t3", name="t1")])
    assert launched(agent) == ["t1", "t3"]
    [(task, text)] = refusals(one)
    assert task == "t2" and text.startswith("TaskInvalid: its lane holds cpus:1")


def test_two_lanes_have_to_fit_beside_each_other(cluster: Any) -> None:
    """The first task of each takes from what is left."""
    agent = cluster.agent("a1", Resources.parse(ONE_CPU))
    one = cluster.framework("one")
    accept(one, [*lane(cluster, agent, "t1", "t2"), *lane(cluster, agent, "u1", "u2")])
    assert launched(agent) == ["t1", "t2"]
    assert [task for task, _ in refusals(one)] == ["u1", "u2"]


def test_a_lane_is_not_made_longer_by_another_acceptance(cluster: Any) -> None:
    """It is the list of one acceptance: what came later would be charged to nobody."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    accept(one, lane(cluster, agent, "t1", "t2"))
    assert launched(agent) == ["t1", "t2"]
    accept(one, lane(cluster, agent, "t3", name="t1"))
    assert launched(agent) == []
    assert refusals(one) == [("t3", "TaskInvalid: lane t1 is in use")]


def test_an_agent_that_is_withheld_gives_its_lanes_back(cluster: Any) -> None:
    """What has not begun can begin elsewhere at once; also on one that comes back withheld."""
    agent = cluster.agent("a1")
    ask(cluster, DrainAgents("r1", ("a1",), 60.0, "disks"))
    assert agent.took(ReturnLanes) == [ReturnLanes()]
    cluster.cut(agent)
    cluster.connect(agent)
    assert agent.took(ReturnLanes) == [ReturnLanes()]
    ask(cluster, UndrainAgents("r2", ("a1",)))
    assert agent.took(ReturnLanes) == []
