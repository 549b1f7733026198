"""The cgroup v1 controllers: one hierarchy each, joined thread by thread.

Rules: a launcher's thread writes its own id into `tasks`, so the launcher's other threads stay
outside; cpu and cpuacct may be one mount. Source of the values: the kernel's
Documentation/admin-guide/cgroup-v1 and the isolators of Apache Mesos.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.cgroupfs import keyed, number, read, write
from mesosctl.isolation.controllers import Controller, Dialect, must_exist

# The kernel's default. It also takes no quota below 1 ms, so a shorter period could not express
# a hundredth of a CPU; half a CPU for 3 s comes out as 0.51 with this one.
PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
SHARES_MIN = 2
# The joining thread counts while it spawns the first process.
PIDS_MIN = 2
# The kernel shows "no limit" as the largest number of whole pages.
_NO_LIMIT_BYTES = 1 << 62
_TICKS = os.sysconf("SC_CLK_TCK")


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
        write(directory + "/memory.limit_in_bytes", value)
        if self.swap_counts:
            write(directory + "/memory.memsw.limit_in_bytes", value)
            return
        try:
            write(directory + "/memory.swappiness", b"0")
        except LimitUnavailable:
            # Best effort: `not_enforced` says from the start that swap is not counted.
            return

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


def stop_forks(directory: str) -> None:
    """Let no process of the container fork any more."""
    try:
        write(directory + "/pids.max", b"0")
    except LimitUnavailable:
        # Gone, which is what the caller wants; or unwritable, and then the loop must do alone.
        return


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


def dialect(
    tops: Sequence[str], where: dict[str, int], *, limit_pids: bool
) -> tuple[Dialect, list[str]]:
    """Compose the controllers whose hierarchies `where` names (controller to index in `tops`).

    Returns them with the sentences about what they leave open. Raises LimitUnavailable when a
    mounted controller lacks the files that its limit needs. The tops must exist.
    """
    controllers: list[tuple[int, Controller]] = []
    sentences: list[str] = []
    if "cpu" in where:
        cpu = Cpu()
        cpu.probe(tops[where["cpu"]])
        controllers.append((where["cpu"], cpu))
    if "cpuacct" in where:
        controllers.append((where["cpuacct"], Cpuacct()))
    memory_at = where.get("memory")
    if memory_at is not None:
        memory = Memory()
        sentences += memory.probe(tops[memory_at])
        controllers.append((memory_at, memory))
    pids_at = where.get("pids")
    if pids_at is not None:
        controllers.append((pids_at, Pids(limit_pids)))

    def stop(directories: Sequence[str]) -> None:
        if pids_at is not None:
            stop_forks(directories[pids_at])

    def watch(directories: Sequence[str]) -> int | None:
        return None if memory_at is None else watch_oom(directories[memory_at])

    return (
        Dialect(
            controllers=tuple(controllers),
            join_file="tasks",
            join_by="thread",
            stop_forks=None if pids_at is None else stop,
            kill_at_once=None,
            watch=watch,
            sample=None,
        ),
        sentences,
    )
