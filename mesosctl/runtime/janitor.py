"""The agent's slow deeds on its disk: how full it is, which sandboxes are old, their removal.

Rules: a sandbox is taken away in the loop, by one rename that the machine has just decided on; all
that can take time is done by one thread beside it, one job after the other, each answered by one
event. The thread holds nothing that the loop needs, and a process that ends does not wait for it.
"""

from __future__ import annotations

import errno
import heapq
import os
import queue
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Event
from mesosctl.limits import LOG_FILE_BYTES_MAX
from mesosctl.runtime.logs import rotate
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.removal import GRAVE, SLICE_S, Grave

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
JOIN_S = 1.0
Job = Callable[[], Event]


class Janitor:
    """Carries out housekeeping on `sandboxes`, whose files nobody else needs. `close` in the end.

    `log` is the file that all executors write to.
    """

    def __init__(self, loop: Loop, sandboxes: Path, log: Path) -> None:
        self._loop = loop
        self._log = log
        self._fd = os.open(sandboxes, _DIRECTORY)
        self._stopped = threading.Event()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # The grave is made when it is first needed.
        self._grave: Grave | None = None
        loop.on_effect(deeds.MarkEnded, self._mark)
        loop.on_effect(deeds.MeasureDisk, lambda effect: self.begin(self._measure))
        loop.on_effect(deeds.ListSandboxes, lambda effect: self.begin(lambda: self._list(effect)))
        loop.on_effect(deeds.RemoveSandboxes, self._remove)

    def close(self) -> None:
        """Stop the thread; what it did not finish is finished by the next run."""
        self._stopped.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                # It hangs in a call to a disk that does not answer, with these descriptors.
                return
        if self._grave is not None:
            self._grave.close()
        os.close(self._fd)

    def begin(self, job: Job) -> None:
        """Have something done by the thread, after all that was begun before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="janitor", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopped.is_set():
            event = job()
            if not self._stopped.is_set():
                self._loop.post(event)

    # --- in the loop ------------------------------------------------------------------------------
    def _mark(self, effect: deeds.MarkEnded) -> None:
        for container in effect.containers:
            try:
                os.utime(container, dir_fd=self._fd, follow_symlinks=False)
            except OSError:
                # It never had one, or it was removed under it: then nothing has to be kept.
                continue

    def _remove(self, effect: deeds.RemoveSandboxes) -> None:
        taken: dict[str, str] = {}
        stuck: list[tuple[str, str]] = []
        for container in effect.containers:
            try:
                if self._grave is None:
                    self._grave = Grave(self._fd, self._stopped.is_set)
                taken[self._grave.take(container)] = container
            except FileNotFoundError:
                continue
            except OSError as error:
                stuck.append((container, _said(error)))
        for framework in effect.frameworks:
            try:
                os.rmdir(framework, dir_fd=self._fd)
            except OSError:
                # A task has come meanwhile, or it is tried again with the next list.
                continue
        self.begin(lambda: self._bury(taken, stuck))

    # --- in the thread ----------------------------------------------------------------------------
    def _bury(self, taken: dict[str, str], stuck: list[tuple[str, str]]) -> Event:
        if self._grave is not None:
            stuck += [(taken.get(name, f"rest {name}"), why) for name, why in self._grave.empty()]
        return deeds.SandboxesRemoved(len(taken), tuple(stuck))

    def _measure(self) -> Event:
        rotate(self._log, LOG_FILE_BYTES_MAX)
        try:
            if self._grave is None and _has_grave(self._fd):
                # An earlier run did not finish.
                self._grave = Grave(self._fd, self._stopped.is_set)
                self._grave.empty()
            found = os.fstatvfs(self._fd)
        except OSError as error:
            self._loop.log("warning", f"the disk of the sandboxes: {_said(error)}")
            return deeds.DiskMeasured(0)
        # As df counts it: what only root may use is not there for tasks.
        used = found.f_blocks - found.f_bfree
        milli = _milli(used, used + found.f_bavail)
        files = found.f_files - found.f_ffree
        return deeds.DiskMeasured(max(milli, _milli(files, files + found.f_favail)))

    def _list(self, effect: deeds.ListSandboxes) -> Event:
        without = frozenset(effect.without)
        # A heap whose first is the youngest of the oldest.
        kept: list[tuple[float, str]] = []
        empty: list[str] = []
        total = 0
        for framework in _names(self._fd):
            number = 0
            if framework == GRAVE or self._stopped.is_set():
                continue
            for name, ended_at in _directories(self._fd, framework, self._stopped.is_set):
                number += 1
                container = f"{framework}/{name}"
                if container in without:
                    continue
                total += 1
                item = (-ended_at, container)
                if len(kept) < effect.at_most:
                    heapq.heappush(kept, item)
                else:
                    heapq.heappushpop(kept, item)
            if not number:
                empty.append(framework)
        oldest = sorted((-negative, container) for negative, container in kept)
        return deeds.SandboxesListed(tuple(oldest), total == len(kept), tuple(empty))


def _names(directory: int) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _directories(
    parent: int, framework: str, stopped: Callable[[], bool]
) -> list[tuple[str, float]]:
    """The sandboxes of a framework, each with the time of its last change."""
    found: list[tuple[str, float]] = []
    try:
        descriptor = os.open(framework, _DIRECTORY, dir_fd=parent)
    except OSError:
        # A file that somebody put there is none of ours.
        return [(framework, time.time())]
    until = time.monotonic() + SLICE_S
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found.append((entry.name, status.st_ctime))
                if time.monotonic() >= until:
                    if stopped():
                        break
                    time.sleep(SLICE_S)
                    until = time.monotonic() + SLICE_S
    finally:
        os.close(descriptor)
    return found


def _has_grave(parent: int) -> bool:
    try:
        os.stat(GRAVE, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _milli(part: int, whole: int) -> int:
    return part * 1000 // whole if whole > 0 else 0


def _said(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
