"""The cgroup v2 controllers: one hierarchy, joined by whole processes.

Rules: controllers must be enabled in every cgroup above a container, from the mount down, and a
cgroup that has processes of its own cannot enable any; a container is a leaf, so it can hold
processes. Source of the values: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import keyed, number, write
from mesosctl.isolation.controllers import Controller, Dialect, must_exist

PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
WEIGHT_MIN, WEIGHT_MAX = 1, 10_000
# The launcher joins as a whole process and all its threads count while it spawns.
PIDS_MIN = 16
_PEAKS_MAX = 4096


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


class Pids:
    """A limit of processes and threads."""

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limit, never below what a launch needs."""
        write(directory + "/pids.max", b"%d" % max(PIDS_MIN, limits.pids))

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """Nothing that a task's end needs."""
        return so_far


class Enabler:
    """Enables controllers in every cgroup from the mount down to a directory above containers."""

    def __init__(self, mount: str, controllers: Sequence[str]) -> None:
        self._mount = mount
        self._controllers = tuple(controllers)

    def __call__(self, directory: str) -> None:
        """Write what is missing, from the mount down. Raises LimitUnavailable."""
        path = self._mount
        for name in ("", *directory[len(self._mount) :].strip("/").split("/")):
            path = f"{path}/{name}" if name else path
            self._enable(path)

    def _enable(self, directory: str) -> None:
        path = directory + "/cgroup.subtree_control"
        try:
            enabled = cgroupfs.read(path).decode().split()
        except OSError as error:
            raise cgroupfs.refused(f"cannot read {path}", error) from error
        missing = [name for name in self._controllers if name not in enabled]
        if not missing:
            return
        try:
            write(path, " ".join("+" + name for name in missing).encode())
        except LimitUnavailable as error:
            raise LimitUnavailable(
                error.message,
                "a cgroup with processes of its own cannot enable controllers for others: name a "
                "delegated one (systemd: Delegate=yes and DelegateSubgroup=) as --cgroup-root",
            ) from error


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


def dialect(trial: str, controllers: Sequence[str]) -> tuple[Dialect, list[str]]:
    """Compose the controllers. `trial` is a cgroup that shows which files a container will have.

    Returns them with the sentences about what they leave open. Raises LimitUnavailable.
    """
    chosen: list[tuple[int, Controller]] = []
    sentences: list[str] = []
    look = None
    if "cpu" in controllers:
        must_exist(trial + "/cpu.max", "cpu time")
        chosen.append((0, Cpu()))
    if "memory" in controllers:
        memory = Memory()
        sentences += memory.probe(trial)
        chosen.append((0, memory))
        if not memory.has_peak:
            look = memory.look
    if "pids" in controllers:
        chosen.append((0, Pids()))
    return (
        Dialect(
            controllers=tuple(chosen),
            join_file="cgroup.procs",
            join_by="process",
            stop_forks=stop_forks if "pids" in controllers else None,
            kill_at_once=kill_at_once,
            watch=lambda _directories: None,
            sample=None if look is None else (lambda directories: look(directories[0])),
        ),
        sentences,
    )
