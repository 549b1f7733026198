"""cgroup v1, controller cpu: shares when CPUs are scarce, and a hard quota always.

Source of the values: the kernel's Documentation/scheduler/sched-bwc.rst and Apache Mesos.
"""

from __future__ import annotations

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import write
from mesosctl.isolation.controllers import must_exist

# The kernel's default. It also takes no quota below 1 ms, so a shorter period could not express
# a hundredth of a CPU; half a CPU for 3 s comes out as 0.51 with this one.
PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
SHARES_MIN = 2


def lift(directory: str) -> None:
    """Take the quota away from what was killed: thousands of processes need time to end, too."""
    try:
        write(directory + "/cpu.cfs_quota_us", b"-1")
    except LimitUnavailable:
        # It is gone already.
        return


class Cpu:
    """Shares when CPUs are scarce, and a hard quota always."""

    def probe(self, directory: str) -> None:
        """Raises LimitUnavailable when the kernel has no quotas."""
        must_exist(directory + "/cpu.cfs_quota_us", "cpu time")

    def apply(self, directory: str, limits: Limits) -> None:
        """Write shares and quota; the period of a new cgroup is PERIOD_US already."""
        shares = max(SHARES_MIN, limits.cpus_milli * 1024 // 1000)
        quota_us = max(QUOTA_US_MIN, limits.cpus_milli * PERIOD_US // 1000)
        write(directory + "/cpu.shares", b"%d" % shares)
        write(directory + "/cpu.cfs_quota_us", b"%d" % quota_us)

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Nothing: cpuacct counts."""
        return so_far
