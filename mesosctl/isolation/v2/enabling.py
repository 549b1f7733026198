"""Enabling cgroup v2 controllers in every cgroup from the mount down to those of containers.

A cgroup that has processes of its own cannot enable any; a container is a leaf and may have some.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.cgroupfs import write


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
