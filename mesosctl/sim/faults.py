"""What can go wrong in a simulated cluster: by chance at every step, and as strokes from outside.

Rules: everything is drawn from the seed. A seed has only some kinds of faults, so that each is also
tried without the others hiding what it does. After healing nothing goes wrong any more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING

from mesosctl.model.records import dataclass

if TYPE_CHECKING:
    from mesosctl.sim.cluster import Cluster
    from mesosctl.sim.node import Node

PARTITION_S = (2.0, 8.0, 20.0, 40.0)
PAUSE_S = (1.0, 6.0, 20.0, 40.0)
DISK_FULL_S = (1.0, 5.0, 20.0)
CLOG_S = 10.0
# Not beyond the time for which records are kept: their age is told by the clock on the wall.
CLOCK_OFF_S = (-172_800.0, -3600.0, -1.0, 30.0, 7200.0, 172_800.0)


class Stroke(StrEnum):
    """What is done to a part of the cluster from outside."""

    KILL = "kill"  # a process ends without a word and is started again
    KILL_EXECUTOR = "kill-executor"  # the same for an executor, which nobody starts again
    PARTITION = "partition"  # two nodes cannot talk, one way or both; nobody is told
    ISOLATE = "isolate"  # one node can talk to nobody
    PAUSE = "pause"  # a process takes nothing for a while, and then all at once
    REBOOT = "reboot"  # a host starts anew: every process of it is gone
    POWER_CUT = "power-cut"  # a process is killed with all that it has not synced
    SUSPEND = "suspend"  # a host sleeps: its processes and their monotonic clocks stand still
    DISK_FULL = "disk-full"  # a disk refuses every transaction for a while
    DISK_BREAKS = "disk-breaks"  # one transaction fails while it is written or synced
    SWIZZLE = "swizzle"  # a part of the nodes is clogged one by one, and freed in another order
    CLOCK = "clock"  # the clock on a wall jumps, by up to days
    LOSE_HOST = "lose-host"  # a host with tasks can talk to no other host


@dataclass(slots=True)
class Faults:
    """How often what goes wrong, as chances of each single occasion. All 0: nothing does.

    `late_message`: it and all behind it come up to `late_max_s` seconds later. `stale_at_death`:
    what a dead process had sent still arrives later; what it is sent meets its next life.
    `hiccup`: a process is away for a moment and then takes several events in one pass. Chance
    touches only messages on links of clients, and lives of nodes, whose names begin like this.
    `stall_in_pass`: a node whose name begins with `stalled_nodes` is stopped between two steps of
    a pass and goes on with it later.
    """

    lose_message: float = 0.0
    duplicate_message: float = 0.0
    cut_at_message: float = 0.0
    late_message: float = 0.0
    late_max_s: float = 20.0
    stale_at_death: float = 0.0
    kill_at_pass: float = 0.0
    hiccup: float = 0.0
    stall_in_pass: float = 0.0
    stalled_nodes: str = "master"
    delay_max_s: float = 0.002
    restart_max_s: float = 3.0
    partition_s: tuple[float, ...] = PARTITION_S
    touched_links: str = ""
    touched_nodes: str = ""
    stroke_mean_s: float | None = None
    strokes: list[Stroke] = field(default_factory=list)


class Nemesis:
    """Strikes the cluster again and again until `until_s`."""

    def __init__(self, cluster: Cluster, until_s: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._until_s = until_s
        self._clocks = random.Random(self._world.seed ^ 0xC10C)  # noqa: S311

    def begin(self) -> None:
        """Plan the next stroke."""
        mean_s = self._world.faults.stroke_mean_s
        if mean_s is not None and self._world.faults.strokes:
            self._world.later(self._world.random.expovariate(1 / mean_s), self._strike)

    def _strike(self) -> None:
        if self._world.now.mono >= self._until_s:
            return
        chance = self._world.random
        stroke = chance.choice(self._world.faults.strokes)
        match stroke:
            case Stroke.KILL:
                self._a_node().crash()
            case Stroke.KILL_EXECUTOR:
                executors = [node for host in self._cluster.hosts for node in host.running()]
                if executors:
                    chance.choice(executors).crash()
            case Stroke.PARTITION:
                self._partition()
            case Stroke.ISOLATE:
                lasts_s = chance.choice(self._world.faults.partition_s)
                self._isolate(self._a_node(), lasts_s)
            case Stroke.LOSE_HOST:
                lasts_s = chance.choice(self._world.faults.partition_s)
                hosts = zip(self._cluster.agents, self._cluster.hosts, strict=True)
                busy = [agent for agent, host in hosts if host.containers]
                self._isolate(chance.choice(busy or self._cluster.agents), lasts_s)
            case Stroke.PAUSE:
                executors = [node for host in self._cluster.hosts for node in host.running()]
                chance.choice([*self._cluster.nodes(), *executors]).pause(chance.choice(PAUSE_S))
            case Stroke.REBOOT:
                chance.choice(self._cluster.hosts).reboot()
            case Stroke.SUSPEND:
                chance.choice(self._cluster.hosts).sleep(chance.choice(PAUSE_S))
            case Stroke.SWIZZLE:
                self._swizzle()
            case _:
                self._hit(stroke, self._a_node())
        self.begin()

    def _isolate(self, lonely: Node, lasts_s: float) -> None:
        for other in self._cluster.nodes():
            self._world.wire.block(lonely, other, lasts_s)
            self._world.wire.block(other, lonely, lasts_s)
        self._cluster.cut_from_registry(lonely, lasts_s)

    def _hit(self, stroke: Stroke, node: Node) -> None:
        """Strike the disk or the clock of a node."""
        chance = self._world.random
        match stroke:
            case Stroke.POWER_CUT:
                node.cut_power()
            case Stroke.DISK_FULL:
                node.disk.problem = "full"
                self._world.later(chance.choice(DISK_FULL_S), lambda: self._make_room(node))
            case Stroke.DISK_BREAKS:
                node.disk.problem = "broken"
            case Stroke.CLOCK:
                # Of its own chance, so that a world without it is the same in all else: see I15.
                off_s = self._clocks.choice(CLOCK_OFF_S)
                if self._world.clocks_jump:
                    node.wall_off_s = off_s
                self._world.struck("clock jumps", node.name)
            case _:
                pass

    def _make_room(self, node: Node) -> None:
        if node.disk.problem == "full":
            node.disk.problem = ""

    def _swizzle(self) -> None:
        """Clog a part of the nodes one after the other, free them in another order."""
        world, nodes = self._world, self._cluster.nodes()
        chosen = world.random.sample(nodes, world.random.randint(1, len(nodes)))
        freed = world.random.sample(chosen, len(chosen))
        for number, node in enumerate(chosen):
            self._later_all(node, number * CLOG_S / len(chosen), world.wire.clog)
        for number, node in enumerate(freed):
            after_s = CLOG_S + world.random.choice([0.1, 4.0]) * number
            self._later_all(node, after_s, world.wire.unclog)

    def _later_all(self, node: Node, delay_s: float, deed: Callable[[Node, Node], None]) -> None:
        def do() -> None:
            if self._world.now.mono < self._until_s or deed == self._world.wire.unclog:
                for other in self._cluster.nodes():
                    deed(node, other)
                    deed(other, node)

        self._world.later(delay_s, do)

    def _a_node(self) -> Node:
        return self._world.random.choice([n for n in self._cluster.nodes() if n.mortal])

    def _partition(self) -> None:
        cluster, chance = self._cluster, self._world.random
        masters = cluster.masters
        pairs = [(master, agent) for master in masters for agent in cluster.agents]
        company = [*cluster.batches, *cluster.strangers]
        pairs += [(master, node) for master in masters for node in company]
        pairs += zip(cluster.batches, cluster.clients, strict=True)
        one, other = chance.choice(pairs)
        lasts_s = chance.choice(self._world.faults.partition_s)
        direction = chance.choice(["both", "there", "back"])
        if direction != "back":
            self._world.wire.block(one, other, lasts_s)
        if direction != "there":
            self._world.wire.block(other, one, lasts_s)
