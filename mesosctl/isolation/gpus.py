"""gpu/devices: gives each task whole GPUs of its own, and as far as the kernel helps no others.

A task finds the numbers of its GPUs in CUDA_VISIBLE_DEVICES, one without GPUs finds it empty. On
cgroup v1 the devices controller refuses it all others (v1/devices.py). cgroup v2 has no such files,
only programs loaded into the kernel, which is not done here: there the variable is all.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import GPUS, Additions, Isolator, Limits, Place
from mesosctl.isolation.claims import Claims
from mesosctl.isolation.v1.devices import Devices

_DEVICE = re.compile(r"nvidia([0-9]{1,3})")


class Gpus(Isolator):
    """See the module. `dev`: the directory of the devices."""

    name = "gpu/devices"
    handles: tuple[str, ...] = (GPUS,)
    not_enforced: tuple[str, ...] = ()

    def __init__(self, dev: str = "/dev") -> None:
        self._dev = dev
        self._numbers: dict[str, int] = {}
        self._claims = Claims("", "GPU")
        self._devices: Devices | None = None

    def open(self, place: Place) -> None:
        """Find the GPUs. Raises LimitUnavailable when there is none, or no place for claims."""
        self._numbers = _found(self._dev)
        if not self._numbers:
            raise LimitUnavailable(
                f"gpu/devices finds no {self._dev}/nvidia0", "load the driver, or leave it out"
            )
        self._claims = Claims(f"{place.state_dir}/gpus" if place.state_dir else "", "GPU")
        host = place.host
        mount = host.mounts.v1.get("devices") if host is not None else None
        if mount is not None and host is not None:
            home = host.homes.get(mount.directory, mount.directory)
            self._devices = Devices(mount.directory, home, f"{place.root}/{place.agent_id}")
            self.not_enforced = ()
        else:
            self.not_enforced = (
                "a task may open GPUs that it was not given: they are only hidden by "
                "CUDA_VISIBLE_DEVICES (gpu/devices without the cgroup v1 controller devices)",
            )

    def prepare(self, container: str, limits: Limits) -> Additions:
        """Claim GPUs and refuse the others. Raises LimitUnavailable when too few are free."""
        names = sorted(self._numbers, key=int)
        mine: tuple[str, ...] = ()
        if limits.gpus:
            mine = self._claims.take(container, names, limits.gpus)
        env = {"CUDA_VISIBLE_DEVICES": ",".join(mine), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        if self._devices is None:
            return Additions(env)
        others = [self._numbers[name] for name in names if name not in mine]
        self._devices.deny(container, others)
        join, home = self._devices.way(container)
        return Additions(env, join, home)

    def cleanup(self, container: str) -> None:
        """The GPUs are free again once nothing can hold them open."""
        if self._devices is not None:
            self._devices.remove(container)
        self._claims.give_back(container)

    def close(self, remove: bool) -> None:
        """Remove what is above containers, as far as it is empty."""
        if remove and self._devices is not None:
            self._devices.close()

    def recover(self) -> Sequence[str]:
        """Whoever held GPUs, or was refused some."""
        made = () if self._devices is None else self._devices.containers()
        return tuple(dict.fromkeys((*self._claims.settled(), *made)))


def _found(dev: str) -> dict[str, int]:
    """The character devices of GPUs: number as text, to device number of the kernel."""
    found: dict[str, int] = {}
    try:
        names = os.listdir(dev)
    except OSError:
        return found
    for name in names:
        match = _DEVICE.fullmatch(name)
        if match is not None:
            status = os.stat(f"{dev}/{name}")
            if stat.S_ISCHR(status.st_mode):
                found[match[1]] = status.st_rdev
    return found
