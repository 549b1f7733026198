"""`mesosctl logs`: the output of tasks, read straight from their agents, printed or followed.

Rules: tasks are printed one after the other in their order; followed, they are mixed by lines.
What is missing is said on stderr with the reason, and the exit code is 1; 4 when all of that
  was removed after its retention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.logreading import LogReader
    from mesosctl.cli.output import Console
    from mesosctl.model.jobs import JobView, TaskView
    from mesosctl.protocol.messages.batch import Changed

EXIT_OURS = 125
# So many tasks are asked for in one request.
LOCATE_TASKS = 500


@cli_command("logs", passes_task_code=lambda params: bool(params["exit_code"]))
@click.argument("selectors", nargs=-1, required=True, metavar="SEL...")
@click.option("-f", "--follow", is_flag=True, help="Go on until the tasks have ended.")
@click.option("--out", is_flag=True, help="Print stdout; so it is without an option.")
@click.option("--err", is_flag=True, help="Print stderr, to stdout.")
@click.option("--all", "both", is_flag=True, help="Print both, each to its own stream.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    help="Print only the last N lines of each task's output.",
)
@click.option("--tag", is_flag=True, help="Begin each line with its task.")
@click.option(
    "--attempt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print this attempt's output instead of the latest one's.",
)
@click.option("--exit-code", is_flag=True, help="Exit with the tasks' code, the largest of them.")
@pass_globals
def command(
    found: Globals,
    /,
    selectors: tuple[str, ...],
    follow: bool,
    out: bool,
    err: bool,
    both: bool,
    lines: int | None,
    tag: bool,
    attempt: int | None,
    exit_code: bool,
) -> int | None:
    """Print or follow the output of tasks.

    Output is read from where the task ran. A task that has not started is waited for with -f, and
    why it waits is said on stderr. What is missing is said there too, and the exit code is 1, or 4
    when the agent has removed it after its retention. A selector is a job (12), a task (12.3),
    several (12.0-9, 10-14), last, all, or name:GLOB.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.following import detaching
    from mesosctl.cli.logreading import LogReader

    if out + err + both > 1:
        raise UsageError("--out, --err and --all name different streams", "give one of them")
    names = ("stdout", "stderr") if both else ("stderr",) if err else ("stdout",)
    tail = -1 if lines is None else lines
    with Cluster(found) as cluster:
        reader = LogReader(cluster, found.console, tag, apart=both)
        if follow:
            follower = Follower(cluster, found.console, reader, names, tail, attempt)
            with detaching(found.console.note, "the jobs go on"):
                code = follower.run(selectors)
        else:
            code = _print(cluster, reader, selectors, names, tail, attempt)
    if exit_code:
        return code or (EXIT_OURS if reader.missing else 0)
    return reader.exit_code


def _print(
    cluster: Cluster,
    reader: LogReader,
    selectors: tuple[str, ...],
    names: tuple[str, ...],
    tail: int,
    attempt: int | None,
) -> int:
    from mesosctl.cli.logreading import read_all
    from mesosctl.protocol.messages.batch import LocateLogs, LogSources

    sources = cluster.ask(LocateLogs(selectors, attempt), LogSources).sources
    read_all(reader, sources, names, tail)
    return max((source.task.exit_code or 0 for source in sources), default=0)


class Follower:
    """Follows a selection: told of each task that starts, reads its output until it ends."""

    def __init__(
        self,
        cluster: Cluster,
        console: Console,
        reader: LogReader,
        names: tuple[str, ...],
        tail: int,
        attempt: int | None,
    ) -> None:
        self._cluster = cluster
        self._console = console
        self._reader = reader
        self._names = names
        self._tail = tail
        self._attempt = attempt
        # Task -> the attempt whose output is being read, or was.
        self._known: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._is_first = True

    def run(self, selectors: tuple[str, ...]) -> int:
        """Follow until everything selected has ended and is printed; its exit code."""
        from mesosctl.cli.following import watch

        code = 0
        pushes = watch(
            self._cluster,
            selectors,
            self._console.note,
            tasks=True,
            idle=self._work,
            also=self._reader.has_input,
        )
        for push in pushes:
            self._take(push)
            code = push.exit_code
        while not self._reader.is_idle:
            self._reader.pump()
        return code

    def _work(self) -> float:
        self._reader.work()
        return 1.0

    def _take(self, push: Changed) -> None:
        if sum(job.tasks for job in push.jobs) > 1 or len(push.tasks) > 1:
            self._reader.by_lines = True
        for job in push.jobs:
            self._tell_waiting(job)
            if job.note and job.id not in self._known:
                self._known[job.id] = 0
                self._reader.tell_faded(job.id, job.note)
        begun = [task for task in push.tasks if self._is_news(task)]
        for first in range(0, len(begun), LOCATE_TASKS):
            self._locate(begun[first : first + LOCATE_TASKS])
        self._is_first = False

    def _tell_waiting(self, job: JobView) -> None:
        text = f"job {job.id} is pending: {job.reason}" if job.state == "pending" else ""
        if text and job.reason and self._told.get(job.id) != text:
            self._console.note(text)
        self._told[job.id] = text

    def _is_news(self, task: TaskView) -> bool:
        """Whether this task has an attempt with output that we have not begun to read."""
        from mesosctl.model.jobs import ENDED

        if self._known.get(task.id) == task.attempt or task.state in ("pending", "staging"):
            return False
        if task.started is None:
            if task.state in ENDED:
                self._tell_ended(task)
            return False
        if self._attempt is not None and self._attempt > task.attempt:
            return False
        known = self._known.get(task.id)
        self._known[task.id] = task.attempt
        if known is not None and self._attempt is None:
            self._console.note(f"task {task.id} was started again: attempt {task.attempt}")
        return known is None or self._attempt is None

    def _tell_ended(self, task: TaskView) -> None:
        from mesosctl.cli.following import task_line

        self._known[task.id] = task.attempt
        self._reader.missing += 1
        self._console.error_line(f"mesosctl: {task_line(task)}")

    def _locate(self, tasks: list[TaskView]) -> None:
        from mesosctl.protocol.messages.batch import LocateLogs, LogSources

        message = LocateLogs(tuple(task.id for task in tasks), self._attempt)
        tail = self._tail if self._is_first else -1
        for source in self._cluster.ask(message, LogSources).sources:
            if not source.address:
                self._reader.tell_missing(source, source.problem or "nobody knows where it is")
                continue
            for name in self._names:
                self._reader.add(source, name, True, tail)
