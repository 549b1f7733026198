"""What fairness promises on one pool, against solvers written from the definitions.

The model is that of Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011): one pool, users with
endless queues of equal tasks. Tasks are whole here and divisible there, so each promise holds up to
one largest task of any user, counted in dominant share over weight; what a lie wins, and envy with
weights, can be more than that, for whole tasks are what keeps others out: these have bounds of
their own, with their proofs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from mesosctl.allocation.base import Client, RoleTerms
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.model.resources import EMPTY, Resources

NAMES = ("cpus", "mem")
Vector = tuple[int, ...]


@dataclass(frozen=True)
class User:
    """A framework alone in its role: its weight in thousandths and the task that it wants."""

    role: str
    weight: int
    task: Vector


def bag(vector: Vector) -> Resources:
    """CPUs, and memory in pieces of 100 MiB."""
    return Resources.parse(f"cpus:{vector[0]};mem:{vector[1] * 100}")


def allocated(pool: Vector, users: Sequence[User], weights: Mapping[str, int]) -> list[Vector]:
    """What each user is granted in one pass over the empty pool."""
    allocator = DrfAllocator()
    allocator.set_agent("pool", bag(pool))
    for role, weight in weights.items():
        allocator.set_role(role, RoleTerms(weight))
    for index, user in enumerate(users):
        allocator.set_framework(Client(f"u{index}", user.role, task=bag(user.task)))
    found = {}
    for grant in allocator.allocate(lambda _framework, _agent, _resources: False):
        found[grant.framework] = grant.resources
    held = [found.get(f"u{index}", EMPTY) for index in range(len(users))]
    return [(r.scalar("cpus") // 1000, r.scalar("mem") // 100_000) for r in held]


def flat(pool: Vector, users: Sequence[User]) -> list[Vector]:
    """The same with every user's own weight, roles beside each other."""
    return allocated(pool, users, {user.role: user.weight for user in users})


