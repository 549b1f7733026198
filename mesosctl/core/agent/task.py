"""One task of an agent and one framework that has some there, as the agent remembers them.

Rules: what has to outlive the agent is in the entry (core/agent/records.py); everything else can be
found again. core/agent/tasks.py alone moves a task from phase to phase.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum, auto

from mesosctl.core.agent.records import NOBODY, FrameworkEntry, TaskEntry
from mesosctl.limits import UPDATE_RETRY_S
from mesosctl.model.ids import ExecutorId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import TaskKill


class Phase(Enum):
    """Where a task is between its acceptance and the acknowledgement of its end."""

    MAKING = auto()  # its sandbox is being made
    WAITING = auto()  # it waits for its executor
    SENT = auto()  # its executor was told of it, or may have been
    DOOMED = auto()  # its executor is gone, and its container is being killed
    ENDED = auto()  # only its last updates still have to be acknowledged


@dataclass(slots=True)
class Task:
    """One task. `since` is when it began to wait, `due` when its updates are sent again."""

    container: str
    entry: TaskEntry
    phase: Phase
    since: float
    state: TaskState = TaskState.STAGING
    sandbox: str = ""
    updates: list[StatusUpdate] = field(default_factory=list)
    # How many of the updates, counted from the newest, wait to be sent.
    unsent: int = 0
    due: float | None = None
    retry_s: float = UPDATE_RETRY_S
    kills: list[TaskKill] = field(default_factory=list)
    # Why it is doomed, in words and for programs.
    doom: tuple[Reason, str] = (Reason.EXECUTOR_TERMINATED, "")
    # Its lease has not held all the time: it must not be handed to an executor any more.
    lease_over: bool = False


@dataclass(slots=True)
class Framework:
    """One framework with tasks or an executor here. `waiting`: tasks in the order they came."""

    entry: FrameworkEntry
    executor_id: ExecutorId = NOBODY
    tasks: dict[str, Task] = field(default_factory=dict)
    waiting: dict[str, Task] = field(default_factory=dict)
