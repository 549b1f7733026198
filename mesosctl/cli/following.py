"""Following jobs until they end: pushed, never polled; progress and failures told on stderr.

Rules: a watch survives a restart of the batch framework, also one to another address; while it is
away the watch waits, at most PATIENCE_S, and says so once. Ctrl-C ends the watching, not the job.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from mesosctl.cli.listing import all_jobs, counts_text
from mesosctl.cli.output import Console, escaped
from mesosctl.cli.values import duration_text, size_text, time_text
from mesosctl.errors import MesosctlError, NotFound, UsageError
from mesosctl.model.jobs import ENDED, WORST_FIRST, BatchState, JobView, TaskView
from mesosctl.model.records import dataclass

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.batch import Changed
    from mesosctl.runtime.client import Ask

EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130
# So long a watch waits for a batch framework that is away before it gives up.
PATIENCE_S = 300.0
# So often the master is asked where the batch framework is while that does not answer.
FIND_EVERY_S = 1.0
# So long it may be silent before that is worth a line.
SAY_AFTER_S = 3.0
PLAIN_EVERY_S = 30.0
FAILURES_SHOWN = 5
FAILED_STATES = tuple(state for state in WORST_FIRST if state is not BatchState.OK)


class TimeUp(MesosctlError):
    """`--timeout` is over before the jobs were."""

    exit_code = EXIT_TIMEOUT


def watch(
    cluster: Cluster,
    selectors: Sequence[str],
    note: Callable[[str], None],
    *,
    tasks: bool = False,
    timeout_s: float | None = None,
    idle: Callable[[], float | None] | None = None,
    also: Callable[[], bool] = lambda: False,
) -> Iterator[Changed]:
    """Every change of what is selected, until all of it has ended.

    `idle` is called between pushes and as soon as `also` says that it has something to do; it
    answers in how many seconds it wants to be called again.
    Raises as `request` does, and TimeUp.
    """
    from mesosctl.protocol.messages.batch import Watch
    from mesosctl.runtime.client import Reopened

    message = Watch(tuple(selectors), tasks)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    absence = _Absence(note)
    client = cluster.framework
    ask = client.ask(message)
    is_first = True
    try:
        while True:
            while ask.replies:
                push = _checked(ask.replies.popleft())
                absence.over()
                is_first = False
                yield push
                if push.done:
                    return
            wait_s = idle() if idle is not None else None
            due = [FIND_EVERY_S] if wait_s is None else [FIND_EVERY_S, wait_s]
            if until is not None:
                if time.monotonic() >= until:
                    raise TimeUp(f"not over after {duration_text(timeout_s)}", "it goes on")
                due.append(until - time.monotonic())
            cluster.hub.wait(partial(_is_ready, ask, also), max(0.0, min(due)))
            if any(isinstance(item, Reopened) for item in client.inbox):
                absence.begin()
            client.inbox.clear()
            client.check(0.0 if is_first else PATIENCE_S)
            if is_first and not ask.replies:
                absence.begin(cluster.timeout_s)
            if absence.asks_now() and cluster.find_again():
                client.end(ask)
                client = cluster.framework
                ask = client.ask(message)
    finally:
        client.end(ask)


def _is_ready(ask: Ask, also: Callable[[], bool]) -> bool:
    return bool(ask.replies) or also()


def _checked(reply: object) -> Changed:
    from mesosctl.protocol.messages.batch import Changed
    from mesosctl.protocol.messages.session import Refusal
    from mesosctl.runtime.reasons import accepted

    if isinstance(reply, Refusal):
        accepted(reply)
    if not isinstance(reply, Changed):
        raise MesosctlError("the batch framework answered with something else", "is it ours?")
    return reply


class _Absence:
    """How long the other side has been away, and what is due because of it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._since: float | None = None
        self._limit_s = PATIENCE_S
        self._asked = 0.0
        self._is_said = False

    def begin(self, limit_s: float = PATIENCE_S) -> None:
        if self._since is None:
            self._since = self._asked = time.monotonic()
            self._limit_s = limit_s

    def over(self) -> None:
        if self._is_said:
            self._note("the batch framework is back")
        self._since = None
        self._is_said = False

    def asks_now(self) -> bool:
        """Whether to ask the master now. Raises Unreachable when it has been away too long."""
        from mesosctl.errors import Unreachable

        if self._since is None:
            return False
        now = time.monotonic()
        if now - self._since >= self._limit_s:
            raise Unreachable(
                f"the batch framework has not answered for {duration_text(self._limit_s)}",
                "is it running? the jobs go on without us",
            )
        if now - self._since >= SAY_AFTER_S and not self._is_said:
            self._is_said = True
            self._note("the batch framework does not answer; waiting for it, the jobs go on")
        if now - self._asked < FIND_EVERY_S:
            return False
        self._asked = now
        return True


# --- what is told ---------------------------------------------------------------------------------


def why(task: TaskView) -> str:
    """Why a task ended as it did, in a few words: for people."""
    if task.again_at is not None:
        moment = time_text(task.again_at)[len("2026-01-31T") :][: len("08:00")]
        text = f"Unreachable, started again at {moment} unless it returns"
    elif task.message:
        text = task.message
    elif task.state is BatchState.OOM:
        text = f"used more than its memory limit of {size_text(task.mem_limit_bytes)}"
    elif task.signal:
        text = f"ended by signal {task.signal}"
    elif task.exit_code is not None and task.state is BatchState.FAILED:
        text = f"exit code {task.exit_code}"
    else:
        text = task.reason
    return text


