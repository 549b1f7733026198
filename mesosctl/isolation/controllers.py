"""What a cgroup controller is to us, and the one holder of containers made of such controllers.

Owns the order of deeds: create all directories, then write all limits, then hand out the plan to
join; a failure undoes everything. Rules: controllers are thin and know only their own files; the
versions of the kernel interface live in v1 and v2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from mesosctl.errors import LimitUnavailable, MesosctlError
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.base import JoinPlan, Limits, Usage, Violation
from mesosctl.isolation.spares import Spares
from mesosctl.isolation.tree import Tree
from mesosctl.model.records import dataclass

PROBE = "_probe"
NOTHING = Usage(0.0, 0.0, 0, None, 0)
# Of so many directories files are kept open, about four of each.
HELD_MAX = 128


class Controller(Protocol):
    """One controller: writes its limits into a container's directory and reads its counters."""

    def apply(self, directory: str, limits: Limits) -> None:
        """Write the limits. Raises LimitUnavailable."""

    def usage(self, directory: str, so_far: Usage) -> Usage:
        """`so_far` with this controller's figures."""


class Renewal(Protocol):
    """How an empty container is made as good as a new one, where the kernel allows that."""

    def is_clean(self, directories: Sequence[str]) -> bool:
        """Whether nothing is charged to it that would count for the next task."""

    def renew(self, directories: Sequence[str]) -> None:
        """Begin its counters anew. Raises LimitUnavailable, OSError."""

    def forget(self, directories: Sequence[str]) -> None:
        """It is gone."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the two kernel interfaces differ.

    `controllers` pairs each with the index of its hierarchy in the tree. `stop_forks(directories)`
    makes killing provable; `kill_at_once(directory)` says whether the kernel has killed all.
    `hasten(directories)` lets what was killed have the CPU time that its end takes.
    `watch(directory)` is a descriptor that becomes readable on an OOM kill, or None. `renewal`
    None: a container is never used again.
    """

    controllers: tuple[tuple[int, Controller], ...]
    join_file: str
    join_by: str
    stop_forks: Callable[[Sequence[str]], None] | None
    kill_at_once: Callable[[str], bool] | None
    hasten: Callable[[Sequence[str]], None] | None
    watch: Callable[[Sequence[str]], int | None]
    sample: Callable[[Sequence[str]], None] | None
    renewal: Renewal | None = None


