"""What one decision costs: `python bench/allocator.py [--agents N,…] [--frameworks N,…]`.

The allocator alone, with the filters that the master keeps for it, in a process of its own for each
size: a round over a whole free cluster (coarse, and with stated task sizes), a round when every
offer is filtered, one task more for one framework, one agent that is freed, one decline, the agents
added, and memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from common import ROOT, tell

from mesosctl.allocation.base import Client, Grant
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.filters import FilterBook
from mesosctl.model.resources import Resources
from mesosctl.runtime.collector import collect_seldom

NODE = {"cpus": 8000, "mem": 32_768_000, "disk": 100_000_000, "ports": [[31000, 32000]]}
TASK = Resources.scalars(cpus=2, mem=4096)
ROLES = 20
SINGLE_CHANGES = 200
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


class Costs:
    """Times of the steps of one kind: on the clock, and of this process' CPU."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, step: Callable[[], Any]) -> Any:
        """Do a step and note what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = step()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return result

    def told(self) -> dict[str, float]:
        """Medians in milliseconds; the least on the clock is nearest to a quiet machine's."""
        return {
            "median_ms": round(statistics.median(self.wall) * 1000, 3),
            "least_ms": round(min(self.wall) * 1000, 3),
            "cpu_ms": round(statistics.median(self.cpu) * 1000, 3),
        }


class Bench:
    """A cluster of equal agents, frameworks in 20 roles, and the books of the master's filters."""

    def __init__(self, agents: int, frameworks: int) -> None:
        self.allocator = DrfAllocator()
        self.filters = FilterBook()
        self.frameworks = [f"F{n}" for n in range(frameworks)]
        self.held: dict[str, Grant] = {}
        self.added = Costs()
        for name in self.frameworks:
            self.enter(name, None)
        self.before = resident()
        self.added.time(partial(self._add, agents))
        self.after = resident()

    def _add(self, agents: int) -> None:
        for n in range(agents):
            self.allocator.set_agent(f"S{n}", Resources.from_wire(NODE))

    def enter(self, name: str, task: Resources | None) -> None:
        """Enter a framework, or put every free agent before it again."""
        self.allocator.set_framework(Client(name, self._role(name), task=task))

    def _role(self, name: str) -> str:
        return f"role{int(name[1:]) % ROLES}"

    def allocate(self) -> list[Grant]:
        """One round with the filters as the master asks for them."""
        return self.allocator.allocate(lambda f, a, r: self.filters.blocks(f, a, r, 0.0))

    def charge(self, grants: list[Grant]) -> None:
        """What the master does with grants."""
        for grant in grants:
            self.allocator.charge(grant.framework, grant.agent, grant.resources)
            self.held[grant.agent] = grant

    def full_rounds(self, task: Resources | None, rounds: int) -> tuple[Costs, list[Grant]]:
        """Rounds over the whole free cluster; the grants are not charged."""
        costs = Costs()
        grants: list[Grant] = []
        for _ in range(rounds):
            for name in self.frameworks:
                self.enter(name, task)
            gc.collect()
            grants = costs.time(self.allocate)
        return costs, grants

    def one_task(self) -> Costs:
        """On the whole free cluster one framework wants a task more, and is charged for it."""
        costs = Costs()
        for name in self.frameworks:
            self.allocator.set_framework(Client(name, self._role(name), task=TASK, count=0))
        self.allocate()
        for number in range(SINGLE_CHANGES):
            name = self.frameworks[number % len(self.frameworks)]
            wants = Client(name, self._role(name), task=TASK, count=1)
            costs.time(partial(self._serve, wants))
        return costs

    def _serve(self, wants: Client) -> None:
        self.allocator.set_framework(wants)
        for grant in self.allocate():
            self.allocator.charge(grant.framework, grant.agent, grant.resources)

    def freed(self, *, declined: bool) -> Costs:
        """One after the other, agents are given back, granted to the next one and charged again.

        `declined`: what was given back is filtered, too.
        """
        costs = Costs()
        agents = list(self.held)
        for agent in agents[:: max(1, len(agents) // SINGLE_CHANGES)]:
            costs.time(partial(self._give_back, self.held[agent], declined))
        return costs

    def _give_back(self, grant: Grant, declined: bool) -> None:
        self.allocator.release(grant.framework, grant.agent, grant.resources)
        if declined:
            self.filters.refuse(grant.framework, grant.agent, grant.resources, 1.0)
        self.charge(self.allocate())

    def filtered(self, rounds: int) -> tuple[Costs, Costs]:
        """Rounds when all have refused all: asked again, and with one framework that revives."""
        node = Resources.from_wire(NODE)
        for name in self.frameworks:
            for agent in self.allocator.open:
                self.filters.refuse(name, agent, node, 1.0)
        self.allocate()
        again, revived = Costs(), Costs()
        for _ in range(rounds):
            again.time(self.allocate)
            self.enter(self.frameworks[0], None)
            revived.time(self.allocate)
        return again, revived


def measure(agents: int, frameworks: int, rounds: int) -> dict[str, Any]:
    """All figures of one size."""
    # As in a master.
    collect_seldom()
    bench = Bench(agents, frameworks)
    sized, pieces = bench.full_rounds(TASK, max(1, rounds // 3))
    coarse, grants = bench.full_rounds(None, rounds)
    figures: dict[str, Any] = {
        "agents": agents,
        "frameworks": frameworks,
        "added": bench.added.told(),
        "round": coarse.told(),
        "round_by_tasks": {**sized.told(), "grants": len(pieces)},
    }
    bench.charge(grants)
    figures["freed"] = bench.freed(declined=False).told()
    figures["declined"] = bench.freed(declined=True).told()
    del bench.held
    figures["one_task"] = Bench(agents, frameworks).one_task().told()
    bytes_per_agent = (bench.after - bench.before) // agents
    figures["bytes_per_agent"] = bytes_per_agent
    if agents * frameworks <= 100_000:
        full = Bench(agents, frameworks)
        again, revived = full.filtered(rounds)
        figures["all_filtered"] = again.told()
        figures["all_filtered_one_revived"] = revived.told()
    return figures


def main() -> None:
    """Measure every size in a process of its own, and print."""
    parser = argparse.ArgumentParser(description="Cost of the allocator's decisions.")
    parser.add_argument("--agents", default="1000,10000,50000", help="numbers of agents")
    parser.add_argument("--frameworks", default="10,50,200", help="numbers of frameworks")
    parser.add_argument("--rounds", type=int, default=5, help="full rounds of each kind")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        agents, frameworks = map(int, options.one.split("x"))
        print(json.dumps(measure(agents, frameworks, options.rounds)))
        return
    sizes = {}
    for agents in options.agents.split(","):
        for frameworks in options.frameworks.split(","):
            size = f"{agents}x{frameworks}"
            words = [sys.executable, __file__, "--one", size, "--rounds", str(options.rounds)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                words, env=environment, capture_output=True, text=True, check=True
            )
            sizes[size] = json.loads(done.stdout)
    tell("allocator", sizes)


if __name__ == "__main__":
    main()
