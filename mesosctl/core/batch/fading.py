"""Jobs that ended long ago: their details go, one small record of each stays, and that for a while.

Rules:
- A job is summarised when it has ended for longer than it is kept, nobody watches it, and none of
  its abandoned attempts may still run. Its summary and the end of its own record are one step on
  disk; the records of its tasks follow, and what of them a crash leaves is removed by the next run.
- What is left answers `jobs` and `status`, ends a `wait`, and makes a repeated request the job that
  it was. What is asked about its tasks is refused with the reason.
- Bounded work in a pass: ROWS_PER_PASS records, however many tasks expire at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import cast

from mesosctl.core.batch.queue import Queue, Touched
from mesosctl.core.batch.records import CANCELS, JOBS, TASKS, Job, Task
from mesosctl.core.batch.summaries import SUMMARIES, faded_of, summary_of
from mesosctl.core.machine import Delete, Effect, Now, Put
from mesosctl.errors import require
from mesosctl.limits import SUMMARIES_KEPT
from mesosctl.model.words import duration_words

ROWS_PER_PASS = 2_000
# Between two passes of a longer work, so that others get their turn.
PAUSE_S = 0.02
LOOK_S = 60.0


class Fading:
    """Summarises the jobs of a queue. `is_watched(number)`: somebody is told of its changes."""

    def __init__(self, queue: Queue, is_watched: Callable[[int], bool], keep_s: float) -> None:
        self._queue = queue
        self._is_watched = is_watched
        self._keep_s = keep_s
        queue.faded_text = f"details removed after {duration_words(keep_s)}"
        # Ended jobs with the wall time of their end, the earliest first.
        self._ended: list[tuple[float, int]] = []
        self._faded: deque[int] = deque()
        # Records of tasks that are still on disk, by job.
        self._rest: deque[tuple[int, dict[int, Task | None]]] = deque(queue.leftover.items())
        queue.leftover = {}
        for job in queue.jobs.values():
            if job.faded:
                self._faded.append(job.number)
            elif job.ended is not None:
                self._ended.append((job.ended, job.number))
        heapify(self._ended)
        self._look_at: float | None = 0.0 if self._ended or self._faded or self._rest else None

    def note(self, touched: Touched, now: Now) -> None:
        """Remember the jobs that have just ended."""
        for number in touched.jobs:
            job = self._queue.jobs[number]
            if job.ended is not None and not job.faded:
                heappush(self._ended, (job.ended, number))
                self._look(now)

    def settle(self, now: Now) -> list[Effect]:
        """What is to be written of summaries in this pass."""
        if self._look_at is None or now.mono < self._look_at:
            return []
        self._look_at = None
        effects: list[Effect] = []
        spared: list[tuple[float, int]] = []
        while len(effects) < ROWS_PER_PASS:
            if self._rest:
                effects += self._forget_rows(ROWS_PER_PASS - len(effects))
            elif self._ended and self._ended[0][0] + self._keep_s <= now.wall:
                ended = heappop(self._ended)
                job = self._queue.jobs.get(ended[1])
                if job is None or job.faded or job.ended is None:
                    continue
                if self._is_watched(job.number) or any(task.stale for task in job.tasks.values()):
                    spared.append((now.wall - self._keep_s + LOOK_S, job.number))
                else:
                    effects += self._fade(job)
            elif len(self._faded) > SUMMARIES_KEPT:
                effects += self._drop()
            else:
                break
        for ended in spared:
            heappush(self._ended, ended)
        self._look(now, at_once=len(effects) >= ROWS_PER_PASS)
        return effects

    def _look(self, now: Now, at_once: bool = False) -> None:
        """When there is something to do next, and never later than LOOK_S: clocks are set."""
        if at_once:
            self._look_at = now.mono + PAUSE_S
        elif self._ended:
            wait_s = self._ended[0][0] + self._keep_s - now.wall
            self._look_at = now.mono + min(max(PAUSE_S, wait_s), LOOK_S)

    def _forget_rows(self, at_most: int) -> list[Effect]:
        number, tasks = self._rest[0]
        part = [tasks.popitem()[0] for _ in range(min(at_most, len(tasks)))]
        if not tasks:
            self._rest.popleft()
        return [Delete(TASKS, f"{number}.{position}") for position in part]

    def _fade(self, job: Job) -> list[Effect]:
        number = job.number
        plain = summary_of(job)
        if job.tasks:
            # To let go of a million tasks in one go would take as long as to delete many records:
            # they go together.
            self._rest.append((number, cast("dict[int, Task | None]", job.tasks)))
        self._queue.jobs[number] = faded_of(number, plain)
        self._faded.append(number)
        effects: list[Effect] = [Put(SUMMARIES, str(number), plain), Delete(JOBS, str(number))]
        return [*effects, Delete(CANCELS, str(number))] if job.cancels else effects

    def _drop(self) -> list[Effect]:
        number = self._faded.popleft()
        job = self._queue.jobs.pop(number)
        if self._queue.requests.get((job.owner, job.request)) == number:
            del self._queue.requests[job.owner, job.request]
        return [Delete(SUMMARIES, str(number))]

    def deadline(self) -> float | None:
        """When settle() has something to do, in monotonic seconds."""
        return self._look_at

    def check(self) -> None:
        """Raises InvariantBroken where an ended job is not going to be summarised."""
        listed = dict.fromkeys(number for _, number in self._ended)
        for number, job in self._queue.jobs.items():
            expected = job.ended is not None and not job.faded
            require(not expected or number in listed, f"job {number} has ended and is not listed")
        require(not self._ended or self._look_at is not None, "no job is ever summarised")
