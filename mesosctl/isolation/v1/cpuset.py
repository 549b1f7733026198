"""cgroup v1, controller cpuset: containers in a hierarchy of their own, for tasks with whole CPUs.

A new cgroup has no CPUs and no memory nodes, and takes no process before it has both: what is
above containers gets its parent's. Source: the kernel's admin-guide/cgroup-v1/cpusets.rst.
"""

from __future__ import annotations

from mesosctl.isolation import cgroupfs
from mesosctl.isolation.cgroupfs import write
from mesosctl.isolation.tree import Tree

_FILES = ("cpuset.cpus", "cpuset.mems")


class CpusetV1:
    """Containers below `<mount>/<path>`; `home` is where this process is in that hierarchy."""

    def __init__(self, mount: str, home: str, path: str) -> None:
        self._mount = mount
        self._top = f"{mount}/{path}"
        self._home = f"{home}/tasks"
        self._tree = Tree([self._top], after_make=self._fill)

    def open(self) -> None:
        """Make what is above containers. Raises LimitUnavailable."""
        self._tree.open()

    def _fill(self, directory: str) -> None:
        path = self._mount
        for name in directory[len(self._mount) :].strip("/").split("/"):
            above, path = path, f"{path}/{name}"
            for file in _FILES:
                try:
                    if not cgroupfs.read(f"{path}/{file}").strip():
                        write(f"{path}/{file}", cgroupfs.read(f"{above}/{file}").strip())
                except OSError as error:
                    raise cgroupfs.refused(f"cannot read {path}/{file}", error) from error

    def make(self, container: str) -> str:
        """Make a container that has memory nodes and no CPU yet. Raises LimitUnavailable."""
        (directory,) = self._tree.create(container)
        try:
            nodes = cgroupfs.read(f"{self._top}/cpuset.mems").strip()
        except OSError as error:
            raise cgroupfs.refused(f"cannot read {self._top}/cpuset.mems", error) from error
        write(f"{directory}/cpuset.mems", nodes)
        return directory

    def usable(self) -> tuple[int, ...]:
        """The CPUs that containers may have. Raises LimitUnavailable."""
        try:
            return cgroupfs.parse_cpus(cgroupfs.read(f"{self._top}/cpuset.cpus").decode())
        except OSError as error:
            raise cgroupfs.refused(f"cannot read {self._top}/cpuset.cpus", error) from error

    def way(self, container: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that a launcher's thread writes itself into, on its way in and out."""
        return (f"{self._top}/{container}/tasks",), (self._home,)

    def containers(self) -> tuple[str, ...]:
        """Those that exist."""
        return self._tree.containers()

    def close(self) -> None:
        """Remove the directories above containers that are empty."""
        self._tree.close()

    def remove(self, container: str) -> bool:
        """Remove it; False while something is inside."""
        if not self._tree.remove(container):
            return False
        self._tree.drop_framework(container.partition("/")[0])
        return True
