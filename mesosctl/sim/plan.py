"""What a seed comes to: how large the cluster is, what is asked of it, what goes wrong."""

from __future__ import annotations

from dataclasses import field, replace

from mesosctl.limits import LOG_KEEP_S
from mesosctl.model.jobs import JobSpec
from mesosctl.model.records import dataclass
from mesosctl.sim.client import Wish
from mesosctl.sim.faults import Faults, Stroke
from mesosctl.sim.strangers import Character
from mesosctl.sim.world import World

TASK_MEM_BYTES = 256 << 20
FAULTS_S = 90.0
# Every so manieth seed is run with clocks that jump and without, and compared.
CLOCKS_EVERY = 20
FOREVER_S = 1e12
SMALL_FAULTS_S = 30.0
# What befalls any cluster; the others are added where a plan is made for them.
ANYWHERE = [stroke for stroke in Stroke if stroke is not Stroke.LOSE_HOST]
# Two of so many seeds have tasks and partitions that are longer than the leases of their jobs: one
# has little else, in the other anything happens.
LONG_EVERY = 10
LEASES_AT = 5
LONG_FAULTS_S = 150.0
LONG_PARTITION_S = (20.0, 50.0, 70.0)
LONG_STROKE_S = 15.0
LOSE_HOST_S = 30.0
LEASE_S = 30.0
# Every so manieth job is only to run on some of the agents, or one task of it on each.
CHOOSY_EVERY = 5
SPREAD_EVERY = 7


@dataclass(slots=True)
class Plan:
    """A cluster, its work and its faults; these end after `faults_s`.

    `agents_within_s`: its agents are first started at any time within this. Its wishes are dealt to
    its batch frameworks in turn. `masters_watched`: of several masters, the one that leads is told
    to everybody by the registry; otherwise everybody tries them in turn. `preemption`: its masters
    preempt, and strangers have a role of this priority; None: they do not.
    """

    agents: int
    wishes: list[Wish] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    faults_s: float = FAULTS_S
    agents_within_s: float = 0.5
    lasts_s: tuple[float, ...] = (0.01, 2.0, 10.0, 10.0, 25.0)
    log_keep_s: float = LOG_KEEP_S
    batches: int = 1
    masters: int = 1
    masters_watched: bool = False
    strangers: list[Character] = field(default_factory=list)
    preemption: int | None = None


def attributes_of(name: str) -> dict[str, str]:
    """What is said of the agent of this name: agents are in two racks, in turn."""
    return {"rack": f"r{int(name[-1]) % 2}"}


