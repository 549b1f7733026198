"""The order of the sorter, rule by rule, with the shares written out (Mesos' DRF sorter)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.allocation.base import Client, RoleTerms
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.errors import InvariantBroken
from mesosctl.model.resources import Resources

SLOT = Resources.scalars(cpus=1, mem=1024)


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def pool(text: str, *clients: Client, allocator: DrfAllocator | None = None) -> DrfAllocator:
    """One agent, these frameworks with endless queues of one slot each."""
    made = allocator or DrfAllocator()
    made.set_agent("a", Resources.parse(text))
    for client in clients:
        made.set_framework(replace(client, task=SLOT))
    return made


def slots(allocator: DrfAllocator) -> dict[str, int]:
    """How many slots each framework is granted; the books must be right before and after."""
    allocator.check()
    grants = allocator.allocate(nobody)
    allocator.check()
    return {grant.framework: grant.resources.cpus_milli // 1000 for grant in grants}


def order(allocator: DrfAllocator) -> list[str]:
    """The active frameworks, the one that is next first."""
    allocator.settle_total()
    allocator.tree.refresh()
    allocator.check()
    return [leaf.name for leaf in allocator.tree.leaves()]


def test_lowest_share_then_fewest_charges_then_name() -> None:
    """The three keys of the order, each where the one before it is equal."""
    allocator = pool("cpus:8;mem:8G", *(Client(name, "*") for name in "dcba"))
    # Nobody holds anything: 0/8 four times, no charges, so by name.
    assert order(allocator) == ["a", "b", "c", "d"]
    # a 2/8 in one charge, b 2/8 in two, c 1/8, d 0.
    allocator.charge("a", "a", SLOT.times(2))
    allocator.charge("b", "a", SLOT)
    allocator.charge("b", "a", SLOT)
    allocator.charge("c", "a", SLOT)
    assert order(allocator) == ["d", "c", "a", "b"]
    # All back at 0: d was never charged, a and c once, b twice. The count survives a release.
    for name, held in (("a", SLOT.times(2)), ("b", SLOT.times(2)), ("c", SLOT)):
        allocator.release(name, "a", held)
    assert order(allocator) == ["d", "a", "c", "b"]


def test_the_count_survives_suppression_and_grows_meanwhile() -> None:
    """Who is inactive is skipped, but what is charged to it counts."""
    allocator = pool("cpus:8;mem:8G", Client("f", "*"), Client("g", "*"))
    allocator.set_framework(Client("f", "*", active=False, task=SLOT))
    assert order(allocator) == ["g"]
    allocator.charge("f", "a", SLOT)
    allocator.release("f", "a", SLOT)
    allocator.set_framework(Client("f", "*", task=SLOT))
    assert order(allocator) == ["g", "f"]


def test_only_scalars_that_the_cluster_has_and_that_are_not_excluded_count() -> None:
    """Ports have no share, and excluded names may be held without one."""
    text = "cpus:8;mem:8G;gpus:2;ports:[1-100]"
    allocator = DrfAllocator(excluded=["gpus"])
    pool(text, Client("f", "*"), Client("g", "*"), Client("h", "*"), allocator=allocator)
    # f 2/2 of the excluded GPUs and all ports: 0. g 1/8 of the CPUs. h 2/8 of the memory.
    allocator.charge("f", "a", Resources.parse("gpus:2;ports:[1-100]"))
    allocator.charge("g", "a", Resources.parse("cpus:1"))
    allocator.charge("h", "a", Resources.parse("mem:2G"))
    assert order(allocator) == ["f", "g", "h"]
    counting = DrfAllocator()
    pool(text, Client("f", "*"), Client("g", "*"), allocator=counting)
    counting.charge("f", "a", Resources.parse("gpus:1"))
    # 1/2 of the GPUs against 0.
    assert order(counting) == ["g", "f"]


def test_equal_shares_of_different_resources_are_equal() -> None:
    """1/3 of the CPUs and 1/3 of the memory: the count decides, not the rounding of a quotient."""
    allocator = pool("cpus:9;mem:21G", Client("f", "*"), Client("g", "*"))
    allocator.charge("f", "a", Resources.parse("cpus:1"))
    allocator.charge("f", "a", Resources.parse("cpus:2"))
    allocator.charge("g", "a", Resources.parse("mem:7G"))
    # 3/9 = 7/21, f was charged twice.
    assert order(allocator) == ["g", "f"]


def test_a_weight_divides_the_share() -> None:
    """Weight 3 at 6/12 stands where weight 1 stands at 2/12."""
    allocator = pool("cpus:12;mem:12G", Client("f", "x"), Client("g", "y"))
    allocator.set_role("x", RoleTerms(3000))
    # f takes 9 and g takes 3: 9/12/3 = 3/12/1.
    assert slots(allocator) == {"f": 9, "g": 3}
    allocator.set_role("x", RoleTerms(500))
    # 4/12/0.5 = 8/12.
    assert slots(allocator) == {"f": 4, "g": 8}


def test_sibling_subtrees_compete_first_then_inside() -> None:
    """eng holds what eng/backend and eng/web hold, and competes with ops as a whole."""
    clients = (Client("b", "eng/backend"), Client("w", "eng/web"), Client("o", "ops"))
    allocator = pool("cpus:12;mem:12G", *clients)
    # eng 6 and ops 6; within eng 3 and 3.
    assert slots(allocator) == {"b": 3, "w": 3, "o": 6}
    allocator.set_role("eng", RoleTerms(2000))
    allocator.set_role("eng/web", RoleTerms(3000))
    # eng 8 = 2 x 4; within its 8: web 6 = 3 x 2, backend 2.
    assert slots(allocator) == {"b": 2, "w": 6, "o": 4}


def test_frameworks_of_a_role_compete_with_its_sub_roles_as_one() -> None:
    """Mesos' virtual child `.`: weight 1 among the sub-roles, whatever the role's own weight."""
    clients = (Client("lead", "eng"), Client("aide", "eng"), Client("b", "eng/backend"))
    allocator = pool("cpus:12;mem:12G", *clients, Client("o", "ops"))
    allocator.set_role("eng", RoleTerms(2000))
    # eng 8, ops 4. Within eng: `.` 4 and backend 4; within `.`: 2 and 2.
    assert slots(allocator) == {"lead": 2, "aide": 2, "b": 4, "o": 4}
    allocator.remove_framework("b")
    # Without backend the two have eng's 8 for themselves.
    assert slots(allocator) == {"lead": 4, "aide": 4, "o": 4}


def test_a_framework_that_changes_its_role_takes_its_share_along() -> None:
    """Every role above the old place and the new one follows."""
    allocator = pool("cpus:8;mem:8G", Client("f", "eng/web"), Client("g", "ops"))
    allocator.charge("f", "a", SLOT.times(4))
    assert order(allocator) == ["g", "f"]
    allocator.set_framework(Client("f", "ops/night", task=SLOT))
    # ops holds 4/8, alone; within it `.` has 0 and night 4/8.
    assert order(allocator) == ["g", "f"]
    allocator.set_framework(Client("h", "eng", task=SLOT))
    assert order(allocator) == ["h", "g", "f"]
    assert allocator.tree.find("eng/web") is None


def test_a_new_total_sorts_anew() -> None:
    """2/4 of the CPUs against 2/8 of the memory turns round when CPUs are added."""
    allocator = pool("cpus:4;mem:8G", Client("f", "*"), Client("g", "*"))
    allocator.charge("f", "a", Resources.parse("cpus:2"))
    allocator.charge("g", "a", Resources.parse("mem:3G"))
    # 2/4 > 3/8.
    assert order(allocator) == ["g", "f"]
    allocator.set_agent("b", Resources.parse("cpus:12"))
    # 2/16 < 3/8.
    assert order(allocator) == ["f", "g"]


def test_priorities_count_among_siblings() -> None:
    """A role's priority is that among the roles beside it, a framework's that within its role."""
    clients = (
        Client("b", "eng/backend"),
        Client("w", "eng/web"),
        Client("o", "ops"),
        Client("p", "ops", priority=1),
    )
    allocator = pool("cpus:8;mem:8G", *clients, allocator=PriorityAllocator())
    allocator.set_role("ops", RoleTerms(priority=1))
    allocator.set_role("eng/web", RoleTerms(priority=9))
    # ops before eng, whatever is below eng; p before o.
    assert order(allocator) == ["p", "o", "w", "b"]
    assert slots(allocator) == {"p": 8}
    plain = pool("cpus:8;mem:8G", *clients)
    plain.set_role("ops", RoleTerms(priority=1))
    # Without the priority allocator they count for nothing: eng 4, ops 4.
    assert slots(plain) == {"b": 2, "w": 2, "o": 2, "p": 2}


def test_check_finds_a_wrong_order() -> None:
    """A check that never fails would say nothing."""
    allocator = pool("cpus:8;mem:8G", Client("f", "x"), Client("g", "y"))
    assert order(allocator) == ["f", "g"]
    allocator.tree.root.order.reverse()
    with pytest.raises(InvariantBroken):
        allocator.check()
