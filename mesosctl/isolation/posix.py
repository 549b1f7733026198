"""Isolation without cgroup rights: finds a task's processes in /proc, measures them, kills them.

Rules: nothing here is called a limit that is not one. CPU time is only measured. Memory is
compared with its limit at every sample, and a task above it is named so that it gets killed; what
happens between two samples is not seen, and `not_enforced` says so.

What counts as memory: the sum of resident pages counts a page shared by three forked processes
three times, so it is only an upper bound. As long as the bound is within the limit it is enough.
Beyond it the proportional size (smaps_rollup, shared pages divided among their users, swap
included) decides: it takes the kernel a walk over all pages, hence not at every sample.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from mesosctl.isolation.base import Isolator, JoinPlan, Limits, Reaped, Usage, Violation
from mesosctl.isolation.processes import PAGE_BYTES, TICKS, Group, ProcessTable
from mesosctl.model.records import dataclass

SAMPLE_MEM_S = 0.1
SAMPLE_CPU_S = 1.0
# The proportional size is asked for again after this many times what it took: at most 2 % of a CPU.
_REST_FACTOR = 50
_ROUNDS_MAX = 500
# Many tasks that end together ask one after another; ticks are no finer than this anyway.
_JUST_NOW_S = 0.01
_NOTHING = Usage(0.0, 0.0, 0, None, 0)


@dataclass(slots=True)
class _Memory:
    limit_bytes: int | None
    # Since the limit is what it is, and before.
    peak_bytes: int = 0
    earlier_bytes: int = 0
    reaped_bytes: int = 0
    look_again_at_s: float = 0.0
    # What the last proportional sizes were less than the resident ones.
    shared_bytes: int = 0


class PosixHolder:
    """Holds containers by session, descent and a token in the environment."""

    not_enforced = (
        "a process that leaves its session, its parent and its environment is not found (posix)",
    )

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self.sample_interval_s: float | None = None

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Know the container; there is nothing to join."""
        self._table.add(container)
        return JoinPlan((), (), "none")

    def spare(self, pid: int) -> None:
        """Never count or signal this process."""
        self._table.spare(pid)

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""
        self._table.started(container, pid)

    def update(self, container: str, limits: Limits) -> None:
        """The isolators beside take it."""

    def pids(self, container: str) -> tuple[int, ...]:
        """The live processes found, ascending."""
        self._table.look()
        return tuple(sorted(self._group(container).members))

    def is_empty(self, container: str) -> bool:
        """Whether no live process is found."""
        return not self.pids(container)

    def signal(self, container: str, signum: int) -> int:
        """Signal every process found; returns how many."""
        self._table.look(thorough=True)
        return self._send(self._group(container), signum)

    def kill(self, container: str) -> None:
        """SIGKILL everything found until a round finds nothing new.

        Whole process groups first: the kernel signals a group and refuses forks of its members
        in one step, so a bomb that stays in its group cannot outrun it. Only one that makes a
        new group with every fork can, for as long as it wins the race.
        """
        seen: dict[tuple[int, int], None] = {}
        for _ in range(_ROUNDS_MAX):
            self._table.look(thorough=True)
            group = self._group(container)
            fresh = [
                (pid, stat.start_ticks)
                for pid, stat in group.members.items()
                if (pid, stat.start_ticks) not in seen
            ]
            if not fresh:
                return
            seen.update(dict.fromkeys(fresh))
            self._kill_groups(group)
            self._send(group, signal.SIGKILL)

    def sample(self) -> list[Violation]:
        """Nothing: the isolators beside sample."""
        return []

    def usage(self, container: str) -> Usage:
        """Nothing of its own."""
        return _NOTHING

    def watch_fd(self, container: str) -> int | None:
        """None: nobody tells."""
        return None

    def cleanup(self, container: str) -> bool:
        """Forget the container; False while a process is found."""
        if container in self._table.groups and not self.is_empty(container):
            return False
        self._table.forget(container)
        return True

    def release(self, container: str, *, is_left: bool = False) -> bool:
        """As cleanup, of a container whose first process has ended; nothing is used again.

        A look that found nobody, after that process was known to have begun, is proof: whoever is
        not there cannot fork. So the one that has just been made for the usage is good enough.
        """
        self._table.look(older_than_s=_JUST_NOW_S)
        if self._group(container).members:
            return self.cleanup(container)
        self._table.forget(container)
        return True

    def tidy(self) -> bool:
        """Nothing is kept."""
        return False

    def recover(self) -> tuple[str, ...]:
        """The containers whose token some process carries; they are known from now on."""
        found = self._table.carried()
        for container in [name for name in self._table.groups if name not in found]:
            # Somebody else has removed it.
            self.cleanup(container)
        for container in found:
            self._table.add(container)
        self._table.look(thorough=True)
        return found

    def retire(self, framework: str) -> None:
        """Nothing is kept for a framework as a whole."""

    def prune(self, spared: Sequence[str]) -> None:
        """Nothing is kept for frameworks."""

    def close(self, remove: bool) -> None:
        """Nothing is held open."""

    def _group(self, container: str) -> Group:
        return self._table.groups.get(container) or Group()

    def _kill_groups(self, group: Group) -> None:
        ours = os.getsid(0)
        done: dict[int, None] = {}
        for pid in sorted(self._table.spared):
            stat_of_spared = self._table.stat(pid)
            if stat_of_spared is not None:
                done[stat_of_spared.group] = None
        for stat in group.members.values():
            # Only groups of a session that was made for this container, or by it.
            if stat.session == ours or stat.group <= 1 or stat.group in done:
                continue
            done[stat.group] = None
            if stat.session in group.sessions or stat.session in group.members:
                try:
                    os.killpg(stat.group, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue

    def _send(self, group: Group, signum: int) -> int:
        sent = 0
        for pid, known in sorted(group.members.items()):
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # The descriptor pins the process, so the id cannot be reused after this check.
                stat = self._table.stat(pid)
                if stat is not None and stat.start_ticks == known.start_ticks:
                    signal.pidfd_send_signal(descriptor, signum)
                    sent += 1
            except OSError:
                continue
            finally:
                os.close(descriptor)
        return sent


class PosixCpu(Isolator):
    """Measures CPU time, in ticks, of the processes that a sample has seen."""

    name = "posix/cpu"
    not_enforced: tuple[str, ...] = ("cpu limits are not enforced (posix/cpu only measures)",)
    sample_interval_s: float | None = SAMPLE_CPU_S

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._reaped: dict[str, tuple[float, float]] = {}

    def prepare(self, container: str, limits: Limits) -> None:
        """Know the container."""
        self._table.add(container)

    def isolate(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""
        self._table.started(container, pid)

    def reaped(self, container: str, told: Reaped) -> None:
        """The times of the first process and what it waited for, exact even for short tasks."""
        self._reaped[container] = (told.user_s, told.system_s)

    def watch(self) -> list[Violation]:
        """Read the times of the live processes, unless they have just been read for memory."""
        self._table.look(older_than_s=SAMPLE_CPU_S / 2)
        return []

    def usage(self, container: str, so_far: Usage) -> Usage:
        """The larger of what was sampled and what wait4 told: neither sees everything."""
        self._table.look(older_than_s=_JUST_NOW_S)
        group = self._table.groups.get(container) or Group()
        live = group.members.values()
        user_ticks = group.ended_user_ticks + sum(stat.user_ticks for stat in live)
        system_ticks = group.ended_system_ticks + sum(stat.system_ticks for stat in live)
        user_s, system_s = self._reaped.get(container, (0.0, 0.0))
        return replace(
            so_far,
            cpu_user_s=max(user_s, user_ticks / TICKS),
            cpu_system_s=max(system_s, system_ticks / TICKS),
        )

    def cleanup(self, container: str) -> None:
        """Forget it."""
        self._reaped.pop(container, None)
        self._table.forget(container)


class PosixMem(Isolator):
    """Compares memory with the limit at every sample."""

    name = "posix/mem"
    not_enforced: tuple[str, ...] = (
        f"memory limits are enforced only by sampling every {SAMPLE_MEM_S} s (posix/mem)",
    )
    sample_interval_s: float | None = SAMPLE_MEM_S

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._memory: dict[str, _Memory] = {}
        # The most that a launcher of ours is known to have been.
        self._launcher_bytes = 0

    def prepare(self, container: str, limits: Limits) -> None:
        """Remember the limit."""
        self._table.add(container)
        self._memory[container] = _Memory(limits.mem_bytes)

    def update(self, container: str, limits: Limits) -> None:
        """Compare with another limit from now on, which what was before does not break."""
        memory = self._memory.get(container)
        if memory is not None:
            memory.earlier_bytes = max(memory.earlier_bytes, memory.peak_bytes)
            memory.limit_bytes, memory.peak_bytes = limits.mem_bytes, 0

    def isolate(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""
        self._table.started(container, pid)

    def reaped(self, container: str, told: Reaped) -> None:
        """The largest process that was waited for: all that is known of a task between samples.

        The kernel counts what the process was before its exec, a copy of its launcher: a figure
        that is no larger than that one is good for a report, and does not break a limit.
        """
        memory = self._memory.get(container)
        if memory is None:
            return
        memory.reaped_bytes = max(memory.reaped_bytes, told.peak_bytes)
        if told.peak_bytes > self._launcher_bytes:
            self._launcher_bytes = max(self._launcher_bytes, self._table.launcher_peak_bytes())
            if told.peak_bytes > self._launcher_bytes:
                memory.peak_bytes = max(memory.peak_bytes, told.peak_bytes)

    def watch(self) -> list[Violation]:
        """Measure every container; returns those above their limits."""
        self._table.look()
        violations: list[Violation] = []
        for container, memory in self._memory.items():
            group = self._table.groups.get(container)
            if group is None:
                continue
            self._measure(group, memory)
            limit_bytes = memory.limit_bytes
            if limit_bytes is not None and group.members and memory.peak_bytes > limit_bytes:
                violations.append(Violation(container, "mem", memory.peak_bytes, limit_bytes))
        return violations

    def usage(self, container: str, so_far: Usage) -> Usage:
        """The highest sample or the largest process reaped, and the limit."""
        memory = self._memory.get(container) or _Memory(None)
        limit_bytes = memory.limit_bytes
        doubtful_bytes = memory.reaped_bytes
        if limit_bytes is not None:
            doubtful_bytes = min(doubtful_bytes, limit_bytes)
        return replace(
            so_far,
            mem_peak_bytes=max(memory.peak_bytes, memory.earlier_bytes, doubtful_bytes),
            mem_limit_bytes=limit_bytes,
        )

    def cleanup(self, container: str) -> None:
        """Forget it."""
        self._memory.pop(container, None)
        self._table.forget(container)

    def _measure(self, group: Group, memory: _Memory) -> None:
        bound_bytes = sum(stat.rss_pages for stat in group.members.values()) * PAGE_BYTES
        if memory.limit_bytes is None or bound_bytes <= memory.limit_bytes:
            memory.peak_bytes = max(memory.peak_bytes, bound_bytes)
            return
        began_s = time.monotonic()
        # Above the limit also if as much is shared as at the last look: that is worth another one.
        likely = bound_bytes - memory.shared_bytes > memory.limit_bytes
        if began_s < memory.look_again_at_s and not likely:
            return
        total_bytes = 0
        for pid, stat in group.members.items():
            exact_bytes = self._table.proportional_bytes(pid)
            # A process of another user cannot be looked into; its resident size must do.
            total_bytes += stat.rss_pages * PAGE_BYTES if exact_bytes is None else exact_bytes
        ended_s = time.monotonic()
        memory.look_again_at_s = ended_s + _REST_FACTOR * (ended_s - began_s)
        memory.shared_bytes = max(0, bound_bytes - total_bytes)
        memory.peak_bytes = max(memory.peak_bytes, total_bytes)
