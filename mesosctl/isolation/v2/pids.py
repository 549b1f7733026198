"""cgroup v2, controller pids: a limit of processes and threads."""

from __future__ import annotations

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import write

# The launcher joins as a whole process and all its threads count while it spawns.
PIDS_MIN = 16


class Pids:
    """A limit of processes and threads."""

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limit, never below what a launch needs."""
        write(directory + "/pids.max", b"%d" % max(PIDS_MIN, limits.pids))

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Nothing that a task's end needs."""
        return so_far
