"""A trace of jobs for `mesosctl simulate`: a CSV file with a line of titles and a job in each line.

Rules: as of the scenario (scenariofile.py): all is checked, and an error names the line and column.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mesosctl.cli.params import parse_cpus, parse_duration, parse_name, parse_size, shown
from mesosctl.errors import UsageError
from mesosctl.limits import MEM_BYTES_MIN, TASK_CPUS_MILLI, TASK_MEM_BYTES
from mesosctl.sim.scenario.plan import JobGroup, Span

Value = TypeVar("Value")

TRACE_BYTES_MAX = 64 * 1024 * 1024
TASKS_MAX = 1_000_000
COLUMNS = ("at", "lasts", "framework", "name", "tasks", "cpus", "mem", "priority")
NEEDED = ("at", "lasts")
_HINT = f"columns are {', '.join(COLUMNS)}"


def read_trace(path: Path, frameworks: list[str]) -> list[JobGroup]:
    """The jobs of a trace. Raises UsageError."""
    reader = csv.reader(io.StringIO(_read(path)))
    try:
        titles = [title.strip() for title in next(reader, [])]
        _check_titles(path, titles)
        jobs = []
        for row in reader:
            if row:
                jobs.append(_job(path, reader.line_num, titles, row, frameworks))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: {error}", _HINT) from None
    return jobs


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > TRACE_BYTES_MAX:
            raise UsageError(f"{path}: the trace is larger than 64 MiB", "split it")
        return path.read_text("utf-8")
    except OSError as error:
        text = f"{path}: the trace cannot be read: {error.strerror}"
        raise UsageError(text, "`trace` is a path beside the scenario") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the trace is not UTF-8", _HINT) from None


def _check_titles(path: Path, titles: list[str]) -> None:
    for title in titles:
        if title not in COLUMNS or titles.count(title) > 1:
            raise UsageError(f"{path}: line 1: {shown(title)} is no column, or there twice", _HINT)
    for title in NEEDED:
        if title not in titles:
            raise UsageError(f"{path}: line 1: there is no column {title!r}", _HINT)


def _job(
    path: Path, line: int, titles: list[str], row: list[str], frameworks: list[str]
) -> JobGroup:
    if len(row) != len(titles):
        text = f"{path}: line {line} has {len(row)} cells and not {len(titles)}"
        raise UsageError(text, "as many as line 1 has titles")
    cells = dict(zip(titles, (cell.strip() for cell in row), strict=True))

    def take(title: str, read: Callable[[str], Value], default: Value) -> Value:
        cell = cells.get(title, "")
        if not cell and title not in NEEDED:
            return default
        try:
            return read(cell)
        except UsageError as error:
            text = f"{path}: line {line}: {title}: {error.message}"
            raise UsageError(text, error.hint) from None

    if not cells.get("framework") and len(frameworks) != 1:
        text = f"{path}: line {line} names no framework"
        raise UsageError(text, f"there are {', '.join(frameworks)}")

    def framework(cell: str) -> str:
        if cell not in frameworks:
            hint = f"there are {', '.join(frameworks)}"
            raise UsageError(f"{shown(cell)} is no framework of the scenario", hint)
        return cell

    return JobGroup(
        name=take("name", parse_name, "trace"),
        framework=take("framework", framework, frameworks[0]),
        count=1,
        tasks=take("tasks", lambda cell: _whole(cell, 1, TASKS_MAX), 1),
        cpus_milli=take("cpus", parse_cpus, TASK_CPUS_MILLI),
        mem_bytes=take("mem", lambda cell: parse_size(cell, MEM_BYTES_MIN), TASK_MEM_BYTES),
        lasts=Span(take("lasts", _seconds, 0.0)),
        at_s=take("at", _seconds, 0.0),
        priority=take("priority", lambda cell: _whole(cell, -1_000_000, 1_000_000), 0),
    )


def _seconds(cell: str) -> float:
    """A bare number is seconds here: that is what traces hold."""
    bare = cell.replace(".", "", 1)
    return parse_duration(f"{cell}s" if bare.isascii() and bare.isdigit() else cell, zero=True)


def _whole(cell: str, least: int, most: int) -> int:
    try:
        value = int(cell)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        hint = f"write a whole number from {least} to {most}"
        raise UsageError(f"{shown(cell)} is not a number from {least} to {most}", hint)
    return value
