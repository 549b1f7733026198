"""cgroup v2, controller cpuset: CPUs of containers that exist already in the one hierarchy."""

from __future__ import annotations

import os

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.v2.enabling import Enabler


class CpusetV2:
    """Containers below `<mount>/<path>`, which their holder makes and removes."""

    def __init__(self, mount: str, home: str, path: str) -> None:
        self._mount = mount
        self._top = f"{mount}/{path}"
        self._enable = Enabler(mount, ("cpuset",))

    def open(self) -> None:
        """Raises LimitUnavailable where it is not offered; it is enabled with the first need."""
        try:
            offered = cgroupfs.read(f"{self._mount}/cgroup.controllers").split()
        except OSError:
            offered = []
        if b"cpuset" not in offered:
            raise LimitUnavailable("cgroup v2 does not offer the controller cpuset here")

    def make(self, container: str) -> str:
        """Enable the controller for this container. Raises LimitUnavailable."""
        directory = f"{self._top}/{container}"
        if not os.path.isdir(directory):
            raise LimitUnavailable(
                "cgroups/cpuset needs a container in cgroup v2", "add cgroups/cpu to --isolation"
            )
        self._enable(os.path.dirname(directory))
        return directory

    def usable(self) -> tuple[int, ...]:
        """The CPUs that containers may have. Raises LimitUnavailable."""
        path = f"{self._top}/cpuset.cpus.effective"
        try:
            return cgroupfs.parse_cpus(cgroupfs.read(path).decode())
        except OSError as error:
            raise cgroupfs.refused(f"cannot read {path}", error) from error

    def way(self, container: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Nothing to join: the holder's own file is the way in."""
        return (), ()

    def containers(self) -> tuple[str, ...]:
        """None of our own."""
        return ()

    def close(self) -> None:
        """The holder removes its directories."""

    def remove(self, container: str) -> bool:
        """The holder has removed it."""
        return True
