"""The directories of containers in one or more hierarchies, and the processes inside them.

Owns creating, listing, killing and removing `<top>/<framework>/<task>` where `top` is
`<mount>/<root>/<agent id>`. Rules: the same container has the same name in every hierarchy;
what was made is undone in reverse when a later step fails; no path outside a `top` is touched.

How a fork bomb ends (`kill` with a limit of processes): first `pids.max` becomes 0. The kernel
charges a fork before it creates the process and refuses one when a fatal signal is pending, so
after that write only forks already charged can still add a process, and only while their parents
live. The first round kills everything listed, which are all those parents; the second finds all
that they could still add, and those cannot fork. A freezer would cost a third more per task.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence

from mesosctl.errors import LimitUnavailable, MesosctlError
from mesosctl.isolation import cgroupfs

# Without a limit of processes the loop is a race that it nearly always wins; it must end anyway.
_ROUNDS_MAX = 500
_BUSY = (errno.EBUSY, errno.ENOTEMPTY)


class Tree:
    """Containers as directories below each of `tops`.

    `after_make(directory)` is called for every directory above a container once it exists (v2
    enables controllers there). `stop_forks(directories)` makes `kill` provable, see above.
    """

    def __init__(
        self,
        tops: Sequence[str],
        *,
        after_make: Callable[[str], None] | None = None,
    ) -> None:
        self.tops = tuple(tops)
        self._after_make = after_make
        self.spared: frozenset[int] = frozenset((os.getpid(), 0, 1))

    def spare(self, pid: int) -> None:
        """The launcher, inside a container for a moment, is never a process of it.

        Only the last one named: the id of an earlier launcher may be a task's process by now.
        """
        self.spared = frozenset((os.getpid(), 0, 1, pid))

    def directories(self, container: str) -> tuple[str, ...]:
        """The container's directory in each hierarchy."""
        return tuple([f"{top}/{container}" for top in self.tops])

    def open(self) -> None:
        """Create the tops. Raises LimitUnavailable."""
        for top in self.tops:
            self._make_above(top)

    def create(self, container: str) -> tuple[str, ...]:
        """Create the container everywhere or nowhere. Raises LimitUnavailable."""
        made: list[str] = []
        try:
            for top in self.tops:
                directory = f"{top}/{container}"
                self._make(directory)
                made.append(directory)
        except MesosctlError:
            self.undo(made)
            raise
        return tuple(made)

    def undo(self, made: Sequence[str]) -> None:
        """Remove what `create` made, the last first; nobody has entered it yet."""
        for directory in reversed(made):
            _drop(directory)

    def processes(self, container: str, *, everywhere: bool = False) -> tuple[int, ...]:
        """Process ids inside, ascending. `everywhere`: of all hierarchies, not only the first."""
        found: dict[int, None] = {}
        for directory in self.directories(container)[: None if everywhere else 1]:
            self._list(directory, found)
            if cgroupfs.has_children(directory):
                for child in cgroupfs.below(directory):
                    self._list(child, found)
        return tuple(sorted(pid for pid in found if pid not in self.spared))

    def is_empty(self, container: str) -> bool:
        """Whether nothing is inside, in any hierarchy, also no launcher on its way through."""
        found: dict[int, None] = {}
        for directory in self.directories(container):
            self._list(directory, found)
            if found:
                return False
            if cgroupfs.has_children(directory):
                for child in cgroupfs.below(directory):
                    self._list(child, found)
        return not found

    def is_plain(self, container: str) -> bool:
        """Whether nothing is inside, nor a cgroup that somebody made there, in any hierarchy."""
        for directory in self.directories(container):
            if cgroupfs.has_children(directory):
                return False
            try:
                if cgroupfs.read(directory + "/cgroup.procs"):
                    return False
            except OSError:
                return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Give an empty container another name below the same framework (v1 only). OSError.

        Half of it may be done then.
        """
        for top in self.tops:
            os.rename(f"{top}/{old}", f"{top}/{new}")
            cgroupfs.moved(f"{top}/{old}", f"{top}/{new}")

    def signal(self, container: str, signum: int) -> int:
        """Send a signal to every process inside; returns how many got it."""
        return sum(send(pid, signum) for pid in self.processes(container, everywhere=True))

    def kill(self, container: str, stop_forks: Callable[[], None] | None) -> None:
        """SIGKILL everything inside until a round finds nothing new. Does not wait for the end."""
        if stop_forks is not None:
            stop_forks()
        seen: dict[int, None] = {}
        for _ in range(_ROUNDS_MAX):
            pids = self.processes(container, everywhere=True)
            fresh = [pid for pid in pids if pid not in seen]
            for pid in pids:
                send(pid, signal.SIGKILL)
            if not fresh:
                return
            seen.update(dict.fromkeys(fresh))

    def remove(self, container: str) -> bool:
        """Remove the container everywhere; False while something is still inside."""
        gone = True
        for directory in reversed(self.directories(container)):
            gone &= self._remove(directory)
        return gone

    def containers(self) -> tuple[str, ...]:
        """Every `<framework>/<task>` that exists in any hierarchy, sorted."""
        found: dict[str, None] = {}
        for top in self.tops:
            for framework in _children(top):
                for task in _children(f"{top}/{framework}"):
                    found[f"{framework}/{task}"] = None
        return tuple(sorted(found))

    def drop_framework(self, framework: str) -> None:
        """Remove the directory of a framework if it has no container any more."""
        for top in self.tops:
            _drop(f"{top}/{framework}")

    def drop_frameworks(self, spared: Sequence[str]) -> None:
        """The same for every framework but these; whoever needs one again makes it again."""
        for top in self.tops:
            for framework in _children(top):
                if framework not in spared:
                    _drop(f"{top}/{framework}")

    def close(self) -> None:
        """Remove the frameworks without containers, then the tops and their parents if empty."""
        for top in self.tops:
            for framework in _children(top):
                _drop(f"{top}/{framework}")
            if _drop(top):
                _drop(os.path.dirname(top))

    def _list(self, directory: str, found: dict[int, None]) -> None:
        found.update(dict.fromkeys(cgroupfs.pids_in(directory + "/cgroup.procs")))

    def _make(self, directory: str) -> None:
        try:
            cgroupfs.make_dir(directory)
            return
        except FileNotFoundError:
            self._make_above(os.path.dirname(directory))
        except FileExistsError:
            # Ids are unique per attempt: a leftover of one that ended badly. Its counters are
            # not ours, so it must go first.
            if not self._remove(directory):
                raise LimitUnavailable(
                    f"cannot create {directory}: it exists and is in use",
                    "end the processes in its cgroup.procs",
                ) from None
        except OSError as error:
            raise cgroupfs.refused(f"cannot create {directory}", error) from error
        try:
            cgroupfs.make_dir(directory)
        except OSError as error:
            raise cgroupfs.refused(f"cannot create {directory}", error) from error

    def _make_above(self, directory: str) -> None:
        """Create a directory above containers with its parents, the mount itself excluded."""
        missing: list[str] = []
        path = directory
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                cgroupfs.make_dir(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise cgroupfs.refused(f"cannot create {path}", error) from error
        if self._after_make is not None:
            self._after_make(directory)

    def _remove(self, directory: str) -> bool:
        try:
            cgroupfs.remove_dir(directory)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in _BUSY or not cgroupfs.has_children(directory):
                return False
        # A task that may write here has made cgroups of its own inside its container.
        for path in (*cgroupfs.below(directory), directory):
            _drop(path)
        return not os.path.isdir(directory)


def send(pid: int, signum: int) -> bool:
    """Send a signal; False when there is no such process or it may not be signalled."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _drop(directory: str) -> bool:
    try:
        cgroupfs.remove_dir(directory)
    except OSError:
        # Not empty, or somebody else removed it: both are fine.
        return False
    return True


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