class Cgroups:
    """Containers held by cgroups: the kernel limits and counts them, and knows who is inside."""

    def __init__(self, tree: Tree, dialect: Dialect, home: Sequence[str]) -> None:
        self._tree = tree
        self._dialect = dialect
        self._home = tuple(home)
        self._join = "/" + dialect.join_file
        self._watches: dict[str, int | None] = {}
        self._known: dict[str, None] = {}
        self._spares = Spares()
        # Only a kernel without a memory high-water mark needs looking at now and then.
        self.sample_interval_s = None if dialect.sample is None else 0.5

    def open(self) -> None:
        """Create the tops and prove that a container can be made. Raises LimitUnavailable."""
        self._tree.open()
        self._clear_trials()
        trial = f"{PROBE}/{os.getpid()}"
        try:
            self.prepare(trial, Limits(1000, 64 << 20, 64))
        finally:
            self.cleanup(trial)
            self._tree.drop_framework(PROBE)

    def _clear_trials(self) -> None:
        """Remove what processes left that were killed in the middle of `open`."""
        for name in self._tree.containers():
            place, _, pid = name.partition("/")
            if place == PROBE and not os.path.exists(f"/proc/{pid}"):
                self._tree.remove(name)

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Create the container inside its limits, or nothing. Raises LimitUnavailable."""
        directories = self._once_more(container, limits) or self._fresh(container, limits)
        self._known[container] = None
        join = self._join
        return JoinPlan(tuple([d + join for d in directories]), self._home, self._dialect.join_by)

    def _fresh(self, container: str, limits: Limits) -> tuple[str, ...]:
        directories = self._tree.create(container)
        try:
            self._apply(directories, limits)
        except MesosctlError:
            self._spares.spoil(container)
            self._tree.undo(directories)
            raise
        return directories

    def _once_more(self, container: str, limits: Limits) -> tuple[str, ...] | None:
        """The directories of an empty container with the same limits, under the new name."""
        renewal = self._dialect.renewal
        name = None if renewal is None else self._spares.take(container, limits)
        if renewal is None or name is None:
            return None
        renewal.forget(self._tree.directories(name))
        directories = self._tree.directories(container)
        try:
            self._tree.rename(name, container)
            renewal.renew(directories)
            # A task of root may have written others.
            self._apply(directories, limits)
        except (OSError, LimitUnavailable):
            # Somebody took it for a leftover and removed it; or an older kernel cannot do this.
            self._spares.spoil(container)
            self._let_go(name)
            self._let_go(container)
            self._tree.remove(name)
            self._tree.remove(container)
            return None
        if cgroupfs.held() < HELD_MAX:
            # It was used twice and may be a hundred times.
            for directory in directories:
                cgroupfs.hold(directory)
        return directories

    def _let_go(self, container: str) -> None:
        for directory in self._tree.directories(container):
            cgroupfs.let_go(directory)

    def spare(self, pid: int) -> None:
        """Never count or signal this launcher, which passes through containers."""
        self._tree.spare(pid)

    def started(self, container: str, pid: int) -> None:
        """Nothing to learn: the kernel knows who is inside."""

    def update(self, container: str, limits: Limits) -> None:
        """Write other limits. Raises LimitUnavailable, what the kernel refused left as it was."""
        self._spares.spoil(container)
        self._apply(self._tree.directories(container), limits)

    def _apply(self, directories: Sequence[str], limits: Limits) -> None:
        for index, controller in self._dialect.controllers:
            controller.apply(directories[index], limits)

    def pids(self, container: str) -> tuple[int, ...]:
        """The processes inside, ascending."""
        return self._tree.processes(container)

    def is_empty(self, container: str) -> bool:
        """Whether nothing is inside."""
        return self._tree.is_empty(container)

    def signal(self, container: str, signum: int) -> int:
        """Signal every process inside; returns how many."""
        return self._tree.signal(container, signum)

    def kill(self, container: str) -> None:
        """SIGKILL everything inside, also what is being forked right now."""
        self._spares.spoil(container)
        directories = self._tree.directories(container)
        at_once = self._dialect.kill_at_once
        if at_once is None or self._launching(container) or not at_once(directories[0]):
            stop = self._dialect.stop_forks
            self._tree.kill(container, None if stop is None else lambda: stop(directories))
        hasten = self._dialect.hasten
        if hasten is not None:
            hasten(directories)

    def sample(self) -> list[Violation]:
        """Look at what the kernel does not remember; the kernel enforces, so nobody violates."""
        look = self._dialect.sample
        if look is not None:
            for container in self._known:
                look(self._tree.directories(container))
        return []

    def usage(self, container: str) -> Usage:
        """What the counters say; zeros once the container is gone."""
        directories = self._tree.directories(container)
        usage = NOTHING
        for index, controller in self._dialect.controllers:
            usage = controller.usage(directories[index], usage)
        self._spares.told(container, usage)
        return usage

    def watch_fd(self, container: str) -> int | None:
        """A descriptor readable after an OOM kill, made when first asked for."""
        if container not in self._watches:
            self._spares.spoil(container)
            self._watches[container] = self._dialect.watch(self._tree.directories(container))
        return self._watches[container]

    def cleanup(self, container: str) -> bool:
        """Remove the container; False while something is inside."""
        if not self._tree.remove(container):
            return False
        self._let_go(container)
        self._spares.spoil(container)
        if self._dialect.renewal is not None:
            self._dialect.renewal.forget(self._tree.directories(container))
        self._known.pop(container, None)
        descriptor = self._watches.pop(container, None)
        if descriptor is not None:
            os.close(descriptor)
        return True

    def release(self, container: str, *, is_left: bool = False) -> bool:
        """As `cleanup`, but an empty one may be kept for the next task of the same limits."""
        renewal = self._dialect.renewal
        if (
            renewal is None
            or not self._spares.may_keep(container)
            or not renewal.is_clean(self._tree.directories(container))
            or not (is_left or self._tree.is_plain(container))
        ):
            return self.cleanup(container)
        self._spares.keep(container)
        self._known.pop(container, None)
        return True

    def tidy(self) -> bool:
        """Remove what was kept and not wanted since the last call; whether anything is kept."""
        for name in self._spares.stale():
            self.cleanup(name)
        return bool(self._spares)

    def recover(self) -> tuple[str, ...]:
        """The containers that exist; they are known from now on."""
        found = [name for name in self._tree.containers() if not name.startswith(PROBE + "/")]
        self._known = dict.fromkeys(found)
        return tuple(found)

    def retire(self, framework: str) -> None:
        """Remove the directories of a framework that has no container."""
        self._drop_spares()
        self._tree.drop_framework(framework)

    def prune(self, spared: Sequence[str]) -> None:
        """Remove the directories of all other frameworks that have no container."""
        self._tree.drop_frameworks((*spared, PROBE))

    def close(self, remove: bool) -> None:
        """Close what is open; `remove`: also the directories that are empty."""
        self._drop_spares()
        for descriptor in self._watches.values():
            if descriptor is not None:
                os.close(descriptor)
        self._watches.clear()
        if remove:
            self._tree.close()

    def _drop_spares(self) -> None:
        for name in self._spares.stale(everything=True):
            self.cleanup(name)

    def _launching(self, container: str) -> bool:
        """Whether a spared launcher is inside: killing at once would take it along."""
        inside = cgroupfs.pids_in(self._tree.directories(container)[0] + "/cgroup.procs")
        return any(pid in self._tree.spared for pid in inside)


def must_exist(path: str, what: str) -> None:
    """Raise LimitUnavailable when the kernel does not offer `path`."""
    if not os.path.exists(path):
        raise LimitUnavailable(
            f"{what} cannot be limited: this kernel has no {os.path.basename(path)}",
            "leave it out of --isolation",
        )