def plan_of(seed: int, world: World) -> Plan:
    """Draw a plan from the seed's chance."""
    chance = world.random
    family = chance.choice(["all", "all", "all", "messages", "kills", "strokes"])
    faults = Faults(
        delay_max_s=chance.choice([0.002, 0.05, 0.5]),
        restart_max_s=chance.choice([0.5, 5.0, 30.0]),
        stale_at_death=chance.choice([0.0, 0.5, 1.0]),
    )
    if family in ("all", "messages"):
        faults.lose_message = chance.choice([0.0, 0.005, 0.03, 0.08])
        faults.cut_at_message = chance.choice([0.0, 0.005, 0.02])
        faults.late_message = chance.choice([0.0, 0.0, 0.002, 0.01])
        faults.duplicate_message = chance.choice([0.0, 0.0, 0.01, 0.05])
        faults.hiccup = chance.choice([0.0, 0.0, 0.02, 0.2])
        faults.touched_links = chance.choice(["", "agent", "framework", "client"])
    if family in ("all", "kills"):
        faults.kill_at_pass = chance.choice([0.002, 0.01])
        faults.touched_nodes = chance.choice(["", "", "agent", "framework", "master"])
    if family in ("all", "strokes"):
        faults.stroke_mean_s = chance.choice([3.0, 8.0])
        faults.strokes = [stroke for stroke in ANYWHERE if chance.random() < 0.4]
    plan = Plan(chance.randint(1, 3), faults=faults)
    plan.agents_within_s = chance.choice([0.5, 60.0])
    jobs, counts = chance.randint(3, 6), [1, 3, 8, 20]
    size = chance.random()
    if size < 0.7:
        # Most seeds are small: as many bugs are found in them for a third of the time.
        plan = replace(plan, agents=chance.randint(1, 2), faults_s=SMALL_FAULTS_S)
        plan.agents_within_s = chance.choice([0.5, 0.5, 20.0])
        jobs, counts = chance.randint(1, 3), [1, 2, 5]
        faults.stroke_mean_s = faults.stroke_mean_s and faults.stroke_mean_s / 2
    elif size > 0.97:
        plan = replace(plan, agents=chance.randint(4, 6))
        jobs, counts = chance.randint(6, 10), [1, 8, 30]
    if chance.random() < 0.2:
        plan.batches = 2
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
        plan.strangers.append(_character(world))
    plan.wishes = [_wish(seed, number, counts, plan, world) for number in range(jobs)]
    if seed % CLOCKS_EVERY == 0:
        # The age of sandboxes is the one thing that the clock on the wall may decide.
        plan.log_keep_s = FOREVER_S
        faults.strokes = [*faults.strokes, Stroke.CLOCK, Stroke.CLOCK]
        faults.stroke_mean_s = faults.stroke_mean_s or 5.0
    if seed % LONG_EVERY == LEASES_AT:
        _lengthen(plan)
        # Nothing but hosts that cannot be reached: what leases decide is all that matters.
        plan.faults = Faults(strokes=[Stroke.LOSE_HOST], stroke_mean_s=LOSE_HOST_S)
        plan.faults.partition_s = LONG_PARTITION_S
        plan.agents = 3
    elif seed % CLOCKS_EVERY == LONG_EVERY:
        _lengthen(plan)
        plan.faults.strokes = [Stroke.LOSE_HOST, Stroke.LOSE_HOST, *plan.faults.strokes]
        plan.faults.stroke_mean_s = LONG_STROKE_S
    return plan


def _lengthen(plan: Plan) -> None:
    """Make leases run out: tasks and partitions outlast them."""
    plan.lasts_s = (30.0, 60.0)
    stretched, plan.faults_s = LONG_FAULTS_S / plan.faults_s, LONG_FAULTS_S
    plan.agents_within_s = 0.5
    plan.faults.partition_s = LONG_PARTITION_S
    plan.agents = max(plan.agents, 2)
    plan.wishes = [
        replace(wish, job=_leased(wish.job), at_s=wish.at_s * stretched) for wish in plan.wishes
    ]


def _leased(job: JobSpec) -> JobSpec:
    return replace(
        job,
        indices=((0, 4, 1),),
        is_array=True,
        cpus_milli=500,
        max_running=None,
        time_limit_s=None,
        lost_after_s=LEASE_S,
    )


def _character(world: World) -> Character:
    chance = world.random
    deeds = ["hoards", "declines", "launches", "launches_late", "launches_again", "acknowledges"]
    deeds += ["kills", "demands", "wavers", "meddles", "meddles"]
    deeds += ["launches_guests", "launches_guests"]
    some = tuple(chance.choice(deeds) for _ in range(6))
    return Character(some, chance.choice([0.0, 5.0, 100.0]), stays=chance.random() < 0.5)


def _wish(seed: int, number: int, counts: list[int], plan: Plan, world: World) -> Wish:
    chance = world.random
    count = chance.choice(counts)
    kind = chance.random()
    job = JobSpec(
        name=f"job-{number}",
        argv=("work",),
        cpus_milli=chance.choice([500, 1000, 2000]),
        mem_bytes=TASK_MEM_BYTES,
        indices=((0, count - 1, 1),) if count > 1 else (),
        is_array=count > 1,
        once=kind < 0.3,
        restartable=kind > 0.85,
        lost_after_s=LEASE_S if 0.2 < kind < 0.6 else None,
        max_running=chance.choice([None, None, 2]),
        time_limit_s=chance.choice([None, None, 20.0]),
        grace_s=2.0,
    )
    if plan.agents > 1 and (seed + number) % CHOOSY_EVERY == 0:
        job = replace(job, constraint=f"rack==r{seed % 2}")
    if (seed + number) % SPREAD_EVERY == 0:
        job = replace(job, spread=True)
    kill = chance.uniform(0.5, 20) if chance.random() < 0.2 else None
    return Wish(f"request-{seed}-{number}", job, chance.uniform(0.0, plan.faults_s * 0.7), kill)
