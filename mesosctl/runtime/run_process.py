"""`mesosctl run` as a process: the one-shot machine between our own streams and the cluster.

Rules: our streams are shared with the shell and other processes, so they are never made
non-blocking: a pipe is written in pieces that fit for certain when poll says that it can be
written. What a stream does not take holds back the agent, not this loop.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable

from mesosctl.core.machine import Event
from mesosctl.core.oneshot import Connect, Note, OneShot, Output, StdinRead, WantStdin, Written
from mesosctl.limits import REQUEST_TIMEOUT_S
from mesosctl.model.cluster import FrameworkInfo, Offer
from mesosctl.model.constraints import ANYWHERE, Where
from mesosctl.model.tasks import TaskInfo
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.masters import link_to_master
from mesosctl.storage.keys import KeyFile

STDIN = 0
OUTPUTS = {"stdout": 1, "stderr": 2}
READ_BYTES = 64 * 1024
# POSIX: so much can be written to a pipe that poll calls writable, without blocking.
PIPE_BYTES = 4096
WRITES_A_PASS = 64


class _Writer:
    """One of our outputs: what waits for it, and whether anybody still reads it."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._fd = OUTPUTS[name]
        self._waiting: deque[bytes] = deque()
        self._watched = False
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self.problem = ""

    def take(self, data: bytes) -> None:
        """Write `data` in its turn."""
        self._waiting.append(data)
        if not self._watched:
            self._watched = True
            self._loop.watch_fd(self._fd, self._write, write=True)

    def _write(self) -> Iterable[Event]:
        written = 0
        try:
            for _ in range(WRITES_A_PASS):
                if not self._waiting or not self._poll.poll(0):
                    break
                piece = self._waiting.popleft()
                count = os.write(self._fd, piece[:PIPE_BYTES])
                written += count
                if count < len(piece):
                    self._waiting.appendleft(piece[count:])
        except OSError as error:
            self.problem = error.strerror or str(error)
            self._waiting.clear()
            self._stop_watching()
            return [Written(self._name, written, closed=True)]
        if not self._waiting:
            self._stop_watching()
        return [Written(self._name, written)]

    def _stop_watching(self) -> None:
        self._watched = False
        self._loop.unwatch_fd(self._fd)


def run_once(
    info: FrameworkInfo,
    task: TaskInfo,
    key: KeyFile,
    master: str,
    *,
    note: Callable[[str], None],
    fill: Callable[[TaskInfo, Offer, str], TaskInfo] | None = None,
    answer_timeout_s: float = REQUEST_TIMEOUT_S,
    where: Where = ANYWHERE,
) -> int:
    """Run `task` somewhere in the cluster with our streams; the exit code to end with.

    `note` shows one line to the user. `fill` completes the task once its place is known.
    """
    machine = OneShot(info, task, key.pair.public, new_id, fill, answer_timeout_s, where)
    loop = Loop(machine, role="run", log=lambda level, text: _log(note, level, text))
    link_to_master(loop, "master", master, key)
    loop.on_refused(lambda link, why: _refused(note, link, why))
    writers = {name: _Writer(loop, name) for name in OUTPUTS}
    loop.on_effect(Output, lambda effect: writers[effect.name].take(effect.data))
    loop.on_effect(Note, lambda effect: note(effect.text))
    loop.on_effect(WantStdin, lambda effect: _want_stdin(loop, effect.wanted))
    loop.on_effect(
        Connect,
        lambda effect: loop.link("agent", LinkSpec(effect.address, key.pair, effect.public_key)),
    )
    return loop.run()


def _want_stdin(loop: Loop, wanted: bool) -> None:
    if wanted:
        loop.watch_fd(STDIN, _read_stdin)
    else:
        loop.unwatch_fd(STDIN)


def _read_stdin() -> Iterable[Event]:
    try:
        return [StdinRead(os.read(STDIN, READ_BYTES))]
    except OSError:
        # A stdin that cannot be read (closed, or the background of a terminal) has ended.
        return [StdinRead(b"")]


def _log(note: Callable[[str], None], level: str, text: str) -> None:
    if level in ("warning", "error"):
        note(text)


def _refused(note: Callable[[str], None], link: str, why: str) -> Iterable[Event]:
    note(f"{link} {why}")
    return ()
