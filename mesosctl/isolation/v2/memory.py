"""cgroup v2, controller memory: a hard limit without swap; OOM kills take all of a container."""

from __future__ import annotations

import os

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import keyed, number, write
from mesosctl.isolation.controllers import must_exist

_PEAKS_MAX = 4096


class Memory:
    """A hard limit without swap; an OOM kill takes the whole container."""

    def __init__(self) -> None:
        self._has_swap = self._has_group = self.has_peak = True
        self._peaks: dict[str, int] = {}

    def probe(self, directory: str) -> list[str]:
        """Look which files there are; returns the sentences about what they leave open."""
        must_exist(directory + "/memory.max", "memory")
        self._has_swap = os.path.exists(directory + "/memory.swap.max")
        self._has_group = os.path.exists(directory + "/memory.oom.group")
        self.has_peak = os.path.exists(directory + "/memory.peak")
        sentences = []
        if not self._has_swap:
            sentences.append("swap is not limited (this kernel has no memory.swap.max)")
        if not self.has_peak:
            sentences.append("peak memory is sampled (this kernel has no memory.peak)")
        return sentences

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limits; the group flag first, so that no OOM kill ever leaves half a task."""
        if self._has_group:
            write(directory + "/memory.oom.group", b"1")
        if limits.mem_bytes is None:
            return
        write(directory + "/memory.max", b"%d" % limits.mem_bytes)
        if self._has_swap:
            write(directory + "/memory.swap.max", b"0")

    def look(self, directory: str) -> None:
        """Remember the highest use seen, for kernels that do not."""
        now_bytes = number(directory + "/memory.current")
        if now_bytes > self._peaks.get(directory, 0):
            self._peaks[directory] = now_bytes
        if len(self._peaks) > _PEAKS_MAX:
            # Nobody tells a controller that a container is gone, so it looks when it matters.
            self._peaks = {name: peak for name, peak in self._peaks.items() if os.path.isdir(name)}

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Peak, limit and OOM kills."""
        if self.has_peak:
            peak_bytes = number(directory + "/memory.peak")
        else:
            self.look(directory)
            peak_bytes = self._peaks.get(directory, 0)
        return Usage(
            so_far.cpu_user_s,
            so_far.cpu_system_s,
            peak_bytes,
            number(directory + "/memory.max") or None,
            keyed(directory + "/memory.events", b"oom_kill"),
        )
