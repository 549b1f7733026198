"""Whether what the queue keeps beside its records is what would be counted from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesosctl.core.batch.records import Job, Size
from mesosctl.core.batch.spans import gaps
from mesosctl.errors import require

if TYPE_CHECKING:
    from mesosctl.core.batch.queue import Queue

_OF_A_JOB = ("fresh", "counts", "active", "busy", "cancelled", "exit_code", "cpu_us", "spots")
_OF_THE_QUEUE = ("requests", "stale", "held", "lanes")


def compare(queue: Queue, again: Queue) -> None:
    """Compare a queue with one that was loaded from its records; raises InvariantBroken."""
    delayed = sorted(entry[1:] for entry in queue.delayed)
    for number, job in queue.jobs.items():
        other = again.jobs[number]
        waiting = [position for n, position in delayed if n == number]
        require(job.delayed == len(waiting), f"job {number}: delayed tasks miscounted")
        require(
            sorted(job.requeued + waiting) == sorted(other.requeued),
            f"job {number}: the tasks to run again are not those that are pending",
        )
        for name in _OF_A_JOB:
            mine, recounted = getattr(job, name), getattr(other, name)
            require(mine == recounted, f"job {number}: {name} is {mine}, not {recounted}")
        _covers(job)
        listed = (-job.spec.priority, number) in queue.order
        require(listed == bool(job.room()), f"job {number} is misplaced in the order")
        require(job.offered == job.room(), f"job {number}: its room is miscounted")
    for name in _OF_THE_QUEUE:
        require(getattr(queue, name) == getattr(again, name), f"the queue's {name} are wrong")
    require(sorted(queue.live) == sorted(again.live), "the queue's live tasks are wrong")
    require(sorted(queue.killing) == sorted(again.killing), "the queue's kills are wrong")
    require(queue.order == sorted(queue.order), "the order of jobs is not sorted")
    sums: dict[Size, int] = {}
    for job in queue.in_order():
        size = job.size
        sums[size] = sums.get(size, 0) + job.room()
    require(queue.wanted == sums, "what is wanted is miscounted")


def _covers(job: Job) -> None:
    holes = gaps(0, job.cursor - 1, [(p, p) for p in sorted(job.tasks)])
    covered = all(
        job.cancel_of(position) is not None
        for low, high in holes
        for position in range(low, high + 1)
    )
    require(covered, f"job {job.number}: a task below the cursor is nowhere")
