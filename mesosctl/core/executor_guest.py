"""One executor of a framework's own, as ours remembers it, and what may be believed of its words.

A *guest* is a task that other tasks of its framework are handed to. Those of them that have no
container of their own are *held*: they are whatever the guest does in its own process.

Rules: what a guest says about a held task is taken for the course of that task, and never for the
reasons that others rely on: who asked for its end, and that it may run elsewhere for free, are ours
to say. Texts become single lines.
"""

from __future__ import annotations

from dataclasses import field

from mesosctl.core.executor_effects import ContainerEmptied
from mesosctl.core.executor_task import Phase, Step, Task, classify
from mesosctl.limits import CPUS_MILLI_MIN
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.agent import ExecutorLaunch

# How its tasks' connections are called, and the name of the socket in its sandbox.
PREFIX = "guest-"
SOCKET_NAME = "executor.sock"
ID_ENV, TOKEN_ENV = "MESOSCTL_EXECUTOR_ID", "MESOSCTL_EXECUTOR_TOKEN"
_TEXT_CHARS_MAX = 500
_ITS_REASONS = (Reason.NONE, Reason.EXITED, Reason.SIGNALED, Reason.LAUNCH_FAILED)
_CODE_MAX = 255


@dataclass(slots=True)
class Held:
    """A task without a container of its own. `handed`: its guest has it.

    From when it is first told on it counts as started: its guest may begin before it says so.
    """

    task: Task
    handed: bool = False


@dataclass(slots=True)
class Guest:
    """One guest. Times are monotonic seconds.

    `by`: when it has to be in a session with us; None while it is, or has not started. `own`: its
    tasks with containers of their own, with the newest of their updates that it was to be told and,
    of those that have ended, has not acknowledged.
    """

    launch: ExecutorLaunch
    token: str
    is_running: bool = False
    by: float | None = None
    peer: str = ""
    opening: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    own: dict[str, StatusUpdate | None] = field(default_factory=dict)
    faults: int = 0
    idle_since: float | None = None
    is_ending: bool = False
    quit_due: float | None = None
    limits: tuple[int, int, int] = (0, 0, 0)
    resize_tries: int = 0
    resize_due: float | None = None

    @property
    def name(self) -> str:
        """Its task id."""
        return self.launch.task.task_id

    @property
    def has_tasks(self) -> bool:
        """Whether there is a task of it that has not ended."""
        return bool(self.held) or any(
            update is None or not update.is_terminal for update in self.own.values()
        )

    def wanted_limits(self) -> tuple[int, int, int]:
        """Thousandths of a CPU, bytes of memory (0: any) and processes that its container may use.

        Its own, and those of every task that it was handed and does itself.
        """
        infos = [one.task.launch.task for one in self.held.values() if one.handed]
        infos.append(self.launch.task)
        cpus_milli = sum(info.resources.cpus_milli for info in infos)
        mem_bytes = sum(info.resources.mem_bytes for info in infos)
        if not self.launch.task.resources.mem_bytes:
            mem_bytes = 0
        return max(CPUS_MILLI_MIN, cpus_milli), mem_bytes, sum(info.pids_max for info in infos)


def one_line(text: str) -> str:
    """A stranger's text as a line that can be shown."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text[:_TEXT_CHARS_MAX])
    return " ".join(kept.split())


def believed(task: Task, update: StatusUpdate) -> Step:
    """What a guest's word of the end of a held task is taken for."""
    code, signum = _bounded(update.exit_code), _bounded(update.signal)
    text = one_line(update.message)
    if task.cause:
        task.exit_code, task.signum = code, signum
        return classify(task, ContainerEmptied(task.launch.container, Usage()))
    reason = update.reason if update.reason in _ITS_REASONS else Reason.NONE
    match update.state:
        case TaskState.FINISHED:
            return Step(TaskState.FINISHED, Reason.NONE, text, 0)
        case TaskState.ERROR:
            return Step(TaskState.ERROR, Reason.TASK_INVALID, text)
        case TaskState.DROPPED if task.phase is Phase.WAITING:
            text = f"never started: {text or 'its executor turned it away'}"
            return Step(TaskState.DROPPED, Reason.EXECUTOR_TERMINATED, text)
        case TaskState.KILLED:
            text = text or "its executor ended it, and nobody had asked for that"
        case _:
            pass
    if reason is Reason.NONE and code is not None:
        reason = Reason.EXITED
    return Step(TaskState.FAILED, reason, text, code, signum)


def _bounded(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= _CODE_MAX else None


def orphaned(task: Task, why: str) -> Step:
    """The end of a held task whose guest is gone."""
    if task.cause:
        return classify(task, ContainerEmptied(task.launch.container, Usage()))
    if task.started_at is None:
        text = f"never started: {why}"
        return Step(TaskState.DROPPED, Reason.EXECUTOR_TERMINATED, text)
    return Step(TaskState.GONE, Reason.EXECUTOR_TERMINATED, why)
