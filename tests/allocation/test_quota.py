"""Limits of roles, with the sums written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation.base import Client, Grant, RoleTerms
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.errors import InvariantBroken
from mesosctl.model.resources import Resources
from mesosctl.testing.allocators import AllocatorWorld

SLOT = Resources.scalars(cpus=1, mem=1024)
THREE = RoleTerms(limit={"cpus": 3000})


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def cluster(*texts: str) -> DrfAllocator:
    """Agents a0, a1, … with these resources; the frameworks f of ads/web and g of ops."""
    allocator = DrfAllocator()
    for index, text in enumerate(texts):
        allocator.set_agent(f"a{index}", Resources.parse(text))
    allocator.set_framework(Client("f", "ads/web", task=SLOT))
    allocator.set_framework(Client("g", "ops", task=SLOT))
    return allocator


def cpus(allocator: DrfAllocator) -> dict[str, int]:
    """CPUs granted to each framework and charged to it."""
    found: dict[str, int] = {}
    for grant in allocator.allocate(nobody):
        allocator.charge(grant.framework, grant.agent, grant.resources)
        have = found.get(grant.framework, 0)
        found[grant.framework] = have + grant.resources.cpus_milli // 1000
    allocator.check()
    return found


def test_a_limit_ends_what_a_role_gets_and_the_others_have_the_rest() -> None:
    """10 CPUs, 3 of them for ads and all below it: 3 and 7 instead of 5 and 5."""
    allocator = cluster("cpus:6;mem:16G", "cpus:4;mem:16G")
    allocator.set_role("ads", THREE)
    assert cpus(allocator) == {"f": 3, "g": 7}


def test_an_idle_rest_stays_free_rather_than_cross_a_limit() -> None:
    """Alone it would get all, in one piece and as far as its limit."""
    allocator = cluster("cpus:6;mem:6G;ports:[1-9]")
    allocator.remove_framework("g")
    allocator.set_role("ads", THREE)
    expected = Resources.parse("cpus:3;mem:6G;ports:[1-9]")
    assert allocator.allocate(nobody) == [Grant("f", "ads/web", "a0", expected)]


def test_what_a_role_releases_it_may_take_again_anywhere() -> None:
    """Stopped by its limit it looked at nothing more; now it has to."""
    allocator = cluster("cpus:3;mem:8G", "cpus:3;mem:8G")
    allocator.set_framework(Client("g", "ops", active=False))
    allocator.set_framework(Client("h", "ads", task=SLOT, count=0))
    allocator.set_framework(Client("i", "ops", task=SLOT.times(9)))
    allocator.set_role("ads", THREE)
    assert cpus(allocator)["f"] == 3
    assert cpus(allocator) == {}
    agent = next(name for name in ("a0", "a1") if allocator.free(name).cpus_milli < 3000)
    allocator.release("f", agent, SLOT)
    assert cpus(allocator) == {"f": 1}


def test_a_changed_limit_shows_in_the_next_round() -> None:
    """Raised, lowered below what is held, lifted."""
    allocator = cluster("cpus:10;mem:16G")
    allocator.set_framework(Client("g", "ops", active=False))
    allocator.set_framework(Client("h", "ops", task=SLOT, count=1))
    allocator.set_role("ads", THREE)
    allocator.set_role("ops", RoleTerms(limit={"cpus": 0, "mem": 0}))
    assert cpus(allocator) == {"f": 3}
    allocator.set_role("ads", RoleTerms(limit={"cpus": 5000}))
    assert cpus(allocator) == {"f": 2}
    allocator.set_role("ads", RoleTerms(limit={"cpus": 1000}))
    # It holds 5 and has to fall below 1 before it gets another.
    allocator.release("f", "a0", SLOT.times(4))
    assert cpus(allocator) == {}
    allocator.set_role("ads", RoleTerms())
    # 9 are free: 1 of the 10 is held.
    assert cpus(allocator) == {"f": 9}


def test_reservations_count_whether_they_are_in_use_or_not() -> None:
    """A limit of 3 with 2 reserved leaves 1 of what is nobody's; what is reserved is his anyway."""
    allocator = cluster("cpus:8;mem:16G", "cpus(ads/web):2;mem(ads/web):2G")
    allocator.set_role("ads", THREE)
    assert cpus(allocator) == {"f": 3, "g": 7}
    # One more reserved CPU is more than the limit: it may be used all the same, as it is his.
    allocator.set_agent("a1", Resources.parse("cpus(ads/web):3;mem(ads/web):4G"))
    assert cpus(allocator) == {"f": 1}


def test_a_framework_takes_its_part_of_the_limit_along() -> None:
    """To another role, and away."""
    allocator = cluster("cpus:8;mem:16G")
    allocator.set_framework(Client("g", "ops", active=False))
    allocator.set_role("ads", THREE)
    allocator.set_framework(Client("h", "ads", task=SLOT, count=0))
    allocator.set_framework(Client("i", "ads", active=False))
    allocator.charge("h", "a0", SLOT.times(2))
    allocator.check()
    assert allocator.quota.room("ads/web") == {"cpus": 1000}
    allocator.set_framework(Client("h", "ops", task=SLOT, count=0))
    allocator.check()
    assert allocator.quota.room("ads") == {"cpus": 3000}
    allocator.charge("i", "a0", SLOT)
    allocator.remove_framework("i")
    allocator.check()
    assert allocator.quota.room("ads") == {"cpus": 3000}


def test_only_roles_of_the_top_have_limits() -> None:
    """As in Mesos: a limit below a limit would need a rule for which one gives way."""
    with pytest.raises(InvariantBroken, match="ads/web"):
        DrfAllocator().set_role("ads/web", THREE)


class LimitedWorld(AllocatorWorld):
    """The contract's random walk with limits on two roles that change now and then."""

    def _role(self) -> None:
        role = self.random.choice(["ads", "batch"])
        limit = self.random.choice([None, {"cpus": 3000}, {"cpus": 6000, "mem": 2_000_000}])
        self.limits[role] = limit or {}
        self.allocator.set_role(role, RoleTerms(limit=limit))

    limits: dict[str, dict[str, int]]

    def consumed(self, role: str, name: str) -> int:
        """What counts against a limit, added up from the model."""
        total = 0
        for (framework, _agent), bags in self.held.items():
            client = self.clients.get(framework)
            if client is not None and client.role.partition("/")[0] == role:
                total += sum(bag.unreserved().scalar(name) for bag in bags)
        for agent in self.totals.values():
            for key, value in agent.items():
                if key.startswith((f"{name}({role})", f"{name}({role}/")) and isinstance(
                    value, int
                ):
                    total += value
        return total


@given(st.integers(0, 10**6))
def test_no_round_takes_a_role_over_its_limit(seed: int) -> None:
    """Whatever happened before; the books of the limits are recomputed after every step."""
    allocator = DrfAllocator()
    world = LimitedWorld(allocator, seed)
    world.limits = {}
    for _ in range(40):
        world.step()
        allocator.check()
        before = {(r, n): world.consumed(r, n) for r, names in world.limits.items() for n in names}
        world.settle()
        allocator.check()
        for (role, name), had in before.items():
            assert world.consumed(role, name) <= max(had, world.limits[role][name])
    for client in list(world.clients.values()):
        allocator.set_framework(replace(client, active=False))
    allocator.check()
