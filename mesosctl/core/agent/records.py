"""What the agent keeps on disk, and its form there.

    meta        "agent"                 id, boot id, cluster, epoch, what it had when it was stopped
    frameworks  <framework>             its FrameworkInfo; whether it was removed
    tasks       <framework>/<task>      the TaskInfo and which executor may have been told of it
    progress    <framework>/<task>      the latest state and the updates nobody acknowledged
    executors   <executor>              its process and whose it is
    volumes     <role>:<id>             a persistent volume that was made; its data are elsewhere

Rules: a task is written before anybody is told to run it, its executor's name before that executor
is told; an update before it is acknowledged or passed on. Text of a task is written once, its
progress is small. A record that cannot be understood stops the agent: it never means "no task".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mesosctl.core.machine import Put
from mesosctl.errors import StorageFailed
from mesosctl.model.cluster import AgentInfo, FrameworkInfo
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import StatusUpdate, TaskInfo, TaskState
from mesosctl.model.volumes import Volume
from mesosctl.protocol.schema import from_plain, to_plain

META, FRAMEWORKS, TASKS = "meta", "frameworks", "tasks"
PROGRESS, EXECUTORS, VOLUMES = "progress", "executors", "volumes"
TABLES = (META, FRAMEWORKS, TASKS, PROGRESS, EXECUTORS, VOLUMES)
FORM = 1
NOBODY = ExecutorId("")
_NO_AGENT = AgentId("")
_NO_FRAMEWORK = FrameworkId("")
_Table = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose agent it is: the key of its master, empty where several lead in turns; and where its
    containers are.
    """

    server_key: str = ""
    cgroup_root: str = ""


@dataclass(frozen=True, slots=True)
class MetaRecord:
    """Who the agent is, and the boot of the host and the shape in which it last ran.

    `gone`: the master refuses this id for good, and has given its tasks up. `life`: how often it
    has been started, which tells the words of an earlier life from those of this one.
    """

    agent_id: AgentId = _NO_AGENT
    boot_id: str = ""
    cluster: str = ""
    epoch: int = 0
    name: str = ""
    total: Resources = field(default_factory=Resources)
    attributes: dict[str, str] = field(default_factory=dict)
    isolation: tuple[str, ...] = ()
    origin: Origin = Origin()
    gone: bool = False
    life: int = 0

    @classmethod
    def of(cls, info: AgentInfo, cluster: str, epoch: int, origin: Origin) -> MetaRecord:
        """What is kept of an agent as it is now."""
        return cls(
            info.agent_id,
            info.boot_id,
            cluster,
            epoch,
            info.name,
            info.total,
            info.attributes,
            info.isolation,
            origin,
        )


@dataclass(frozen=True, slots=True)
class FrameworkEntry:
    """A framework with tasks or an executor here."""

    info: FrameworkInfo
    removed: bool = False


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task. `executor_id` empty: certainly nobody was ever told to run it."""

    framework_id: FrameworkId
    info: TaskInfo
    number: int
    executor_id: ExecutorId = NOBODY


@dataclass(frozen=True, slots=True)
class ProgressEntry:
    """How far a task came. `updates` are those that nobody acknowledged, oldest first."""

    state: TaskState
    updates: tuple[StatusUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutorEntry:
    """An executor. `pid` 0: it was to be started, and nothing of it has been heard.

    `opening`: its session that registered last. What comes later of an earlier one is void, also in
    the agent's next life: it may lack tasks that the executor was handed since.
    """

    executor_id: ExecutorId
    framework_id: FrameworkId = _NO_FRAMEWORK
    pid: int = 0
    start_ticks: int = 0
    opening: int = 0


@dataclass(frozen=True, slots=True)
class AgentRecords:
    """Everything that an earlier run of the agent left behind."""

    meta: MetaRecord = MetaRecord()
    frameworks: tuple[FrameworkEntry, ...] = ()
    tasks: tuple[TaskEntry, ...] = ()
    progress: dict[str, ProgressEntry] = field(default_factory=dict)
    executors: tuple[ExecutorEntry, ...] = ()
    volumes: tuple[Volume, ...] = ()
    # Volumes of these whose data are not there, as far as the process has looked.
    lost: tuple[Volume, ...] = ()

    @classmethod
    def load(cls, tables: Mapping[str, _Table]) -> AgentRecords:
        """From the tables as they were put. Raises StorageFailed for what is not ours."""
        try:
            meta = tables.get(META, {}).get("agent")
            tasks = [from_plain(TaskEntry, dict(row)) for row in _rows(tables, TASKS)]
            tasks.sort(key=lambda entry: entry.number)
            return cls(
                MetaRecord() if meta is None else from_plain(MetaRecord, dict(meta)),
                tuple([from_plain(FrameworkEntry, dict(row)) for row in _rows(tables, FRAMEWORKS)]),
                tuple(tasks),
                {
                    key: from_plain(ProgressEntry, dict(row))
                    for key, row in tables.get(PROGRESS, {}).items()
                },
                tuple([from_plain(ExecutorEntry, dict(row)) for row in _rows(tables, EXECUTORS)]),
                tuple([from_plain(Volume, dict(row)) for row in _rows(tables, VOLUMES)]),
            )
        except ValueError as error:
            raise StorageFailed(
                f"the agent's records cannot be understood: {error}",
                "start the mesosctl that wrote them, or move the work directory away",
            ) from None


def _rows(tables: Mapping[str, _Table], name: str) -> list[Mapping[str, Any]]:
    return list(tables.get(name, {}).values())


def put(table: str, key: str, entry: Any) -> Put:
    """The effect that keeps one of the entries above."""
    return Put(table, key, to_plain(entry))
