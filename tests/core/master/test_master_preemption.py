"""Preemption at the master: who is ended for whom, and who gets what becomes free."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.core.driver import OffersRescinded, StatusArrived
from mesosctl.limits import KILL_GRACE_S, PREEMPT_AFTER_S, PREEMPT_AGAIN_S, PREEMPT_HOLD_S
from mesosctl.model.cluster import Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks
from mesosctl.protocol.messages.roles import Quota, SetQuotas, SetRoles
from tests.core.master.test_master_maintenance import ask

R = Resources.parse
EIGHT = R("cpus:8;mem:8192")


class Stage:
    """Agents filled by a framework `low`, whose tasks may be revoked, and others who wait."""

    def __init__(self, cluster: Any, agents: int = 1, by_priority: bool = True) -> None:
        self.cluster = cluster
        cluster.preemption = True
        cluster.make_allocator = PriorityAllocator if by_priority else cluster.make_allocator
        cluster.new_master(1)
        self.low = cluster.framework("low", role="low")
        self.agents = [cluster.agent(f"a{number}", EIGHT) for number in range(agents)]

    def launch(
        self, agent: Any, *sizes: str, names: str = "t", by: Any = None, **more: Any
    ) -> None:
        """Tasks on what is offered of this agent, one after the other; the rest is declined."""
        by = by or self.low
        [offer] = [o for o in by.driver.offers.values() if o.agent_id == agent.info.agent_id]
        tasks = []
        for number, size in enumerate(sizes):
            task = self.cluster.task(agent, f"{names}{number}", size)
            tasks.append(replace(task, preemptible=True, **more))
        by.do(by.driver.accept((offer.offer_id,), tuple(tasks), 3600.0))
        for task in tasks:
            agent.update(by.driver.framework_id, task.task_id, TaskState.RUNNING)

    def high(self, size: str, role: str = "high", priority: int = 10, count: int = 1) -> Any:
        """A framework of a role of this priority, for which a task waits."""
        ask(self.cluster, SetRoles("r", (role,), None, priority))
        high = self.cluster.framework("high", role=role)
        self.wait(high, size, count)
        return high

    def wait(self, scheduler: Any, size: str, count: int = 1, **more: Any) -> None:
        waiting = Waiting(R(size), count, **more)
        scheduler.do(scheduler.driver.state_waiting([waiting]))
        self.cluster.advance(PREEMPT_AFTER_S + 0.01)

    def killed(self) -> list[str]:
        """Which tasks were told to be ended, and that they are told why."""
        found = []
        for agent in self.agents:
            for message in agent.took(KillTasks):
                for kill in message.kills:
                    assert kill.reason is Reason.PREEMPTED
                    found.append(str(kill.task_id))
        return sorted(found)

    def end(self, agent: Any, *tasks: str, by: Any = None) -> None:
        by = by or self.low
        for task in tasks:
            why = {"reason": Reason.PREEMPTED, "message": "preempted"}
            agent.update(by.driver.framework_id, task, TaskState.KILLED, **why)
            for event in by.took(StatusArrived):
                for update in event.updates:
                    by.do(by.driver.acknowledge((update,)))


def offered(scheduler: Any) -> list[str]:
    """What it is being offered that holds CPUs."""
    offers = [str(offer.resources) for offer in scheduler.driver.offers.values()]
    return [offer for offer in offers if "cpus" in offer]


def test_the_fewest_and_youngest_give_way_and_the_waiting_one_is_offered_it(cluster: Any) -> None:
    """Four of eight tasks end for one that needs four CPUs; nobody else is offered these."""
    stage = Stage(cluster)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:1;mem:1024"] * 8)
    high = stage.high("cpus:4;mem:64")
    assert stage.killed() == ["t4", "t5", "t6", "t7"]
    other = cluster.framework("other", role="high")
    for name in ("t4", "t5", "t6"):
        stage.end(agent, name)
        assert offered(other) == offered(high) == []
    stage.end(agent, "t7")
    assert offered(high) == ["cpus:4;mem:4096"]
    assert offered(other) == []
    assert cluster.master.state.clearings.by_agent == {}
    cluster.advance(10.0)
    assert stage.killed() == []


def test_nothing_ends_where_it_would_not_fit(cluster: Any) -> None:
    """Neither for more than all of them hold, nor on agents that it would not take."""
    stage = Stage(cluster)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:1;mem:1024"] * 7)
    high = stage.high("cpus:8;mem:9000")
    stage.wait(high, "cpus:4;mem:64", where=Where("rack==r1"))
    assert stage.killed() == []
    stage.wait(high, "cpus:4;mem:64", where=Where("", (agent.info.agent_id,)))
    assert stage.killed() == []


def test_tasks_that_are_not_preemptible_stay(cluster: Any) -> None:
    """With one of six CPUs that may not be ended, four cannot be made free."""
    stage = Stage(cluster)
    [agent] = stage.agents
    [offer] = stage.low.driver.offers.values()
    tasks = (cluster.task(agent, "firm", "cpus:6;mem:64"), cluster.task(agent, "x", "cpus:1"))
    tasks = (tasks[0], replace(tasks[1], preemptible=True))
    stage.low.do(stage.low.driver.accept((offer.offer_id,), tasks, 3600.0))
    stage.high("cpus:4")
    assert stage.killed() == []


def test_off_means_off(cluster: Any) -> None:
    """A framework is told so, and what it says all the same changes nothing."""
    stage = Stage(cluster)
    cluster.preemption = False
    cluster.new_master(2)
    low, [agent] = cluster.framework("low", role="low"), [cluster.agent("a0", EIGHT)]
    stage.low, stage.agents = low, [agent]
    stage.launch(agent, *["cpus:1;mem:1024"] * 8)
    high = stage.high("cpus:4")
    assert not high.driver.preempts
    high.driver.preempts = True
    stage.wait(high, "cpus:4")
    assert stage.killed() == []
    assert cluster.master.state.clearings.deadline() is None


def test_an_equal_or_higher_priority_is_left_alone(cluster: Any) -> None:
    """Shares alone revoke nothing, and without the allocation module priority no role's does."""
    stage = Stage(cluster)
    stage.launch(stage.agents[0], *["cpus:1;mem:1024"] * 8)
    stage.high("cpus:4", priority=0)
    assert stage.killed() == []


