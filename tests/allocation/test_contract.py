"""All policies that ship pass the suite that plug-ins are held to, and the suite finds faults."""

from __future__ import annotations

import pytest

from mesosctl.allocation.base import Allocator, Grant, Refuses
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.plugins.allocators import BUILT_IN, random_allocator
from mesosctl.testing.allocators import AllocatorContract, run_contract


class TestDrf(AllocatorContract):
    def make(self) -> Allocator:
        return DrfAllocator()


class TestPriority(AllocatorContract):
    def make(self) -> Allocator:
        return PriorityAllocator()


class TestRandom(AllocatorContract):
    def make(self) -> Allocator:
        return random_allocator()


class Twice(DrfAllocator):
    """A planted fault: what is granted is granted again."""

    def allocate(self, refuses: Refuses) -> list[Grant]:
        return super().allocate(refuses) * 2


class Deaf(DrfAllocator):
    """A planted fault: refusals are not heard."""

    def allocate(self, refuses: Refuses) -> list[Grant]:
        return super().allocate(lambda _framework, _agent, _resources: False)


class Forgetful(DrfAllocator):
    """A planted fault: nothing that is released comes back."""

    def release(self, framework: str, agent: str, resources: object) -> None:
        return


def test_the_suite_runs_without_pytest() -> None:
    """Third parties may use another test runner."""
    names = [run_contract(make) for make in BUILT_IN.values()]
    assert len(names) == 3 and len(names[0]) >= 9


@pytest.mark.parametrize("faulty", [Twice, Deaf, Forgetful])
def test_the_suite_finds_planted_faults(faulty: type[DrfAllocator]) -> None:
    """A suite that passes everything would say nothing."""
    with pytest.raises((AssertionError, IndexError)):
        run_contract(faulty)
