"""The contract that every allocation module keeps, and what is special about this one."""

from __future__ import annotations

import unittest
from importlib.metadata import entry_points

from mesosctl_firstcome import FirstCome

from mesosctl.allocation.base import Client
from mesosctl.model.resources import Resources
from mesosctl.testing.allocators import run_contract

FOUR = Resources.scalars(cpus=4)


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    """Nobody refuses anything."""
    return False


class FirstComeTest(unittest.TestCase):
    """unittest, so that it needs nothing installed but mesosctl; pytest runs it as well."""

    def test_the_contract(self) -> None:
        """All of it."""
        assert len(run_contract(FirstCome)) > 10

    def test_the_first_gets_all_until_it_refuses(self) -> None:
        """That is the policy: later ones live on what earlier ones leave."""
        allocator = FirstCome()
        for agent in ("a1", "a2"):
            allocator.set_agent(agent, FOUR)
        for framework in ("first", "second"):
            allocator.set_framework(Client(framework, "*"))
        assert [one.framework for one in allocator.allocate(nobody)] == ["first", "first"]
        grants = allocator.allocate(
            lambda framework, agent, _: (framework, agent) == ("first", "a1")
        )
        assert [(one.framework, one.agent) for one in grants] == [("second", "a1"), ("first", "a2")]

    def test_it_is_found_by_name(self) -> None:
        """What `--allocator firstcome` looks for, once the package is installed."""
        found = {point.name: point for point in entry_points(group="mesosctl.allocators")}
        if "firstcome" not in found:
            self.skipTest("the package is not installed")
        assert found["firstcome"].load() is FirstCome


if __name__ == "__main__":
    unittest.main()
