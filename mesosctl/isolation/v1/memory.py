"""cgroup v1, controller memory: a hard limit, swap included, its peak and its OOM kills.

Source: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import keyed, number, write
from mesosctl.isolation.controllers import must_exist

# The kernel shows "no limit" as the largest number of whole pages.
_NO_LIMIT_BYTES = 1 << 62


class Memory:
    """A hard limit for memory, swap included where the kernel accounts for it."""

    def __init__(self) -> None:
        self.swap_counts = True

    def probe(self, directory: str) -> list[str]:
        """Look which files there are; returns the sentences about what they leave open."""
        must_exist(directory + "/memory.limit_in_bytes", "memory")
        self.swap_counts = os.path.exists(directory + "/memory.memsw.limit_in_bytes")
        if self.swap_counts:
            return []
        if os.path.exists(directory + "/memory.swappiness"):
            return ["swap is not counted (no memory.memsw files): swappiness is set to 0 instead"]
        return ["swap is not counted and not limited (no memory.memsw files, no swappiness)"]

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limit. Memory first: the kernel wants it at or below memory plus swap."""
        if limits.mem_bytes is None:
            return
        value = b"%d" % limits.mem_bytes
        if self.swap_counts:
            self._apply_both(directory, value)
            return
        write(directory + "/memory.limit_in_bytes", value)
        try:
            write(directory + "/memory.swappiness", b"0")
        except LimitUnavailable:
            # Best effort: `not_enforced` says from the start that swap is not counted.
            return

    def _apply_both(self, directory: str, value: bytes) -> None:
        names = ("/memory.limit_in_bytes", "/memory.memsw.limit_in_bytes")
        try:
            for name in names:
                write(directory + name, value)
        except LimitUnavailable as error:
            # A limit that is raised has to be raised the other way round. One that cannot be
            # lowered fails both ways, and it is the first that says why.
            try:
                for name in reversed(names):
                    write(directory + name, value)
            except LimitUnavailable:
                raise error from None

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Peak, limit and OOM kills. The limit is read back: it is the one that holds."""
        limit_bytes = number(directory + "/memory.limit_in_bytes")
        return Usage(
            so_far.cpu_user_s,
            so_far.cpu_system_s,
            number(directory + "/memory.max_usage_in_bytes"),
            limit_bytes if 0 < limit_bytes < _NO_LIMIT_BYTES else None,
            keyed(directory + "/memory.oom_control", b"oom_kill"),
        )


def watch_oom(directory: str) -> int | None:
    """An eventfd that the kernel signals when the container runs out of memory, or is removed."""
    try:
        source = os.open(directory + "/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        write(directory + "/cgroup.event_control", b"%d %d" % (event, source))
    except LimitUnavailable:
        os.close(event)
        return None
    finally:
        os.close(source)
    return event
