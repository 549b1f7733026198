"""cgroup v1, controller pids: a limit of processes and threads."""

from __future__ import annotations

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import write

# The joining thread counts while it spawns the first process.
PIDS_MIN = 2


class Pids:
    """A limit of processes and threads, and the stop to all forks before a kill."""

    def __init__(self, enforce: bool) -> None:
        self._enforce = enforce

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limit, never below what a launch needs."""
        if self._enforce:
            write(directory + "/pids.max", b"%d" % max(PIDS_MIN, limits.pids))

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Nothing that a task's end needs."""
        return so_far
