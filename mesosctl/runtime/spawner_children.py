"""What the kernel tells of processes that a dead spawner left to us as children.

Read from proc(5) only, zombies included; nothing here reaps, signals or changes a process but the
one we are.
"""

import os
import time
from collections.abc import Container
from pathlib import Path

from mesosctl.model.records import dataclass
from mesosctl.runtime import rawcalls

# include/linux/sched.h; both are shown in proc(5) for as long as a zombie is not reaped.
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
EXECUTE_WITHIN_S = 5.0  # Longer than an execve takes that a full disk or a CPU quota holds up.
LOOK_AGAIN_S = 0.0005


@dataclass(frozen=True, slots=True)
class Stat:
    """What counts of one process: parent and session as pids, its start in ticks since boot."""

    parent: int
    session: int
    exiting: bool
    executed: bool
    start_ticks: int


def become_subreaper() -> None:
    """Make this process the parent of every orphan below it. Call once, before a spawner starts.

    Without it the children of a dead spawner go to init and their exit codes are lost. OSError.
    """
    rawcalls.prctl(rawcalls.PR_SET_CHILD_SUBREAPER, 1)


def read_stat(pid: int) -> Stat | None:
    """Read what proc(5) says of a process, zombies included; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything; the fields are counted from behind it.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        parent=int(fields[1]),
        session=int(fields[3]),
        exiting=bool(int(fields[6]) & _PF_EXITING),
        executed=not int(fields[6]) & _PF_FORKNOEXEC,
        start_ticks=int(fields[19]),
    )


def has_executed(pid: int) -> bool:
    """Whether a child of ours has executed a program; one that is about to is waited for.

    One that takes longer than EXECUTE_WITHIN_S is taken to have: it may still run the task.
    """
    until = time.monotonic() + EXECUTE_WITHIN_S
    while (stat := read_stat(pid)) is not None and not stat.executed and not stat.exiting:
        if time.monotonic() > until:
            return True
        time.sleep(LOOK_AGAIN_S)
    return stat is not None and stat.executed


def is_in_cgroups(pid: int, join: tuple[str, ...]) -> bool:
    """Whether a process is in the cgroups whose files are given.

    Compared by the last two directories, because the mount and the process may see the levels
    above from different roots.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    tails = [Path(line.split(":", 2)[2].removesuffix(" (deleted)")).parts[-2:] for line in lines]
    return all(Path(path).parent.parts[-2:] in tails for path in join)


def find_begun(
    join: tuple[str, ...], sent_boottime_s: float, spawner_pid: int, known: Container[int]
) -> int | None:
    """Return the pid of the process that an unreported order started, None if it did not.

    Our children are now all the dead spawner's tasks and what tasks left behind; `known` are those
    that were reported. The order's own process is the oldest of those in its cgroups. Without
    cgroups, and in version 1 for one that is dead already (the kernel then shows "/"), it is the
    oldest since the order was sent that leads a session or has not left the spawner's yet. A
    process that ended without executing anything was no start: a file that the kernel refuses, a
    captured script mostly, costs one such process, with exit code 127, before a shell gets it.
    """
    best: tuple[bool, int, int] | None = None
    earliest = sent_boottime_s * os.sysconf("SC_CLK_TCK")
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        stat = read_stat(pid)
        if stat is None or stat.parent != os.getpid() or pid in known:
            continue
        # Start times are cut to whole ticks, so one that began later can look earlier.
        if stat.start_ticks + 1 < earliest:
            continue
        certain = bool(join) and is_in_cgroups(pid, join)
        likely = stat.session in (pid, spawner_pid) and (stat.exiting or not join)
        if (certain or likely) and has_executed(pid):
            found = (not certain, stat.start_ticks, pid)
            best = found if best is None else min(best, found)
    return best[2] if best else None