def test_without_strict_priorities_those_of_roles_do_not_count(cluster: Any) -> None:
    """What would be freed is not theirs by the shares that decide."""
    stage = Stage(cluster, by_priority=False)
    stage.launch(stage.agents[0], *["cpus:1;mem:1024"] * 8)
    stage.high("cpus:4")
    assert stage.killed() == []


def test_own_tasks_of_a_lower_priority_give_way(cluster: Any) -> None:
    """Within a framework the priorities of tasks decide, whatever the allocation module."""
    stage = Stage(cluster, by_priority=False)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:2;mem:64"] * 4, priority=5)
    stage.wait(stage.low, "cpus:2", priority=5)
    assert stage.killed() == []
    stage.wait(stage.low, "cpus:2", priority=6)
    assert stage.killed() == ["t3"]


def test_of_own_tasks_the_lowest_priority_goes_first(cluster: Any) -> None:
    """A younger one of a higher priority stays: it would have others end in its turn."""
    stage = Stage(cluster, agents=2, by_priority=False)
    stage.launch(stage.agents[0], "cpus:8;mem:64", names="old", priority=1)
    stage.launch(stage.agents[1], "cpus:8;mem:64", names="new", priority=2)
    stage.wait(stage.low, "cpus:2", priority=6)
    assert stage.killed() == ["old0"]


def test_the_agent_where_fewest_have_to_go_is_chosen(cluster: Any) -> None:
    """One large task rather than two small ones."""
    stage = Stage(cluster, agents=2)
    stage.launch(stage.agents[0], *["cpus:2;mem:64"] * 4, names="small")
    stage.launch(stage.agents[1], "cpus:8;mem:64", names="large")
    stage.high("cpus:4")
    assert stage.killed() == ["large0"]


