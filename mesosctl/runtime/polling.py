"""What a loop waits for: sockets and descriptors, and what interrupts the wait from outside."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq

IN = int(zmq.POLLIN)
OUT = int(zmq.POLLOUT)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


# Signals that came while no loop ran; see hold_signals.
_held: list[int] = []


def _hold(number: int, _: object) -> None:
    _held.append(number)


@contextmanager
def hold_signals() -> Iterator[None]:
    """Keep signals that come between two loops of this process for the later one."""
    before = {number: signal.signal(number, _hold) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _held.clear()


class Sources:
    """What a poll waits for, each with what to call when it is ready."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._takes: dict[Any, Callable[[], None]] = {}

    def add(self, source: Any, take: Callable[[], None], flags: int = IN) -> None:
        """Watch a socket or descriptor; again with other flags changes them."""
        self._takes[source] = take
        self._poller.register(source, flags)

    def remove(self, source: Any) -> None:
        """Watch it no longer; an unknown one is ignored."""
        if self._takes.pop(source, None) is not None:
            self._poller.unregister(source)

    def poll(self, wait_s: float) -> None:
        """Wait up to `wait_s`, then call what is due."""
        # Rounded up: waking before the deadline would mean to wait again for nothing.
        for source, _ in self._poller.poll(int(wait_s * 1000 + 0.999)):
            # What was called before may have removed this one.
            take = self._takes.get(source)
            if take is not None:
                take()


class Wakeup:
    """A pipe whose reading end is polled: signals and `wake` write to the other."""

    def __init__(self) -> None:
        self._ends: tuple[int, ...] = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A descriptor that is closed while another thread writes to it may be somebody else's then.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The end to poll."""
        return self._ends[0]

    def wake(self) -> None:
        """Make the poll return. Any thread may call this, also after `close`."""
        try:
            with self._lock:
                os.write(self._ends[1], b"\0")
        except (BlockingIOError, IndexError):
            # It is full of reasons to wake up already, or nobody waits any more.
            return

    def take(self) -> list[int]:
        """The numbers of the signals that came since."""
        return [number for number in os.read(self._ends[0], 4096) if number]

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Collect signals instead of dying of them, where Python allows it: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # A handler has to be there for the number to be written; there is nothing for it to do.
        before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        os.write(self._ends[1], bytes(_held))
        _held.clear()
        try:
            yield
        finally:
            # In this order, so that whoever holds them misses none in between.
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            if signal.getsignal(SIGNALS[0]) is _hold:
                _held.extend(self._left())

    def _left(self) -> list[int]:
        """The signals that nobody has taken."""
        try:
            return self.take()
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Close both ends. Idempotent."""
        with self._lock:
            ends, self._ends = self._ends, ()
            for end in ends:
                os.close(end)
