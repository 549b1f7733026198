"""How a task ended, in words: what its exit code, its signal or its limit means."""

from __future__ import annotations

from mesosctl.core.batch.records import Job
from mesosctl.model.explanations import Cause
from mesosctl.model.jobs import SIGNAL_CODE, BatchState, TaskView
from mesosctl.model.words import amount_words, duration_words

_MEANINGS = {
    126: "the command is there, but could not be executed",
    127: "the command was not found on the agent",
}
MIB = 2**20
# As Linux numbers them, from 1.
_NAMES = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM"
_SIGNALS = dict(enumerate(_NAMES.split(), 1)) | {24: "XCPU", 25: "XFSZ"}


def signal_words(number: int) -> str:
    """`signal 9 (KILL)`; a number that has no name here stands for itself."""
    name = _SIGNALS.get(number)
    return f"signal {number} ({name})" if name else f"signal {number}"


def ending_of(job: Job, task: TaskView) -> list[Cause]:
    """Why it is over; at least one cause."""
    found = Cause(task.reason or _word(task), _sentence(job, task))
    more = task.message.strip()
    if more in found.text:
        return [found]
    return [found, Cause(found.reason, more)]


def _word(task: TaskView) -> str:
    return "Exited" if task.exit_code is not None else task.state.capitalize()


def _sentence(job: Job, task: TaskView) -> str:
    match task.state:
        case BatchState.OK:
            return "it ended with exit code 0"
        case BatchState.OOM:
            return f"it used more memory than its limit of {_size(job.spec.mem_bytes)}{_peak(task)}"
        case BatchState.TIMEOUT:
            limit_s = job.spec.time_limit_s
            limit = f" of {duration_words(limit_s)}" if limit_s is not None else ""
            return f"it ran longer than its time limit{limit}"
        case BatchState.KILLED:
            return "it was ended on request, " + _how(task)
        case BatchState.CANCELLED:
            return "it was cancelled before it started"
        case BatchState.LOST:
            return f"its end is unknown: it was on agent {task.agent}"
        case _:
            return "it ended " + _how(task)


def _how(task: TaskView) -> str:
    code = task.exit_code
    if task.signal:
        return f"by {signal_words(task.signal)}"
    if code is None:
        return "without an exit code"
    meaning = _MEANINGS.get(code, "")
    if not meaning and SIGNAL_CODE < code <= SIGNAL_CODE + 64:
        meaning = f"as a shell tells of a command that {signal_words(code - SIGNAL_CODE)} ended"
    return f"with exit code {code}" + (f": {meaning}" if meaning else "")


def _peak(task: TaskView) -> str:
    if not task.mem_peak_bytes:
        return ""
    return f", its peak was {_size(task.mem_peak_bytes)}"


def _size(count: int) -> str:
    return amount_words("mem", count * 1000 // MIB)


def advice_on(job: Job, task: TaskView) -> str:
    """What might help next time; empty where nothing can be said."""
    match task.state:
        case BatchState.OOM:
            return f"submit it again with more memory, such as -m {_size(2 * job.spec.mem_bytes)}"
        case BatchState.TIMEOUT:
            return "submit it again with a longer --time"
        case BatchState.FAILED if task.exit_code == 127:
            return "check its name, and the PATH of the task (--env-base, -E PATH=...)"
        case BatchState.FAILED if task.exit_code == 126:
            return "check that it is executable there, and for that machine"
        case BatchState.LOST if job.spec.once:
            return "it was submitted with --once; submit it again if it may run twice"
        case _:
            return ""
