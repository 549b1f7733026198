"""The contract that every isolator keeps, and what is special about seats."""

from __future__ import annotations

import tempfile
import unittest
from dataclasses import replace
from importlib.metadata import entry_points

from mesosctl_seats import SEATS_MAX, Seats

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Isolator, Limits, Place
from mesosctl.testing.isolators import IsolatorContract, run_contract

TWO = Limits(1000, None, 10, others={"seats": 2000})


class SeatsSuite(IsolatorContract):
    """The suite, with tasks that ask for every seat but one."""

    def make(self) -> Isolator:
        return Seats()

    def limits(self) -> Limits:
        return replace(super().limits(), others={"seats": (SEATS_MAX - 1) * 1000})


class SeatsTest(unittest.TestCase):
    """unittest, so that it needs nothing installed but mesosctl; pytest runs it as well."""

    def test_the_contract(self) -> None:
        """All of it, and nothing skipped."""
        assert run_contract(SeatsSuite) == []

    def test_two_tasks_never_sit_on_one_seat(self) -> None:
        """Not in one executor, nor in two, nor after a recovery."""
        with tempfile.TemporaryDirectory() as base:
            one, other = Seats(), Seats()
            for isolator in (one, other):
                isolator.open(Place("a1", "mesosctl", base))
            assert one.prepare("f/a", TWO).env == {"SEATS": "0,1"}
            assert other.prepare("g/b", TWO).env == {"SEATS": "2,3"}
            assert other.recover() == ()
            other.cleanup("f/a")
            assert one.prepare("f/c", TWO).env == {"SEATS": "0,1"}
            with self.assertRaisesRegex(LimitUnavailable, "half a seat"):  # noqa: PT027 - see above
                one.prepare("f/d", replace(TWO, others={"seats": 500}))

    def test_it_is_found_by_name(self) -> None:
        """What `--isolation auto,site/seats` looks for, once the package is installed."""
        found = {point.name: point for point in entry_points(group="mesosctl.isolators")}
        if "site/seats" not in found:
            self.skipTest("the package is not installed")
        assert found["site/seats"].load() is Seats


if __name__ == "__main__":
    unittest.main()
