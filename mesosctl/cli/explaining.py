"""Explanations as lines for people and as JSON; the last lines that a task wrote to stderr.

Rules: a key of the JSON never changes its meaning. Amounts there are plain numbers: CPUs and the
like as decimals, memory and disk in bytes. What cannot be read of a task's output is said in its
place; it never makes an explanation fail.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mesosctl.cli.output import Console, escaped
from mesosctl.cli.values import duration_text, iso_utc, size_text
from mesosctl.errors import MesosctlError
from mesosctl.model.fit import REASONS
from mesosctl.model.jobs import ENDED, BatchState

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.model.explanations import Explanation
    from mesosctl.model.fit import Fit, Footing, Lack

STDERR_LINES = 20
LINE_CHARS_MAX = 500
# Tasks whose output is read: of more of them the first ones are enough to see what is wrong.
READ_MAX = 10
_MIB = 1024**2
VERDICTS = {"now": "fits now", "idle": "fits when idle", "never": "never fits"}


# --- programs -------------------------------------------------------------------------------------
def explanation_row(found: Explanation, stderr: list[str] | None = None) -> dict[str, Any]:
    """An explanation as programs get it."""
    task = found.task
    row: dict[str, Any] = {
        "id": task.id,
        "job": task.job,
        "name": task.name,
        "state": str(task.state),
        "reason": found.causes[0].reason,
        "causes": [{"reason": cause.reason, "text": cause.text} for cause in found.causes],
        "alike": found.alike,
        "advice": found.advice,
        "agent": task.agent or None,
        "attempt": task.attempt,
        "submitted": iso_utc(task.submitted) if task.submitted else None,
        "started": iso_utc(task.started) if task.started else None,
        "ended": iso_utc(task.ended) if task.ended else None,
        "history": [
            {"at": iso_utc(change.at), "reason": change.reason, "text": change.text}
            for change in found.history
        ],
    }
    if task.state in ENDED:
        row |= {
            "exit_code": task.exit_code,
            "signal": task.signal,
            "mem_peak": task.mem_peak_bytes,
            "mem_limit": task.mem_limit_bytes,
            "time_limit_s": found.time_limit_s,
            "stderr": stderr,
        }
    if task.state is BatchState.PENDING:
        row |= {
            "verdict": found.verdict or None,
            "jobs_before": found.jobs_before,
            "tasks_before": found.tasks_before,
            **fit_row(found),
        }
    return row


def fit_row(found: Explanation) -> dict[str, Any]:
    """What keeps a need off the cluster, in numbers; nulls where the master did not say."""
    need, fit = found.need, found.fit
    asked = need.resources.quantities() if need is not None else {}
    row: dict[str, Any] = {
        "need": {name: _amount(name, milli) for name, milli in asked.items()},
        "constraint": (need.where.constraint or None) if need is not None else None,
    }
    if fit is None:
        return row | {"agents": None, "groups": None, "rivals": None, "quota": None}
    return row | {
        "agents": fit.agents,
        "fit_now": fit.count("now"),
        "fit_idle": fit.count("now", "idle"),
        "groups": _groups(fit),
        "rivals": [
            {
                "reason": rival.reason,
                "theirs": _footing(rival.theirs),
                "ours": _footing(rival.ours),
            }
            for rival in fit.rivals
        ],
        "quota": [
            {
                "role": room.role,
                "name": room.name,
                "limit": None if room.limit_milli is None else _amount(room.name, room.limit_milli),
                "room": _amount(room.name, room.room_milli),
                "need": _amount(room.name, room.need_milli),
            }
            for room in fit.quota
        ],
    }


def _groups(fit: Fit) -> list[dict[str, Any]]:
    return [
        {
            "reason": group.reason or None,
            "fits": REASONS[group.reason],
            "agents": group.agents,
            "names": list(group.names),
            "text": group.text,
            "left_s": group.left_s,
            "lacks": [_lack(lack) for lack in group.lacks],
        }
        for group in fit.groups
    ]


def _lack(lack: Lack) -> dict[str, Any]:
    if lack.text:
        return {"name": lack.name, "need": lack.text, "most": None, "agent": lack.agent}
    need, most = _amount(lack.name, lack.need_milli), _amount(lack.name, lack.most_milli)
    return {"name": lack.name, "need": need, "most": most, "agent": lack.agent}


def _footing(footing: Footing) -> dict[str, Any]:
    return {
        "name": footing.name,
        "share": footing.share_milli / 1000,
        "dominant": footing.dominant,
        "weight": footing.weight_milli / 1000,
        "priority": footing.priority,
    }


def _amount(name: str, milli: int) -> float:
    return milli * _MIB // 1000 if name in ("mem", "disk") else milli / 1000


# --- people ---------------------------------------------------------------------------------------
def print_explanation(
    console: Console,
    found: Explanation,
    stderr: list[str] | None,
    now: float,
    history: bool = False,
) -> None:
    """One explanation, its first line the task and the words that stand for its causes."""
    task = found.task
    words = ", ".join(dict.fromkeys(cause.reason for cause in found.causes))
    since = _since(found, now)
    alike = f" (and {found.alike - 1} more like it)" if found.alike > 1 else ""
    console.out(escaped(f"{task.id} '{task.name}' {task.state}{since} - {words}{alike}"))
    for line in lines_of(found):
        console.out(escaped(f"  {line}"))
    for line in history_of(found, now) if history else ():
        console.out(escaped(f"  {line}"))
    if stderr:
        console.out("  the end of its stderr:")
        for line in stderr:
            console.out(escaped(f"    {line}"))
    if found.advice:
        what = "To get it running" if task.state is BatchState.PENDING else "What may help"
        console.out(escaped(f"  {what}: {found.advice}"))


def history_of(found: Explanation, now: float) -> list[str]:
    """The changes of its reason, line by line."""
    if not found.history:
        return ["no change of its reason was seen"]
    lines = ["changes of its reason that were seen:"]
    for change in found.history:
        ago = duration_text(max(0.0, now - change.at))
        lines.append(f"  {ago} ago - {change.reason}: {change.text}")
    return lines


def lines_of(found: Explanation) -> list[str]:
    """What is told of one, line by line."""
    task = found.task
    lines = [cause.text for cause in found.causes]
    if task.state in ENDED:
        return [*lines, *_used(found)]
    if task.state is not BatchState.PENDING:
        return lines
    if found.fit is not None and found.fit.agents:
        lines.append(f"{_verdict(found.fit)}: {found.fit.summary}")
    if found.jobs_before:
        jobs = "1 job" if found.jobs_before == 1 else f"{found.jobs_before} jobs"
        tasks = "1 task" if found.tasks_before == 1 else f"{found.tasks_before} tasks"
        lines.append(f"queue: {jobs} with {tasks} before it")
    return lines


def _verdict(fit: Fit) -> str:
    if fit.verdict == "idle" and not fit.count("now", "idle"):
        return "fits when an agent is back in use"
    return VERDICTS[fit.verdict]


def _since(found: Explanation, now: float) -> str:
    task = found.task
    if task.state in ENDED:
        took = ""
        if task.started is not None and task.ended is not None:
            took = f" after {duration_text(task.ended - task.started)}"
        return f"{took} on {task.agent}" if task.agent else took
    begun = task.started if task.started is not None else task.submitted
    return f" {duration_text(max(0.0, now - begun))}" if begun else ""


def _used(found: Explanation) -> list[str]:
    task = found.task
    if task.started is None:
        return []
    cpu_s = None
    if task.cpu_user_s is not None and task.cpu_system_s is not None:
        cpu_s = task.cpu_user_s + task.cpu_system_s
    parts = [
        f"cpu time {duration_text(cpu_s)}" if cpu_s is not None else "",
        f"memory {size_text(task.mem_peak_bytes)} of {size_text(task.mem_limit_bytes)}"
        if task.mem_peak_bytes
        else "",
        f"attempt {task.attempt}" if task.attempt > 1 else "",
    ]
    used = ", ".join(part for part in parts if part)
    return [f"it used {used}"] if used else []


# --- what a task said -----------------------------------------------------------------------------
class _Kept(Console):
    """A console that keeps what it is to print."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.data = b""
        self.said: list[str] = []

    def raw(self, data: bytes) -> None:
        self.data += data

    def error_line(self, text: str) -> None:
        self.said.append(text.rpartition("no output: ")[2])


def wants_stderr(found: Explanation) -> bool:
    """Whether what the task wrote to stderr may tell what went wrong."""
    task = found.task
    is_bad = task.state in ENDED and task.state not in (BatchState.OK, BatchState.CANCELLED)
    return is_bad and task.started is not None


def stderr_of(cluster: Cluster, task_id: str) -> list[str]:
    """The last lines of a task's stderr, or in brackets why they cannot be had."""
    from mesosctl.cli.logreading import LogReader, read_all
    from mesosctl.protocol.messages.batch import LocateLogs, LogSources

    kept = _Kept()
    try:
        sources = cluster.ask(LocateLogs((task_id,)), LogSources).sources
        name = "stdout" if sources and sources[0].stderr == "merge" else "stderr"
        read_all(LogReader(cluster, kept, False, apart=False), sources, (name,), STDERR_LINES)
    except MesosctlError as error:
        kept.said.append(error.message)
    lines = kept.data.decode(errors="replace").splitlines()[-STDERR_LINES:]
    cut = [line if len(line) <= LINE_CHARS_MAX else f"{line[:LINE_CHARS_MAX]}…" for line in lines]
    return cut or [f"[{text}]" for text in kept.said]


def now_wall() -> float:
    """The present, for people."""
    return time.time()
