"""The writing ends of tasks' standard inputs: bytes go in as the tasks take them.

Rules: nothing here blocks or is bounded; the machine never has more than a window under way. After
every write the machine is told how far it is, and when the task reads no more.
"""

from __future__ import annotations

import os
from dataclasses import field

from mesosctl.core.executor_effects import FeedStdin, StdinProgress
from mesosctl.core.machine import Event
from mesosctl.model.records import dataclass
from mesosctl.runtime.loop import Loop


@dataclass(slots=True)
class _Pipe:
    fd: int
    waiting: bytearray = field(default_factory=bytearray)
    written: int = 0
    ends: bool = False
    watched: bool = False


class StdinPipes:
    """One pipe for each container with a streamed standard input."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pipes: dict[str, _Pipe] = {}

    def make(self, container: str) -> int:
        """Make a pipe, in place of one the task never saw; its reading end is the caller's."""
        self.drop(container)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writing, False)
        self._pipes[container] = _Pipe(writing)
        return reading

    def feed(self, effect: FeedStdin) -> None:
        """Write what fits now, the rest when there is room."""
        pipe = self._pipes.get(effect.container)
        if pipe is None:
            # The task is gone, and the machine is about to hear of it.
            return
        pipe.waiting += effect.data
        pipe.ends = pipe.ends or effect.eof
        for event in self._flush(effect.container):
            self._loop.post(event)

    def _flush(self, container: str) -> list[Event]:
        pipe = self._pipes[container]
        closed = False
        before = pipe.written
        try:
            while pipe.waiting:
                count = os.write(pipe.fd, pipe.waiting)
                pipe.written += count
                del pipe.waiting[:count]
            closed = pipe.ends
        except BlockingIOError:
            if not pipe.watched:
                pipe.watched = True
                self._loop.watch_fd(pipe.fd, lambda: self._flush(container), write=True)
        except BrokenPipeError:
            closed = True
        if closed:
            self.drop(container)
        elif not pipe.waiting and pipe.watched:
            pipe.watched = False
            self._loop.unwatch_fd(pipe.fd)
        if closed or pipe.written > before:
            return [StdinProgress(container, pipe.written, closed)]
        return []

    def drop(self, container: str) -> None:
        """Close the pipe; what waits in it is lost with the task that did not read it."""
        pipe = self._pipes.pop(container, None)
        if pipe is not None:
            if pipe.watched:
                self._loop.unwatch_fd(pipe.fd)
            os.close(pipe.fd)
