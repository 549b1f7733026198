"""Who stays before whom, with the arithmetic written out."""

from __future__ import annotations

import pytest

from mesosctl.allocation.base import Client, RoleTerms
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.allocation.rivals import is_due
from mesosctl.model.resources import Resources

# Of nine CPUs and 18 GB, as in the DRF paper: a task of A is 2/9 of the memory, one of B 3/9 of the
# CPUs.
POOL = Resources.parse("cpus:9;mem:18432")
A_TASK, B_TASK = Resources.parse("cpus:1;mem:4096"), Resources.parse("cpus:3;mem:1024")


def pool(allocator: Ledger, of_a: int, of_b: int) -> Ledger:
    """One agent of which A and B hold so many tasks."""
    allocator.set_agent("a0", POOL)
    for name, task, count in (("A", A_TASK, of_a), ("B", B_TASK, of_b)):
        allocator.set_framework(Client(name, name.lower()))
        for _ in range(count):
            allocator.charge(name, "a0", task)
    return allocator


@pytest.mark.parametrize(
    ("of_a", "of_b", "a_is_due", "b_is_due"),
    [
        # 6/9 each: one more is 8/9 and 9/9, more than the other has.
        (3, 2, False, False),
        # 6/9 and 3/9: with one more B has 6/9 as well.
        (3, 1, False, True),
        # 2/9 and 6/9: with one more A has 4/9.
        (1, 2, True, False),
        # Who holds nothing may always have its first, 3/9 beside 2/9.
        (1, 0, False, True),
    ],
)
def test_who_has_what_is_fair_is_not_due(
    of_a: int, of_b: int, a_is_due: bool, b_is_due: bool
) -> None:
    """Or each would in turn hold back what the other one is to get."""
    found = pool(DrfAllocator(), of_a, of_b)
    assert is_due(found, "A", A_TASK, "B") is a_is_due
    assert is_due(found, "B", B_TASK, "A") is b_is_due
    assert not is_due(found, "A", A_TASK, "nobody")


def test_weights_count() -> None:
    """At a weight of 2 what B holds counts half: 9/9 / 2 is less than the 6/9 of A."""
    found = pool(DrfAllocator(), 3, 2)
    found.set_role("b", RoleTerms(2000))
    assert is_due(found, "B", B_TASK, "A")


def test_a_higher_priority_is_always_due() -> None:
    """Whatever the shares are."""
    found = pool(PriorityAllocator(), 3, 2)
    found.set_role("b", RoleTerms(1000, 1))
    assert is_due(found, "B", B_TASK, "A") and not is_due(found, "A", A_TASK, "B")