def tasks_in(held: Vector, task: Vector) -> int:
    """How many such tasks fit into what is held."""
    return min(have // need for have, need in zip(held, task, strict=True) if need)


def step(pool: Vector, user: User) -> Fraction:
    """The dominant share of one task, over the weight."""
    share = max(Fraction(need, have) for need, have in zip(user.task, pool, strict=True))
    return share * 1000 / user.weight


def largest(pool: Vector, users: Sequence[User]) -> Fraction:
    """The largest task of any user, in dominant share over weight."""
    return max(step(pool, user) for user in users)


def progressive_filling(pool: Vector, users: Sequence[User]) -> list[Fraction]:
    """Dominant share over weight of each user if tasks were divisible, from the definition.

    All shares over weight rise alike until a resource is used up; whoever needs that one stops.
    """
    level = [Fraction(0)] * len(users)
    left = [Fraction(1)] * len(pool)
    rising = list(range(len(users)))
    # What a user takes of each resource while its share over weight rises by one.
    pace = [
        [
            Fraction(need, have) / step(pool, user)
            for need, have in zip(user.task, pool, strict=True)
        ]
        for user in users
    ]
    while rising:
        use = [sum((pace[i][r] for i in rising), Fraction(0)) for r in range(len(pool))]
        rise = min(left[r] / use[r] for r in range(len(pool)) if use[r])
        for i in rising:
            level[i] += rise
        left = [left[r] - rise * use[r] for r in range(len(pool))]
        rising = [
            i for i in rising if not any(pace[i][r] and not left[r] for r in range(len(pool)))
        ]
    return level


def one_task_at_a_time(
    pool: Vector, users: Sequence[User], weights: Mapping[str, int]
) -> list[int]:
    """Algorithm 1 of the paper over a tree of roles: the lowest share next, whole tasks.

    Of equal shares who was charged less often goes first, then the name, as in Mesos. Shares are
    exact fractions, and the tree is walked from its root for every single task.
    """
    counts = [0] * len(users)

    def below(prefix: str) -> int:
        return sum(
            count
            for user, count in zip(users, counts, strict=True)
            if (user.role + "/").startswith(prefix + "/")
        )

    def share(prefix: str) -> Fraction:
        held = [0] * len(pool)
        for user, count in zip(users, counts, strict=True):
            if user.role == prefix or user.role.startswith(prefix + "/"):
                held = [h + count * need for h, need in zip(held, user.task, strict=True)]
        part = max(Fraction(h, have) for h, have in zip(held, pool, strict=True))
        return part * 1000 / weights.get(prefix, 1000)

    def fits(index: int) -> bool:
        used = [sum(c * u.task[r] for u, c in zip(users, counts, strict=True)) for r in (0, 1)]
        return all(used[r] + users[index].task[r] <= pool[r] for r in (0, 1))

    while able := [index for index in range(len(users)) if fits(index)]:
        prefix = ""
        while len({users[index].role for index in able}) > 1:
            depth = len(prefix.split("/")) if prefix else 0
            heads = {"/".join(users[index].role.split("/")[: depth + 1]) for index in able}
            prefix = min(heads, key=lambda head: (share(head), below(head), head))
            able = [i for i in able if (users[i].role + "/").startswith(prefix + "/")]
        counts[able[0]] += 1
    return counts


vectors = st.tuples(st.integers(1, 6), st.integers(1, 6))
weights = st.sampled_from([500, 1000, 2000, 3000])
pools = st.tuples(st.integers(6, 60), st.integers(6, 60))


@st.composite
def crowds(draw: st.DrawFn) -> list[User]:
    """Two to five users, each in a role of its own."""
    shapes = draw(st.lists(st.tuples(weights, vectors), min_size=2, max_size=5))
    return [User(f"r{index}", *shape) for index, shape in enumerate(shapes)]


@given(pools, crowds())
def test_pareto_efficiency(pool: Vector, users: list[User]) -> None:
    """Nobody's next task fits into what nobody got; and nothing is handed out twice."""
    held = flat(pool, users)
    left = tuple(have - sum(h[r] for h in held) for r, have in enumerate(pool))
    assert all(amount >= 0 for amount in left)
    assert all(tasks_in(left, user.task) == 0 for user in users)


@given(pools, crowds())
def test_sharing_incentive(pool: Vector, users: list[User]) -> None:
    """Nobody gets less than its weight's part of the pool, by more than one largest task.

    Whoever is stopped at a level of share over weight s has the others at s plus one step at most;
    all of them use at most their dominant shares of the resource that is full, so that the sum of
    w x (s + step) is over 1: s > 1/W - the largest step.
    """
    whole = sum(user.weight for user in users)
    for user, held in zip(users, flat(pool, users), strict=True):
        level = tasks_in(held, user.task) * step(pool, user)
        assert level >= Fraction(1000, whole) - largest(pool, users)


def envy(pool: Vector, users: Sequence[User], mine: int, theirs: int, *, rests: bool) -> Fraction:
    """By how much more one could run with another's part, scaled to its weight, than with its own.

    In dominant share over weight. `rests`: with what the other holds and runs no task in, too.
    """
    held = flat(pool, users)
    user, other = users[mine], users[theirs]
    tasks = tasks_in(held[theirs], other.task)
    part = held[theirs] if rests else [tasks * need for need in other.task]
    scaled = [Fraction(h * user.weight, other.weight) for h in part]
    could = min(h / need for h, need in zip(scaled, user.task, strict=True))
    return (int(could) - tasks_in(held[mine], user.task)) * step(pool, user)


def pairs(users: Sequence[User]) -> list[tuple[int, int]]:
    """Everybody with everybody else."""
    return [(i, j) for i in range(len(users)) for j in range(len(users)) if i != j]


@given(pools, crowds())
def test_envy_freeness(pool: Vector, users: list[User]) -> None:
    """Nobody with the same weight would run more with another's part, but for one largest task."""
    equal = [User(user.role, 1000, user.task) for user in users]
    for mine, theirs in pairs(equal):
        assert envy(pool, equal, mine, theirs, rests=True) <= largest(pool, equal)


@given(pools, crowds())
def test_envy_freeness_with_weights(pool: Vector, users: list[User]) -> None:
    """Less than one task of each of the two, over the weight of whom is envied.

    When i stops, at a share over weight of s and for want of resource r, j is at most at s and one
    step of j: scaled to i's weight that is what i has and one task of j over j's weight, on i's
    dominant resource. What j takes later is less on r than one task of i, and so worth less than
    one task of i, which the scaling makes one of i over j's weight.
    """
    for mine, theirs in pairs(users):
        both = [User(users[n].role, users[theirs].weight, users[n].task) for n in (mine, theirs)]
        bound = step(pool, both[0]) + step(pool, both[1])
        assert envy(pool, users, mine, theirs, rests=False) < bound


def test_with_weights_one_largest_task_is_no_bound_of_envy() -> None:
    """Algorithm 1 of the paper itself goes beyond it, with whole tasks: hence the bound above.

    6 CPUs; `a` has weight 1/2 and tasks of 1 CPU and 2 of 14 memory, `b` has weight 3 and tasks of
    6 CPUs. Both begin at 0 and the name decides: `a` gets a task. None of `b` fits into the 5 CPUs
    left, so `a` gets all. Scaled by 3 : 1/2 the 6 CPUs of `a` are 36, or 6 tasks of `b`, each of
    which is 1 of share, 1/3 over its weight; so is a task of `a`: 1/6 over 1/2. The envy is 2, six
    times the largest task of any user; the bound above is (1 + 1/6) over 1/2, which is 7/3.
    """
    users = [User("a", 500, (1, 2)), User("b", 3000, (6, 2))]
    pool = (6, 14)
    assert one_task_at_a_time(pool, users, {"a": 500, "b": 3000}) == [6, 0]
    assert flat(pool, users) == [(6, 12), (0, 2)]
    assert envy(pool, users, 1, 0, rests=False) == 2 == 6 * largest(pool, users)


def gain(pool: Vector, users: Sequence[User], lie: Vector) -> int:
    """How many more of its own tasks the first one runs in the room of those that it lied about."""
    truth = users[0]
    told = [User(truth.role, truth.weight, lie), *users[1:]]
    honest = tasks_in(flat(pool, users)[0], truth.task)
    count = tasks_in(flat(pool, told)[0], lie)
    return tasks_in(tuple(count * need for need in lie), truth.task) - honest


@given(pools, crowds(), vectors)
@example((6, 6), [User("r0", 500, (1, 1)), User("r1", 1000, (1, 4))], (3, 3))
@example((45, 38), [User("r0", 1000, (6, 1)), User("r1", 3000, (1, 6))], (5, 1))
def test_strategy_proofness(pool: Vector, users: list[User], lie: Vector) -> None:
    """A lie wins less than one told task and what one task of another has room for.

    The honest user stops at k tasks, a share over weight of s, for want of resource r; before that
    nobody else was charged at more than s. If the lie costs none of those tasks, r has room for no
    more than k. Else take one, j, that loses some: it stops at a share of s at most, so that the
    liar has by then at most s and one told task, and some resource q holds less than one task of j.
    With m told tasks by then and e later, each worth b true ones on the dominant resource of the
    true task and a on q, m x b is at most k and one told task. If a < b, count on q: m x a and less
    than one task of j; if not, count e x b <= e x a, which is less than that task of j on q, too.
    """
    truth = users[0]
    told = step(pool, User(truth.role, truth.weight, lie)) / step(pool, truth)
    room = max(
        Fraction(theirs, mine)
        for other in users[1:]
        for theirs, mine in zip(other.task, truth.task, strict=True)
    )
    assert gain(pool, users, lie) < told + room


def test_one_largest_task_is_no_bound_of_what_a_lie_wins() -> None:
    """Algorithm 1 of the paper itself goes beyond it, with whole tasks: hence the bound above.

    6 CPUs and 6 of memory; `a` has weight 1/2 and tasks of (1, 1), `b` weight 1 and tasks of
    (1, 4). Both begin at 0 and the name decides. Honest, `a` gets one (1/3 over its weight), `b`
    one (2/3), `a` another one, and then memory is full. Telling (3, 3), `a` gets one, none of `b`
    fits into the (3, 3) left, and `a` gets that too: room for 6 of its tasks, 4 more. Each is 1/3
    over its weight: 4/3, while the largest task is the told one with 1. The bound above is 3 + 4
    tasks. By divisible tasks `b` would have got its part of what is left, and nothing be won.
    """
    pool = (6, 6)
    honest, other = User("a", 500, (1, 1)), User("b", 1000, (1, 4))
    liar = User("a", 500, (3, 3))
    known = {"a": 500, "b": 1000}
    assert one_task_at_a_time(pool, [honest, other], known) == [2, 1]
    assert one_task_at_a_time(pool, [liar, other], known) == [2, 0]
    won = gain(pool, [honest, other], liar.task) * step(pool, honest)
    assert won == Fraction(4, 3) > largest(pool, [liar, other]) == 1


def test_nor_is_it_with_equal_weights() -> None:
    """One task of another, kept out by a hair, has room for several of the liar's.

    6 CPUs and 8 of memory; `a` has tasks of (1, 2), `b` of (1, 5): one each, and memory is full
    but for 1. Telling (3, 4), `a` is first and leaves 4 of memory, too little for `b`: it gets all,
    room for 4 tasks. Three more of 1/4 each are 3/4, while the largest task is that of `b` with
    5/8. The bound above is 2 + 5/2 tasks.
    """
    pool = (6, 8)
    honest, other = User("a", 1000, (1, 2)), User("b", 1000, (1, 5))
    liar = User("a", 1000, (3, 4))
    assert one_task_at_a_time(pool, [honest, other], {}) == [1, 1]
    assert one_task_at_a_time(pool, [liar, other], {}) == [2, 0]
    won = gain(pool, [honest, other], liar.task) * step(pool, honest)
    assert won == Fraction(3, 4) > largest(pool, [liar, other]) == Fraction(5, 8)


@given(pools, crowds())
def test_nobody_gets_less_than_with_divisible_tasks(pool: Vector, users: list[User]) -> None:
    """Within one largest task of the exact solution, for every user; what is left may add to it.

    Whoever stops first at level s has the others at s plus one step at most, and the full resource
    holds all of that: s + step > the level of the exact solution. Others stop later and higher.
    """
    exact = progressive_filling(pool, users)
    for user, held, level in zip(users, flat(pool, users), exact, strict=True):
        mine = tasks_in(held, user.task) * step(pool, user)
        assert mine >= level - largest(pool, users)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[User], dict[str, int]]:
    """Users at different depths of a tree whose roles have weights."""
    leaves = ["a", "b/x", "b/y", "c/x/p", "c/x/q", "c/y"]
    roles = draw(st.lists(st.sampled_from(leaves), min_size=2, max_size=5, unique=True))
    given_weights = draw(st.dictionaries(st.sampled_from([*leaves, "b", "c", "c/x"]), weights))
    return [User(role, 1000, draw(vectors)) for role in sorted(roles)], given_weights


