"""Between agent and master, and between executor and agent."""

from __future__ import annotations

from dataclasses import field

from mesosctl.model.cluster import AgentInfo, FrameworkInfo
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Command, Reason, StatusUpdate, TaskInfo, TaskReport, TaskState
from mesosctl.model.volumes import Volume
from mesosctl.protocol.messages.base import Message, message


# --- agent -> master ------------------------------------------------------------------------------
@message("register-agent")
@dataclass(frozen=True, slots=True)
class RegisterAgent(Message):
    """Opens an agent's session. The agent chooses `agent.agent_id`; empty asks for one.

    `tasks` are all that it has and has not forgotten, `frameworks` those they belong to. `life`
    counts its starts, `opening` its sessions in this life: what is older than the latest is void.
    `volumes` are those whose data are on its disk.
    """

    agent: AgentInfo
    tasks: tuple[TaskReport, ...] = ()
    frameworks: tuple[FrameworkInfo, ...] = ()
    life: int = 0
    opening: int = 0
    volumes: tuple[Volume, ...] = ()


@message("status-updates")
@dataclass(frozen=True, slots=True)
class StatusUpdates(Message):
    """Steps in the lives of tasks: executor -> agent -> master -> framework, resent until acked.

    `latest` maps "<framework>/<task>" to the newest state the agent knows, so that the master
    frees resources although the framework still has to acknowledge earlier steps.
    """

    updates: tuple[StatusUpdate, ...]
    latest: dict[str, TaskState] = field(default_factory=dict)


@message("key-admitted")
@dataclass(frozen=True, slots=True)
class KeyAdmitted(Message):
    """Answer to AdmitKey. `problem` is empty when the key may connect now."""

    request: str
    problem: str = ""


# --- master -> agent ------------------------------------------------------------------------------
@message("agent-registered")
@dataclass(frozen=True, slots=True)
class AgentRegistered(Message):
    """The agent is admitted under `agent_id`. `agents` sizes its window for reconnecting."""

    agent_id: AgentId
    heartbeat_s: float
    agents: int = 1


@message("launch-tasks")
@dataclass(frozen=True, slots=True)
class LaunchTasks(Message):
    """Start these tasks of one framework. The same TaskId again is the same launch, once."""

    framework: FrameworkInfo
    tasks: tuple[TaskInfo, ...]


@dataclass(frozen=True, slots=True)
class TaskKill:
    """One task to end. `signum` None: TERM, then KILL to the whole container after `grace_s`.

    With `signum` that signal is sent and nothing else happens. `grace_s` None: the task's own.
    `reason` is what its end is told with, `text` what people read beside it.
    """

    task_id: TaskId
    agent_id: str = ""
    grace_s: float | None = None
    signum: int | None = None
    reason: Reason = Reason.KILL_REQUESTED
    text: str = ""


@message("kill-tasks")
@dataclass(frozen=True, slots=True)
class KillTasks(Message):
    """End tasks: framework -> master -> agent -> executor. Repeating it is harmless."""

    framework_id: FrameworkId
    kills: tuple[TaskKill, ...]


@message("shutdown-framework")
@dataclass(frozen=True, slots=True)
class ShutdownFramework(Message):
    """The framework is removed: end its tasks and its executor; nobody acknowledges any more."""

    framework_id: FrameworkId


@message("return-lanes")
@dataclass(frozen=True, slots=True)
class ReturnLanes(Message):
    """Give back what has not started of lanes: master -> agent -> executor. Empty: of everybody."""

    framework_id: str = ""


@message("admit-key")
@dataclass(frozen=True, slots=True)
class AdmitKey(Message):
    """Let `key` connect to the agent's data socket for this task's streams, for `seconds`."""

    request: str
    framework_id: FrameworkId
    task_id: TaskId
    key: str
    seconds: float


# --- framework -> master -> agent -> executor -----------------------------------------------------
@dataclass(frozen=True, slots=True)
class Ack:
    """One status update was taken and will not be needed again."""

    framework_id: FrameworkId
    task_id: TaskId
    agent_id: AgentId
    uuid: str


@message("acknowledge")
@dataclass(frozen=True, slots=True)
class Acknowledge(Message):
    """Updates that the receiver of them has made durable."""

    acks: tuple[Ack, ...]


# --- executor <-> agent ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ExecutorTask:
    """A task that an executor has: its state and the pid of its first process (0: none yet)."""

    task_id: TaskId
    state: TaskState
    pid: int = 0


@message("register-executor")
@dataclass(frozen=True, slots=True)
class RegisterExecutor(Message):
    """Opens an executor's session with its agent; after a restart of the agent, again.

    `framework_id` is empty while it is warm. `updates` are all the agent has not acknowledged.
    `knows_lanes`: tasks that share a lane may be handed to it together. `opening` counts its
    sessions: what is older than the latest is void. `knows_executors`: tasks that are executors, or
    are for one, may be handed to it. `token`: what proves that a task is the executor it says.
    `knows_shared`: it may be handed tasks that share a command, and such with an `env`.
    """

    executor_id: ExecutorId
    pid: int
    framework_id: str = ""
    tasks: tuple[ExecutorTask, ...] = ()
    updates: tuple[StatusUpdate, ...] = ()
    knows_lanes: bool = False
    opening: int = 0
    knows_executors: bool = False
    token: str = ""
    knows_shared: bool = False


@message("executor-registered")
@dataclass(frozen=True, slots=True)
class ExecutorRegistered(Message):
    """The agent knows the executor."""

    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class ExecutorLaunch:
    """A task with what the agent decided about it: where its sandbox is.

    `sandbox` is an absolute path that exists; `container` is `<framework>/<task>`. `log_max_bytes`:
    what each stream in the sandbox may occupy; 0: anything.
    """

    task: TaskInfo
    sandbox: str
    container: str
    env: dict[str, str] = field(default_factory=dict)
    log_max_bytes: int = 0


@message("run-tasks")
@dataclass(frozen=True, slots=True)
class RunTasks(Message):
    """Agent -> executor: run these for this framework (a warm executor becomes its own).

    `renewed_at` as in RenewLeases; without it no task with a lease is started. `shared`: a command
    that follows an equal one is left out on the wire (protocol/sharing.py).
    """

    framework_id: FrameworkId
    launches: tuple[ExecutorLaunch, ...]
    renewed_at: float | None = None
    shared: bool = False


@message("start-task")
@dataclass(frozen=True, slots=True)
class StartTask(Message):
    """A framework's executor -> agent: start this task of yours in a container of its own.

    `command` None: the task's own. From here on the agent reports its states.
    """

    task_id: TaskId
    command: Command | None = None


@message("renew-leases")
@dataclass(frozen=True, slots=True)
class RenewLeases(Message):
    """Agent -> executor: leases count from here. Sent only while tasks with leases are there.

    `renewed_at`, in seconds of CLOCK_BOOTTIME, is when the agent sent the ping that the master
    has answered. It never goes back.
    """

    renewed_at: float


@message("shutdown-executor")
@dataclass(frozen=True, slots=True)
class ShutdownExecutor(Message):
    """Agent -> executor: end every task within `grace_s`, for `reason`, report, then exit."""

    grace_s: float
    reason: Reason = Reason.KILL_REQUESTED
