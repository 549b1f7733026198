"""The job that a `submit` means: its tasks, command, environment, directories and streams.

Rules: everything is read and checked before anything is sent, so a list with one bad line submits
nothing. A line is a line: it is one task, with what is in it, without its newline.
"""

from __future__ import annotations

import os
import sys

from mesosctl.cli.environ import task_environment
from mesosctl.cli.joboptions import JobOptions, own_umask, where
from mesosctl.cli.params import ArraySpec, shown
from mesosctl.cli.work import Work
from mesosctl.errors import UsageError
from mesosctl.limits import (
    ARRAY_ITEMS_MAX,
    ENV_BYTES_MAX,
    ENV_VALUE_BYTES_MAX,
    FRAME_BYTES_MAX_BULK,
)
from mesosctl.model.jobs import JobSpec
from mesosctl.model.records import dataclass

PRIORITY_MAX = 1_000_000
# An entry becomes a variable and a part of arguments; four bytes a character at the most.
ENTRY_CHARS_MAX = ENV_VALUE_BYTES_MAX // 4
# What the frame holds besides the lines, and what each line costs there.
ENTRIES_BYTES_MAX = FRAME_BYTES_MAX_BULK - 2 * ENV_BYTES_MAX
ENTRY_OVERHEAD_BYTES = 5


@dataclass(frozen=True, slots=True)
class Many:
    """How many tasks, in which way: `array` or `each_line`, and how many at once."""

    array: ArraySpec | None = None
    each_line: str | None = None
    max_running: int | None = None
    priority: int = 0
    once: bool = False
    restartable: bool = False
    spread: bool = False
    preemptible: bool = False

    def check(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.array is not None and self.each_line is not None:
            raise UsageError("--array and --each-line both number the tasks", "give one of them")
        if self.once and self.restartable:
            raise UsageError("--once and --restartable contradict each other", "give one of them")
        if self.once and self.preemptible:
            raise UsageError("--once and --preemptible contradict each other", "give one of them")
        if abs(self.priority) > PRIORITY_MAX:
            raise UsageError(f"--priority {self.priority} is out of range", f"±{PRIORITY_MAX}")
        of_array = self.array.max_running if self.array is not None else None
        if None not in (of_array, self.max_running) and of_array != self.max_running:
            raise UsageError(
                f"--array says %{of_array} and --max-running {self.max_running}", "give one of them"
            )


def make_job(work: Work, options: JobOptions, many: Many) -> JobSpec:
    """The job to submit. Reads the lines of --each-line. Raises UsageError."""
    many.check()
    entries = _entries(many.each_line, work) if many.each_line is not None else ()
    cwd, submit_dir, may_fall_back = where(options)
    array = many.array
    of_array = array.max_running if array is not None else None
    return JobSpec(
        name=options.name or work.name,
        argv=work.argv,
        script=work.script,
        script_name=work.script_name,
        user=options.user,
        role=options.role,
        priority=many.priority,
        cpus_milli=options.cpus,
        mem_bytes=options.mem,
        indices=array.ranges if array is not None else (),
        entries=entries,
        is_array=array is not None or many.each_line is not None,
        max_running=many.max_running if many.max_running is not None else of_array,
        once=many.once,
        restartable=many.restartable,
        preemptible=many.preemptible,
        lost_after_s=options.lost_after,
        time_limit_s=options.time,
        grace_s=options.grace,
        env=task_environment(options.env_base, options.env, os.environ, bool(options.user)),
        cwd=cwd,
        cwd_may_fall_back=may_fall_back,
        submit_dir=submit_dir,
        stdin=_stdin(options.stdin),
        stdout=options.stdout or "",
        stderr=options.stderr or "",
        append=options.append,
        umask=own_umask(),
        log_max_bytes=options.log_max or 0,
        more=options.more(),
        whole_cores=options.whole_cores,
        rlimits=dict(options.ulimit),
        private=tuple(sorted(set(options.private))),
        constraint=options.where(),
        spread=many.spread,
        volumes=options.mounts(),
    )


def _stdin(given: str | None) -> str:
    if given == "-":
        raise UsageError(
            "--stdin -: a queued job outlives this command and its stdin",
            "name a file, or use mesosctl run",
        )
    return "" if given in (None, "none") else str(given)


def _entries(source: str, work: Work) -> tuple[str, ...]:
    """The lines of a file, or of stdin. Raises UsageError naming the line that is wrong."""
    if source == "-" and work.from_stdin:
        raise UsageError("stdin cannot be the script and the lines", "put one into a file")
    name = "stdin" if source == "-" else source
    data = _read(source, name)
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UsageError(f"--each-line: {shown(name)} holds no line", "each line becomes a task")
    if len(lines) > ARRAY_ITEMS_MAX:
        raise UsageError(
            f"--each-line: {shown(name)} holds {len(lines)} lines",
            f"at most {ARRAY_ITEMS_MAX} become one job: split it",
        )
    size = len(data) + ENTRY_OVERHEAD_BYTES * len(lines)
    if size > ENTRIES_BYTES_MAX:
        limit = f"{ENTRIES_BYTES_MAX // 1024**2} MiB"
        raise UsageError(f"--each-line: {shown(name)} is larger than {limit}", "split it")
    entries = [os.fsdecode(line) for line in lines]
    for number, entry in enumerate(entries, 1):
        if "\0" in entry:
            raise UsageError(
                f"--each-line: line {number} holds a NUL character", "nothing was submitted"
            )
        if len(entry) >= ENTRY_CHARS_MAX:
            raise UsageError(
                f"--each-line: line {number} has {len(entry)} characters",
                f"at most {ENTRY_CHARS_MAX - 1}; nothing was submitted",
            )
    return tuple(entries)


def _read(source: str, name: str) -> bytes:
    """At most a little more than is allowed. Raises UsageError."""
    try:
        if source == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError("--each-line - reads stdin, which is a terminal", "pipe it in")
            return sys.stdin.buffer.read(ENTRIES_BYTES_MAX + 1)
        with open(source, "rb") as file:
            return file.read(ENTRIES_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"--each-line: {shown(name)}: {why}", "name a file, or -") from None
