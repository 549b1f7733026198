"""One task inside the executor's machine: its record, and how its end is classified.

Rules: the first cause that was acted upon decides (a kill that was asked for, the time limit, a
memory limit); without one the first process speaks for the task. Texts are single lines.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum, auto

from mesosctl.core.executor_effects import ContainerEmptied, LaunchFailed
from mesosctl.core.executor_stdin import StdinFlow
from mesosctl.model.ids import FrameworkId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import ELSEWHERE, Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.agent import ExecutorLaunch

SIGKILL = 9
# What a shell ends with whose last command was ended by it.
SHELLS_SIGKILL = 128 + SIGKILL
SIGTERM = 15
RETURNED_TEXT = "never started: given back with its lane"
_SIGNAL_NAMES = {
    1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL",
    10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 24: "XCPU", 25: "XFSZ",
}  # fmt: skip
# Numbers of Linux on every machine it is run on today but MIPS, Alpha, SPARC and PA-RISC.


# What is said of a task that is being ended, and that was, by the reason of the kill.
ENDING = {
    Reason.KILL_REQUESTED: "ending on request",
    Reason.DRAINED: "ending because its agent is drained",
    Reason.PREEMPTED: "ending because it is preempted",
    Reason.AGENT_GONE: "ending because its agent was declared gone",
}
ENDED = {
    Reason.KILL_REQUESTED: "killed on request",
    Reason.DRAINED: "ended because its agent is drained",
    Reason.PREEMPTED: "preempted",
    Reason.AGENT_GONE: "ended because its agent was declared gone",
}


class Phase(Enum):
    """Where a task is between its arrival and its end."""

    WAITING = auto()  # nothing was done yet
    AHEAD = auto()  # its container is made; it starts once the one before it in its lane is over
    ORDERED = auto()  # its container is made and its start was ordered
    RUNNING = auto()  # its first process runs
    DRAINING = auto()  # that has ended; the rest of the container is on its way out


@dataclass(slots=True)
class Task:
    """What the machine remembers of one task. Times in monotonic seconds, *_at wall where told."""

    launch: ExecutorLaunch
    phase: Phase = Phase.WAITING
    pid: int = 0
    note: str = ""
    started_at: float | None = None
    # Which of kill, time, limit and lease was acted upon first; "" for none; or that it was
    # given back with its lane.
    cause: str = ""
    is_recalled: bool = False
    kill_reason: tuple[Reason, str] = (Reason.KILL_REQUESTED, "")
    kill_due: float | None = None
    kill_grace_s: float | None = None
    limit_due: float | None = None
    drain_due: float | None = None
    drain_wait_s: float = 0.0
    signals: list[int] = field(default_factory=list)
    exit_code: int | None = None
    signum: int | None = None
    failure: LaunchFailed | None = None
    limit_kind: str = ""
    peak_bytes: int = 0
    limit_bytes: int = 0
    stdin: StdinFlow | None = None

    @property
    def is_running(self) -> bool:
        """Whether its first process runs."""
        return self.phase is Phase.RUNNING

    @property
    def state(self) -> TaskState:
        """The state as others know it."""
        if self.phase in (Phase.WAITING, Phase.AHEAD, Phase.ORDERED):
            return TaskState.STAGING
        return TaskState.KILLING if self.cause == "kill" else TaskState.RUNNING


def signal_name(signum: int) -> str:
    """A signal as people write it: `9 (KILL)`."""
    name = _SIGNAL_NAMES.get(signum)
    return f"{signum} ({name})" if name else str(signum)


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the life of a task: the parts of its update that differ from step to step."""

    state: TaskState
    reason: Reason
    message: str = ""
    exit_code: int | None = None
    signum: int | None = None


def update(
    task: Task, framework_id: FrameworkId, uuid: str, wall: float, step: Step, usage: Usage | None
) -> StatusUpdate:
    """The status update of a task. `usage` is told of tasks that were started."""
    info = task.launch.task
    return StatusUpdate(
        framework_id=framework_id,
        task_id=info.task_id,
        agent_id=info.agent_id,
        state=step.state,
        uuid=uuid,
        reason=step.reason,
        message=step.message,
        exit_code=step.exit_code,
        signal=step.signum,
        at=wall,
        started_at=task.started_at,
        usage=usage if task.started_at is not None else None,
    )


