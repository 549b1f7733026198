"""cgroup v2, controller cpu: weight when CPUs are scarce, a hard quota, and the time used.

Source of the values: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import keyed, write

PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
WEIGHT_MIN, WEIGHT_MAX = 1, 10_000


def lift(directory: str) -> None:
    """Take the quota away from what was killed: thousands of processes need time to end, too."""
    try:
        write(directory + "/cpu.max", b"max")
    except LimitUnavailable:
        # It is gone already.
        return


class Cpu:
    """Weight when CPUs are scarce, a hard quota always, and the time that was used."""

    def apply(self, directory: str, limits: Limits) -> None:
        """Write weight (100 per CPU) and quota."""
        weight = min(WEIGHT_MAX, max(WEIGHT_MIN, limits.cpus_milli // 10))
        quota_us = max(QUOTA_US_MIN, limits.cpus_milli * PERIOD_US // 1000)
        write(directory + "/cpu.weight", b"%d" % weight)
        write(directory + "/cpu.max", b"%d %d" % (quota_us, PERIOD_US))

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """User and system seconds."""
        path = directory + "/cpu.stat"
        return Usage(
            keyed(path, b"user_usec") / 1e6,
            keyed(path, b"system_usec") / 1e6,
            so_far.mem_peak_bytes,
            so_far.mem_limit_bytes,
            so_far.oom_kills,
        )
