"""cgroup v1, controller cpuacct: the CPU time that was used."""

from __future__ import annotations

import os

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import number, read

_NONE = (0, 0, 0)
_TICKS = os.sysconf("SC_CLK_TCK")


class Cpuacct:
    """CPU time: cpuacct.usage is exact, cpuacct.stat tells only in ticks who spent it."""

    def __init__(self) -> None:
        # What a container had used before its present task: nanoseconds, ticks of user and system.
        self._before: dict[str, tuple[int, int, int]] = {}

    def apply(self, directory: str, limits: Limits) -> None:
        """Nothing to limit."""

    def renew(self, directory: str) -> None:
        """Count from here. The kernel's own reset forgets the parts only on newer ones."""
        total_ns = number(directory + "/cpuacct.usage")
        # Below a tick there is nothing in the other file.
        ticks = _ticks(directory) if total_ns * _TICKS >= 1e9 else (0, 0)
        self._before[directory] = (total_ns, *ticks)

    def forget(self, directory: str) -> None:
        """It is gone, or counts from its beginning again."""
        self._before.pop(directory, None)

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """User and system seconds. What is too short for a tick counts as user time."""
        before, user_before, system_before = self._before.get(directory, _NONE)
        total_s = max(0, number(directory + "/cpuacct.usage") - before) / 1e9
        system_ticks = user_ticks = 0
        if total_s * _TICKS >= 1:
            user_ticks, system_ticks = _ticks(directory)
            user_ticks = max(0, user_ticks - user_before)
            system_ticks = max(0, system_ticks - system_before)
        ticks = user_ticks + system_ticks
        system_s = total_s * system_ticks / ticks if ticks else 0.0
        return Usage(
            total_s - system_s,
            system_s,
            so_far.mem_peak_bytes,
            so_far.mem_limit_bytes,
            so_far.oom_kills,
        )


def _ticks(directory: str) -> tuple[int, int]:
    """Ticks that were spent by programs and by the kernel for them."""
    try:
        words = read(directory + "/cpuacct.stat").split()
        return int(words[1]), int(words[3])
    except (OSError, ValueError, IndexError):
        return 0, 0
