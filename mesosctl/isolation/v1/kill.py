"""Making a kill sure to end on cgroup v1: no forks first, then SIGKILL to what is inside.

The freezer could do it too, for a third more per task: one hierarchy more to make, join and remove.
A frozen process takes no SIGKILL either before it is thawed; one that may not fork is just as sure
(see tree.py).
"""

from __future__ import annotations

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.cgroupfs import write


def stop_forks(directory: str) -> None:
    """Let no process of the container fork any more."""
    try:
        write(directory + "/pids.max", b"0")
    except LimitUnavailable:
        # Gone, which is what the caller wants; or unwritable, and then the loop must do alone.
        return
