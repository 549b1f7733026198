"""Strict priority: the lower one gets what the higher ones refuse or cannot use."""

from __future__ import annotations

from dataclasses import replace

from mesosctl.allocation.base import Client, Grant, RoleTerms
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.model.resources import Resources

SLOT = Resources.scalars(cpus=1, mem=1024)


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def high_and_low(*sizes: int) -> PriorityAllocator:
    """Agents a0, a1, … of so many slots; frameworks high and low."""
    allocator = PriorityAllocator()
    for index, size in enumerate(sizes):
        allocator.set_agent(f"a{index}", SLOT.times(size))
    # The weight of a role does not help it against a higher priority.
    allocator.set_role("batch", RoleTerms(weight_milli=9000, priority=1))
    allocator.set_role("service", RoleTerms(priority=10))
    allocator.set_framework(Client("low", "batch"))
    allocator.set_framework(Client("high", "service"))
    return allocator


def demand(
    allocator: PriorityAllocator, name: str, task: Resources | None, count: int | None
) -> None:
    client = allocator.client(name)
    assert client is not None
    allocator.set_framework(replace(client, task=task, count=count))


def show(allocator: PriorityAllocator, name: str, *, active: bool) -> None:
    client = allocator.client(name)
    assert client is not None
    allocator.set_framework(replace(client, active=active))


def as_dict(grants: list[Grant]) -> dict[tuple[str, str], Resources]:
    return {(grant.framework, grant.agent): grant.resources for grant in grants}


def test_the_highest_gets_everything_it_does_not_refuse() -> None:
    """Also when it already has more than the other."""
    allocator = high_and_low(4, 4)
    allocator.charge("high", "a0", SLOT.times(3))
    found = as_dict(allocator.allocate(nobody))
    assert found == {("high", "a0"): SLOT, ("high", "a1"): SLOT.times(4)}


def test_what_the_highest_refuses_goes_down() -> None:
    """A filter on one agent gives that agent away, not the others."""
    allocator = high_and_low(4, 4)
    found = as_dict(allocator.allocate(lambda f, a, _r: (f, a) == ("high", "a0")))
    assert found == {("low", "a0"): SLOT.times(4), ("high", "a1"): SLOT.times(4)}


def test_an_inactive_one_or_one_without_tasks_is_passed_over() -> None:
    """Priority is for work that waits, not for names."""
    allocator = high_and_low(4)
    show(allocator, "high", active=False)
    assert as_dict(allocator.allocate(nobody)) == {("low", "a0"): SLOT.times(4)}
    show(allocator, "high", active=True)
    demand(allocator, "high", SLOT, 0)
    assert as_dict(allocator.allocate(nobody)) == {("low", "a0"): SLOT.times(4)}


def test_an_agent_the_highest_cannot_use_goes_down() -> None:
    """A task of 3 slots does not fit into 2."""
    allocator = high_and_low(2, 4)
    demand(allocator, "high", SLOT.times(3), None)
    found = as_dict(allocator.allocate(nobody))
    assert found == {
        ("low", "a0"): SLOT.times(2),
        ("high", "a1"): SLOT.times(3),
        ("low", "a1"): SLOT,
    }


def test_equals_share_and_leave_the_rest_below() -> None:
    """Two equals with 2 tasks each take 4 of 7 slots; the lower role gets the other 3."""
    allocator = high_and_low(7)
    allocator.set_framework(Client("twin", "service"))
    for name in ("high", "twin"):
        demand(allocator, name, SLOT, 2)
    found = as_dict(allocator.allocate(nobody))
    assert found == {
        ("high", "a0"): SLOT.times(2),
        ("twin", "a0"): SLOT.times(2),
        ("low", "a0"): SLOT.times(3),
    }


def test_equals_share_by_dominant_share() -> None:
    """Among equal priorities it is DRF: twin has 2 slots already, so 1 and 3 make 3 each."""
    allocator = high_and_low(6)
    allocator.set_framework(Client("twin", "service"))
    for name in ("high", "twin"):
        demand(allocator, name, SLOT, None)
    allocator.charge("twin", "a0", SLOT.times(2))
    found = as_dict(allocator.allocate(nobody))
    assert found == {("high", "a0"): SLOT.times(3), ("twin", "a0"): SLOT}


def test_a_role_that_is_raised_goes_first_from_then_on() -> None:
    """The priority of a role is what was said last."""
    allocator = high_and_low(4)
    allocator.set_role("batch", RoleTerms(priority=20))
    assert as_dict(allocator.allocate(nobody)) == {("low", "a0"): SLOT.times(4)}
