"""Killing a whole container on cgroup v2: by the kernel at once, or without forks one by one."""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.cgroupfs import write


def kill_at_once(directory: str) -> bool:
    """Ask the kernel to kill the whole container; False before Linux 5.14."""
    try:
        write(directory + "/cgroup.kill", b"1")
    except LimitUnavailable:
        # Also when the container is gone, and then the loop finds nothing.
        return False
    return True


def stop_forks(directories: Sequence[str]) -> None:
    """Let no process of the container fork any more."""
    try:
        write(directories[0] + "/pids.max", b"0")
    except LimitUnavailable:
        return
