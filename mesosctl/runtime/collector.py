"""The memory of a daemon: cycles are collected seldom, and not over what stays for good."""

from __future__ import annotations

import gc

from mesosctl.runtime import heap
from mesosctl.runtime.loop import Loop

# Young objects are looked at after so many new ones, not 700: nearly none of ours form cycles.
COLLECT_EVERY = 10_000


def collect_seldom() -> None:
    """Set the collector as all daemons have it."""
    gc.set_threshold(COLLECT_EVERY, 20, 20)


def run_calmly(loop: Loop) -> int:
    """Run the loop of a process of ours to its end, and keep what was made so far out of this."""
    gc.collect()
    gc.freeze()
    # Loading modules leaves holes of most of a megabyte in the heap.
    heap.trim()
    collect_seldom()
    return loop.run()
