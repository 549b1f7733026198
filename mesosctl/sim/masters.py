"""Plans with two masters, what befalls those who lead, and how everybody else finds them.

Rules: agents and frameworks find the leader by a watch on the registry, or by trying every master
in turn and heeding what standbys say, as links of the runtime do. Leaders are struck beside all
else that happens: paused, killed, cut off from the registry one way or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mesosctl.core.machine import Aim, PeerLost
from mesosctl.limits import ZK_LOOK_S
from mesosctl.sim.elections import Elections
from mesosctl.sim.faults import Stroke
from mesosctl.sim.node import Node
from mesosctl.sim.plan import Plan
from mesosctl.sim.registry import TOLD_S, Registry

if TYPE_CHECKING:
    from mesosctl.sim.world import World

# Every so manieth seed has two masters.
MASTERS_EVERY = 4
LINK = "master"
# What is done to leaders beside all else: how often, and for how long at a time.
LEADER_STRUCK_S = 8.0
AWAY_S = (1.0, 3.0, 6.0, 20.0)


def with_masters(seed: int, plan: Plan, world: World) -> Plan:
    """The plan of this seed, where it is one for two masters made so that there are two."""
    if seed % MASTERS_EVERY != 2:
        return plan
    chance = world.random
    plan = replace(plan, masters=2, masters_watched=chance.random() < 0.5)
    plan.faults.stall_in_pass = chance.choice([0.0, 0.003, 0.02])
    if plan.faults.stroke_mean_s is not None:
        plan.faults.strokes = [*plan.faults.strokes, Stroke.PAUSE, Stroke.PARTITION]
    return plan


class Seeker:
    """Where a link of an agent or a framework leads: to the masters in turn, or where it is told.

    `watches`: it is told by the registry where the leader is.
    """

    def __init__(
        self, world: World, node: Node, masters: Sequence[Node], registry: Registry, watches: bool
    ) -> None:
        self._world, self._node, self._registry = world, node, registry
        self._masters = {master.name: master for master in masters}
        self._places = [] if watches else list(masters)
        self._used = False
        self._told = ""
        node.deeds[Aim] = self._aim
        node.seeks[LINK] = self._seek
        if watches:
            registry.watchers.append(self._look_soon)

    def _aim(self, effect: Aim) -> None:
        first = self._masters[effect.address]
        self._places = [first, *(place for place in self._places if place is not first)]
        self._used = False

    def _seek(self) -> None:
        """The link is about to be opened: it is the next one's turn, and who is down is passed."""
        if self._used:
            self._turn()
        self._used = True
        for _ in self._places:
            if self._places[0].machine is not None:
                break
            self._turn()
        self._node.routes.pop(LINK, None)
        if self._places:
            self._node.routes[LINK] = (self._places[0], LINK)

    def _turn(self) -> None:
        self._places = [*self._places[1:], *self._places[:1]]

    def _look_soon(self) -> None:
        self._world.later(self._world.random.uniform(*TOLD_S), self._look)

    def _look(self) -> None:
        registry, node = self._registry, self._node
        if not (registry.hears(node) and registry.reaches(node)):
            self._world.later(ZK_LOOK_S, self._look)
        elif registry.leader.address != self._told:
            self._told = registry.leader.address
            self._places = [self._masters[self._told]] if self._told else []
            self._used = False
            node.take(PeerLost(LINK, moved=bool(self._told)))


class Usurpers:
    """Strikes whoever leads, beside all else that happens, until `until_s`."""

    def __init__(
        self, world: World, elections: Elections, masters: Sequence[Node], until_s: float
    ) -> None:
        self._world, self._elections = world, elections
        self._masters, self._until_s = masters, until_s

    def begin(self) -> None:
        """Plan the next stroke."""
        self._world.later(self._world.random.expovariate(1 / LEADER_STRUCK_S), self._strike)

    def _strike(self) -> None:
        if self._world.now.mono >= self._until_s:
            return
        chance, wire = self._world.random, self._world.wire
        place = self._elections.registry.node
        leaders = [node for node in self._masters if self._elections.epoch(node)]
        node = chance.choice(leaders or list(self._masters))
        lasts_s = chance.choice(AWAY_S)
        match chance.choice(["pause", "cut", "mute", "deaf", "kill"]):
            case "pause":
                node.pause(lasts_s, "leader paused")
            case "kill":
                node.crash()
            case way:
                if way != "deaf":
                    wire.block(node, place, lasts_s)
                if way != "mute":
                    wire.block(place, node, lasts_s)
        self.begin()
