"""disk/du: measures what the sandbox of a task occupies, and names the tasks above their limit.

Owns the walk through a directory that its task may change meanwhile and fill as it likes: a little
at a time, with descriptors instead of long paths, no link followed, no other file system entered.

Rules: only tasks with a limit are measured. A walk ends once it has found more than the limit, so
what a task can make us do is bounded by it. No walk takes more than a fiftieth of a CPU.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator
from dataclasses import replace

from mesosctl.isolation.base import DISK, Isolator, Limits, Usage, Violation
from mesosctl.model.records import dataclass

SAMPLE_S = 0.5
# What one call of `watch` may take, for all tasks together: 2 % of the time between two.
_BUDGET_S = 0.01
# What the last look at a task that has ended may take; a larger sandbox keeps its last figure.
_LAST_LOOK_S = 0.05
_SLICE_ENTRIES = 256
# Longer paths are opened from a descriptor further down; the kernel takes 4,096 bytes.
_PATH_BYTES_MAX = 2048
# Files with several names that are remembered, so that each counts once.
_LINKED_MAX = 50_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCK_BYTES = 512

Walk = Generator[None, None, int]


class _Base:
    """A directory from which paths start; closed with the last path that does."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(slots=True)
class _Sandbox:
    path: str
    limit_bytes: int
    peak_bytes: int = 0
    walk: Walk | None = None
    walked_s: float = 0.0
    look_again_at_s: float = 0.0


def measure(path: str, enough_bytes: int) -> Walk:
    """Add up the blocks below `path`; yields now and then, returns bytes, 0 for what is gone.

    A file with several names counts once. Stops when there are more than `enough_bytes`.
    """
    try:
        base = _Base(os.open(path, _DIRECTORY))
    except OSError:
        return 0
    device = os.fstat(base.descriptor).st_dev
    linked: set[int] = set()
    places: list[tuple[_Base, bytes]] = [(base, b".")]
    total_bytes = seen = 0
    while places and total_bytes <= enough_bytes:
        base, place = places.pop()
        try:
            here = _Base(os.open(place, _DIRECTORY, dir_fd=base.descriptor))
            entries = os.scandir(here.descriptor)
        except OSError:
            continue
        is_deep = len(place) > _PATH_BYTES_MAX
        with entries:
            for entry in entries:
                seen += 1
                if seen % _SLICE_ENTRIES == 0:
                    yield
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                is_directory = stat.S_ISDIR(found.st_mode)
                if found.st_dev != device or (found.st_ino in linked and not is_directory):
                    continue
                if found.st_nlink > 1 and not is_directory and len(linked) < _LINKED_MAX:
                    linked.add(found.st_ino)
                total_bytes += found.st_blocks * _BLOCK_BYTES
                if is_directory:
                    name = os.fsencode(entry.name)
                    places.append((here, name) if is_deep else (base, place + b"/" + name))
    return total_bytes


class DiskUsage(Isolator):
    """See the module."""

    name = "disk/du"
    handles: tuple[str, ...] = (DISK,)
    not_enforced: tuple[str, ...] = (
        f"disk limits are enforced only by sampling every {SAMPLE_S} s, and only for the sandbox; "
        "files that were deleted but are still open are not seen (disk/du)",
    )
    sample_interval_s: float | None = SAMPLE_S

    def __init__(self) -> None:
        self._sandboxes: dict[str, _Sandbox] = {}

    def prepare(self, container: str, limits: Limits) -> None:
        """Remember the limit and what it is a limit of."""
        if limits.disk_bytes is not None:
            self._sandboxes[container] = _Sandbox(limits.sandbox, limits.disk_bytes)

    def update(self, container: str, limits: Limits) -> None:
        """Compare with another limit from now on."""
        if container in self._sandboxes and limits.disk_bytes is not None:
            self._sandboxes[container].limit_bytes = limits.disk_bytes

    def watch(self) -> list[Violation]:
        """Go on measuring; every walk gets its turn."""
        end_s = time.monotonic() + _BUDGET_S
        violations: list[Violation] = []
        for container in list(self._sandboxes):
            # To the back of the queue, so that a large sandbox does not hide another.
            sandbox = self._sandboxes.pop(container)
            self._sandboxes[container] = sandbox
            _go_on(sandbox, end_s)
            if sandbox.peak_bytes > sandbox.limit_bytes:
                violations.append(
                    Violation(container, "disk", sandbox.peak_bytes, sandbox.limit_bytes)
                )
            if time.monotonic() >= end_s:
                break
        return violations

    def usage(self, container: str, so_far: Usage) -> Usage:
        """The highest sum found, this moment's included unless that takes too long."""
        sandbox = self._sandboxes.get(container)
        if sandbox is None:
            return so_far
        sandbox.walk, sandbox.look_again_at_s = None, 0.0
        _go_on(sandbox, time.monotonic() + _LAST_LOOK_S)
        return replace(so_far, disk_bytes=sandbox.peak_bytes, disk_limit_bytes=sandbox.limit_bytes)

    def cleanup(self, container: str) -> None:
        """Forget it."""
        self._sandboxes.pop(container, None)


def _go_on(sandbox: _Sandbox, end_s: float) -> None:
    """Walk until the walk or the time is over."""
    began_s = time.monotonic()
    if sandbox.walk is None:
        if began_s < sandbox.look_again_at_s:
            return
        sandbox.walk = measure(sandbox.path, sandbox.limit_bytes)
        sandbox.walked_s = 0.0
    try:
        while True:
            next(sandbox.walk)
            if time.monotonic() >= end_s:
                sandbox.walked_s += time.monotonic() - began_s
                return
    except StopIteration as done:
        now_s = time.monotonic()
        sandbox.peak_bytes = max(sandbox.peak_bytes, done.value)
        sandbox.walk = None
        sandbox.look_again_at_s = now_s + 50 * (sandbox.walked_s + now_s - began_s)
