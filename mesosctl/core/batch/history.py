"""What jobs waited for and since when, and what befell attempts of tasks: the last ten of each.

Rules: what a job waits for is noted when somebody is told, and every HISTORY_LOOK_S while anything
waits, for the first jobs in order; only a change of the word is one. That is kept in memory, for
HISTORY_JOBS_MAX jobs, and begins anew with us. What befell attempts is part of a task's record.
"""

from __future__ import annotations

from collections import deque

from mesosctl.core.batch.records import Job, Task
from mesosctl.limits import HISTORY_JOBS_MAX, HISTORY_MAX
from mesosctl.model.explanations import Change

_TEXT_CHARS_MAX = 200


def note(task: Task, at: float, reason: str, text: str) -> None:
    """Something befell an attempt of this task, at `at` wall seconds."""
    change = Change(at, reason, text[:_TEXT_CHARS_MAX])
    task.history = (*task.history, change)[-HISTORY_MAX:]


class Waits:
    """What jobs waited for."""

    def __init__(self) -> None:
        # Those that changed last come last.
        self._changes: dict[int, deque[Change]] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def observe(self, number: int, at: float, reason: str, text: str) -> None:
        """At `at` wall seconds this job waits for this."""
        known = self._changes.get(number)
        if known is not None and known[-1].reason == reason:
            return
        known = self._changes.pop(number, None) or deque(maxlen=HISTORY_MAX)
        known.append(Change(at, reason, text[:_TEXT_CHARS_MAX]))
        self._changes[number] = known
        if len(self._changes) > HISTORY_JOBS_MAX:
            del self._changes[next(iter(self._changes))]

    def of(self, job: Job, task: Task | None) -> tuple[Change, ...]:
        """The last changes of a task and its job, oldest first."""
        waits = self._changes.get(job.number, ())
        befell = task.history if task is not None else ()
        return tuple(sorted((*befell, *waits), key=lambda change: change.at)[-HISTORY_MAX:])
