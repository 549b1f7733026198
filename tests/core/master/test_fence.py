"""The fence of a leader: it falls in time, for good, and on a clock that sleeps with nobody."""

from __future__ import annotations

import time

import pytest

from mesosctl.core.master.fence import Deposed, Fence
from mesosctl.runtime.zk_election import boottime


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_holds_from_the_beginning_of_what_was_confirmed() -> None:
    """A confirmation that was long under way is worth what is left of it."""
    clock = Clock()
    fence = Fence(4.0, clock)
    clock.now = 101.0
    begun = fence.begin()
    clock.now = 103.5
    fence.confirm(begun)
    assert fence.left_s() == pytest.approx(101.0 + 3.92 - 103.5)
    clock.now = 104.9
    fence.check()
    clock.now = 104.93
    with pytest.raises(Deposed, match="confirmed nothing"):
        fence.check()


def test_a_confirmation_that_comes_too_late_mends_nothing() -> None:
    """Somebody else may have led in between."""
    clock = Clock()
    fence = Fence(4.0, clock)
    begun = fence.begin()
    clock.now = 110.0
    with pytest.raises(Deposed):
        fence.begin()
    fence.confirm(begun)
    fence.confirm(110.0)
    with pytest.raises(Deposed):
        fence.check()
    assert fence.lost


def test_an_older_confirmation_takes_nothing_away() -> None:
    """Two threads confirm, in any order."""
    clock = Clock()
    fence = Fence(4.0, clock)
    clock.now = 102.0
    fence.confirm(102.0)
    fence.confirm(101.0)
    clock.now = 105.9
    fence.check()


def test_the_first_reason_counts() -> None:
    """What came after it is its consequence."""
    fence = Fence(4.0, Clock())
    fence.lose("the session is over")
    fence.lose("it gave its seat up")
    with pytest.raises(Deposed, match="the session is over"):
        fence.check()


def test_its_clock_is_the_one_that_goes_on_while_the_host_sleeps() -> None:
    """CLOCK_MONOTONIC stops in a suspend, and would believe to lead after it."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boottime() <= time.clock_gettime(time.CLOCK_BOOTTIME)
