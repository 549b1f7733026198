"""What the agent's machine wants done on its host, and what it is told about it.

Rules: a container is named `<framework>/<task>`, and its sandbox is found under the same name.
Every MakeSandbox is answered by exactly one of SandboxMade and SandboxFailed, every ReadFile by one
FileRead, MeasureDisk, ListSandboxes and RemoveSandboxes by one of DiskMeasured, SandboxesListed and
SandboxesRemoved, MakeVolume and RemoveVolume by one of VolumeMade and VolumeRemoved, every
KillContainers by ContainersGone and ContainersBusy about each of its containers.
An executor that was started or is watched ends in exactly one ExecutorExited.
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, Event
from mesosctl.model.ids import AgentId, ExecutorId
from mesosctl.model.records import dataclass
from mesosctl.model.volumes import Volume, VolumePlace


# --- effects --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OpenContainers(Effect):
    """The agent has its id: from now on containers below it can be killed and swept."""

    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class StartExecutor(Effect):
    """Start an executor process that outlives the agent."""

    executor_id: ExecutorId


@dataclass(frozen=True, slots=True)
class WatchExecutor(Effect):
    """Tell when this process ends; at once when it is not there, or is another process.

    `start_ticks` is when it started, in clock ticks since the host did; 0: not known, so that it
    cannot be told from another process and is taken for gone.
    """

    executor_id: ExecutorId
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class KillExecutor(Effect):
    """Send SIGKILL to a watched executor's process."""

    executor_id: ExecutorId


@dataclass(frozen=True, slots=True)
class MakeSandbox(Effect):
    """Make the directory of a task, owned by its user ("" is the agent's own).

    `fresh`: one that is there already shows that the task id was used before: a failure. Volumes
    become the user's, and links in the sandbox lead to them.
    """

    container: str
    user: str
    fresh: bool
    volumes: tuple[VolumePlace, ...] = ()


@dataclass(frozen=True, slots=True)
class MakeVolume(Effect):
    """Make the directory of a volume, empty: what lies there unknown is removed."""

    volume: Volume


@dataclass(frozen=True, slots=True)
class RemoveVolume(Effect):
    """Take a volume away at once, then remove what is in it; one that is not there is removed."""

    volume: Volume


@dataclass(frozen=True, slots=True)
class CloseVolumes(Effect):
    """No task uses these: until one does again only the agent can enter them."""

    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True)
class MarkEnded(Effect):
    """Set the time of the last change of these tasks' directories to now: they have ended."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasureDisk(Effect):
    """Say how full the disk of the sandboxes is; keep the executors' log within its bound."""


@dataclass(frozen=True, slots=True)
class ListSandboxes(Effect):
    """Find the `at_most` oldest sandboxes but for those named in `without`."""

    at_most: int
    without: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveSandboxes(Effect):
    """Take these sandboxes away at once, then remove what is in them; and empty directories.

    `frameworks`: directories of frameworks that may go if they are empty.
    """

    containers: tuple[str, ...]
    frameworks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KillContainers(Effect):
    """Kill every process of these containers and remove those that are empty."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveContainers(Effect):
    """Remove those of these containers that are empty, and leave the others alone."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SweepContainers(Effect):
    """Name every container that exists below the agent's id.

    `spared`: frameworks whose directories are in use; those of others go when they are empty.
    `is_routine` comes back with the answer.
    """

    spared: tuple[str, ...] = ()
    is_routine: bool = False


@dataclass(frozen=True, slots=True)
class AllowKey(Effect):
    """Let this public key connect to the data socket."""

    key: str


@dataclass(frozen=True, slots=True)
class ForgetKey(Effect):
    """Let no new connection of this key in; those that stand go on."""

    key: str


@dataclass(frozen=True, slots=True)
class ReadFile(Effect):
    """Read at most `bytes_max` of a sandbox's file from `offset`, or its last `tail_lines` lines.

    `tail_lines` below 0 means from `offset`. `token` comes back with the answer.
    """

    token: str
    container: str
    name: str
    offset: int
    bytes_max: int
    tail_lines: int = -1


# --- events ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ExecutorStarted(Event):
    """The process runs; `start_ticks` tells it from a later one of the same pid."""

    executor_id: ExecutorId
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class ExecutorExited(Event):
    """The process is not there any more, or could not be started. `text` says how it ended."""

    executor_id: ExecutorId
    text: str = ""


@dataclass(frozen=True, slots=True)
class SandboxMade(Event):
    """The task's directory exists at this absolute path."""

    container: str
    path: str


@dataclass(frozen=True, slots=True)
class SandboxFailed(Event):
    """There is no directory for the task. `kind`: failed, permission, root or used."""

    container: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class VolumeMade(Event):
    """The volume's directory is on the disk; with a `problem` it is not."""

    volume: Volume
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VolumeRemoved(Event):
    """Nothing of the volume is there any more; with a `problem` it is there as before."""

    volume: Volume
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DiskMeasured(Event):
    """Thousandths of the disk in use, of its blocks or of its files, whichever is scarcer."""

    used_milli: int


@dataclass(frozen=True, slots=True)
class SandboxesListed(Event):
    """The oldest sandboxes as (wall time of the end, container), oldest first.

    `is_whole`: there are no others. `empty`: directories of frameworks without any.
    """

    oldest: tuple[tuple[float, str], ...]
    is_whole: bool
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxesRemoved(Event):
    """How many were taken away. `stuck`: what is still there, and why."""

    removed: int
    stuck: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ContainersGone(Event):
    """Nothing of these containers is alive."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainersBusy(Event):
    """Something of these containers still lives, or is just dying."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainersFound(Event):
    """The containers that exist below the agent's id, whoever made them."""

    containers: tuple[str, ...]
    is_routine: bool = False


@dataclass(frozen=True, slots=True)
class FileRead(Event):
    """What ReadFile found: bytes at `offset`; `at_end`: the file holds no more just now.

    `missing`: there is no such file (yet); `gone`: there is not even a sandbox. A `problem` means
    that it cannot be read, ever. `dropped`: so many bytes before these were given back, because the
    stream has outgrown its limit; with lines counted from the end, none are told.
    """

    token: str
    offset: int
    data: bytes
    at_end: bool
    missing: bool = False
    problem: str = ""
    gone: bool = False
    dropped: int = 0
