"""Weighted lots: weights decide in the long run and nothing else does; all other rules hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation.base import Client, RoleTerms
from mesosctl.allocation.lottery import RandomAllocator
from mesosctl.allocation.rivals import rivals
from mesosctl.model.resources import Resources
from mesosctl.testing.allocators import AllocatorWorld
from tests.allocation.test_clusters import Scene, check_grants, scenes

SLOT = Resources.scalars(cpus=1, mem=64)
ROUNDS = 4000
# Four standard deviations of a share of one half; the draws are the same in every run.
SPREAD = 4 * (0.25 / ROUNDS) ** 0.5


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def made(seed: int = 1) -> RandomAllocator:
    return RandomAllocator(random.Random(seed).random)


def winners(
    weights: Mapping[str, int], roles: Mapping[str, str], rounds: int = ROUNDS, seed: int = 1
) -> list[str]:
    """Who gets each slot of 12 that ends, the oldest first, with endless tasks of one slot."""
    allocator = made(seed)
    allocator.set_agent("a", SLOT.times(12))
    for role, weight in weights.items():
        allocator.set_role(role, RoleTerms(weight))
    for name, role in roles.items():
        allocator.set_framework(Client(name, role, task=SLOT))
    found: list[str] = []
    for done in range(rounds):
        for grant in allocator.allocate(nobody):
            allocator.charge(grant.framework, "a", grant.resources)
            found += [grant.framework] * grant.resources.count_fitting(SLOT)
        allocator.release(found[done], "a", SLOT)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_weights_decide_the_long_run(seed: int) -> None:
    """Of weights 1, 2 and 5 each wins 1/8, 2/8 and 5/8 of the slots, and so holds them."""
    weights = {"a": 1000, "b": 2000, "c": 5000}
    won = Counter(winners(weights, {"f": "a", "g": "b", "h": "c"}, seed=seed))
    shares = [won[name] / won.total() for name in "fgh"]
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=SPREAD)


def test_weights_count_level_by_level() -> None:
    """`eng` with 3 beside `ops` with 1 wins 3/4, and of that `eng/b` with 2 wins 2/3: 1/2.

    The frameworks of `eng` itself are beside `eng/a` (1) and `eng/b` (2) with weight 1, so that is
    3/4 x 1/4, 3/4 x 1/4 and 3/4 x 2/4 with one there.
    """
    weights = {"eng": 3000, "eng/b": 2000}
    roles = {"f": "eng/a", "g": "eng/b", "h": "ops"}
    won = Counter(winners(weights, roles))
    shares = [won[name] / won.total() for name in "fgh"]
    assert shares == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=SPREAD)
    won = Counter(winners(weights, {**roles, "k": "eng"}))
    shares = [won[name] / won.total() for name in "fghk"]
    assert shares == pytest.approx([3 / 16, 6 / 16, 4 / 16, 3 / 16], abs=SPREAD)


def test_who_won_has_the_same_chance_again() -> None:
    """Nothing is held against anybody: after a win of one it is 1/3 and 2/3 again."""
    found = winners({"b": 2000}, {"f": "a", "g": "b"})
    after = Counter(later for now, later in pairwise(found) if now == "g")
    assert after["g"] / after.total() == pytest.approx(2 / 3, abs=1.5 * SPREAD)


def test_many_pieces_of_one_round_are_drawn_alike() -> None:
    """An empty agent of 3,000 slots goes in one round as 3,000 that end one after the other do."""
    allocator = made()
    allocator.set_agent("a", SLOT.times(3000))
    allocator.set_role("b", RoleTerms(2000))
    allocator.set_framework(Client("f", "a", task=SLOT))
    allocator.set_framework(Client("g", "b", task=SLOT))
    held = {g.framework: g.resources.count_fitting(SLOT) for g in allocator.allocate(nobody)}
    assert sum(held.values()) == 3000
    assert held["g"] / 3000 == pytest.approx(2 / 3, abs=SPREAD * 1.2)


def test_the_source_of_chance_decides() -> None:
    """The same source gives the same, another gives something else."""
    roles = {"f": "a", "g": "b"}
    assert winners({}, roles, 100, seed=1) == winners({}, roles, 100, seed=1)
    assert winners({}, roles, 100, seed=1) != winners({}, roles, 100, seed=2)


def test_a_limit_holds_and_a_guarantee_is_kept() -> None:
    """Whatever is drawn: `a` gets no more than 2 of 9 slots, and 4 stay for `c`."""
    for seed in range(20):
        allocator = made(seed)
        allocator.set_agent("n", SLOT.times(9))
        allocator.set_role("a", RoleTerms(9000, limit={"cpus": 2000}))
        allocator.set_role("c", RoleTerms(guarantee={"cpus": 4000}))
        allocator.set_framework(Client("f", "a", task=SLOT))
        allocator.set_framework(Client("g", "b", task=SLOT))
        held = {g.framework: g.resources.count_fitting(SLOT) for g in allocator.allocate(nobody)}
        assert held.get("f", 0) <= 2
        assert sum(held.values()) == 5


def test_it_is_said_that_lots_are_drawn() -> None:
    """Whoever waits is told with whom it is in the pot, whoever was drawn last."""
    allocator = made()
    allocator.set_agent("n", SLOT)
    allocator.set_role("a", RoleTerms(3000))
    for name, role in (("f", "a"), ("g", "b")):
        allocator.set_framework(Client(name, role, task=SLOT))
    for name, theirs, ours in (("f", "b", "a"), ("g", "a", "b")):
        [rival] = rivals(allocator, name)
        assert (rival.reason, rival.theirs.name, rival.ours.name) == ("Lot", theirs, ours)


@given(scenes(), st.integers(0, 99))
def test_never_too_much_and_never_to_whom_it_may_not_go(scene: Scene, seed: int) -> None:
    """On random clusters with trees, reservations and filters; it ends, with the books in order."""
    allocator = made(seed)
    for agent, total in scene.agents.items():
        allocator.set_agent(agent, total)
    for role, terms in scene.terms.items():
        allocator.set_role(role, terms)
    for client in scene.clients.values():
        allocator.set_framework(client)
    for framework, agent, resources in scene.held:
        allocator.charge(framework, agent, resources)
    check_grants(scene, allocator.allocate(scene.refuses))
    allocator.check()


@given(st.integers(0, 10**6))
def test_nothing_usable_stays_free_whatever_is_drawn(seed: int) -> None:
    """Lots decide who, not whether."""
    allocator = made(seed)
    world = AllocatorWorld(allocator, seed)
    for _ in range(40):
        world.step()
        world.settle()
        assert world.usable() == []
        allocator.check()
