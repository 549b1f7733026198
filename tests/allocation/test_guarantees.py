"""Guarantees of roles: headroom, who chooses first, and what is given away beyond, in numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation.base import Client, Grant, RoleTerms, is_offerable
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.quota import cut
from mesosctl.errors import InvariantBroken
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.testing.allocators import AllocatorWorld
from tests.allocation.test_quota import SLOT, cpus, nobody
from tests.allocation.test_quota import cluster as two_frameworks

FOUR = RoleTerms(guarantee={"cpus": 4000})


def cluster(*texts: str) -> DrfAllocator:
    """As for limits, with a third framework that may have nothing: so nobody is alone."""
    allocator = two_frameworks(*texts)
    allocator.set_framework(Client("z", "none", task=SLOT))
    allocator.set_role("none", RoleTerms(limit={"cpus": 0, "mem": 0}))
    return allocator


def test_headroom_is_kept_for_a_role_that_has_no_work_yet() -> None:
    """10 CPUs, 4 guaranteed to ads, which sleeps: ops gets 6. When ads wakes up, it has its 4."""
    allocator = cluster("cpus:10;mem:16G")
    allocator.set_framework(Client("f", "ads/web", active=False, task=SLOT))
    allocator.set_role("ads", FOUR)
    assert cpus(allocator) == {"g": 6}
    assert allocator.allocate(nobody) == []
    allocator.set_framework(Client("f", "ads/web", task=SLOT))
    assert cpus(allocator) == {"f": 4}


def test_a_framework_that_says_nothing_gets_an_agent_without_the_headroom() -> None:
    """The agent goes whole to whoever is alone, but for 4 of its 10 CPUs; memory is nobody's."""
    allocator = DrfAllocator()
    allocator.set_agent("a", Resources.parse("cpus:10;mem:8G;ports:[1-9]"))
    allocator.set_framework(Client("g", "ops"))
    allocator.set_role("ads", FOUR)
    expected = Resources.parse("cpus:6;mem:8G;ports:[1-9]")
    assert allocator.allocate(nobody) == [Grant("g", "ops", "a", expected)]


def test_a_guarantee_goes_before_shares() -> None:
    """With weight 0.001 ads is last in order as soon as it holds anything; 4 of 6 are its own.

    Beyond that the order holds: ops gets the other 2, for 2/6 < 4/6 / 0.001.
    """
    allocator = cluster("cpus:6;mem:16G")
    allocator.set_role("ads", RoleTerms(1, guarantee={"cpus": 4000}))
    assert cpus(allocator) == {"f": 4, "g": 2}


def test_beyond_its_guarantee_a_role_competes_like_others() -> None:
    """2 guaranteed of 10: shares are equal all the same, 5 and 5; what it has counts in order."""
    allocator = cluster("cpus:10;mem:16G")
    allocator.set_role("ads", RoleTerms(guarantee={"cpus": 2000}))
    assert cpus(allocator) == {"f": 5, "g": 5}


def test_two_guarantees_that_do_not_both_fit_are_both_met_as_far_as_it_goes() -> None:
    """6 CPUs for 4 and 4: others get nothing, and both together have all."""
    allocator = cluster("cpus:6;mem:16G")
    allocator.set_framework(Client("h", "x", task=SLOT))
    allocator.set_role("ads", FOUR)
    allocator.set_role("ops", FOUR)
    assert cpus(allocator) == {"f": 3, "g": 3}


def test_what_is_reserved_counts_against_a_guarantee() -> None:
    """3 of 4 guaranteed CPUs are reserved already, so only 1 of the 10 others is kept."""
    allocator = cluster("cpus:10;mem:16G", "cpus(ads/web):3;mem(ads/web):3G")
    allocator.set_framework(Client("f", "ads/web", active=False, task=SLOT))
    allocator.set_role("ads", FOUR)
    assert cpus(allocator) == {"g": 9}


def test_those_who_were_held_back_look_again_when_there_is_more() -> None:
    """8 of 10 are kept, so ops gets 2; then 3, 5 and all but what ads takes of what is kept."""
    allocator = cluster("cpus:10;mem:32G")
    allocator.set_framework(Client("f", "ads", active=False, task=SLOT))
    allocator.set_role("ads", RoleTerms(guarantee={"cpus": 8000}))
    assert cpus(allocator) == {"g": 2}
    allocator.set_agent("a1", Resources.parse("cpus:1;mem:1G"))
    assert cpus(allocator) == {"g": 1}
    # What ads reserves is not kept any more: 6 of 8 and the 2 of the new agent.
    allocator.set_agent("a2", Resources.parse("cpus(ads):2;mem(ads):2G"))
    assert cpus(allocator) == {"g": 2}
    allocator.set_role("ads", RoleTerms(guarantee={"cpus": 5000}))
    assert cpus(allocator) == {"g": 3}
    allocator.set_role("ads", RoleTerms())
    assert cpus(allocator) == {"g": 3}


def test_an_agent_that_is_away_is_no_headroom() -> None:
    """4 of the 8 CPUs are on an agent that drains, so the other 4 are kept."""
    allocator = cluster("cpus:4;mem:8G", "cpus:4;mem:8G")
    allocator.set_framework(Client("f", "ads", active=False, task=SLOT))
    allocator.set_role("ads", FOUR)
    allocator.set_agent("a1", Resources.parse("cpus:4;mem:8G"), offered=False)
    assert cpus(allocator) == {}
    allocator.set_agent("a1", Resources.parse("cpus:4;mem:8G"))
    assert cpus(allocator) == {"g": 4}


