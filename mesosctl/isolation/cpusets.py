"""cgroups/cpuset: whole CPUs for tasks that ask for them, each for one such task alone.

The kernel's own files say who has which: a CPU is free when no container of any agent below the
same cgroup root names it. One lock on the directory of that root keeps executors from choosing at
the same time; it is held for as long as a few small files are read and one is written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mesosctl.errors import LimitUnavailable, MesosctlError
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.base import CORES, Additions, Isolator, Limits, Place
from mesosctl.isolation.cgroupfs import parse_cpus, write
from mesosctl.isolation.v1.cpuset import CpusetV1
from mesosctl.isolation.v2.cpuset import CpusetV2

MILLI = 1000


class Cpusets(Isolator):
    """See the module."""

    name = "cgroups/cpuset"
    handles: tuple[str, ...] = (CORES,)
    not_enforced: tuple[str, ...] = (
        "tasks without whole cores may also run on the cores of tasks that have some "
        "(cgroups/cpuset)",
    )

    def open(self, place: Place) -> None:
        """Find the controller. Raises LimitUnavailable."""
        host = place.host
        mount = None if host is None else host.mount_of("cpuset")
        if host is None or mount is None:
            raise LimitUnavailable("the controller cpuset is not mounted", "leave it out")
        self._shared = f"{mount}/{place.root}"
        self._cpus_file = "cpuset.cpus"
        path = f"{place.root}/{place.agent_id}"
        home = host.homes.get(mount, mount)
        self._groups: CpusetV1 | CpusetV2
        if host.version == 1:
            self._groups = CpusetV1(mount, home, path)
        else:
            self._groups = CpusetV2(mount, home, path)
        self._groups.open()
        # Containers made here without CPUs of their own: nothing is to be removed of them.
        self._without: dict[str, None] = {}

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Choose CPUs that are free. Raises LimitUnavailable when there are too few."""
        if not limits.cores:
            self._without[container] = None
            return None
        if limits.cores * MILLI != limits.cpus_milli:
            raise LimitUnavailable("whole cores need a whole number of cpus", "ask for such a one")
        directory = self._groups.make(container)
        try:
            with self._alone():
                taken = self._taken()
                free = [cpu for cpu in self._groups.usable() if cpu not in taken]
                if len(free) < limits.cores:
                    raise LimitUnavailable(
                        f"only {len(free)} of {limits.cores} whole cores are free on this agent",
                        "others have them; ask for a share of all instead",
                    )
                chosen = ",".join(map(str, free[: limits.cores]))
                write(f"{directory}/{self._cpus_file}", chosen.encode())
        except MesosctlError:
            self._groups.remove(container)
            raise
        join, home = self._groups.way(container)
        return Additions({"MESOS_CORES": chosen}, join, home)

    def cleanup(self, container: str) -> None:
        """The CPUs are free with the removal of the container."""
        if container in self._without:
            del self._without[container]
            return
        if not self._groups.remove(container):
            raise LimitUnavailable(f"{container} is still busy in the controller cpuset")

    def recover(self) -> Sequence[str]:
        """Whoever has CPUs of its own."""
        return self._groups.containers()

    def close(self, remove: bool) -> None:
        """Remove what is above containers, as far as it is empty."""
        if remove:
            self._groups.close()

    def _taken(self) -> frozenset[int]:
        """The CPUs of every container of every agent below the same root."""
        taken: list[int] = []
        for agent in _children(self._shared):
            for framework in _children(agent):
                for container in _children(framework):
                    try:
                        text = cgroupfs.read(f"{container}/{self._cpus_file}").decode()
                    except OSError:
                        continue
                    taken += parse_cpus(text)
        return frozenset(taken)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self._shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
