"""Isolation: one container per task, enforced and measured by the kernel where it can be.

Owns everything that is written to cgroup file systems and read from /proc about tasks.
Rules: nothing outside `<root>/<agent id>` is written (but for the v2 controllers that must be
enabled above it); a limit that cannot be applied is an error or a sentence in `not_enforced`,
never silence; nobody sleeps here, because executors call this from their loop.
"""

from mesosctl.isolation.base import (
    AGENT_ENV,
    CONTAINER_ENV,
    Additions,
    Isolator,
    JoinPlan,
    Limits,
    Place,
    Reaped,
    Usage,
    Violation,
)
from mesosctl.isolation.choose import open_isolation
from mesosctl.isolation.compose import Isolation
from mesosctl.isolation.detect import Detection, detect

__all__ = [
    "AGENT_ENV",
    "CONTAINER_ENV",
    "Additions",
    "Detection",
    "Isolation",
    "Isolator",
    "JoinPlan",
    "Limits",
    "Place",
    "Reaped",
    "Usage",
    "Violation",
    "detect",
    "open_isolation",
]
