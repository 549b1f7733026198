"""A task as the wire knows it: what is launched, the states it passes, what became of it.

Rules: one TaskId is one attempt and is never used twice. A terminal state is never left. The table
TRANSITIONS is the automaton; docs/protocol.md shows it and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from mesosctl.limits import KILL_GRACE_S, PIDS_MAX
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import VolumeMount


class TaskState(StrEnum):
    """Mesos' task states, partition-aware always."""

    STAGING = "staging"  # the master passed it on; nobody has started it yet
    RUNNING = "running"  # its process was started
    KILLING = "killing"  # its end was asked for and is under way
    FINISHED = "finished"  # exit status 0
    FAILED = "failed"  # any other end of its own, a limit, or a launch that went wrong
    KILLED = "killed"  # ended on request
    ERROR = "error"  # the description is invalid or not permitted; trying again is pointless
    DROPPED = "dropped"  # certainly never started; trying again is sensible
    GONE = "gone"  # had started, certainly does not run any more, its end is unknown
    UNREACHABLE = "unreachable"  # its agent does not answer: not an end
    UNKNOWN = "unknown"  # an answer to reconciliation only: never heard of


TERMINAL = frozenset(
    {
        TaskState.FINISHED,
        TaskState.FAILED,
        TaskState.KILLED,
        TaskState.ERROR,
        TaskState.DROPPED,
        TaskState.GONE,
    }
)

_ENDS = tuple(state for state in TaskState if state in TERMINAL)
TRANSITIONS: dict[TaskState, tuple[TaskState, ...]] = {
    TaskState.STAGING: (TaskState.RUNNING, TaskState.KILLING, TaskState.UNREACHABLE, *_ENDS),
    TaskState.RUNNING: (TaskState.KILLING, TaskState.UNREACHABLE, *_ENDS),
    TaskState.KILLING: (TaskState.UNREACHABLE, *_ENDS),
    TaskState.UNREACHABLE: (TaskState.STAGING, TaskState.RUNNING, TaskState.KILLING, *_ENDS),
} | dict.fromkeys(_ENDS, ())


class Reason(StrEnum):
    """Why a task is in its state. The words are stable: people script against them."""

    NONE = ""
    EXITED = "Exited"  # exit_code says how
    SIGNALED = "Signaled"  # signal says which
    MEMORY_LIMIT = "MemoryLimit"
    TIME_LIMIT = "TimeLimit"
    DISK_LIMIT = "DiskLimit"
    LIMIT_EXCEEDED = "LimitExceeded"  # one that a plug-in keeps; the message says which
    LAUNCH_FAILED = "LaunchFailed"
    LIMIT_UNAVAILABLE = "LimitUnavailable"
    KILL_REQUESTED = "KillRequested"
    EXECUTOR_TERMINATED = "ExecutorTerminated"
    AGENT_RESTARTED = "AgentRestarted"
    AGENT_REBOOTED = "AgentRebooted"
    AGENT_UNREACHABLE = "AgentUnreachable"
    LEASE_EXPIRED = "LeaseExpired"
    AGENT_GONE = "AgentGone"
    DRAINED = "Drained"
    PREEMPTED = "Preempted"
    FRAMEWORK_REMOVED = "FrameworkRemoved"
    INVALID_OFFERS = "InvalidOffers"
    TASK_INVALID = "TaskInvalid"
    NOT_PERMITTED = "NotPermitted"
    RECONCILED = "Reconciled"
    RETURNED = "Returned"  # its lane ran out before its turn came


# A task that was ended for one of these was in nobody's way but its agent's: it may run elsewhere.
ELSEWHERE = (Reason.DRAINED, Reason.PREEMPTED, Reason.AGENT_GONE)
# One that never started for one of these was not turned away: it can be tried again at once.
PUT_OFF = (*ELSEWHERE, Reason.RETURNED)


