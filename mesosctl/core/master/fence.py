"""The fence of a leader: for how long it may believe to be one.

Rule: it holds while less than the time of the leader's session has passed since the beginning of
the last exchange that a majority of ZooKeeper's servers agreed to. Nobody else can lead in that
time: the servers count from when the exchange reached them, which was later. The clock has to be
one that goes on while the host sleeps, so that whoever wakes from a pause finds the fence gone
before the first thing it does.
"""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.errors import MesosctlError

# Clocks of two hosts do not run equally fast; far more than quartz is ever off.
_DRIFT = 0.98


class Deposed(MesosctlError):
    """This master leads no longer; nothing more may be sent or written in its name."""


class Fence:
    """See the module. Used by several threads; `clock` also counts what the host slept."""

    def __init__(self, session_s: float, clock: Callable[[], float]) -> None:
        self._holds_s = session_s * _DRIFT
        self._clock = clock
        self._confirmed = clock()
        self.lost = ""

    def begin(self) -> float:
        """The present moment, for `confirm`. Raises Deposed."""
        self.check()
        return self._clock()

    def confirm(self, begun: float) -> None:
        """A majority has agreed to an exchange that was begun then."""
        self._confirmed = max(self._confirmed, begun)

    def left_s(self) -> float:
        """How long it still holds; 0.01 at the least, for use as a time limit."""
        return max(0.01, self._confirmed + self._holds_s - self._clock())

    def lose(self, why: str) -> None:
        """It does not hold any more, for good; the first reason counts."""
        self.lost = self.lost or why

    def check(self) -> None:
        """Raise Deposed unless it holds."""
        if not self.lost and self._clock() >= self._confirmed + self._holds_s:
            self.lose(f"ZooKeeper has confirmed nothing for {self._holds_s:.1f} s")
        if self.lost:
            raise Deposed(f"this master leads no longer: {self.lost}")
