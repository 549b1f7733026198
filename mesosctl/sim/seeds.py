"""One seed, from plan to verdict; and many of them, in as many processes as are wanted."""

from __future__ import annotations

import gc
import multiprocessing
import traceback
from collections.abc import Iterator
from dataclasses import field, replace

from mesosctl.errors import InvariantBroken, require
from mesosctl.limits import HEARTBEAT_S, HEARTBEATS_MISSED_MAX
from mesosctl.model.records import dataclass
from mesosctl.sim.checkers import Judges
from mesosctl.sim.cluster import Cluster
from mesosctl.sim.lanes import LaneJudge, with_lanes
from mesosctl.sim.leaks import require_no_leaks
from mesosctl.sim.masters import with_masters
from mesosctl.sim.plan import CLOCKS_EVERY, plan_of
from mesosctl.sim.preemption import PreemptionJudge, with_preemption
from mesosctl.sim.rights import Rights
from mesosctl.sim.world import World

# Healed, everything has to end within this: timeouts, retries and the longest of tasks included.
HEAL_S = 600.0
# By then everybody has come back: the longest restart, then the longest back-off.
WHOLE_S = 120.0
# What was told last is on its way for so long.
SETTLE_S = 3.0
# Who sits on a connection that was cut without a word notices by silence.
SILENCE_S = 2 * HEARTBEAT_S * HEARTBEATS_MISSED_MAX
STORY_LINES = 80
_DULL = (" ping #", " pong #")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed. `problem` is empty when every invariant held.

    `tally` counts faults by name; `healed_s` is how long after the last of them all was over.
    """

    seed: int
    problem: str
    story: tuple[str, ...]
    digest: str
    events: int
    runs: int
    healed_s: float
    tally: dict[str, int] = field(default_factory=dict)


def run_seeds(first: int, count: int, jobs: int) -> Iterator[Outcome]:
    """Run seeds in `jobs` processes; outcomes come in the order of the seeds."""
    seeds = range(first, first + count)
    if jobs <= 1 or count <= 1:
        yield from map(run_seed_as_planned, seeds)
        return
    # Forked, so that the patches of a test hold in the processes as well.
    with multiprocessing.get_context("fork").Pool(jobs, _collect_rarely) as pool:
        yield from pool.imap(
            run_seed_as_planned, seeds, chunksize=max(1, min(8, count // (jobs * 4)))
        )


def _collect_rarely() -> None:
    """A world is full of cycles and soon over: looking for them a twentieth as often saves time."""
    gc.set_threshold(50_000, 20, 100)


def run_seed_as_planned(seed: int, story_lines: int | None = STORY_LINES) -> Outcome:
    """Run a seed, and some once more with clocks that do not jump: nothing else may change.

    Of its story are kept as many lines as by run_seed.
    """
    outcome = run_seed(seed, story_lines)
    if seed % CLOCKS_EVERY == 0 and not outcome.problem:
        steady = run_seed(seed, clocks_jump=False)
        if steady.digest != outcome.digest:
            return replace(outcome, problem="I15: the clock on the wall decided something")
    return outcome


def run_seed(
    seed: int, story_lines: int | None = STORY_LINES, *, clocks_jump: bool = True
) -> Outcome:
    """Run one seed: faults first, then healing, then the verdict.

    Of its story the last lines are kept when something was wrong, all of them always for None.
    """
    world = World(seed)
    world.clocks_jump = clocks_jump
    plan = with_masters(seed, with_lanes(seed, plan_of(seed, world), world), world)
    plan = with_preemption(seed, plan)
    world.faults = plan.faults
    cluster = Cluster(world, plan)
    judges = Judges(cluster)
    Rights(cluster)
    LaneJudge(cluster)
    PreemptionJudge(cluster)
    problem = ""
    try:
        world.run(plan.faults_s)
        cluster.heal()
        world.run(plan.faults_s + WHOLE_S, cluster.is_quiet)
        if not cluster.is_quiet():
            require(cluster.is_whole(), f"I10: not together after {WHOLE_S:g} s: {cluster.who()}")
            world.run(plan.faults_s + HEAL_S, cluster.is_quiet)
        judges.verdict()
        _judge_leaks(cluster)
    except InvariantBroken as error:
        problem = error.message
    except Exception:
        # Whatever escapes a machine would have stopped its process.
        problem = traceback.format_exc().rstrip()
    return Outcome(
        seed,
        problem,
        # Nobody reads the story of a seed in which nothing was wrong, unless all of it is wanted.
        _gist(world.story, story_lines) if problem or story_lines is None else (),
        world.digest,
        len(world.story),
        len(cluster.history),
        world.now.mono - plan.faults_s,
        world.tally,
    )


def _judge_leaks(cluster: Cluster) -> None:
    world = cluster.world
    world.run(world.now.mono + SETTLE_S)
    try:
        require_no_leaks(cluster)
    except InvariantBroken:
        # Something may have ended just now, or wait for an answer that was cut.
        world.run(world.now.mono + SILENCE_S)
        require_no_leaks(cluster)


def _gist(story: list[str], lines: int | None) -> tuple[str, ...]:
    """The end of the story without what only says that somebody is there."""
    told = [line for line in story if not any(dull in line for dull in _DULL)]
    return tuple(told if lines is None else told[-lines:])
