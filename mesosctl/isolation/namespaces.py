"""namespaces/tmp and namespaces/pid: a /tmp of its own, and a view of its own processes alone.

The helper that becomes the task makes them (runtime/task_helper.py), so only tasks that ask for
them pay for it. /tmp and /var/tmp become the directory `tmp` of the sandbox. With a pid namespace
two small processes stay beside the task, as its parent and as the init of the namespace; they
count against its limits of memory and processes.
"""

from __future__ import annotations

import os

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import (
    PRIVATE_PIDS,
    PRIVATE_TMP,
    Additions,
    Isolator,
    Limits,
    Place,
)
from mesosctl.isolation.cgroupfs import read

PUBLIC = ("/tmp", "/var/tmp")  # noqa: S108 - these are what is replaced
_CAP_SYS_ADMIN = 21


def may_unshare(proc: str = "/proc") -> bool:
    """Whether this process may make namespaces and mounts."""
    try:
        for line in read(f"{proc}/self/status").splitlines():
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    except (OSError, ValueError, IndexError):
        return False
    return False


class _Namespace(Isolator):
    """What both have in common."""

    key = ""

    def open(self, place: Place) -> None:
        """Raises LimitUnavailable for whoever may not."""
        if os.geteuid() != 0 or not may_unshare():
            raise LimitUnavailable(
                f"{self.name} needs root with CAP_SYS_ADMIN", "leave it out of --isolation"
            )


class PrivateTmp(_Namespace):
    """A /tmp and /var/tmp that nobody else sees."""

    name = "namespaces/tmp"
    handles: tuple[str, ...] = (PRIVATE_TMP,)

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Have the helper make it. Raises LimitUnavailable where it would hide the sandbox."""
        if "tmp" not in limits.private:
            return None
        sandbox = os.path.realpath(limits.sandbox)
        for public in PUBLIC:
            if f"{sandbox}/".startswith(f"{os.path.realpath(public)}/"):
                raise LimitUnavailable(
                    f"a private /tmp would hide the sandbox {sandbox}",
                    "start the agent with a --work-dir elsewhere",
                )
        return Additions(helper={"private-tmp": list(PUBLIC)})


class PrivatePids(_Namespace):
    """Processes that see no others, and all end with their first."""

    name = "namespaces/pid"
    handles: tuple[str, ...] = (PRIVATE_PIDS,)

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Have the helper make it."""
        return Additions(helper={"private-pids": True}) if "pids" in limits.private else None
