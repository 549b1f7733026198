"""cgroup v1, controller cpuacct: the CPU time that was used."""

from __future__ import annotations

import os

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import number, read

_TICKS = os.sysconf("SC_CLK_TCK")


class Cpuacct:
    """CPU time: cpuacct.usage is exact, cpuacct.stat tells only in ticks who spent it."""

    def apply(self, directory: str, limits: Limits) -> None:
        """Nothing to limit."""

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """User and system seconds. What is too short for a tick counts as user time."""
        total_s = number(directory + "/cpuacct.usage") / 1e9
        system_ticks = user_ticks = 0
        if total_s * _TICKS >= 1:
            try:
                words = read(directory + "/cpuacct.stat").split()
                user_ticks, system_ticks = int(words[1]), int(words[3])
            except (OSError, ValueError, IndexError):
                system_ticks = user_ticks = 0
        ticks = user_ticks + system_ticks
        system_s = total_s * system_ticks / ticks if ticks else 0.0
        return Usage(
            total_s - system_s,
            system_s,
            so_far.mem_peak_bytes,
            so_far.mem_limit_bytes,
            so_far.oom_kills,
        )