@given(pools, trees())
def test_trees_are_filled_as_the_definition_says(
    pool: Vector, tree: tuple[list[User], dict[str, int]]
) -> None:
    """Task by task what Algorithm 1 does, walked from the root with exact fractions."""
    users, given_weights = tree
    held = allocated(pool, users, given_weights)
    exact = one_task_at_a_time(pool, users, given_weights)
    assert [tasks_in(mine, user.task) for user, mine in zip(users, held, strict=True)] == exact


@given(pools, crowds())
def test_pools_are_filled_as_the_definition_says(pool: Vector, users: list[User]) -> None:
    """The same for users with weights in roles beside each other."""
    exact = one_task_at_a_time(pool, users, {user.role: user.weight for user in users})
    held = flat(pool, users)
    assert [tasks_in(mine, user.task) for user, mine in zip(users, held, strict=True)] == exact


@given(st.integers(6, 60), trees())
def test_sharing_incentive_in_trees(size: int, tree: tuple[list[User], dict[str, int]]) -> None:
    """With one resource every role gets its part of its parent's part, but for one largest task."""
    users, given_weights = tree
    equal = [User(user.role, 1000, (user.task[0], user.task[0])) for user in users]
    pool = (size, size)
    held = allocated(pool, equal, given_weights)
    biggest = max(user.task[0] for user in equal)
    for user, mine in zip(equal, held, strict=True):
        part = Fraction(1)
        path = user.role.split("/")
        lost = 0
        for depth in range(len(path)):
            node, parent = "/".join(path[: depth + 1]), "/".join(path[:depth])
            siblings = {
                "/".join(other.role.split("/")[: depth + 1])
                for other in equal
                if not parent or other.role.startswith(parent + "/")
            }
            whole = sum(given_weights.get(name, 1000) for name in siblings)
            part *= Fraction(given_weights.get(node, 1000), whole)
            lost += len(siblings)
        # At each level every sibling may be ahead by one task, and the last one may not fit.
        assert mine[0] >= part * size - (lost + 1) * biggest