@pytest.mark.parametrize("seed", range(25))
def test_on_no_agent_would_fewer_do(cluster: Any, seed: int) -> None:
    """Compared with every choice on every agent, of tasks of all sizes and priorities."""
    chance = random.Random(seed)
    stage = Stage(cluster, agents=3, by_priority=False)
    held: list[dict[str, Resources]] = []
    for number, agent in enumerate(stage.agents):
        [offer] = [o for o in stage.low.driver.offers.values() if o.agent_id == agent.info.agent_id]
        tasks = [
            replace(
                cluster.task(agent, f"a{number}.{i}", chance.choice(["cpus:1;mem:512", "cpus:2"])),
                preemptible=chance.random() < 0.8,
                priority=chance.choice([0, 0, 9]),
            )
            for i in range(4)
        ]
        held.append({t.task_id: t.resources for t in tasks if t.preemptible and not t.priority})
        stage.low.do(stage.low.driver.accept((offer.offer_id,), tuple(tasks), 3600.0))
    need = R(chance.choice(["cpus:5", "cpus:6", "cpus:4;mem:7500", "cpus:7;mem:7000", "mem:8192"]))
    free = [cluster.master.state.allocator.free(agent.info.agent_id) for agent in stage.agents]
    counts = [
        count
        for left, tasks in zip(free, held, strict=True)
        for count in range(len(tasks) + 1)
        if any(
            sum(some, left).contains(need) for some in itertools.combinations(tasks.values(), count)
        )
    ]
    stage.wait(stage.low, str(need), priority=5)
    assert len(stage.killed()) == min(counts, default=0)


def test_several_waiting_tasks_are_served_at_once(cluster: Any) -> None:
    """Their graces run beside each other; for none that waits no more."""
    stage = Stage(cluster, agents=2)
    for number, agent in enumerate(stage.agents):
        stage.launch(agent, "cpus:8;mem:64", names=f"n{number}")
    high = stage.high("cpus:8", count=5)
    assert stage.killed() == ["n00", "n10"]
    stage.end(stage.agents[0], "n00")
    assert len(offered(high)) == 1
    high.do(high.driver.state_waiting([]))
    assert cluster.master.state.clearings.by_agent == {}
    assert stage.killed() == []


def test_a_role_below_its_guarantee_takes_from_those_above_theirs(cluster: Any) -> None:
    """Up to its guarantee and no further; nobody is brought below his own."""
    stage = Stage(cluster, by_priority=False)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:1;mem:64"] * 8)
    kept = Quota("low", {}, {"cpus": 6000})
    ask(cluster, SetQuotas("q", (kept, Quota("high", {}, {"cpus": 2000}))))
    high = cluster.framework("high", role="high")
    stage.wait(high, "cpus:3")
    assert stage.killed() == []
    stage.wait(high, "cpus:2")
    assert stage.killed() == ["t6", "t7"]
    stage.end(agent, "t6", "t7")
    assert offered(high) == ["cpus:2;mem:7808"]


def test_a_guarantee_protects_from_higher_priorities(cluster: Any) -> None:
    """Six of eight CPUs are guaranteed to those who hold them: two may be taken."""
    stage = Stage(cluster)
    stage.launch(stage.agents[0], *["cpus:1;mem:64"] * 8)
    ask(cluster, SetQuotas("q", (Quota("low", {}, {"cpus": 6000}),)))
    high = stage.high("cpus:3")
    assert stage.killed() == []
    stage.wait(high, "cpus:2")
    assert stage.killed() == ["t6", "t7"]


