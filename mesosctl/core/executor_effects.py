"""What the executor's machine wants done to containers, and what it is told about them.

Rules: a container is named `<framework>/<task>`. The shell carries effects out in order; a Spawn
whose Prepare failed is not carried out, the LaunchFailed that Prepare answered with stands for
both. The death of a spawner is the shell's own affair: what was not begun it orders again, what
was begun it reports as started, so the machine never hears of it. Every Spawn is answered by
exactly one of TaskStarted, LaunchFailed and, if a Recall came in time, LaunchRecalled; every
TaskStarted is followed by exactly one MainExited, every Drain answered by exactly one of
ContainerEmptied and ContainerBusy.
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, Event
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Usage
from mesosctl.protocol.messages.agent import ExecutorLaunch


# --- effects --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Prepare(Effect):
    """Make the container with its limits: thousandths of a CPU, bytes (None: any), processes.

    What else the task asks for stands in its `launch`.
    """

    container: str
    cpus_milli: int
    mem_bytes: int | None
    pids: int
    launch: ExecutorLaunch | None = None


@dataclass(frozen=True, slots=True)
class Resize(Effect):
    """Give a container that runs other limits, as in Prepare. Only a failure is answered."""

    container: str
    cpus_milli: int
    mem_bytes: int | None
    pids: int
    launch: ExecutorLaunch | None = None


@dataclass(frozen=True, slots=True)
class Spawn(Effect):
    """Start the task inside its prepared container, at once or `after` another container.

    Then it may be started without another word once the first process of that one has ended and
    left nothing behind, unless the monotonic time is `due` by then; and it is to be on Begin.
    """

    launch: ExecutorLaunch
    after: str = ""
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Begin(Effect):
    """Start what was to start after another container, unless that has happened already."""

    container: str


@dataclass(frozen=True, slots=True)
class Recall(Effect):
    """Do not start what was to start after another container. Not answered if it has begun."""

    container: str


@dataclass(frozen=True, slots=True)
class SignalContainer(Effect):
    """Send a signal to every process of the container."""

    container: str
    signum: int


@dataclass(frozen=True, slots=True)
class KillContainer(Effect):
    """Send SIGKILL to every process of the container, forks of theirs included."""

    container: str


@dataclass(frozen=True, slots=True)
class Drain(Effect):
    """The first process has ended: kill what is left, and say whether the container is empty."""

    container: str


@dataclass(frozen=True, slots=True)
class Remove(Effect):
    """Remove the empty container. Only a failure is answered. `tries`: how often it failed."""

    container: str
    tries: int = 0


@dataclass(frozen=True, slots=True)
class FeedStdin(Effect):
    """Write to the task's stdin when it takes it; `eof` closes it after all that."""

    container: str
    data: bytes
    eof: bool


@dataclass(frozen=True, slots=True)
class Sample(Effect):
    """Measure every container; those above a limit come back as LimitExceeded."""


@dataclass(frozen=True, slots=True)
class GuardLease(Effect):
    """Have the guard end this container once its lease has run out, should we not be there to.

    Times in seconds of CLOCK_BOOTTIME. From now on the leases of all guarded containers count
    from `renewed_at`.
    """

    container: str
    lease_s: float
    renewed_at: float


@dataclass(frozen=True, slots=True)
class RenewGuard(Effect):
    """The leases of all guarded containers count from here."""

    renewed_at: float


@dataclass(frozen=True, slots=True)
class UnguardLease(Effect):
    """This container has no lease any more."""

    container: str


@dataclass(frozen=True, slots=True)
class WakeAt(Effect):
    """Have a Tick at this time of CLOCK_BOOTTIME, also if the host was suspended until then."""

    boot: float


# --- events ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TaskStarted(Event):
    """The task runs; `pid` is its first process and leads a session of its own."""

    container: str
    pid: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class LaunchFailed(Event):
    """Nothing was started. `text` says what, why and what to try in one line.

    `stage`: limit, permission, spawner (it is this host's fault, not the task's), or one of the
    spawner's. `exit_code` is 126 or 127 when a shell would have said so.
    """

    container: str
    stage: str
    text: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class LaunchRecalled(Event):
    """Nothing was started, as Recall asked; its container is prepared still."""

    container: str


@dataclass(frozen=True, slots=True)
class MainExited(Event):
    """The first process ended: either with an exit code or by a signal."""

    container: str
    exit_code: int | None = None
    signum: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerEmptied(Event):
    """Nothing of the task is alive. `oom_kills`: its processes killed for want of memory."""

    container: str
    usage: Usage
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class ContainerBusy(Event):
    """Something of the container still lives, or is just dying."""

    container: str


@dataclass(frozen=True, slots=True)
class RemoveFailed(Event):
    """The container is still there, with the `tries` of the Remove that did not do it."""

    container: str
    tries: int


@dataclass(frozen=True, slots=True)
class ResizeFailed(Event):
    """The container keeps its limits, and why."""

    container: str
    text: str


@dataclass(frozen=True, slots=True)
class LimitExceeded(Event):
    """A container was found above a limit that no kernel enforces.

    `kind` is "mem" or "disk", and then the figures are bytes, or a word of some plug-in's own.
    """

    container: str
    kind: str
    peak_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class StdinProgress(Event):
    """The task's stdin was given everything below `offset`. `closed`: it takes no more."""

    container: str
    offset: int
    closed: bool = False
