"""Jobs of the batch framework: what is submitted, the states users see, what is told of them.

Rules: a job is one record and its tasks are numbered; a task exists as a record of its own only
from its first attempt on. States and reasons are stable words (cli: `mesosctl help states`).
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from mesosctl.limits import KILL_GRACE_S, TASK_CPUS_MILLI, TASK_MEM_BYTES
from mesosctl.model.records import dataclass
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.model.volumes import VolumeMount

SIGKILL = 9
SIGTERM = 15
# The shell's word for the end by a signal is 128 and its number.
SIGNAL_CODE = 128
TIMEOUT_CODE = 124
# A task whose end nobody knows, or that was never started.
LOST_CODE = 125


class BatchState(StrEnum):
    """State of a task as users see it."""

    PENDING = "pending"
    STAGING = "staging"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    KILLED = "killed"
    LOST = "lost"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OOM = "oom"
    PARTIAL = "partial"  # of a job only: some tasks have ended and others not


ENDED = frozenset(
    {
        BatchState.OK,
        BatchState.FAILED,
        BatchState.KILLED,
        BatchState.LOST,
        BatchState.CANCELLED,
        BatchState.TIMEOUT,
        BatchState.OOM,
    }
)

# The state of a job whose tasks have all ended is the worst of theirs, in this order.
WORST_FIRST = (
    BatchState.LOST,
    BatchState.FAILED,
    BatchState.OOM,
    BatchState.TIMEOUT,
    BatchState.KILLED,
    BatchState.CANCELLED,
    BatchState.OK,
)


def seen_as(state: TaskState, reason: Reason) -> BatchState:
    """The state users see for a state on the wire (the table of docs/protocol.md).

    DROPPED and GONE are seen as `pending` when the batch framework runs the task again and as
    `lost` when it does not; here they are `lost`.
    """
    match state:
        case TaskState.STAGING:
            return BatchState.STAGING
        case TaskState.RUNNING | TaskState.KILLING | TaskState.UNREACHABLE:
            return BatchState.RUNNING
        case TaskState.FINISHED:
            return BatchState.OK
        case TaskState.KILLED:
            return BatchState.KILLED
        case TaskState.FAILED if reason is Reason.MEMORY_LIMIT:
            return BatchState.OOM
        case TaskState.FAILED if reason is Reason.TIME_LIMIT:
            return BatchState.TIMEOUT
        case TaskState.FAILED | TaskState.ERROR:
            return BatchState.FAILED
        case TaskState.DROPPED | TaskState.GONE | TaskState.UNKNOWN:
            return BatchState.LOST


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it was submitted. Times in seconds, memory in bytes, cpus in thousandths.

    `indices` are the inclusive ranges (first, last, step) of an array, empty for a single task.
    `entries` are the lines of `--each-line`, one task each, numbered from 0. `{}` in `argv` is
    replaced by the entry. `lost_after_s` is the lease of each task (model.tasks), as are
    `whole_cores`, `rlimits` and `private`. `more`: what a task needs beside CPUs and memory.
    `volumes`: where its tasks find volumes of their role. `constraint`: on which agents it may run
    (model.constraints); `spread`: no two tasks of the job on one agent at once. Paths in `stdout`,
    `stderr` and `stdin` may hold %j %A %a %x %u %t %N %%.
    """

    name: str
    argv: tuple[str, ...]
    script: bytes | None = None
    script_name: str = "script"
    user: str = ""
    role: str = "*"
    priority: int = 0
    cpus_milli: int = TASK_CPUS_MILLI
    mem_bytes: int = TASK_MEM_BYTES
    indices: tuple[tuple[int, int, int], ...] = ()
    entries: tuple[str, ...] = ()
    is_array: bool = False
    max_running: int | None = None
    once: bool = False
    restartable: bool = False
    preemptible: bool = False
    lost_after_s: float | None = None
    time_limit_s: float | None = None
    grace_s: float = KILL_GRACE_S
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    cwd_may_fall_back: bool = True
    submit_dir: str = ""
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    append: bool = False
    umask: int = 0o022
    log_max_bytes: int = 0
    more: Resources = EMPTY
    whole_cores: bool = False
    rlimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    constraint: str = ""
    spread: bool = False
    volumes: tuple[VolumeMount, ...] = ()

    def count(self) -> int:
        """How many tasks the job has."""
        if self.entries:
            return len(self.entries)
        if not self.indices:
            return 1
        return sum((last - first) // step + 1 for first, last, step in self.indices)


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as listings show it. Times are wall seconds since the epoch or None.

    `again_at`: it is unreachable, and started again at this time unless its agent returns.
    `ends_by`: its agent is drained, and it is ended then if it still runs.
    """

    id: str
    job: str
    index: int
    name: str
    state: BatchState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    agent: str = ""
    agent_id: str = ""
    attempt: int = 0
    wire_id: str = ""
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    cpus_milli: int = 0
    mem_limit_bytes: int = 0
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    mem_peak_bytes: int | None = None
    user: str = ""
    entry: str | None = None
    again_at: float | None = None
    ends_by: float | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as listings show it. `counts` maps a state to how many tasks are in it.

    `cpu_s`: CPU time of all its tasks once it has ended. `note`: what else is to be known of it,
    such as that its details were removed.
    `draining`: how many are on agents that are drained; `ends_by`: the first deadline of these.
    """

    id: str
    name: str
    state: BatchState
    user: str
    role: str
    priority: int
    tasks: int
    counts: dict[str, int]
    reason: str = ""
    exit_code: int | None = None
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    cpus_milli: int = 0
    mem_bytes: int = 0
    command: str = ""
    cpu_s: float | None = None
    note: str = ""
    draining: int = 0
    ends_by: float | None = None


def exit_code(update: StatusUpdate) -> int:
    """What a command that waits for a task ends with (cli: `mesosctl help exit-codes`).

    `update` is the task's last one. 0 only for a task that finished.
    """
    signum = update.signal
    match seen_as(update.state, update.reason):
        case BatchState.OK:
            return 0
        case BatchState.OOM:
            return SIGNAL_CODE + SIGKILL
        case BatchState.TIMEOUT:
            return TIMEOUT_CODE
        case BatchState.KILLED:
            return SIGNAL_CODE + (signum or SIGTERM)
        case BatchState.FAILED:
            return SIGNAL_CODE + signum if signum else update.exit_code or LOST_CODE
        case _:
            return LOST_CODE
