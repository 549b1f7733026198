"""Jobs and their tasks in memory: the one place where a task changes its state.

Rules:
- Tasks that were never attempted are a cursor and a count, not objects.
- Everything derived (counts, what is live, what is used where, the order of jobs) changes here with
  the state, and `check()` recomputes it.
- What changed is kept as `touched` until the pass ends: it is what is written and what is told.
- Jobs are served by priority, highest first, then by number.
- What a lane holds (core/batch/lanes.py) is counted once, with the first of its tasks under way.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import field
from heapq import heapify, heappop, heappush

from mesosctl.core.batch.holdings import Holdings
from mesosctl.core.batch.lanes import Lanes
from mesosctl.core.batch.records import (
    ACTIVE,
    CANCELS,
    JOBS,
    TASKS,
    Attempt,
    Cancel,
    Job,
    Kill,
    Size,
    Tables,
    Task,
    cancels_of,
    cancels_record,
    cpu_us_of,
    job_of,
    job_record,
    task_of,
    task_record,
)
from mesosctl.core.batch.recounting import compare
from mesosctl.core.batch.spans import gaps
from mesosctl.core.batch.summaries import SUMMARIES, faded_of, tables_of
from mesosctl.core.machine import Effect, Now, Put
from mesosctl.errors import require
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.jobs import ENDED, BatchState
from mesosctl.model.records import dataclass

CANCELLED_CODE = 125
# Earlier attempts whose streams can still be found.
PAST_MAX = 20
# In place of a lane's name: the lane is named after the task itself.
LEADS = "*"
Place = tuple[int, int]


@dataclass(slots=True)
class Touched:
    """What changed since the last `take_touched`."""

    jobs: dict[int, None] = field(default_factory=dict)
    tasks: dict[Place, None] = field(default_factory=dict)
    cancels: list[tuple[int, int, int]] = field(default_factory=list)


class Queue:
    """All jobs by number."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.requests: dict[tuple[str, str], int] = {}
        self.next_number = 1
        self.live: dict[Place, None] = {}
        self.killing: dict[Place, None] = {}
        self.stale: dict[TaskId, Place] = {}
        self.held = Holdings()
        self.lanes = Lanes()
        # How many tasks may be started now, by what each needs.
        self.wanted: dict[Size, int] = {}
        self.touched = Touched()
        # Records of tasks of summarised jobs that are still on disk.
        self.leftover: dict[int, dict[int, Task | None]] = {}
        # Why the tasks of a summarised job are not known.
        self.faded_text = ""
        # Jobs with something to start: (-priority, number). Tasks to run again: when, and which.
        self.order: list[tuple[int, int]] = []
        self.delayed: list[tuple[float, int, int]] = []

    # --- loading ----------------------------------------------------------------------------------
    def load(self, tables: Tables) -> None:
        """Take over the records of a store. Raises ValueError or KeyError for what is no record."""
        for key, plain in tables.get(JOBS, {}).items():
            job = job_of(int(key), plain)
            self.jobs[job.number] = job
        for key, plain in tables.get(SUMMARIES, {}).items():
            job = self.jobs[int(key)] = faded_of(int(key), plain)
            self.requests[job.owner, job.request] = job.number
        self.jobs = dict(sorted(self.jobs.items()))
        for key, plain in tables.get(CANCELS, {}).items():
            job = self.jobs[int(key)]
            job.cancels = cancels_of(plain)
        for key, plain in tables.get(TASKS, {}).items():
            number, position = key.split(".")
            job = self.jobs[int(number)]
            if job.faded:
                self.leftover.setdefault(job.number, {})[int(position)] = None
            else:
                job.tasks[int(position)] = task_of(int(position), plain)
        for job in self.jobs.values():
            if not job.faded:
                self._recount(job)
            self.next_number = max(self.next_number, job.number + 1)

    def _recount(self, job: Job) -> None:
        self.requests[job.owner, job.request] = job.number
        job.tasks = dict(sorted(job.tasks.items()))
        job.cursor = max(job.tasks, default=-1) + 1
        job.cancelled = sum(cancel.last - cancel.first + 1 for cancel in job.cancels)
        job.fresh = 0
        for first, last in gaps(0, job.count - 1, [(c.first, c.last) for c in job.cancels]):
            job.fresh += max(0, last - max(first, job.cursor) + 1)
        for task in job.tasks.values():
            job.counts[task.state] = job.counts.get(task.state, 0) + 1
            if task.state is BatchState.PENDING:
                job.requeued.append(task.position)
            elif task.state in ACTIVE:
                self._activate(job, task)
            else:
                job.exit_code = max(job.exit_code, task.exit_code or 0)
                job.cpu_us += cpu_us_of(task)
                job.ended = max(job.ended or 0.0, task.ended or 0.0)
            if task.started is not None:
                job.started = min(job.started or task.started, task.started)
            for stale in task.stale:
                wire_id = job.wire_id(task.position, stale.number)
                self.stale[wire_id] = (job.number, task.position)
        for cancel in job.cancels:
            job.exit_code = max(job.exit_code, CANCELLED_CODE)
            job.ended = max(job.ended or 0.0, cancel.at)
        if not job.has_ended():
            job.ended = None
        self._place(job)

    # --- jobs -------------------------------------------------------------------------------------
    def add(self, job: Job) -> None:
        """Take a new job in."""
        require(job.number == self.next_number, f"job {job.number} out of turn")
        self.next_number += 1
        self.jobs[job.number] = job
        self.requests[job.owner, job.request] = job.number
        self.touched.jobs[job.number] = None
        self.lanes.lend(job)
        self._place(job)

    def in_order(self) -> Iterator[Job]:
        """Jobs with tasks that may be started now, in the order in which they are served.

        The order may change meanwhile: what comes behind the last one is then as it is by then.
        """
        at = 0
        while at < len(self.order):
            entry = self.order[at]
            yield self.jobs[entry[1]]
            at = bisect_right(self.order, entry)

    def head(self) -> Job:
        """The job that is served first; there must be one."""
        return self.jobs[self.order[0][1]]

    def _place(self, job: Job) -> None:
        """Count what the job may start now; it is in the order exactly while that is something."""
        room = job.room()
        if room == job.offered:
            return
        size = job.size
        wanted = self.wanted.get(size, 0) + room - job.offered
        if wanted:
            self.wanted[size] = wanted
        else:
            del self.wanted[size]
        entry = (-job.spec.priority, job.number)
        if not room:
            del self.order[bisect_left(self.order, entry)]
        elif not job.offered:
            insort(self.order, entry)
        job.offered = room

    # --- tasks ------------------------------------------------------------------------------------
    def touch(self, job: Job, task: Task) -> None:
        """Remember that a task changed."""
        self.touched.jobs[job.number] = None
        self.touched.tasks[job.number, task.position] = None

    def start(
        self, job: Job, agent_id: AgentId, agent: str, lane: str = "", mono: float | None = None
    ) -> Task:
        """Begin the next attempt of the job's next task on this agent. The job must have room.

        `lane`: behind the task of this wire id, or as the first one, when it is LEADS.
        """
        if job.requeued:
            task = job.tasks[heappop(job.requeued)]
        else:
            while (cancel := job.cancel_of(job.cursor)) is not None:
                job.cursor = cancel.last + 1
            require(job.fresh > 0, f"job {job.number} has nothing to start")
            task = job.tasks[job.cursor] = Task(job.cursor)
            job.cursor += 1
            job.fresh -= 1
            job.counts[BatchState.PENDING] = job.counts.get(BatchState.PENDING, 0) + 1
        task.attempt += 1
        task.agent_id, task.agent = agent_id, agent
        task.reason = task.message = ""
        task.started = task.ended = None
        task.lane = job.wire_id(task.position, task.attempt) if lane == LEADS else lane
        task.launched = mono
        self.move(job, task, BatchState.STAGING)
        return task

    def move(self, job: Job, task: Task, state: BatchState) -> None:
        """Put a task into a state; its agent must be set before it becomes active."""
        require(task.state not in ENDED, f"{job.task_id(task.position)} has ended before")
        before = task.state
        if before is not state:
            job.counts[before] -= 1
            if not job.counts[before]:
                del job.counts[before]
            job.counts[state] = job.counts.get(state, 0) + 1
            task.state = state
            if before in ACTIVE and state not in ACTIVE:
                self._deactivate(job, task)
            if state in ACTIVE and before not in ACTIVE:
                self._activate(job, task)
            self._place(job)
        if task.started is not None and (job.started is None or task.started < job.started):
            job.started = task.started
        self.touch(job, task)

    def end(self, job: Job, task: Task, state: BatchState, exit_code: int, now: Now) -> None:
        """End a task for good."""
        task.exit_code = exit_code
        task.ended = now.wall if task.ended is None else task.ended
        if task.state is BatchState.PENDING:
            self._unqueue(job, task)
        self.move(job, task, state)
        job.exit_code = max(job.exit_code, exit_code)
        job.cpu_us += cpu_us_of(task)
        self._note_end(job, now)

    def _note_end(self, job: Job, now: Now) -> None:
        self._place(job)
        if job.has_ended() and job.ended is None:
            job.ended = now.wall

    def _unqueue(self, job: Job, task: Task) -> None:
        if task.position in job.requeued:
            job.requeued.remove(task.position)
            heapify(job.requeued)
        else:
            self.delayed = [
                entry for entry in self.delayed if entry[1:] != (job.number, task.position)
            ]
            heapify(self.delayed)
            job.delayed -= 1

    def requeue(self, job: Job, task: Task, at: float | None = None) -> None:
        """Have a task run again, not before `at` monotonic seconds."""
        self.move(job, task, BatchState.PENDING)
        if at is None:
            heappush(job.requeued, task.position)
        else:
            job.delayed += 1
            heappush(self.delayed, (at, job.number, task.position))
        self._place(job)

    def due(self, now: Now) -> None:
        """Let tasks back whose time has come."""
        while self.delayed and self.delayed[0][0] <= now.mono:
            _, number, position = heappop(self.delayed)
            job = self.jobs[number]
            job.delayed -= 1
            heappush(job.requeued, position)
            self.touched.jobs[number] = None
            self._place(job)

    def deadline(self) -> float | None:
        """When `due` has something to do."""
        return self.delayed[0][0] if self.delayed else None

    def cancel_fresh(self, job: Job, first: int, last: int, reason: str, now: Now) -> int:
        """Cancel what of positions first..last was never attempted; answers how many these were."""
        taken = [(cancel.first, cancel.last) for cancel in job.cancels]
        new = gaps(max(first, job.cursor), min(last, job.count - 1), taken)
        if not new:
            return 0
        number = 0
        for low, high in new:
            insort(job.cancels, Cancel(low, high, now.wall, reason), key=lambda c: c.first)
            self.touched.cancels.append((job.number, low, high))
            number += high - low + 1
        job.fresh -= number
        job.cancelled += number
        job.exit_code = max(job.exit_code, CANCELLED_CODE)
        self.touched.jobs[job.number] = None
        self._note_end(job, now)
        return number

    def ask_kill(self, job: Job, task: Task, kill: Kill) -> None:
        """Remember that a live task is to end."""
        task.kill = kill
        task.reason = "Killing"
        self.killing[job.number, task.position] = None
        self.touch(job, task)

    def abandon(self, job: Job, task: Task) -> None:
        """Count the present attempt as one whose agent still has to be told to end it."""
        task.stale = (*task.stale, Attempt(task.attempt, task.agent_id, task.agent))
        self.stale[job.wire_id(task.position, task.attempt)] = (job.number, task.position)
        self.touch(job, task)

    def bury(self, wire_id: TaskId) -> None:
        """An abandoned attempt is known to run no more."""
        place = self.stale.pop(wire_id, None)
        if place is None:
            return
        job = self.jobs[place[0]]
        task = job.tasks[place[1]]
        task.stale = tuple(
            old for old in task.stale if job.wire_id(task.position, old.number) != wire_id
        )
        self.touch(job, task)

    # --- what is derived --------------------------------------------------------------------------
    def _activate(self, job: Job, task: Task) -> None:
        place = (job.number, task.position)
        job.active += 1
        self.live[place] = None
        if task.kill is not None:
            self.killing[place] = None
        if not self.lanes.enter(task.lane, task.launched):
            return
        job.busy += 1
        self.held.enter(task.agent_id, job)

    def _deactivate(self, job: Job, task: Task) -> None:
        place = (job.number, task.position)
        job.active -= 1
        del self.live[place]
        self.killing.pop(place, None)
        lane, task.lane = task.lane, ""
        if not self.lanes.leave(lane):
            return
        job.busy -= 1
        self.held.leave(task.agent_id, job)

    def live_tasks(self) -> Iterable[tuple[Job, Task]]:
        """Tasks with an attempt that may run, in the order in which they became so."""
        return [(self.jobs[number], self.jobs[number].tasks[at]) for number, at in self.live]

    def take_touched(self) -> Touched:
        """What changed since the last call."""
        touched, self.touched = self.touched, Touched()
        return touched

    def puts(self, touched: Touched, new_jobs: Iterable[int]) -> list[Effect]:
        """What has to be on disk before anything of this is told."""
        effects: list[Effect] = [
            Put(JOBS, str(number), job_record(self.jobs[number])) for number in new_jobs
        ]
        for number in dict.fromkeys(number for number, _, _ in touched.cancels):
            effects.append(Put(CANCELS, str(number), cancels_record(self.jobs[number])))
        for number, position in touched.tasks:
            record = task_record(self.jobs[number].tasks[position])
            effects.append(Put(TASKS, f"{number}.{position}", record))
        return effects

    def check(self) -> None:
        """Recount everything that is derived; raises InvariantBroken where it differs."""
        again = Queue()
        again.load(tables_of(self.jobs))
        compare(self, again)
