"""Space for a large task among small ones: gathered on one agent, for as long as it may take."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.core.driver import OffersArrived, StatusArrived
from mesosctl.core.master import gathering
from mesosctl.limits import GATHER_S
from mesosctl.model.cluster import Demand
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.maintenance import DeactivateAgents
from mesosctl.protocol.messages.roles import Quota, SetQuotas
from tests.core.master.conftest import Cluster
from tests.core.master.test_master_maintenance import ask

SMALL, LARGE = Resources.parse("cpus:1;mem:256"), Resources.parse("cpus:8;mem:2048")
MEAN_S = 10.0


class Crowd:
    """A framework with endless tasks of one CPU on agents of eight, of ten seconds in the mean."""

    def __init__(self, cluster: Any, agents: int, seed: int = 7) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.lasts: Callable[[], float] = lambda: self.chance.uniform(0.5 * MEAN_S, 1.5 * MEAN_S)
        self.numbers = itertools.count()
        self.ends: list[tuple[float, Any, str]] = []
        self.small = cluster.framework("small", role="small", demand=Demand(SMALL, 999))
        self.agents = {}
        for number in range(agents):
            agent = cluster.agent(f"a{number}", Resources.parse("cpus:8;mem:4096"))
            self.agents[agent.info.agent_id] = agent

    def launch(self) -> None:
        """Launch whatever is offered."""
        for event in self.small.took(OffersArrived):
            for offer in event.offers:
                agent = self.agents[offer.agent_id]
                tasks = []
                for _ in range(offer.resources.count_fitting(SMALL)):
                    name = f"t{next(self.numbers)}"
                    self.ends.append((self.cluster.time_s + self.lasts(), agent, name))
                    tasks.append(self.cluster.task(agent, name, str(SMALL)))
                self.small.do(self.small.driver.accept((offer.offer_id,), tuple(tasks), 0.0))

    def step(self) -> None:
        """Launch whatever is offered, and let the next task end."""
        self.launch()
        self.ends.sort(key=lambda end: end[0])
        at, agent, name = self.ends.pop(0)
        self.cluster.advance(max(0.0, at - self.cluster.time_s))
        agent.update(self.small.driver.framework_id, name, TaskState.FINISHED)
        for event in self.small.took(StatusArrived):
            acks = [self.small.driver.acknowledge((update,)) for update in event.updates]
            for effects in acks:
                self.small.do(effects)

    def run(self, seconds: float, large: Any) -> float | None:
        """When `large` was offered its task, from now on; None if not within so many seconds."""
        began = self.cluster.time_s
        while self.cluster.time_s - began < seconds:
            for event in large.took(OffersArrived):
                if any(offer.resources.count_fitting(LARGE) for offer in event.offers):
                    return float(self.cluster.time_s - began)
                for offer in event.offers:
                    large.do(large.driver.decline((offer.offer_id,), 5.0))
            self.step()
        return None


def gathered(cluster: Any) -> list[str]:
    """On which agents space is gathered."""
    by_agent = cluster.master.state.gatherings.by_agent
    return sorted(cluster.master.state.agents[agent].info.name for agent in by_agent)


@pytest.mark.parametrize("agents", [1, 3])
def test_a_task_that_needs_a_whole_agent_starts_within_three_mean_times(
    cluster: Any, agents: int
) -> None:
    """The last of eight tasks without memory ends after 1 + 1/2 + … + 1/8 = 2.7 means, mostly.

    Here none lasts longer than 1.5. When the large one is offered, nothing is held back any more.
    """
    crowd = Crowd(cluster, agents)
    for _ in range(40):
        crowd.step()
    large = cluster.framework("large", role="large", demand=Demand(LARGE, 1))
    took_s = crowd.run(10 * MEAN_S, large)
    assert took_s is not None and took_s <= 3 * MEAN_S
    assert gathered(cluster) == []


@pytest.mark.parametrize(("agents", "runs"), [(1, 40), (3, 8)])
def test_tasks_without_memory_are_waited_for_no_longer_than_they_run(
    agents: int, runs: int
) -> None:
    """It starts with the end of the last task that ran on its agent when it came, in every run.

    Sooner it cannot without ending one. Eight exponential lengths are over after
    1 + 1/2 + … + 1/8 = 2.72 means in the mean, so within three in the mean of many runs; one run
    may take longer: (1 - exp(-3))^8, which is two of three, are over by then.
    """
    took = []
    for seed in range(runs):
        crowd = Crowd(Cluster(), agents, seed)
        crowd.lasts = lambda chance=crowd.chance: chance.expovariate(1 / MEAN_S)
        for _ in range(40):
            crowd.step()
        crowd.launch()
        began_s = crowd.cluster.time_s
        last = {
            id(agent): max(e[0] for e in crowd.ends if e[1] is agent) for _, agent, _ in crowd.ends
        }
        large = crowd.cluster.framework("large", role="large", demand=Demand(LARGE, 1))
        took_s = crowd.run(20 * MEAN_S, large)
        assert took_s is not None
        ends = [end_s - began_s for end_s in last.values()]
        assert any(took_s == pytest.approx(end_s, abs=0.01) for end_s in ends), (took_s, ends)
        took.append(took_s)
    assert sum(took) / len(took) <= 3 * MEAN_S
    assert sum(each <= 3 * MEAN_S for each in took) >= 0.6 * len(took)


def test_without_gathering_it_would_wait_for_ever(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test before this one tests something."""
    monkeypatch.setattr(gathering, "GATHER_ONE_IN", 0.0001)
    monkeypatch.setattr(gathering.Gatherings, "begin", lambda *_: None)
    crowd = Crowd(cluster, 1)
    large = cluster.framework("large", role="large", demand=Demand(LARGE, 1))
    assert crowd.run(20 * MEAN_S, large) is None


def test_it_ends_when_nobody_wants_it_any_more(cluster: Any) -> None:
    """The framework left, changed its mind, or the agent was taken out of use."""
    crowd = Crowd(cluster, 2)
    crowd.step()
    cluster.advance(1)
    large = cluster.framework("large", role="large", demand=Demand(LARGE, 1))
    crowd.step()
    [name] = gathered(cluster)
    ask(cluster, DeactivateAgents("r1", (name,)))
    assert name not in gathered(cluster)
    cluster.advance(1)
    crowd.step()
    assert len(gathered(cluster)) == 1
    large.do(large.driver.suppress())
    cluster.settle()
    crowd.step()
    assert gathered(cluster) == []
    assert crowd.run(MEAN_S, large) is None


def test_after_a_while_another_agent_is_tried(cluster: Any) -> None:
    """The tasks of the first one last: what has ended there meanwhile is given back."""
    crowd = Crowd(cluster, 2)
    crowd.step()
    cluster.advance(1)
    cluster.framework("large", role="large", demand=Demand(LARGE, 1))
    crowd.step()
    [first] = gathered(cluster)
    cluster.advance(GATHER_S - 1)
    assert gathered(cluster) == [first]
    cluster.advance(2)
    [second] = gathered(cluster)
    assert first != second


def test_nothing_is_gathered_for_who_may_not_have_it(cluster: Any) -> None:
    """A limit, or an agent that is too small: waiting would not help."""
    crowd = Crowd(cluster, 1)
    crowd.step()
    ask(cluster, SetQuotas("r1", (Quota("large", {"cpus": 4000}),)))
    cluster.framework("large", role="large", demand=Demand(LARGE, 1))
    cluster.framework("huge", role="huge", demand=Demand(LARGE.times(2), 1))
    for _ in range(10):
        crowd.step()
        assert gathered(cluster) == []
