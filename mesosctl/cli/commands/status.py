"""`mesosctl status`: jobs one by one, with what failed, and how they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.listing import (
    JOB_COLUMNS,
    TASK_COLUMNS,
    all_jobs,
    all_tasks,
    colour_of,
    counts_text,
    job_row,
    task_columns,
    task_row,
)
from mesosctl.cli.options import FORMATS, Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Listing, escaped, json_text, print_table
from mesosctl.cli.values import cpus_text, duration_text, size_text
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.output import Console
    from mesosctl.model.jobs import JobView, TaskView

FAILURES_SHOWN = 5


@cli_command("status")
@click.argument("selectors", nargs=-1, required=True, metavar="SEL...")
@click.option("-w", "--watch", is_flag=True, help="Go on telling what changes until all has ended.")
@click.option("--tasks", "with_tasks", is_flag=True, help="Also list the tasks.")
@output_options
@pass_globals
def command(
    found: Globals,
    /,
    selectors: tuple[str, ...],
    watch: bool,
    with_tasks: bool,
    output: Output,
) -> int | None:
    """Show jobs in detail.

    A selector is a job (12), a task (12.3), several (12.0-9, 10-14), last, all, or name:GLOB. With
    -w each change is a line as it comes (-o jsonl: an object); the exit code stays 0 whatever
    becomes of the jobs: `mesosctl wait` passes it on.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.following import detaching

    if watch and output.format not in ("table", "wide", "jsonl"):
        raise UsageError(f"-o {output.format} cannot be watched", "write -o jsonl")
    if with_tasks and output.format not in ("table", "wide", "json", "jsonl"):
        known = ", ".join(word for word in FORMATS if word.startswith("json"))
        raise UsageError(f"--tasks has no place in -o {output.format}", f"there are {known}")
    # A single task is named because it is to be seen.
    with_tasks = with_tasks or (not watch and any("." in _plain(word) for word in selectors))
    with Cluster(found) as cluster:
        if watch:
            with detaching(found.console.note, "the jobs go on"):
                return _watch(cluster, found.console, selectors, output)
        jobs = all_jobs(cluster, selectors)
        if with_tasks and all(job.note for job in jobs):
            # Only their summaries are left.
            with_tasks = False
        tasks = all_tasks(cluster, selectors) if with_tasks else _failures(cluster, jobs, output)
    if output.is_machine or output.format == "name" or output.fields:
        _print_items(found.console, jobs, tasks if with_tasks else None, output)
        return None
    for number, job in enumerate(jobs):
        if number:
            found.console.out("")
        of_job = [task for task in tasks if task.job == job.id]
        _print_job(found.console, job, of_job, output, with_tasks)
    return None


def _plain(selector: str) -> str:
    return "" if selector.startswith("name:") else selector


def _failures(cluster: Cluster, jobs: list[JobView], output: Output) -> list[TaskView]:
    """The first tasks of these jobs that did not end well or are out of reach, for people."""
    from mesosctl.cli.following import FAILED_STATES
    from mesosctl.protocol.messages.batch import ListTasks, Tasks

    states = tuple(state.value for state in FAILED_STATES)
    found: list[TaskView] = []
    if output.is_machine:
        return found
    for job in jobs:
        if not job.note and any(job.counts.get(state) for state in states):
            ask = ListTasks((job.id,), states, limit=FAILURES_SHOWN)
            found += cluster.ask(ask, Tasks).tasks
        if job.ended is None and job.tasks <= FAILURES_SHOWN:
            live = cluster.ask(ListTasks((job.id,), ("staging", "running")), Tasks).tasks
            found += [task for task in live if task.reason == "Unreachable"]
    return found


def _print_items(
    console: Console, jobs: list[JobView], tasks: list[TaskView] | None, output: Output
) -> None:
    listing = Listing("status", JOB_COLUMNS, [job_row(job) for job in jobs])
    if tasks is None:
        listing.print(console, output)
        return
    items: list[dict[str, Any]] = listing.items()
    for item in items:
        of_job = [task_row(task) for task in tasks if task.job == item["id"]]
        item["task_list"] = Listing("tasks", TASK_COLUMNS, of_job).items()
    if output.format == "json":
        console.json("status", items)
        return
    for item in items:
        console.out(json_text(item))


def _print_job(
    console: Console, job: JobView, tasks: list[TaskView], output: Output, with_tasks: bool
) -> None:
    state = console.styled(str(job.state), colour_of(job.state))
    code = "" if job.exit_code is None else f" (exit code {job.exit_code})"
    console.out(f"job {job.id} '{escaped(job.name)}': {state}{code}")
    lines = [
        ("tasks", f"{job.tasks}: {counts_text(job.counts)}"),
        ("reason", job.reason),
        ("drained", _drained(console, job)),
        ("command", job.command),
        ("each", f"{cpus_text(job.cpus_milli)} cpus, {size_text(job.mem_bytes)} memory"),
        ("user", f"{job.user}, role {job.role}, priority {job.priority}"),
        ("submitted", console.time(job.submitted)),
        ("started", console.time(job.started) if job.started else ""),
        ("ended", _ended(console, job)),
        ("cpu time", duration_text(job.cpu_s) if job.cpu_s else ""),
        ("note", job.note),
    ]
    for title, text in lines:
        if text:
            console.out(f"  {title:<10}{escaped(text)}")
    if with_tasks:
        chosen = [
            c
            for c in task_columns(tasks)
            if not c.hidden and (output.format == "wide" or not c.wide)
        ]
        print_table(console, chosen, [task_row(task) for task in tasks])
    elif tasks:
        _print_failures(console, tasks)


def _drained(console: Console, job: JobView) -> str:
    """What is told beforehand of tasks whose agents are emptied."""
    if not job.draining:
        return ""
    tasks = "1 task runs" if job.draining == 1 else f"{job.draining} tasks run"
    if job.ends_by is None:
        return f"{tasks} on agents that are drained, and may finish"
    at = console.time(job.ends_by)
    return f"{tasks} on agents that are drained; run again elsewhere at {at} (--once: ended)"


def _ended(console: Console, job: JobView) -> str:
    if job.ended is None:
        return ""
    took = f" after {duration_text(job.ended - job.started)}" if job.started is not None else ""
    return f"{console.time(job.ended)}{took}"


def _print_failures(console: Console, tasks: list[TaskView]) -> None:
    from mesosctl.cli.following import task_line

    for task in tasks:
        console.out(f"  {escaped(task_line(task))}")


def _watch(
    cluster: Cluster, console: Console, selectors: tuple[str, ...], output: Output
) -> int | None:
    from mesosctl.cli.following import watch

    told: dict[str, str] = {}
    for push in watch(cluster, selectors, console.note):
        for job in push.jobs:
            if output.format == "jsonl":
                listing = Listing("status", JOB_COLUMNS, [job_row(job)])
                listing.print(console, output)
                continue
            reason = f" ({job.reason})" if job.reason else ""
            text = f"job {job.id} '{job.name}': {job.state}{reason}: {counts_text(job.counts)}"
            if told.get(job.id) != text:
                told[job.id] = text
                console.out(escaped(text))
        console.flush()
    return None
