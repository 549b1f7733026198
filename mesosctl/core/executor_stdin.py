"""The flow of bytes into the standard input of tasks: what was accepted, what a task has taken.

Rules: offsets count from the first byte of the stream. What comes twice is taken once, what leaves
a gap is not taken at all, and never more than a window waits here; in each of these cases the
sender is told how far we are and sends again from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from mesosctl.core.executor_effects import FeedStdin, StdinProgress
from mesosctl.core.machine import Effect
from mesosctl.limits import STREAM_WINDOW_BYTES
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.streams import StdinTaken, WriteStdin

if TYPE_CHECKING:
    from mesosctl.core.executor_task import Task


@dataclass(slots=True)
class StdinFlow:
    """Everything below `accepted` is here or written, everything below `taken` is written."""

    taken: int = 0
    accepted: int = 0
    ended: bool = False
    closed: bool = False
    started: bool = False
    early: list[tuple[bytes, bool]] = field(default_factory=list)

    def accept(self, offset: int, data: bytes, eof: bool) -> tuple[bytes, bool] | None:
        """The part that is new, and whether the stream ends with it; None when nothing is new."""
        known = self.accepted - offset
        if known < 0 or self.ended or self.closed or (known > len(data)):
            return None
        room = STREAM_WINDOW_BYTES - (self.accepted - self.taken)
        fresh = data[known : known + room]
        ends = eof and known + len(fresh) == len(data)
        if not fresh and not ends:
            return None
        self.accepted += len(fresh)
        self.ended = ends
        if not self.started:
            self.early.append((fresh, ends))
        return fresh, ends

    def start(self) -> list[tuple[bytes, bool]]:
        """The task runs: what came before it did."""
        self.started = True
        early, self.early = self.early, []
        return early


class StdinFlows:
    """The flows of all tasks in `tasks`. `send` makes the effects of a message to the agent."""

    def __init__(self, tasks: Mapping[str, Task], send: Callable[[Message], list[Effect]]) -> None:
        self._tasks = tasks
        self._send = send

    def write(self, message: WriteStdin) -> list[Effect]:
        """Pass on what is new of it; what is not, is answered with how far we are."""
        container = f"{message.framework_id}/{message.task_id}"
        task = self._tasks.get(container)
        if task is None or task.stdin is None:
            answer = StdinTaken(message.framework_id, message.task_id, message.offset, True)
            return self._send(answer)
        part = task.stdin.accept(message.offset, message.data, message.eof)
        if part is None:
            return self._taken(task, task.stdin)
        return [FeedStdin(container, *part)] if task.is_running else []

    def progress(self, event: StdinProgress) -> list[Effect]:
        """The task took some of it."""
        task = self._tasks.get(event.container)
        if task is None or task.stdin is None:
            return []
        task.stdin.taken, task.stdin.closed = event.offset, event.closed
        return self._taken(task, task.stdin)

    def end(self, task: Task) -> list[Effect]:
        """A task is over: it takes no more."""
        flow = task.stdin
        if flow is None or flow.closed:
            return []
        flow.closed = True
        return self._taken(task, flow)

    def repeat(self) -> list[Effect]:
        """Tell again how far every stream is: the last answer may have been lost."""
        effects: list[Effect] = []
        for task in self._tasks.values():
            if task.stdin is not None:
                effects += self._taken(task, task.stdin)
        return effects

    def _taken(self, task: Task, flow: StdinFlow) -> list[Effect]:
        framework_id, _, task_id = task.launch.container.partition("/")
        told = StdinTaken(FrameworkId(framework_id), TaskId(task_id), flow.taken, flow.closed)
        return self._send(told)
