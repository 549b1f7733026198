"""Jobs and tasks as rows: fetched whole, page by page, and the columns that show them.

Rules: a key of a row is a key of the JSON and never changes its meaning. A list is fetched in pages
and shown as one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mesosctl.cli.output import Column
from mesosctl.cli.params import Parsed
from mesosctl.errors import UsageError
from mesosctl.model.jobs import WORST_FIRST, BatchState, JobView, TaskView

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster

PAGE_ITEMS = 5000
_ORDER = (BatchState.PENDING, BatchState.STAGING, BatchState.RUNNING, *reversed(WORST_FIRST))
_COLOURS = {
    BatchState.PENDING: "dim",
    BatchState.STAGING: "cyan",
    BatchState.RUNNING: "cyan",
    BatchState.OK: "green",
    BatchState.FAILED: "red",
    BatchState.OOM: "red",
    BatchState.TIMEOUT: "red",
    BatchState.LOST: "red",
    BatchState.KILLED: "yellow",
    BatchState.CANCELLED: "yellow",
    BatchState.PARTIAL: "magenta",
}


def parse_states(text: str) -> tuple[str, ...]:
    """States separated by commas. Raises UsageError."""
    known = [state.value for state in BatchState]
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in known:
            raise UsageError(f"no state {word[:40]!r}", f"there are {', '.join(known)}")
    if not words:
        raise UsageError("no state is named", f"there are {', '.join(known)}")
    return words


STATES = Parsed("STATE[,STATE...]", parse_states)


def counts_text(counts: dict[str, int]) -> str:
    """`3 running, 5 ok, 1 failed`, in a fixed order."""
    return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts.get(state))


class Counts(dict[str, int]):
    """How many tasks are in which state: a map to programs, a text to people."""

    def __str__(self) -> str:
        return counts_text(self)


def colour_of(state: Any) -> str:
    """The colour in which a state is shown."""
    return _COLOURS.get(state, "")


JOB_COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("state", "state", style=colour_of),
    Column("tasks", "tasks", kind="number"),
    Column("counts", "counts"),
    Column("reason", "reason"),
    Column("exit_code", "exit", kind="number"),
    Column("user", "user", wide=True),
    Column("role", "role", wide=True),
    Column("priority", "priority", kind="number", wide=True),
    Column("cpus", "cpus", kind="cpus", wide=True),
    Column("mem_limit", "mem", kind="size", wide=True),
    Column("submitted", "submitted", kind="time"),
    Column("started", "started", kind="time", wide=True),
    Column("ended", "ended", kind="time", wide=True),
    Column("duration", "time", kind="duration", wide=True),
    Column("cpu_s", "cpu time", kind="duration", wide=True),
    Column("command", "command", wide=True),
    Column("note", "note", wide=True),
    Column("draining", "draining", kind="number", hidden=True),
    Column("ends_by", "ends by", kind="time", hidden=True),
)

TASK_COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("state", "state", style=colour_of),
    Column("exit_code", "exit", kind="number"),
    Column("agent", "agent"),
    Column("attempt", "attempt", kind="number", wide=True),
    Column("job", "job", hidden=True),
    Column("index", "index", kind="number", hidden=True),
    Column("reason", "reason"),
    Column("ends_by", "ends by", kind="time", wide=True),
    Column("signal", "signal", kind="number", wide=True),
    Column("duration", "time", kind="duration"),
    Column("cpu_s", "cpu time", kind="duration"),
    Column("mem_peak", "mem peak", kind="size"),
    Column("mem_limit", "mem limit", kind="size"),
    Column("cpus", "cpus", kind="cpus", wide=True),
    Column("cpu_user_s", "user time", kind="duration", hidden=True),
    Column("cpu_system_s", "system time", kind="duration", hidden=True),
    Column("submitted", "submitted", kind="time", wide=True),
    Column("started", "started", kind="time", wide=True),
    Column("ended", "ended", kind="time", wide=True),
    Column("user", "user", wide=True),
    Column("entry", "entry", wide=True),
    Column("again_at", "again", kind="time", hidden=True),
    Column("message", "message", wide=True),
)


def task_columns(tasks: list[TaskView]) -> tuple[Column, ...]:
    """The columns for these tasks: when one is ended because its agent is drained, where one is."""
    if not any(task.ends_by is not None for task in tasks):
        return TASK_COLUMNS
    return tuple([replace(c, wide=False) if c.key == "ends_by" else c for c in TASK_COLUMNS])


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(0.0, end - begin)


def job_row(job: JobView) -> dict[str, Any]:
    """A job as a row of JOB_COLUMNS."""
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "tasks": job.tasks,
        "counts": Counts({state: count for state, count in job.counts.items() if count}),
        "reason": job.reason,
        "exit_code": job.exit_code,
        "user": job.user,
        "role": job.role,
        "priority": job.priority,
        "cpus": job.cpus_milli,
        "mem_limit": job.mem_bytes,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "duration": _between(job.started, job.ended),
        "cpu_s": job.cpu_s,
        "command": job.command,
        "note": job.note,
        "draining": job.draining,
        "ends_by": job.ends_by,
    }


def task_row(task: TaskView) -> dict[str, Any]:
    """A task as a row of TASK_COLUMNS."""
    cpu_s = None
    if task.cpu_user_s is not None and task.cpu_system_s is not None:
        cpu_s = task.cpu_user_s + task.cpu_system_s
    return {
        "id": task.id,
        "name": task.name,
        "state": task.state,
        "exit_code": task.exit_code,
        "agent": task.agent,
        "attempt": task.attempt,
        "job": task.job,
        "index": task.index,
        "reason": task.reason,
        "ends_by": task.ends_by,
        "signal": task.signal,
        "duration": _between(task.started, task.ended),
        "cpu_s": cpu_s,
        "mem_peak": task.mem_peak_bytes,
        "mem_limit": task.mem_limit_bytes,
        "cpus": task.cpus_milli,
        "cpu_user_s": task.cpu_user_s,
        "cpu_system_s": task.cpu_system_s,
        "submitted": task.submitted,
        "started": task.started,
        "ended": task.ended,
        "user": task.user,
        "entry": task.entry,
        "message": task.message,
        "again_at": task.again_at,
    }


def all_jobs(
    cluster: Cluster,
    selectors: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    name: str = "",
    everyone: bool = False,
    ended: bool = False,
) -> list[JobView]:
    """All jobs that a ListJobs means."""
    from mesosctl.protocol.messages.batch import Jobs, ListJobs

    found: list[JobView] = []
    after = ""
    while True:
        message = ListJobs(selectors, states, name, everyone, ended, after, PAGE_ITEMS)
        page = cluster.ask(message, Jobs)
        found += page.jobs
        if not page.next:
            return found
        after = page.next


def all_tasks(
    cluster: Cluster,
    selectors: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    everyone: bool = False,
    ended: bool = True,
) -> list[TaskView]:
    """All tasks that a ListTasks means."""
    from mesosctl.protocol.messages.batch import ListTasks, Tasks

    found: list[TaskView] = []
    after = ""
    while True:
        message = ListTasks(selectors, states, everyone, ended, after, PAGE_ITEMS)
        page = cluster.ask(message, Tasks)
        found += page.tasks
        if not page.next:
            return found
        after = page.next
