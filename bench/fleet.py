"""Many frameworks in one process, for scale.py: `python bench/fleet.py --running N --key FILE`.

Each has a connection of its own and keeps its part of N tasks running, of 30 s, standard deviation
10 s. Then probes come, one after the other: a framework that registers, launches one task, and
notes how long it was from the opening of its connection to the task's being told as running.

Prints one JSON object a line: how many run, every second; what each probe took, in milliseconds.
"""

from __future__ import annotations

import argparse
import getpass
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from mesosctl.core.driver import (
    DriverEvent,
    FrameworkDriver,
    OffersArrived,
    Registered,
    StatusArrived,
)
from mesosctl.core.machine import (
    Close,
    Effect,
    Event,
    Now,
    PeerLost,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.model.cluster import Demand, FrameworkInfo
from mesosctl.model.ids import FrameworkId, OfferId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskState
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.storage.keys import load_key

TASK = Resources.parse("cpus:1;mem:512")
MEAN_S, DEVIATION_S = 30.0, 10.0
PROBE_S = 10.0
TOLD_EVERY_S = 1.0


class Member:
    """One framework that keeps `wanted` tasks running; a probe if `until_running`."""

    def __init__(self, name: str, wanted: int, chance: random.Random, probe: bool = False) -> None:
        self.name = name
        self.wanted = wanted
        self.is_probe = probe
        self.alive: dict[TaskId, None] = {}
        self.running = 0
        self.took_s: float | None = None
        self.started = 0
        self.driver = FrameworkDriver(
            FrameworkInfo(FrameworkId(""), name, getpass.getuser(), name),
            new_id,
            link=name,
            demand=Demand(TASK, wanted),
        )
        self.launched_s = 0.0
        self._chance = chance
        self._began = 0.0

    def start(self, now: Now) -> list[Effect]:
        """Open the connection."""
        self._began = now.mono
        return self.driver.start(now)

    def take(self, outcome: tuple[list[DriverEvent], list[Effect]], now: Now) -> list[Effect]:
        """What the driver was told."""
        events, effects = outcome
        for event in events:
            match event:
                case Registered():
                    effects += self.driver.reconcile_all()
                case OffersArrived():
                    effects += self._launch()
                case StatusArrived(updates=updates):
                    for update in updates:
                        self._status(update, now)
                    effects += self.driver.acknowledge(updates)
                    effects += self._ask()
                case _:
                    pass
        return effects

    def _launch(self) -> list[Effect]:
        effects: list[Effect] = []
        unused: list[OfferId] = []
        for offer in list(self.driver.offers.values()):
            free, tasks = offer.resources, []
            while len(self.alive) < self.wanted and (part := free.take(TASK)) is not None:
                free = free - part
                self.started += 1
                task_id = TaskId(f"t{self.started}")
                self.alive[task_id] = None
                lasts_s = PROBE_S
                if not self.is_probe:
                    lasts_s = max(1.0, self._chance.gauss(MEAN_S, DEVIATION_S))
                command = Command(("sleep", f"{lasts_s:.3f}"))
                tasks.append(TaskInfo(task_id, self.name, offer.agent_id, part, command))
            if tasks:
                effects += self.driver.accept((offer.offer_id,), tasks)
            else:
                unused.append(offer.offer_id)
        effects += self.driver.decline(unused)
        if len(self.alive) >= self.wanted:
            effects += self.driver.suppress()
        return effects

    def _ask(self) -> list[Effect]:
        missing = self.wanted - len(self.alive)
        return self.driver.revive(Demand(TASK, missing)) if missing and not self.is_probe else []

    def _status(self, update: StatusUpdate, now: Now) -> None:
        if update.state is TaskState.RUNNING:
            self.running += 1
            if self.took_s is None:
                self.took_s = now.mono - self._began
        elif update.is_terminal and update.task_id in self.alive:
            del self.alive[update.task_id]


class Fleet:
    """All members as one machine for one loop."""

    def __init__(self, options: argparse.Namespace, spec: LinkSpec) -> None:
        chance = random.Random(1)
        counts = [options.running // options.frameworks] * options.frameworks
        for place in range(options.running - sum(counts)):
            counts[place] += 1
        self.members = {
            f"f{number}": Member(f"f{number}", count, chance)
            for number, count in enumerate(counts)
            if count
        }
        self.loop = Loop(self, role="fleet")
        for name in self.members:
            self.loop.link(name, spec)
        self._spec = spec
        self._wanted = options.running
        self._probes = options.probes
        self._chance = chance
        self._steady_at: float | None = None
        self._steady_s = options.steady
        self._told_at = 0.0
        self._next_probe = 0.0
        self._probed = 0
        self._begun: list[str] = []

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Each event goes to the member that it is about."""
        match event:
            case Started():
                self._begun = list(self.members)
                return []
            case Received(peer=peer):
                member = self.members.get(peer)
                if member is None:
                    return []
                return member.take(member.driver.receive(event, now), now)
            case PeerLost(peer=peer, moved=moved):
                member = self.members.get(peer)
                return [] if member is None else member.take(member.driver.lost(now, moved), now)
            case Tick():
                return self._tick(now)
            case Signalled():
                return [Stop(0)]
            case _:
                return []

    def _tick(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for member in list(self.members.values()):
            due = member.driver.deadline()
            if due is not None and due <= now.mono:
                effects += member.take(member.driver.tick(now), now)
        for name in self._begun[:20]:
            effects += self.members[name].start(now)
        del self._begun[:20]
        if now.mono >= self._told_at:
            self._told_at = now.mono + TOLD_EVERY_S
            effects += self._look(now)
        return effects

    def _look(self, now: Now) -> list[Effect]:
        alive = sum(len(member.alive) for member in self.members.values() if not member.is_probe)
        started = sum(member.started for member in self.members.values())
        tell({"alive": alive, "started": started})
        if self._steady_at is None and alive >= self._wanted * 0.95:
            self._steady_at = now.mono + self._steady_s
        if self._steady_at is None or now.mono < self._steady_at:
            return []
        return self._probe(now)

    def _probe(self, now: Now) -> list[Effect]:
        """End the probe that has its answer, begin the next one."""
        effects: list[Effect] = []
        name = f"probe{self._probed}"
        before = self.members.get(name)
        if before is not None:
            if before.took_s is None:
                return []
            tell({"probe_ms": round(before.took_s * 1000, 1)})
            effects += [*before.driver.teardown(), Close(name)]
            del self.members[name]
        if self._probed == self._probes:
            return [*effects, Stop(0)]
        self._probed += 1
        name = f"probe{self._probed}"
        probe = self.members[name] = Member(name, 1, self._chance, probe=True)
        self.loop.link(name, self._spec)
        return [*effects, *probe.start(now)]

    def settle(self, now: Now) -> Sequence[Effect]:
        """Members have settled by themselves."""
        return ()

    def deadline(self) -> float | None:
        """The earliest of all timers."""
        times = [member.driver.deadline() for member in self.members.values()]
        if self._begun:
            times.append(0.0)
        return min((at for at in [*times, self._told_at] if at is not None), default=None)

    def check(self) -> None:
        """Nothing is kept twice."""


def tell(figures: dict[str, float]) -> None:
    """One line."""
    print(json.dumps(figures), flush=True)


def main() -> int:
    """Run until the last probe has its answer, or until told to stop."""
    parser = argparse.ArgumentParser(description="Many frameworks, and probes.")
    parser.add_argument("--frameworks", type=int, default=200)
    parser.add_argument("--running", type=int, default=333, help="tasks to keep running, of all")
    parser.add_argument("--probes", type=int, default=15)
    parser.add_argument("--steady", type=float, default=35.0, help="seconds before the first probe")
    parser.add_argument("--key", type=Path, required=True)
    options = parser.parse_args()
    key = load_key(options.key)
    return Fleet(options, LinkSpec(key.master, key.pair, key.server_key)).loop.run()


if __name__ == "__main__":
    sys.exit(main())
