"""cgroup v1: an empty container made as good as new, for the next task of the same limits.

Version 1 lets a cgroup be renamed and its high-water mark be put back; version 2 does neither (the
mark only since Linux 6.12). Source: the kernel's admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.isolation.cgroupfs import read, write
from mesosctl.isolation.v1.cpuacct import Cpuacct

# What the kernel holds back for each CPU, so that it need not count every page; a new cgroup has
# as much after its first page. Caches of files that a task has read are more than this.
RESIDUE_BYTES_MAX = 768 * 1024


class RenewalV1:
    """Needs the controllers memory and cpuacct, at these places among the hierarchies."""

    def __init__(self, memory_at: int, cpuacct_at: int, cpuacct: Cpuacct) -> None:
        self._memory_at = memory_at
        self._cpuacct_at = cpuacct_at
        self._cpuacct = cpuacct

    def is_clean(self, directories: Sequence[str]) -> bool:
        """Whether the memory of the last task is gone, but for what every cgroup holds."""
        try:
            residue = int(read(directories[self._memory_at] + "/memory.usage_in_bytes"))
        except (OSError, ValueError):
            return False
        return residue <= RESIDUE_BYTES_MAX

    def renew(self, directories: Sequence[str]) -> None:
        """Put the peak back, and count CPU time from here. Raises LimitUnavailable."""
        write(directories[self._memory_at] + "/memory.max_usage_in_bytes", b"0")
        self._cpuacct.renew(directories[self._cpuacct_at])

    def forget(self, directories: Sequence[str]) -> None:
        """It is gone."""
        self._cpuacct.forget(directories[self._cpuacct_at])


def renewal_of(where: dict[str, int], cpuacct: Cpuacct) -> RenewalV1 | None:
    """The renewal of containers in these hierarchies, None where their use could not be told."""
    if "memory" not in where or "cpuacct" not in where:
        return None
    return RenewalV1(where["memory"], where["cpuacct"], cpuacct)
