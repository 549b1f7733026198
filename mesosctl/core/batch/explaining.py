"""Why a task is where it is: every cause of a task that waits, what became of one that does not.

Rules: never nothing. The causes of waiting are those of outlook.py, so that the first of them is
the reason in listings. Of a job each kind of task is explained once.
"""

from __future__ import annotations

from mesosctl.core.batch.endings import advice_on, ending_of
from mesosctl.core.batch.fitwords import advice_of, causes_of
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.records import Job, Task
from mesosctl.core.batch.selectors import Positions, each, is_whole
from mesosctl.core.batch.views import state_of, task_view
from mesosctl.model.constraints import Where
from mesosctl.model.explanations import Cause, Explanation
from mesosctl.model.fit import Fit, Need
from mesosctl.model.jobs import ENDED, BatchState, TaskView
from mesosctl.model.words import duration_words

# Kinds of tasks of one job that are told apart.
KINDS_MAX = 10
_WORST = (BatchState.LOST, BatchState.FAILED, BatchState.OOM, BatchState.TIMEOUT)


def need_of(job: Job) -> Need:
    """What one task of a job needs, as the master is asked about it."""
    return Need(job.resources, Where(job.spec.constraint, tuple(job.spots)))


def explain_task(job: Job, position: int, outlook: Outlook, alike: int = 1) -> Explanation:
    """Everything about one task."""
    view = task_view(job, position, outlook)
    limit_s = job.spec.time_limit_s
    task = job.tasks.get(position)
    if view.state in ENDED:
        causes = ending_of(job, view)
        advice = advice_on(job, view)
        return Explanation(
            view,
            tuple(causes),
            alike,
            advice=advice,
            time_limit_s=limit_s,
            history=outlook.waits.of(job, task),
        )
    if view.state is not BatchState.PENDING:
        cause = Cause(view.reason or view.state.capitalize(), view.message or _goes_on(view))
        history = outlook.waits.of(job, task)
        return Explanation(view, (cause,), alike, time_limit_s=limit_s, history=history)
    fit = outlook.fit_of(job)
    causes = outlook.causes(job, task)
    outlook.waits.observe(job.number, outlook.wall, causes[0].reason, causes[0].text)
    if task is not None and task.message:
        causes.append(Cause(causes[0].reason, task.message))
    jobs, tasks = _before(job, outlook)
    return Explanation(
        view,
        tuple(causes),
        alike,
        "" if fit is None else fit.verdict,
        _advice(causes[0], fit, job, task, outlook),
        jobs,
        tasks,
        need_of(job),
        fit,
        limit_s,
        outlook.waits.of(job, task),
    )


def explain_spec(job: Job, outlook: Outlook) -> Explanation | None:
    """How a job would fit that is not submitted; None when the master does not say."""
    fit = outlook.fit_of(job)
    if fit is None:
        return None
    causes = causes_of(fit)
    advice = advice_of(fit, causes[0]) if fit.verdict != "now" else ""
    view = task_view(job, 0, outlook)
    return Explanation(
        view, tuple(causes), job.count, fit.verdict, advice, need=need_of(job), fit=fit
    )


def kinds(job: Job, ranges: Positions, outlook: Outlook) -> list[Explanation]:
    """Each kind of task of a selection once: those that went wrong, then those that wait."""
    found: dict[tuple[str, str], list[int]] = {}
    fresh = 0
    if is_whole(job, ranges):
        positions = [*job.tasks, *_first_fresh(job)]
        fresh = job.fresh + job.cancelled
    else:
        positions = list(each(ranges))
    for position in positions:
        task = job.tasks.get(position)
        state = state_of(job, position)
        # Tasks that were never attempted wait for the same thing.
        word = "" if task is None else f"{task.reason}{task.exit_code}{task.signal}"
        found.setdefault((state, word), []).append(position)
    order = sorted(found, key=lambda kind: (_place(kind[0]), kind[1]))
    explained = []
    for kind in order[:KINDS_MAX]:
        first = found[kind][0]
        alike = len(found[kind])
        if fresh and first not in job.tasks:
            alike = fresh
        explained.append(explain_task(job, first, outlook, alike))
    return explained


def _first_fresh(job: Job) -> list[int]:
    """A task that was never attempted, if there is one: one stands for all of them."""
    for position in range(job.cursor, job.count):
        if job.cancel_of(position) is None:
            return [position]
    return [job.cancels[0].first] if job.cancels else []


def _place(state: str) -> int:
    if state in _WORST:
        return 0
    return 1 if state not in ENDED else 2


def _goes_on(view: TaskView) -> str:
    if view.state is BatchState.STAGING:
        return f"agent {view.agent} is starting it"
    return f"it runs on agent {view.agent}"


def _before(job: Job, outlook: Outlook) -> tuple[int, int]:
    """How many jobs are served before this one, and how many of their tasks may start."""
    jobs = tasks = 0
    for other in outlook.queue.in_order():
        if (-other.spec.priority, other.number) >= (-job.spec.priority, job.number):
            break
        jobs += 1
        tasks += other.room()
    return jobs, tasks


def _advice(cause: Cause, fit: Fit | None, job: Job, task: Task | None, outlook: Outlook) -> str:
    match cause.reason:
        case "Backoff":
            left = backoff_s(job, task, outlook)
            return "it is tried again by itself" + (f" in {duration_words(left)}" if left else "")
        case "NoFramework":
            return "see whether the master runs; what runs goes on meanwhile"
        case "MaxRunning":
            return "wait until one of them ends, or submit the rest with a larger --max-running"
        case "Resources" if fit is not None:
            return advice_of(fit, cause) + _soonest(job, fit, outlook)
        case _:
            return "" if fit is None else advice_of(fit, cause)


def _soonest(job: Job, fit: Fit, outlook: Outlook) -> str:
    """The first of our tasks whose end, forced by its time limit, certainly makes room."""
    names = {name: None for g in fit.groups if g.reason == "Resources" for name in g.names}
    found: list[tuple[float, str]] = []
    for other, task in outlook.queue.live_tasks():
        limit_s, is_large = other.spec.time_limit_s, other.resources.contains(job.resources)
        if limit_s is None or task.started is None or task.agent not in names or not is_large:
            continue
        left_s = max(0.0, task.started + limit_s - outlook.wall)
        found.append((left_s, f"{other.task_id(task.position)} on {task.agent}"))
    if not found:
        return ""
    left_s, which = min(found)
    return f" ({which} ends within {duration_words(round(left_s))} by its time limit)"


def backoff_s(job: Job, task: Task | None, outlook: Outlook) -> float | None:
    """In how many seconds a task that waits for its time is tried again."""
    times = [
        at
        for at, number, position in outlook.queue.delayed
        if number == job.number and (task is None or position == task.position)
    ]
    return max(0.0, round(min(times) - outlook.now, 1)) if times else None