def test_the_standing_of_a_role_says_why_it_gets_no_more() -> None:
    """What `explain` shows: consumed against limit and guarantee, and what is left for others."""
    allocator = cluster("cpus:10;mem:16G")
    allocator.set_role("ads", RoleTerms(limit={"cpus": 5000}, guarantee={"cpus": 4000}))
    allocator.charge("f", "a0", SLOT)
    standing = allocator.standing("ads/web")
    assert standing is not None
    assert standing.consumed == {"cpus": 1000, "mem": 1_024_000}
    # 5 - 1 by the limit; by headroom it were 3 of its own and 9 - 3 beyond.
    assert (standing.limit, standing.room) == ({"cpus": 5000}, {"cpus": 4000})
    other = allocator.standing("ops")
    assert other is not None
    assert (other.limit, other.room) == ({}, {"cpus": 6000})
    assert allocator.order() == ["z", "g", "f"]


def test_only_roles_of_the_top_have_guarantees() -> None:
    """As with limits."""
    with pytest.raises(InvariantBroken, match="ads/web"):
        DrfAllocator().set_role("ads/web", FOUR)


class QuotaWorld(AllocatorWorld):
    """The contract's random walk with limits and guarantees that change now and then."""

    terms: dict[str, RoleTerms]

    def _role(self) -> None:
        role = self.random.choice(["ads", "batch", "*"])
        limit = self.random.choice([None, None, {"cpus": 6000}])
        guarantee = self.random.choice(
            [None, {"cpus": 2000}, {"cpus": 5000, "mem": 4_000_000}, {"mem": 9_000_000}]
        )
        self.terms[role] = RoleTerms(limit=limit, guarantee=guarantee)
        self.allocator.set_role(role, self.terms[role])

    def consumed(self, role: str, name: str) -> int:
        """What counts against a quota, added up from the model."""
        total = sum(
            bag.unreserved().scalar(name)
            for (framework, _), bags in self.held.items()
            if framework in self.clients and self.clients[framework].role.partition("/")[0] == role
            for bag in bags
        )
        for agent in self.totals.values():
            for key, value in agent.items():
                mine = key.startswith((f"{name}({role})", f"{name}({role}/"))
                total += value if mine and isinstance(value, int) else 0
        return total

    def lacking(self, role: str, name: str) -> int:
        """What a role lacks of its guarantee."""
        terms = self.terms.get(role)
        guarantee = (terms.guarantee if terms else None) or {}
        return max(0, guarantee.get(name, 0) - self.consumed(role, name)) if guarantee else 0

    def spare(self, name: str) -> int:
        """What may be granted at all of a name."""
        agents = [self.free(agent) for agent in self.totals if self.offered[agent]]
        return sum(free.unreserved().scalar(name) for free in agents if is_offerable(free))

    def room(self, role: str) -> dict[str, int]:
        """What a role may be granted of bounded names, from the definition."""
        names = {n: None for t in self.terms.values() for n in (t.guarantee or {})}
        room = {}
        for name in names:
            kept = sum(self.lacking(other, name) for other in self.terms)
            room[name] = self.lacking(role, name) + max(0, self.spare(name) - kept)
        limit = (self.terms[role].limit if role in self.terms else None) or {}
        for name, most in limit.items():
            left = max(0, most - self.consumed(role, name))
            room[name] = min(left, room.get(name, left))
        return room


@given(st.integers(0, 10**6))
def test_no_round_gives_away_what_is_kept(seed: int) -> None:
    """Whoever gets more than its guarantee leaves free what all guarantees still lack."""
    allocator = DrfAllocator()
    world = QuotaWorld(allocator, seed)
    world.terms = {}
    roles, names = ("ads", "batch", "*"), ("cpus", "mem")
    for _ in range(40):
        world.step()
        allocator.check()
        spare = {name: world.spare(name) for name in names}
        before = {(role, name): world.consumed(role, name) for role in roles for name in names}
        world.settle()
        allocator.check()
        for name in names:
            gained = {role: world.consumed(role, name) - before[role, name] for role in roles}
            left = spare[name] - sum(gained.values())
            for role in roles:
                guarantee = (world.terms.get(role, RoleTerms()).guarantee or {}).get(name, 0)
                beyond = world.consumed(role, name) - max(before[role, name], guarantee)
                if beyond > 0 and any(name in (t.guarantee or {}) for t in world.terms.values()):
                    assert left >= sum(world.lacking(other, name) for other in roles)


@given(st.integers(0, 10**6))
def test_nothing_that_quota_allows_stays_free(seed: int) -> None:
    """Headroom is kept from nobody for longer than it is needed."""
    allocator = DrfAllocator()
    world = QuotaWorld(allocator, seed)
    world.terms = {}
    for _ in range(60):
        world.step()
    world.settle()
    for name, client in world.clients.items():
        if not client.active or client.count is not None:
            continue
        room = world.room(client.role.partition("/")[0])
        for agent in [agent for agent in world.totals if world.offered[agent]]:
            free = world.free(agent).allocatable_to(client.role)
            usable = cut(free, room)
            task = client.task if client.task and is_offerable(client.task) else None
            wanted = (usable if task is None else usable.take(task)) or EMPTY
            refused = any(world.refuses(name, agent, one) for one in (usable, wanted))
            assert refused or not is_offerable(wanted), (name, agent, wanted)