def test_a_limit_is_no_reason_to_end_others(cluster: Any) -> None:
    """The waiting role may not hold more; of its own lower tasks it may give some up."""
    stage = Stage(cluster)
    stage.launch(stage.agents[0], *["cpus:1;mem:64"] * 7)
    ask(cluster, SetQuotas("q", (Quota("high", {"cpus": 1000}),)))
    high = stage.high("cpus:2")
    assert stage.killed() == []
    stage.wait(high, "cpus:1")
    stage.launch(stage.agents[0], "cpus:1;mem:64", names="mine", by=high, priority=1)
    stage.wait(high, "cpus:1;mem:64", priority=1)
    assert stage.killed() == []
    stage.wait(high, "cpus:1;mem:64", priority=2)
    assert stage.killed() == ["mine0"]


def test_offers_of_others_are_rescinded_before_tasks_end(cluster: Any) -> None:
    """A framework that sits on an offer costs nobody a task."""
    stage = Stage(cluster, agents=2)
    stage.launch(stage.agents[0], "cpus:8;mem:64")
    stage.high("cpus:8")
    assert stage.killed() == ["t0"]
    cluster.advance(60.0)
    stage.low.do(stage.low.driver.revive())
    assert stage.low.took(OffersRescinded)


def test_who_ends_anyway_need_not_be_revoked(cluster: Any) -> None:
    """A task that its user kills makes room as well."""
    stage = Stage(cluster)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:4;mem:64"] * 2)
    agent.update(stage.low.driver.framework_id, "t0", TaskState.KILLING)
    high = stage.high("cpus:4")
    assert stage.killed() == []
    stage.end(agent, "t0")
    assert offered(high) == ["cpus:4;mem:8128"]


def test_what_is_kept_is_given_up_in_time(cluster: Any) -> None:
    """A task that does not end within its grace and a while keeps nobody else out."""
    stage = Stage(cluster)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:4;mem:64"] * 2)
    stage.high("cpus:4")
    assert stage.killed() == ["t1"]
    cluster.advance(KILL_GRACE_S + PREEMPT_HOLD_S + 0.5)
    assert cluster.master.state.clearings.by_agent == {}
    assert stage.killed() == []
    cluster.advance(PREEMPT_AGAIN_S)
    assert stage.killed() == ["t1"]


def test_who_declines_what_others_ended_for_waits(cluster: Any) -> None:
    """Else it could have everybody's tasks ended, one agent after the other."""
    stage = Stage(cluster, agents=2)
    for number, agent in enumerate(stage.agents):
        stage.launch(agent, "cpus:8;mem:64", names=f"n{number}")
    high = stage.high("cpus:8")
    [gone] = stage.killed()
    stage.end(stage.agents[int(gone[1])], gone)
    [offer] = [offer for offer in high.driver.offers.values() if offer.resources.cpus_milli]
    high.do(high.driver.decline((offer.offer_id,), 5.0))
    cluster.advance(PREEMPT_AGAIN_S - 1)
    assert stage.killed() == []


def test_a_new_master_knows_who_may_be_revoked(cluster: Any) -> None:
    """Agents tell it; what the old one had decided is decided anew."""
    stage = Stage(cluster)
    [agent] = stage.agents
    stage.launch(agent, *["cpus:4;mem:64"] * 2)
    cluster.new_master(2)
    agent.life = 2
    cluster.connect(agent)
    cluster.advance(1.0)
    low = cluster.framework("low", role="low")
    assert low.driver.preempts
    stage.high("cpus:4")
    assert stage.killed() == ["t1"]


@pytest.mark.parametrize("count", [9, 1])
def test_a_statement_that_is_wrong_is_refused(cluster: Any, count: int) -> None:
    """Too many kinds, or a constraint that is none."""
    from mesosctl.core.driver import Answered
    from mesosctl.protocol.messages.session import Refusal

    stage = Stage(cluster)
    where = Where("rack==") if count == 1 else Where("")
    stage.low.do(stage.low.driver.state_waiting([Waiting(R("cpus:1"), 1, 0, where)] * count))
    [answer] = stage.low.took(Answered)
    assert isinstance(answer.message, Refusal)
