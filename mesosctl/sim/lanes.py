"""The judge of lanes, and the plans in which there are some.

I17: of a lane one task at a time is alive, whoever started it; they start in the order in which
they were accepted; none starts when its lane has been with its executor for LANE_S, nor after
anybody said that it was given back. That lanes are charged once the master's own check() recounts,
and what a host holds together is judged as I4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from mesosctl.core.executor_effects import Spawn
from mesosctl.core.machine import Effect, Received, Send
from mesosctl.errors import require
from mesosctl.limits import LANE_S
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Reason
from mesosctl.protocol.messages.agent import RunTasks, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import Accept
from mesosctl.sim.cluster import Cluster
from mesosctl.sim.history import Run
from mesosctl.sim.node import Node
from mesosctl.sim.plan import Plan
from mesosctl.sim.world import World

# Every so manieth seed has jobs of many tasks that are mostly short, so that lanes are made.
LANES_EVERY = 5
LANES_AT = 2
# Most of what is in a lane is short; that something now and then is not is what it has to stand.
LASTS_S = (0.01, 0.01, 0.01, 0.02, 0.02, 0.05, 0.05, 3.0)
TASKS = (20, 40, 60)


def with_lanes(seed: int, plan: Plan, world: World) -> Plan:
    """The plan of this seed, where it is one for lanes made so that there are some."""
    if seed % LANES_EVERY != LANES_AT:
        return plan
    chance = world.random
    wishes = []
    for wish in plan.wishes:
        count = chance.choice(TASKS)
        job = replace(
            wish.job,
            indices=((0, count - 1, 1),),
            is_array=True,
            once=False,
            cpus_milli=chance.choice([1000, 2000]),
            max_running=None,
        )
        kill = None if wish.kill_after_s is None else chance.uniform(0.2, 3.0)
        wishes.append(replace(wish, job=job, kill_after_s=kill))
    strangers = [
        replace(one, deeds=(*one.deeds, "launches_lanes", "launches_lanes"))
        for one in plan.strangers
    ]
    return replace(plan, wishes=wishes, lasts_s=LASTS_S, strangers=strangers)


@dataclass(slots=True)
class _Lane:
    """A lane as its framework asked for it, and what has become of it."""

    tasks: dict[str, int]
    started: list[str] = field(default_factory=list)
    # By executor: when it first got a task of it, on its own clock.
    since: dict[str, float] = field(default_factory=dict)
    # Where those that were ordered ahead are to begin.
    ahead: dict[str, Node] = field(default_factory=dict)


class LaneJudge:
    """Watches a cluster beside the other judges."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # By container.
        self._lane_of: dict[str, _Lane] = {}
        self._returned: dict[str, None] = {}
        cluster.history.watchers.append(self.ran)
        cluster.world.judges.append(self)

    def saw(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """Note when an executor is given tasks of a lane."""
        if isinstance(event.envelope.message, RunTasks):
            if "/" not in node.name:
                return
            for launch in event.envelope.message.launches:
                lane = self._lane_of.get(launch.container)
                if lane is not None:
                    lane.since.setdefault(f"{node.name}.{node.life}", node.now.mono)

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Judge what is told to be given back, and what is begun too late."""
        for effect in effects:
            if isinstance(effect, Send):
                self._sent(node, effect.envelope.message)
            elif isinstance(effect, Spawn):
                self._begins(node, effect)

    def _sent(self, node: Node, message: Message) -> None:
        match message:
            case Accept() if node in self._cluster.batches:
                self._accepted(self._cluster.framework_id(node), message)
            case StatusUpdates() if node not in self._cluster.strangers:
                for update in message.updates:
                    if update.reason is Reason.RETURNED:
                        self._given_back(f"{update.framework_id}/{update.task_id}")
            case _:
                pass

    def _given_back(self, container: str) -> None:
        lane = self._lane_of.get(container)
        ran = lane is not None and container in lane.started
        require(not ran, f"I17: {container} ran and is said to be given back")
        self._returned[container] = None

    def _accepted(self, framework_id: str, message: Accept) -> None:
        lanes: dict[str, _Lane] = {}
        for task in message.tasks:
            container = f"{framework_id}/{task.task_id}"
            # It may have been meant for a lane by a life that ended before it could say so.
            self._lane_of.pop(container, None)
            if task.lane:
                lane = lanes.setdefault(task.lane, _Lane({}))
                lane.tasks[container] = len(lane.tasks)
                self._lane_of[container] = lane
        if lanes:
            self._cluster.world.struck("lane", ", ".join(lanes))

    def _begins(self, node: Node, spawn: Spawn) -> None:
        container = spawn.launch.container
        lane = self._lane_of.get(container)
        if lane is None or lane.tasks[container] == 0:
            return
        if spawn.after:
            lane.ahead[container] = node
        else:
            self._in_time(lane, node, container)

    def _in_time(self, lane: _Lane, node: Node, container: str) -> None:
        since = lane.since.get(f"{node.name}.{node.life}")
        require(since is not None, f"I17: {container} begins and was given to nobody")
        age_s = node.now.mono - (since or 0.0)
        # One that took the turn of another that never began may be the first to begin.
        begun = bool(lane.started)
        require(age_s <= LANE_S or not begun, f"I17: {container} begins after {age_s:g} s")

    def ran(self, run: Run) -> None:
        """Judge one start of a task."""
        container = run.task_id
        require(container not in self._returned, f"I17: {container} was given back and starts")
        lane = self._lane_of.get(container)
        if lane is None:
            return
        for other in lane.started:
            alive = [one for one in self._cluster.history.of(other) if one.ended_s is None]
            require(not alive, f"I17: {container} starts while {other} of its lane is alive")
            in_order = lane.tasks[other] < lane.tasks[container]
            require(in_order, f"I17: {container} starts after {other}, which is behind it")
        if container in lane.ahead:
            self._in_time(lane, lane.ahead[container], container)
        lane.started.append(container)

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """See Judges."""

    def began(self, node: Node) -> None:
        """See Judges."""

    def failed(self, node: Node) -> None:
        """See Judges."""

    def sends(self, node: Node) -> None:
        """See Judges."""
