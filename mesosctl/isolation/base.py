"""The values that isolation exchanges with the executor, and what an isolator must be able to do.

Rules: a container is named `<framework id>/<task id>`; a figure of 0 in Usage means "nothing was
measured", so that reading it never fails because a container has just gone away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesosctl.errors import InvariantBroken

# The executor puts both into a task's environment; the posix isolators find strays by them, and
# the agent's id keeps two agents on one host from taking each other's tasks for orphans.
CONTAINER_ENV = "MESOSCTL_CONTAINER"
AGENT_ENV = "MESOSCTL_AGENT_ID"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use: CPUs in thousandths, bytes of memory (None: any), processes.

    The process or thread that joins a container counts against `pids` until its launch is over,
    so a controller may allow a few more than a very small value.
    """

    cpus_milli: int
    mem_bytes: int | None
    pids: int


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """How a launcher enters a container before it spawns, and leaves it afterwards.

    `by` is "thread" (v1: write the thread's own id into each of `files` in this order, later into
    each of `home` in its own order, which is the reverse), "process" (v2: the process id into the
    one file, then back) or "none".
    """

    files: tuple[str, ...]
    home: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used so far. 0 means that nothing measured it.

    `oom_kills` counts its processes that the kernel killed for want of memory, in the container
    or in the whole host; `mem_peak_bytes` close to `mem_limit_bytes` tells which of both it was.
    """

    cpu_user_s: float
    cpu_system_s: float
    mem_peak_bytes: int
    mem_limit_bytes: int | None
    oom_kills: int


@dataclass(frozen=True, slots=True)
class Violation:
    """A container found above a limit that no kernel enforces; the executor kills it."""

    container: str
    kind: str
    peak_bytes: int
    limit_bytes: int


class Isolator(Protocol):
    """One resource of every container, limited or measured. Plug-ins implement this."""

    name: str

    @property
    def not_enforced(self) -> Sequence[str]:
        """Plain sentences about what this isolator does not keep a task from doing."""

    @property
    def sample_interval_s(self) -> float | None:
        """How often `sample` wants to be called; None: never."""

    def prepare(self, container: str, limits: Limits) -> None:
        """Put the limits in place before the first process. Raises LimitUnavailable."""

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""

    def reaped(self, container: str, user_s: float, system_s: float, peak_bytes: int) -> None:
        """What wait4 told about the first process, for isolators that have no other source."""

    def sample(self) -> list[Violation]:
        """Measure, remember peaks, and name the containers above their limits."""

    def usage(self, container: str, so_far: Usage) -> Usage:
        """`so_far` with the figures that this isolator measures filled in."""

    def cleanup(self, container: str) -> None:
        """Forget the container, which is empty. Unknown names are harmless."""


def check_name(container: str) -> str:
    """`container` itself. Raises InvariantBroken for what could lead to another directory."""
    if _NAME.match(container) is None:
        raise InvariantBroken(f"not a container name: {container[:60]!r}")
    return container
