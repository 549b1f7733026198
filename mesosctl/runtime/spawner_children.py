"""What the kernel tells of processes that a dead spawner left to us as children.

Read from proc(5) only, zombies included; nothing here reaps, signals or changes a process.
"""

import time
from pathlib import Path

from mesosctl.model.records import dataclass

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