def task_line(task: TaskView) -> str:
    """One line about a task that did not end well."""
    where = f" on {task.agent}" if task.agent else ""
    entry = f" ({task.entry[:40]})" if task.entry else ""
    text = why(task)
    return f"task {task.id}{entry}: {task.state}{where}" + (f": {text}" if text else "")


def tell_failures(cluster: Cluster, selectors: Sequence[str], note: Callable[[str], None]) -> None:
    """Say which tasks failed and why: the first few, and how many there are."""
    from mesosctl.protocol.messages.batch import ListTasks, Tasks

    states = tuple(state.value for state in FAILED_STATES)
    ask = ListTasks(tuple(selectors), states, ended=True, limit=FAILURES_SHOWN)
    try:
        shown = cluster.ask(ask, Tasks)
    except NotFound as error:
        # Only the summary of the job is left.
        note(error.message)
        return
    for task in shown.tasks:
        note(task_line(task))
    if shown.next:
        jobs = all_jobs(cluster, tuple(selectors))
        total = sum(job.counts.get(state, 0) for job in jobs for state in states)
        first = jobs[0].id if len(jobs) == 1 else " ".join(dict.fromkeys(selectors))
        more = total - len(shown.tasks)
        rest = f"and {more} more" if more > 0 else "and more"
        note(f"{rest}; see mesosctl tasks {first} -s {','.join(states)}")


@dataclass(slots=True)
class Progress:
    """One line on stderr that shows how far the jobs are.

    On a terminal it is written over; elsewhere a line is written when something has changed, but
    not more often than every PLAIN_EVERY_S.
    """

    console: Console
    started: float = field(default_factory=time.monotonic)
    _jobs: dict[str, JobView] = field(default_factory=dict)
    _shown: str = ""
    _at: float | None = None

    def take(self, jobs: Iterable[JobView]) -> None:
        """Show what has changed."""
        for job in jobs:
            self._jobs[job.id] = job
        self._show()

    def idle(self) -> float | None:
        """Show what was held back; in how many seconds it is due again."""
        if self.is_live:
            self._show()
            return 1.0
        self._show()
        return PLAIN_EVERY_S

    @property
    def is_live(self) -> bool:
        """Whether the line can be written over."""
        return sys.stderr is not None and sys.stderr.isatty()

    def text(self) -> str:
        """The line."""
        counts: dict[str, int] = {}
        for job in self._jobs.values():
            for state, count in job.counts.items():
                counts[state] = counts.get(state, 0) + count
        total = sum(job.tasks for job in self._jobs.values())
        over = sum(counts.get(state, 0) for state in ENDED)
        return f"{over}/{total} tasks ended: {counts_text(counts)}"

    def _show(self) -> None:
        if self.console.quiet or not self._jobs:
            return
        text = self.text()
        now = time.monotonic()
        if self.is_live:
            line = f"{text}  {duration_text(round(now - self.started))}"
            if line != self._shown:
                self._write(f"\r{escaped(line)}\x1b[K")
                self._shown = line
            return
        if text != self._shown and (self._at is None or now - self._at >= PLAIN_EVERY_S):
            self._shown, self._at = text, now
            self.console.note(text)

    def finish(self) -> None:
        """Show the last state, and leave the line for good."""
        if self.console.quiet or not self._jobs:
            return
        if self.is_live:
            self._show()
            self._write("\n")
        elif self.text() != self._shown:
            self.console.note(self.text())

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            return


@contextmanager
def detaching(note: Callable[[str], None], hint: str) -> Iterator[None]:
    """Ctrl-C in here only detaches: it prints `hint` and goes on as KeyboardInterrupt (130)."""
    try:
        yield
    except KeyboardInterrupt:
        note(hint)
        raise


@contextmanager
def ending(cluster: Cluster, job_id: str, note: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C or TERM in here ends the job before it goes on as KeyboardInterrupt."""
    from mesosctl.protocol.messages.batch import KillJobs, KillsBegun

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        cluster.ask(KillJobs((job_id,), reason="its submitter was interrupted"), KillsBegun)
        note(f"job {job_id} is being ended")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_for(
    cluster: Cluster,
    console: Console,
    selectors: Sequence[str],
    *,
    timeout_s: float | None = None,
    with_progress: bool = False,
) -> int:
    """Wait for everything selected to end; its exit code. Tells what failed. Raises as `watch`."""
    if not selectors:
        raise UsageError("nothing is named to wait for", "name a job: 12, last or all")
    progress = Progress(console) if with_progress else None
    code = 0
    idle = progress.idle if progress is not None else None
    try:
        for push in watch(cluster, selectors, console.note, timeout_s=timeout_s, idle=idle):
            code = push.exit_code
            if progress is not None:
                progress.take(push.jobs)
    finally:
        if progress is not None:
            progress.finish()
    if code:
        tell_failures(cluster, selectors, console.note)
    return code
