"""What listings show of jobs and tasks.

Rules: a pending task always has a reason. `exit_code` is what a command that waits for it ends
with, present once it has ended. Long commands are cut; the entry of a task is not.
"""

from __future__ import annotations

from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import CANCELLED_CODE
from mesosctl.core.batch.records import ACTIVE, Job, Task, command_of
from mesosctl.core.batch.selectors import Positions, each, is_whole
from mesosctl.model.jobs import ENDED, WORST_FIRST, BatchState, JobView, TaskView
from mesosctl.protocol.messages.maintenance import InverseOffer

CANCELLED_WORD = "KillRequested"


def job_state(job: Job) -> BatchState:
    """A job's state from those of its tasks."""
    counts = job.counts
    if job.has_ended():
        for state in WORST_FIRST:
            if counts.get(state) or (state is BatchState.CANCELLED and job.cancelled):
                return state
    if job.cancelled or any(state in ENDED for state in counts):
        return BatchState.PARTIAL
    for state in (BatchState.RUNNING, BatchState.STAGING):
        if counts.get(state):
            return state
    return BatchState.PENDING


def job_view(job: Job, outlook: Outlook, faded_text: str = "") -> JobView:
    """A job as listings show it. `faded_text` is told of one of which only its summary is left."""
    spec = job.spec
    reason = ""
    if job.pending():
        reason = outlook.reason(job, None)[0]
    drained = outlook.drained_of(job)
    return JobView(
        job.id,
        spec.name,
        job_state(job),
        spec.user,
        spec.role,
        spec.priority,
        job.count,
        job.tallies(),
        reason=reason,
        exit_code=job.exit_code if job.has_ended() else None,
        submitted=job.submitted,
        started=job.started,
        ended=job.ended if job.has_ended() else None,
        cpus_milli=spec.cpus_milli,
        mem_bytes=spec.mem_bytes,
        command=command_of(job),
        cpu_s=job.cpu_us / 1e6 if job.has_ended() else None,
        note=faded_text if job.faded else "",
        draining=drained.tasks,
        ends_by=drained.deadline,
    )


def state_of(job: Job, position: int) -> BatchState:
    """The state of one task."""
    task = job.tasks.get(position)
    if task is not None:
        return task.state
    is_cancelled = job.cancels and job.cancel_of(position) is not None
    return BatchState.CANCELLED if is_cancelled else BatchState.PENDING


def code_of(job: Job, position: int) -> int | None:
    """What a command that waits for this task ends with; None while it has not ended."""
    task = job.tasks.get(position)
    if task is not None:
        return task.exit_code if task.state in ENDED else None
    is_cancelled = job.cancels and job.cancel_of(position) is not None
    return CANCELLED_CODE if is_cancelled else None


def outcome(job: Job, positions: Positions) -> tuple[bool, int]:
    """Whether all of these tasks have ended, and the largest code of those that have."""
    if is_whole(job, positions):
        return job.has_ended(), job.exit_code
    over = True
    largest = 0
    for position in each(positions):
        code = code_of(job, position)
        if code is None:
            over = False
        else:
            largest = max(largest, code)
    return over, largest


def task_view(job: Job, position: int, outlook: Outlook) -> TaskView:
    """One task as listings show it."""
    spec = job.spec
    task = job.tasks.get(position)
    entry = spec.entries[position] if spec.entries else None
    if task is not None and task.state in ACTIVE and not task.reason:
        drain = outlook.agents.drain_of(task.agent_id)
        if drain is not None:
            message = _drain_text(job, drain)
            return _view_of(job, task, "Draining", message, entry, drain.deadline)
    if task is not None and task.state is not BatchState.PENDING:
        waits = task.state is BatchState.STAGING and not task.reason and _is_behind(job, task)
        if waits:
            text = f"runs on agent {task.agent} after those before it in its lane"
            return _view_of(job, task, "Lane", text, entry)
        return _view_of(job, task, task.reason, task.message, entry)
    if task is not None:
        reason, why = outlook.reason(job, task)
        return _view_of(job, task, reason, task.message or why, entry)
    cancel = job.cancel_of(position) if job.cancels else None
    if cancel is not None:
        reason, why = CANCELLED_WORD, cancel.reason
    else:
        reason, why = outlook.reason(job, None)
    return TaskView(
        job.task_id(position),
        job.id,
        job.spans.index(position),
        spec.name,
        BatchState.PENDING if cancel is None else BatchState.CANCELLED,
        reason,
        why,
        exit_code=None if cancel is None else CANCELLED_CODE,
        submitted=job.submitted,
        ended=None if cancel is None else cancel.at,
        cpus_milli=spec.cpus_milli,
        mem_limit_bytes=spec.mem_bytes,
        user=spec.user,
        entry=entry,
    )


def _is_behind(job: Job, task: Task) -> bool:
    return task.lane not in ("", job.wire_id(task.position, task.attempt))


def _drain_text(job: Job, drain: InverseOffer) -> str:
    """What becomes of a task on an agent that is emptied."""
    why = f" ({drain.reason})" if drain.reason else ""
    text = f"agent {drain.agent_name} is drained{why}: the task "
    if drain.deadline is None:
        return text + "may finish"
    then = "and may start only once" if job.spec.once else "and run again elsewhere"
    return text + f"is ended at the deadline {then}"


def _view_of(
    job: Job,
    task: Task,
    reason: str,
    message: str,
    entry: str | None,
    ends_by: float | None = None,
) -> TaskView:
    spec = job.spec
    return TaskView(
        job.task_id(task.position),
        job.id,
        job.spans.index(task.position),
        spec.name,
        task.state,
        reason,
        message,
        exit_code=task.exit_code,
        signal=task.signal,
        agent=task.agent,
        agent_id=task.agent_id,
        attempt=task.attempt,
        wire_id=job.wire_id(task.position, task.attempt),
        submitted=job.submitted,
        started=task.started,
        ended=task.ended,
        cpus_milli=spec.cpus_milli,
        mem_limit_bytes=spec.mem_bytes,
        cpu_user_s=task.cpu_user_s,
        cpu_system_s=task.cpu_system_s,
        mem_peak_bytes=task.mem_peak_bytes,
        user=spec.user,
        entry=entry,
        again_at=task.again_at,
        ends_by=ends_by,
    )
