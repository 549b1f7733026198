"""What is left of a job after its time: its summary on disk, and in memory a job without tasks.

    summaries  "<job>"    name, owner, request, counts of final states, times, CPU time, command

Rules: a summarised job is a Job like any other that has ended, but `faded`: it has no tasks, no
environment and no script, and its command is the line that listings show. So every question about
jobs is answered as before, and only those about tasks have to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mesosctl.core.batch.records import (
    CANCELS,
    JOBS,
    TASKS,
    Job,
    Tables,
    cancels_record,
    command_of,
    job_record,
    task_record,
)
from mesosctl.core.batch.spans import Spans
from mesosctl.model.jobs import BatchState, JobSpec
from mesosctl.model.resources import Resources

SUMMARIES = "summaries"
_NOTHING = Resources()


def summary_of(job: Job) -> dict[str, Any]:
    """The summary of an ended job, in its form on disk."""
    spec = job.spec
    return {
        "name": spec.name,
        "user": spec.user,
        "role": spec.role,
        "priority": spec.priority,
        "cpus_milli": spec.cpus_milli,
        "mem_bytes": spec.mem_bytes,
        "command": command_of(job),
        "owner": job.owner,
        "request": job.request,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "count": job.count,
        "counts": {str(state): number for state, number in job.counts.items()},
        "cancelled": job.cancelled,
        "exit_code": job.exit_code,
        "cpu_us": job.cpu_us,
    }


def faded_of(number: int, plain: dict[str, Any]) -> Job:
    """The job of a summary. Raises KeyError or ValueError for what is none."""
    spec = JobSpec(
        plain["name"],
        (plain["command"],),
        user=plain["user"],
        role=plain["role"],
        priority=plain["priority"],
        cpus_milli=plain["cpus_milli"],
        mem_bytes=plain["mem_bytes"],
        env=_EMPTY,
    )
    return Job(
        number,
        spec,
        plain["owner"],
        plain["request"],
        plain["submitted"],
        _spans(plain["count"]),
        _NOTHING,
        0,
        0,
        0,
        plain["count"],
        0,
        counts={BatchState(state): count for state, count in plain["counts"].items()},
        cancelled=plain["cancelled"],
        exit_code=plain["exit_code"],
        started=plain["started"],
        ended=plain["ended"],
        cpu_us=plain["cpu_us"],
        faded=True,
    )


def tables_of(jobs: Mapping[int, Job]) -> Tables:
    """Everything about these jobs as it is on disk."""
    whole = {number: job for number, job in jobs.items() if not job.faded}
    return {
        JOBS: {str(number): job_record(job) for number, job in whole.items()},
        CANCELS: {str(n): cancels_record(j) for n, j in whole.items() if j.cancels},
        SUMMARIES: {str(n): summary_of(j) for n, j in jobs.items() if j.faded},
        TASKS: {
            f"{number}.{position}": task_record(task)
            for number, job in whole.items()
            for position, task in job.tasks.items()
        },
    }


# Shared by all summaries; nobody changes a specification.
_EMPTY: dict[str, str] = {}


@lru_cache(maxsize=64)
def _spans(count: int) -> Spans:
    return Spans(((0, count - 1, 1),))
