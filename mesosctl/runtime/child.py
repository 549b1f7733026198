"""The batch framework as a child of the master: started, adopted, watched, started again.

Rules:
- It runs in a session of its own and outlives a master that dies: a restarted master finds its
  state directory locked and watches the holder instead of starting a second one.
- One that ends is started again, later each time it did not last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mesosctl.core.machine import Event
from mesosctl.runtime.loop import Loop
from mesosctl.storage.lock import holder

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
# A child that lasted so long did not fail at its start.
SETTLED_S = 10.0


class FrameworkChild:
    """Keeps one `mesosctl framework` running for as long as the loop does."""

    def __init__(
        self, loop: Loop, directory: Path, options: list[str], log: Callable[[str, str], None]
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._options = options
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._wait_s = RESTART_FIRST_S
        self._began = 0.0

    def start(self) -> None:
        """Adopt the holder of the state directory, or start a framework."""
        pid = holder(self._directory)
        self._began = time.monotonic()
        if pid is not None and self._watch(pid):
            self._log("info", f"the batch framework (process {pid}) is still there: adopted")
            return
        command = [sys.executable, "-m", "mesosctl", "framework", *self._options]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True
            )
        except OSError as error:
            self._log("error", f"the batch framework cannot be started: {error.strerror}")
            self._plan()
            return
        self._watch(self._process.pid)

    def _watch(self, pid: int) -> bool:
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            return False
        self._loop.watch_fd(self._pidfd, self._ended)
        return True

    def _ended(self) -> Iterable[Event]:
        self._loop.unwatch_fd(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        how = "ended"
        if self._process is not None:
            how = f"ended with {self._process.wait()}"
            self._process = None
        self._log("warning", f"the batch framework {how}: starting another")
        self._plan()
        return ()

    def _plan(self) -> None:
        if time.monotonic() - self._began >= SETTLED_S:
            self._wait_s = RESTART_FIRST_S
        self._loop.after(self._wait_s, self._again)
        self._wait_s = min(self._wait_s * 2, RESTART_MAX_S)

    def _again(self) -> Iterable[Event]:
        self.start()
        return ()

    def leave(self, wait_s: float) -> None:
        """The master stops and has asked the child to stop: give it so long, then let it be."""
        if self._process is None:
            return
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            # The message may have been lost with our socket. It is our own child, and TERM asks
            # for the same orderly stop.
            self._process.terminate()
            self._log("info", "the batch framework was told to stop once more, by a signal")