def classify(task: Task, emptied: ContainerEmptied) -> Step:
    """What became of a task of which nothing is alive any more."""
    code, signum = task.exit_code, task.signum
    if task.cause == "kill" or (signum is not None and signum in task.signals):
        return _killed(task)
    if task.failure is not None:
        return _launch_failed(task.failure)
    if task.cause == "returned":
        return Step(TaskState.DROPPED, Reason.RETURNED, RETURNED_TEXT)
    if task.cause == "lease":
        return _lease_expired(task)
    if task.cause == "time":
        limit_s = task.launch.task.time_limit_s or 0.0
        message = f"time limit exceeded: limit {limit_s:g} s"
        return Step(TaskState.FAILED, Reason.TIME_LIMIT, message, code, signum)
    if task.cause == "limit":
        reason, text = _limit_exceeded(task, emptied)
        return Step(TaskState.FAILED, reason, text, code, signum)
    if emptied.oom_kills and (signum == SIGKILL or code == SHELLS_SIGKILL):
        if _is_own_limit(emptied):
            text = _memory_text(task, emptied)
            return Step(TaskState.FAILED, Reason.MEMORY_LIMIT, text, code, signum)
        text = f"killed by the kernel because this host is out of memory; {_used(emptied)}"
        reason = Reason.EXITED if signum is None else Reason.SIGNALED
        return Step(TaskState.FAILED, reason, text, code, signum)
    return _own_end(task, emptied)


def _lease_expired(task: Task) -> Step:
    text = f"no word from the master for {task.launch.task.lease_s or 0.0:g} s (--lost-after)"
    if task.started_at is None:
        return Step(TaskState.DROPPED, Reason.LEASE_EXPIRED, f"never started: {text}")
    return Step(TaskState.GONE, Reason.LEASE_EXPIRED, text, task.exit_code, task.signum)


def ending(task: Task) -> Step:
    """A task is being ended because somebody asked for it."""
    reason, _ = task.kill_reason
    return Step(TaskState.KILLING, reason, ENDING.get(reason, ""))


def _killed(task: Task) -> Step:
    """The end of a task that somebody asked for: its user, or whoever empties its agent."""
    reason, text = task.kill_reason if task.cause == "kill" else (Reason.KILL_REQUESTED, "")
    if reason is Reason.EXECUTOR_TERMINATED:
        return _forsaken(task, text)
    message = ENDED.get(reason, ENDED[Reason.KILL_REQUESTED])
    if task.failure is not None:
        message += f" before it could start: {task.failure.text}"
    elif task.started_at is None:
        message += " before it was started"
    if text:
        message += f": {text}"
    # Nobody wants such a task to end, only not here: that it never started makes another try free.
    elsewhere = reason in ELSEWHERE and task.started_at is None
    state = TaskState.DROPPED if elsewhere else TaskState.KILLED
    return Step(state, reason, message, task.exit_code, task.signum)


def _forsaken(task: Task, text: str) -> Step:
    """The end of a task whose executor is gone; of an executor that had to be ended."""
    reason = Reason.EXECUTOR_TERMINATED
    if task.launch.task.is_executor:
        return Step(TaskState.FAILED, reason, f"ended: {text}", task.exit_code, task.signum)
    if task.started_at is None:
        return Step(TaskState.DROPPED, reason, f"never started: {text}")
    return Step(TaskState.GONE, reason, text, task.exit_code, task.signum)


