"""One seed, from plan to verdict; and many of them, as the command runs them."""

from __future__ import annotations

from dataclasses import dataclass

from mesosctl.errors import InvariantBroken
from mesosctl.sim.checkers import Judges
from mesosctl.sim.cluster import Cluster, plan_of
from mesosctl.sim.world import World

# Healed, everything has to end within this: timeouts, retries and the longest of tasks included.
HEAL_S = 900.0
STORY_LINES = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed. `problem` is empty when every invariant held."""

    seed: int
    problem: str
    story: tuple[str, ...]
    digest: str
    events: int
    runs: int
    healed_s: float


def run_seed(seed: int) -> Outcome:
    """Run one seed: faults first, then healing, then the verdict."""
    world = World(seed)
    plan = plan_of(seed, world)
    world.faults = plan.faults
    cluster = Cluster(world, plan)
    judges = Judges(cluster)
    problem = ""
    try:
        world.run(plan.faults_s)
        cluster.heal()
        world.run(plan.faults_s + HEAL_S, cluster.is_quiet)
        judges.verdict()
    except InvariantBroken as error:
        problem = error.message
    return Outcome(
        seed,
        problem,
        tuple(world.story[-STORY_LINES:]),
        world.digest,
        len(world.story),
        len(cluster.history),
        world.now.mono - plan.faults_s,
    )
