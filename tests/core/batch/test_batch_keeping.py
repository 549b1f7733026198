"""A large task among small ones of one queue: an agent is kept for it, within bounds."""

from __future__ import annotations

from typing import Any

from mesosctl.core.batch.keeping import Keeping
from mesosctl.core.batch.placing import Agents, Slot, place
from mesosctl.core.batch.queue import Queue
from mesosctl.core.machine import Now
from mesosctl.limits import GATHER_S
from mesosctl.model.cluster import Offer
from tests.core.batch.test_batch_parts import job_of, offer

LARGE, SMALL, BEFORE = 1, 2, 3


class Bench:
    """A queue with a large task in front of small ones, and agents that were seen to be large."""

    def __init__(self, *agents: int, **large: Any) -> None:
        self.queue, self.agents = Queue(), Agents()
        self.queue.add(job_of(LARGE, **{"cpus_milli": 8000, **large}))
        self.queue.add(job_of(SMALL, cpus_milli=1000, indices=((0, 99, 1),), is_array=True))
        self.keeping = Keeping(self.agents.seen, self.agents.withheld)
        self.mono = 100.0
        for number in agents:
            self.agents.note(offer(number, 8000, 1024), self.queue)

    def offered(self, **cpus: int) -> dict[str, list[int]]:
        """Which jobs' tasks went to which agent of those offered, `a1=2` being 2 CPUs of one."""
        offers: list[Offer] = [offer(int(name[1:]), n * 1000, 1024) for name, n in cpus.items()]
        slots: list[Slot] = place(self.queue, offers, self.mono, self.keeping)
        self.queue.check()
        return {one.offer.agent_name: [job.number for job, _ in one.placed] for one in slots}


def test_small_tasks_go_round_the_agent_that_is_kept() -> None:
    """Of what is offered the largest part is kept, until it has grown to what is needed."""
    bench = Bench(1, 2)
    assert bench.offered(a1=3, a2=2) == {"a1": [], "a2": [SMALL, SMALL]}
    bench.mono += 5.0
    # Another agent has more by now; one change of mind after another would never end.
    assert bench.offered(a1=4, a2=5) == {"a1": [], "a2": [SMALL] * 5}
    assert bench.offered(a1=8) == {"a1": [LARGE]}
    assert bench.offered(a1=3) == {"a1": [SMALL] * 3}


def test_what_comes_before_it_is_not_held_up() -> None:
    """It is kept from those behind alone: priorities and the order of jobs hold."""
    bench = Bench(1)
    assert bench.offered(a1=2) == {"a1": []}
    bench.queue.add(job_of(BEFORE, cpus_milli=1000, priority=5, indices=((0, 2, 1),)))
    assert bench.offered(a1=2) == {"a1": [BEFORE, BEFORE]}
    assert bench.offered(a1=3) == {"a1": [BEFORE]}


def test_nothing_is_kept_longer_than_the_bound_nor_again() -> None:
    """What others hold on the agent may never end; the small tasks must go on."""
    bench = Bench(1)
    assert bench.offered(a1=2) == {"a1": []}
    bench.mono += GATHER_S - 1
    assert bench.offered(a1=2) == {"a1": []}
    bench.mono += 1
    assert bench.offered(a1=2) == {"a1": [SMALL, SMALL]}
    bench.mono += GATHER_S
    assert bench.offered(a1=2) == {"a1": [SMALL, SMALL]}


def test_it_ends_when_the_task_finds_room_elsewhere() -> None:
    """Then the next large task of the job may have an agent kept, for as long again."""
    bench = Bench(1, 2, indices=((0, 1, 1),), is_array=True)
    assert bench.offered(a1=2) == {"a1": []}
    bench.mono += GATHER_S - 1
    assert bench.offered(a1=2, a2=8) == {"a1": [SMALL, SMALL], "a2": [LARGE]}
    bench.mono += GATHER_S - 1
    assert bench.offered(a1=4) == {"a1": []}
    assert bench.offered(a1=8) == {"a1": [LARGE]}
    assert bench.offered(a1=1) == {"a1": [SMALL]}


def test_no_agent_is_kept_that_could_never_do() -> None:
    """One that was never seen to be large enough, is withheld, or is none for this job."""
    assert Bench().offered(a1=2) == {"a1": [SMALL, SMALL]}
    apart = Bench(1, constraint="rack==r1")
    assert apart.offered(a1=2) == {"a1": [SMALL, SMALL]}
    wide = Bench(1, cpus_milli=9000)
    assert wide.offered(a1=2) == {"a1": [SMALL, SMALL]}


def test_it_ends_with_the_job() -> None:
    """Whoever kills the large job gets the agent back for the others at once."""
    bench = Bench(1)
    assert bench.offered(a1=2) == {"a1": []}
    now = Now(bench.mono, 1_000_000.0, bench.mono)
    assert bench.queue.cancel_fresh(bench.queue.jobs[LARGE], 0, 0, "Killed", now) == 1
    assert bench.offered(a1=2) == {"a1": [SMALL, SMALL]}