def _own_end(task: Task, emptied: ContainerEmptied) -> Step:
    """The end of a task that nobody and nothing brought about but itself."""
    code, signum = task.exit_code, task.signum
    notes = [task.note] if task.note else []
    if emptied.oom_kills:
        processes = "process" if emptied.oom_kills == 1 else "processes"
        notes.append(
            f"{emptied.oom_kills} {processes} of it killed for want of memory: {_used(emptied)}"
        )
    elif _is_above(emptied) and not task.launch.task.is_executor:
        # The limit of an executor is another one while it has tasks.
        usage = emptied.usage
        peak, limit = _mib(usage.mem_peak_bytes), _mib(usage.mem_limit_bytes)
        notes.append(f"peak {peak} above limit {limit}, not enforced in time")
    disk, disk_limit = emptied.usage.disk_peak_bytes, emptied.usage.disk_limit_bytes
    if 0 < disk_limit < disk:
        figures = f"peak {_mib(disk)} above limit {_mib(disk_limit)}"
        notes.append(f"disk: {figures}, not enforced in time")
    if signum is not None:
        text = "; ".join([f"ended by signal {signal_name(signum)}", *notes])
        return Step(TaskState.FAILED, Reason.SIGNALED, text, None, signum)
    if code == 0:
        return Step(TaskState.FINISHED, Reason.NONE, "; ".join(notes), 0)
    return Step(TaskState.FAILED, Reason.EXITED, "; ".join([f"exit code {code}", *notes]), code)


def _launch_failed(failure: LaunchFailed) -> Step:
    if failure.stage == "spawner":
        return Step(TaskState.DROPPED, Reason.LAUNCH_FAILED, failure.text)
    reason = {
        "limit": Reason.LIMIT_UNAVAILABLE,
        "join": Reason.LIMIT_UNAVAILABLE,
        "permission": Reason.NOT_PERMITTED,
    }.get(failure.stage, Reason.LAUNCH_FAILED)
    return Step(TaskState.FAILED, reason, failure.text, failure.exit_code)


def _is_own_limit(emptied: ContainerEmptied) -> bool:
    """Whether its own limit killed it rather than a host without memory.

    The kernel's mark stops within a few pages of the limit; one tenth is far outside of that.
    """
    limit = emptied.usage.mem_limit_bytes
    peak = emptied.usage.mem_peak_bytes
    return limit > 0 and (peak == 0 or peak * 10 >= limit * 9)


def _limit_exceeded(task: Task, emptied: ContainerEmptied) -> tuple[Reason, str]:
    if task.limit_kind == "mem":
        return Reason.MEMORY_LIMIT, _memory_text(task, emptied)
    if task.limit_kind == "disk":
        peak = max(task.peak_bytes, emptied.usage.disk_peak_bytes)
        text = f"disk limit exceeded: limit {_mib(task.limit_bytes)}, peak {_mib(peak)}"
        return Reason.DISK_LIMIT, text
    figures = f"limit {task.limit_bytes}, peak {task.peak_bytes}"
    return Reason.LIMIT_EXCEEDED, f"{task.limit_kind} limit exceeded: {figures}"


def _is_above(emptied: ContainerEmptied) -> bool:
    """Whether it had more than its limit, which no kernel kept.

    A kernel that keeps limits may count a few pages above; that is far below one part in 64.
    """
    limit = emptied.usage.mem_limit_bytes
    return limit > 0 and emptied.usage.mem_peak_bytes > limit + limit // 64


def _memory_text(task: Task, emptied: ContainerEmptied) -> str:
    limit = task.limit_bytes or emptied.usage.mem_limit_bytes
    peak = max(task.peak_bytes, emptied.usage.mem_peak_bytes)
    return f"memory limit exceeded: limit {_mib(limit)}, peak {_mib(peak)}"


def _used(emptied: ContainerEmptied) -> str:
    usage = emptied.usage
    limit = _mib(usage.mem_limit_bytes) if usage.mem_limit_bytes else "none"
    return f"limit {limit}, peak {_mib(usage.mem_peak_bytes)}"


def _mib(count: int) -> str:
    """Bytes in MiB, whole where they are."""
    tenths = (count * 10 + 524_288) // 1_048_576
    return f"{tenths // 10} MiB" if tenths % 10 == 0 else f"{tenths / 10:.1f} MiB"
