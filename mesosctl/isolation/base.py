"""The values that isolation exchanges with the executor, and what an isolator must be able to do.

Rules: a container is named `<framework id>/<task id>`; a figure of 0 in Usage means "nothing was
measured", so that reading it never fails because a container has just gone away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mesosctl.errors import InvariantBroken
from mesosctl.isolation.detect import Detection
from mesosctl.model.records import dataclass

# The executor puts both into a task's environment; the posix isolators find strays by them, and
# the agent's id keeps two agents on one host from taking each other's tasks for orphans.
CONTAINER_ENV = "MESOSCTL_CONTAINER"
AGENT_ENV = "MESOSCTL_AGENT_ID"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


# The words for what a task may ask for beside CPU time, memory and processes. An isolator says in
# `handles` which of them it answers for; a task that asks for what nobody handles is refused.
DISK, GPUS, PORTS, CORES, RLIMITS, PRIVATE_TMP, PRIVATE_PIDS = (
    "disk",
    "gpus",
    "ports",
    "cores",
    "rlimits",
    "private-tmp",
    "private-pids",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use: CPUs in thousandths, bytes of memory (None: any), processes.

    The process or thread that joins a container counts against `pids` until its launch is over,
    so a controller may allow a few more than a very small value. What follows is only asked for by
    some tasks: bytes that its sandbox may occupy, whole GPUs, closed ranges of ports, `cores`
    whole CPUs of its own (0: a share of all), rlimits by name as (soft, hard) with None for no
    limit, a private /tmp or pid namespace ("tmp", "pids"). `others` are the scalars of its
    resources under other names, in thousandths, for plug-ins. `sandbox` is its directory.
    """

    cpus_milli: int
    mem_bytes: int | None
    pids: int
    disk_bytes: int | None = None
    gpus: int = 0
    ports: tuple[tuple[int, int], ...] = ()
    cores: int = 0
    rlimits: Mapping[str, tuple[int | None, int | None]] | None = None
    private: tuple[str, ...] = ()
    others: Mapping[str, int] | None = None
    sandbox: str = ""

    def requests(self) -> tuple[str, ...]:
        """The words for what this task asks for beside CPU time, memory and processes."""
        found: list[str] = []
        if self.disk_bytes is not None:
            found.append(DISK)
        if self.gpus:
            found.append(GPUS)
        if self.ports:
            found.append(PORTS)
        if self.cores:
            found.append(CORES)
        if self.rlimits:
            found.append(RLIMITS)
        return (*found, *[f"private-{name}" for name in self.private])


@dataclass(frozen=True, slots=True)
class Additions:
    """What an isolator adds to the launch of a container.

    `env` is set for the task. A launcher's thread (v1) writes its id into each of `join`, and into
    each of `home` on its way back. `helper` are settings for the helper that is executed in place
    of the task and then becomes it (runtime/task_helper.py); without any there is no helper.
    """

    env: Mapping[str, str] | None = None
    join: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    helper: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """How a launcher enters a container before it spawns, and leaves it afterwards.

    `by` is "thread" (v1: write the thread's own id into each of `files` in this order, later into
    each of `home` in its own order, which is the reverse), "process" (v2: the process id into the
    one file, then back) or "none". `env` and `helper` as in Additions.
    """

    files: tuple[str, ...]
    home: tuple[str, ...]
    by: str
    env: Mapping[str, str] | None = None
    helper: Mapping[str, object] | None = None


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
    disk_bytes: int = 0
    disk_limit_bytes: int | None = None
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    switches: int = 0


@dataclass(frozen=True, slots=True)
class Reaped:
    """What wait4 told about the first process of a container and the children it waited for."""

    user_s: float = 0.0
    system_s: float = 0.0
    peak_bytes: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    switches: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A container found above a limit that no kernel enforces; the executor kills it.

    `kind` is "mem", "disk", or a word of a plug-in's own; the figures are bytes for the first two.
    """

    container: str
    kind: str
    peak_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an isolator works: whose containers, below which cgroup root, and a directory.

    `state_dir` is shared by all processes of one agent and outlives them; empty where there is
    none. What must be true of all frameworks' containers together belongs there. `host` says where
    cgroups are mounted.
    """

    agent_id: str
    root: str
    state_dir: str = ""
    host: Detection | None = None


class Isolator:
    """One resource of every container, limited or measured. Plug-ins derive from this.

    Every method but `prepare` may do nothing, and none is called that was not overridden. For a
    container they come in this order: prepare, isolate, any of watch, update and usage, reaped,
    cleanup; several isolators are prepared in the order of `--isolation` and cleaned up in the
    reverse. One thread calls, and no call waits: executors call this from their loop.

    `name` is what `--isolation` and `mesosctl agents` show. `handles` are requests (see Limits)
    that it answers for, `not_enforced` plain sentences about what it lets a task do all the same,
    `sample_interval_s` how often `watch` wants to be called (None: never).

    The agent, its executors and their guard open it each for themselves. So `cleanup` may be
    called where `prepare` was not: what is to be undone must be found outside of this process.
    """

    name = ""
    handles: tuple[str, ...] = ()
    not_enforced: tuple[str, ...] = ()
    sample_interval_s: float | None = None

    def open(self, place: Place) -> None:
        """Once, before anything else. Raises LimitUnavailable when this host cannot do it."""

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Put the limits in place before the first process. Raises LimitUnavailable.

        The container exists, and is removed again when this or a later isolator refuses it.
        """

    def isolate(self, container: str, pid: int) -> None:
        """The first process runs; it leads a session of its own."""

    def watch(self) -> list[Violation]:
        """Measure, remember peaks, and name the containers above their limits."""
        return []

    def update(self, container: str, limits: Limits) -> None:
        """Give a container that runs other limits. Raises LimitUnavailable, the old ones left."""

    def usage(self, container: str, so_far: Usage) -> Usage:
        """`so_far` with the figures that this isolator measures filled in."""
        return so_far

    def reaped(self, container: str, told: Reaped) -> None:
        """The first process has ended, for isolators that have no other source of figures."""

    def cleanup(self, container: str) -> None:
        """Undo `prepare`; nothing is inside any more. Unknown names and repetitions are harmless.

        Raises LimitUnavailable when it cannot be done now: it is called again.
        """

    def recover(self) -> Sequence[str]:
        """The containers for which something is held, whoever prepared them.

        After a restart. What is held for a container that is not there any more is cleaned up.
        """
        return ()

    def close(self, remove: bool) -> None:
        """Give back what is held open; `remove`: also what is empty and not of any container."""


def check_name(container: str) -> str:
    """`container` itself. Raises InvariantBroken for what could lead to another directory."""
    if _NAME.match(container) is None:
        raise InvariantBroken(f"not a container name: {container[:60]!r}")
    return container
