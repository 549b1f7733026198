"""What an array costs the batch framework, in calls and bytes, which no busy host changes."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.agent import StatusUpdates
from tests.core.batch.conftest import GIB, World

LARGE = 100_000


def array(count: int) -> JobSpec:
    indices = ((0, count - 1, 1),)
    return JobSpec("j", ("true",), mem_bytes=GIB // 4, indices=indices, is_array=True)


def calls(deed: Callable[[], Any]) -> int:
    """How many functions are called, of Python's own and of others."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        deed()
    finally:
        sys.setprofile(None)
    return count


def test_a_large_array_is_accepted_with_the_work_of_a_small_one(world: World) -> None:
    """It is one record until its tasks start: 100,000 tasks have to be taken in two seconds."""
    world.submit(array(10))
    small = calls(lambda: world.submit(array(10)))
    large = calls(lambda: world.submit(array(LARGE)))
    assert large < 2 * small
    assert len(world.tables["jobs"]) == 3 and "tasks" not in world.tables


def test_a_queued_task_of_an_array_takes_no_memory(world: World) -> None:
    """Less than ten bytes each, of an array that waits as of one that has begun."""
    world.submit(array(10))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    world.submit(array(LARGE))
    gc.collect()
    accepted, most = tracemalloc.get_traced_memory()
    world.launch(cpus=4, mem_mib=4096)
    gc.collect()
    begun, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    world.mail.clear()
    assert (accepted - before) / LARGE < 1
    assert (begun - before) / LARGE < 1
    assert (most - before) / LARGE < 10


def work_through(world: World, jobs: int, tasks: int) -> int:
    """The calls that it takes to run `jobs` arrays of `tasks` tasks to their ends."""
    for _ in range(jobs):
        world.submit(array(tasks))

    def run() -> None:
        queue = world.machine.queue
        while not all(job.has_ended() for job in queue.jobs.values()):
            launched = world.launch(cpus=4)
            world.advance(0.004 * len(launched))
            ends = tuple(world.update(task.task_id, TaskState.FINISHED) for task in launched)
            world.master(StatusUpdates(ends))
            world.mail.clear()

    # The recount of everything after each pass is the test's own.
    world.machine.check = lambda: None  # type: ignore[method-assign]
    return calls(run)


def test_many_small_arrays_are_as_cheap_as_a_large_one(worlds: Callable[..., World]) -> None:
    """What is done for each task must not grow with the number of jobs that wait."""
    one, many = worlds(), worlds()
    one.start()
    many.start()
    one_job, many_jobs = work_through(one, 1, 2_000), work_through(many, 40, 50)
    assert many_jobs < 1.5 * one_job
