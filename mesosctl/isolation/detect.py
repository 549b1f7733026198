"""Which isolation this host could offer, from the text of its mount table alone.

Rules: pure text in, values out; whether the directories can be written is found out by trying,
when the isolation is opened. On a hybrid host the v1 controllers win, because a controller is
either in v1 or in v2 and the cgroup2 mount of such hosts has none of those that matter here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.isolation.cgroupfs import UNIFIED, Mounts, own_directory, parse_mounts
from mesosctl.model.records import dataclass

# Isolator to the controller that it needs.
NEEDS = {"cgroups/cpu": "cpu", "cgroups/mem": "memory", "cgroups/pids": "pids"}


@dataclass(frozen=True, slots=True)
class Detection:
    """What is mounted: `version` is 0 (no cgroups), 1 or 2.

    `missing` says for each isolator of NEEDS that cannot be had why not; `homes` maps a mounted
    directory to the cgroup in it where this process is.
    """

    mode: str
    version: int
    mounts: Mounts
    missing: Mapping[str, str]
    homes: Mapping[str, str]

    def mount_of(self, controller: str) -> str | None:
        """The directory where this controller is mounted, None when it is not."""
        if self.version == 2 and self.mounts.unified is not None:
            return self.mounts.unified.directory
        mount = self.mounts.v1.get(controller)
        return None if mount is None else mount.directory


def detect(mountinfo: str, own: Mapping[str, str], unified_controllers: str = "") -> Detection:
    """Judge the texts of a host.

    `mountinfo` is /proc/self/mountinfo, `own` comes from cgroupfs.own_groups, and
    `unified_controllers` is cgroup.controllers of the cgroup2 mount.
    """
    mounts = parse_mounts(mountinfo)
    offered = unified_controllers.split()
    in_v1 = [name for name in NEEDS.values() if name in mounts.v1]
    in_v2 = [name for name in NEEDS.values() if name in offered]
    version = 1 if in_v1 else 2 if mounts.unified is not None else 0
    missing: dict[str, str] = {}
    for isolator, controller in NEEDS.items():
        if version == 0:
            missing[isolator] = "no cgroup file system is mounted"
        elif version == 1 and controller not in in_v1:
            missing[isolator] = f"the cgroup v1 controller {controller} is not mounted"
        elif version == 2 and controller not in in_v2:
            missing[isolator] = f"cgroup v2 does not offer the controller {controller} here"
    return Detection(mounts.mode, version, mounts, missing, _homes(mounts, own))


def _homes(mounts: Mounts, own: Mapping[str, str]) -> dict[str, str]:
    homes: dict[str, str] = {}
    for controller, mount in mounts.v1.items():
        if controller in own:
            homes[mount.directory] = own_directory(mount, own[controller])
    if mounts.unified is not None:
        homes[mounts.unified.directory] = own_directory(mounts.unified, own.get(UNIFIED, "/"))
    return homes