@dataclass(frozen=True, slots=True)
class Command:
    """What a task executes.

    `argv` is executed as it is, no shell. With `script`, that text is put into the sandbox and its
    path takes the place before `argv`. Empty `cwd` means the sandbox; a `cwd` that does not exist
    on the agent fails the task unless `cwd_may_fall_back`. Streams: stdin "" is /dev/null, "stream"
    is written by a client through the agent, else a path. stdout and stderr: "" is the file of that
    name in the sandbox, "none" is /dev/null, stderr may be "merge", else a path that is opened with
    the rights of `user`. Empty `user` means the user of the agent. `log_max_bytes`: what each
    stream in the sandbox may occupy, if that is less than the agent's own limit; 0: that.
    """

    argv: tuple[str, ...]
    script: bytes | None = None
    script_name: str = "script"
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    cwd_may_fall_back: bool = False
    user: str = ""
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    append: bool = False
    umask: int = 0o022
    log_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Revocable:
    """That a task may be revoked (--preemptible): its priority in its framework, and its grace."""

    priority: int = 0
    grace_s: float = KILL_GRACE_S


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task to launch: where, with what, and how it ends. Times in seconds.

    `lease_s`: it is ended when its agent was not answered by the master for so long; None: never.
    `lane`: those of one acceptance with the same lane run one after the other; empty: at once.
    `whole_cores`: it runs on CPUs of its own, as many as its cpus. `rlimits` are limits of its
    single processes, (soft, hard), by the names of setrlimit(2) in small letters; -1: none.
    `private`: "tmp" gives it a /tmp of its own, "pids" a pid namespace. `preemptible`: the master
    may end it for others, also for tasks of its framework of a higher `priority`.
    `is_executor`: others of its framework on its agent can be handed to it, those that name its id
    as their `executor`. Such a task may have no command; `data` is for its executor alone.
    `volumes`: where it finds those that are among its resources. `env` are variables of its own,
    which go before its command's: so that tasks with the same command can share that.
    """

    task_id: TaskId
    name: str
    agent_id: AgentId
    resources: Resources
    command: Command
    pids_max: int = PIDS_MAX
    grace_s: float = KILL_GRACE_S
    time_limit_s: float | None = None
    lease_s: float | None = None
    lane: str = ""
    whole_cores: bool = False
    rlimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    is_executor: bool = False
    executor: str = ""
    data: bytes | None = None
    preemptible: bool = False
    priority: int = 0
    volumes: tuple[VolumeMount, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def revocable(self) -> Revocable | None:
        """What the master has to know of it to end it for others; None if it may not.

        The end of an executor is that of others, too: it never may.
        """
        may = self.preemptible and not self.is_executor
        return Revocable(self.priority, self.grace_s) if may else None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task used, from the kernel's own counters where there are any. Seconds and bytes.

    `io_*` are bytes read from and written to disks, `switches` how often it was taken off a CPU or
    gave it up; both of its first process and of what that waited for. `disk_*` are of the sandbox,
    0 for a task without a limit for it.
    """

    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    mem_peak_bytes: int = 0
    mem_limit_bytes: int = 0
    disk_peak_bytes: int = 0
    disk_limit_bytes: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    switches: int = 0


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One step in the life of a task, resent by its agent until the framework acknowledges it.

    `uuid` is empty on updates that the master makes itself: these are sent once and not
    acknowledged. `at` is wall time in seconds since the epoch, for people only. `started_at` is set
    from the first start of the process on.
    """

    framework_id: FrameworkId
    task_id: TaskId
    agent_id: AgentId
    state: TaskState
    uuid: str = ""
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    at: float = 0.0
    started_at: float | None = None
    usage: Usage | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether this update ends its task."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What an agent says of one of its tasks when it registers."""

    framework_id: FrameworkId
    task_id: TaskId
    name: str
    resources: Resources
    state: TaskState
    lane: str = ""
    revocable: Revocable | None = None
