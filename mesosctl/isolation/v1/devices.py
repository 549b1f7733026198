"""cgroup v1, controller devices: refuses single devices to a container.

Its own hierarchy of containers, made for those tasks only that need it. Source: the kernel's
Documentation/admin-guide/cgroup-v1/devices.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from mesosctl.errors import LimitUnavailable, MesosctlError
from mesosctl.isolation.cgroupfs import write
from mesosctl.isolation.tree import Tree


class Devices:
    """Containers below `<mount>/<path>`; `home` is where this process is in that hierarchy."""

    def __init__(self, mount: str, home: str, path: str) -> None:
        self._tree = Tree([f"{mount}/{path}"])
        self._home = f"{home}/tasks"

    def deny(self, container: str, devices: Iterable[int]) -> None:
        """Make the container without access to these. Raises LimitUnavailable."""
        directories = self._tree.create(container)
        try:
            for device in devices:
                numbers = f"c {os.major(device)}:{os.minor(device)} rwm"
                write(directories[0] + "/devices.deny", numbers.encode())
        except MesosctlError:
            self._tree.undo(directories)
            raise

    def way(self, container: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that a launcher's thread writes itself into, on its way in and out."""
        return (self._tree.directories(container)[0] + "/tasks",), (self._home,)

    def containers(self) -> tuple[str, ...]:
        """Those that exist."""
        return self._tree.containers()

    def close(self) -> None:
        """Remove the directories above containers that are empty."""
        self._tree.close()

    def remove(self, container: str) -> None:
        """Remove it. Raises LimitUnavailable while something is inside."""
        if not self._tree.remove(container):
            raise LimitUnavailable(f"{container} is still busy in the controller devices")
        self._tree.drop_framework(container.partition("/")[0])
