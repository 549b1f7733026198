"""What a loop waits for: sockets and descriptors, and what interrupts the wait from outside.

Rules: libzmq's own poll asks each socket twice in each pass, which was most of the cost of a pass
for somebody who waits for pipes as well. So the descriptors behind the sockets are polled, which
only tell of changes (zmq_getsockopt(3), ZMQ_FD): a change may be taken in by any call on the
socket. Whoever has sent or received says so with `touch`, and the socket is then asked once more,
before the next wait.
"""

from __future__ import annotations

import os
import select
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
        self._poll = select.poll()
        self._takes: dict[Any, Callable[[], None]] = {}
        # The descriptors that are polled, and whose they are; what sockets are wanted for.
        self._descriptors: dict[Any, int] = {}
        self._owners: dict[int, Any] = {}
        self._sockets: dict[Any, int] = {}
        # Sockets whose descriptors may have told of something already.
        self._touched: dict[Any, None] = {}

    def add(self, source: Any, take: Callable[[], None], flags: int = IN) -> None:
        """Watch a socket or descriptor; again with other flags changes them."""
        self._takes[source] = take
        if isinstance(source, int):
            wanted = (select.POLLIN if flags & IN else 0) | (select.POLLOUT if flags & OUT else 0)
            self._descriptors[source] = descriptor = source
            self._poll.register(descriptor, wanted)
        else:
            self._touched[source] = None
            self._sockets[source] = flags
            self._descriptors[source] = descriptor = int(source.getsockopt(zmq.FD))
            self._poll.register(descriptor, select.POLLIN)
        self._owners[descriptor] = source

    def remove(self, source: Any) -> None:
        """Watch it no longer, before it is closed; an unknown one is ignored."""
        if self._takes.pop(source, None) is not None:
            descriptor = self._descriptors.pop(source)
            del self._owners[descriptor]
            self._poll.unregister(descriptor)
            self._sockets.pop(source, None)

    def touch(self, socket: Any = None) -> None:
        """Say that something was sent or received through a socket; None: through any of them."""
        if socket is None:
            self._touched.update(dict.fromkeys(self._sockets))
        else:
            self._touched[socket] = None

    def poll(self, wait_s: float, *, ask_all: bool = False) -> None:
        """Wait up to `wait_s`, then call what is due. `ask_all`: `touch` is called by nobody."""
        if ask_all:
            self.touch()
        ready: dict[Any, None] = {}
        touched, self._touched = self._touched, {}
        for source in touched:
            # One that was touched may have been removed, or be no source of ours.
            wanted = self._sockets.get(source)
            if wanted is not None and source.getsockopt(zmq.EVENTS) & wanted:
                ready[source] = None
        # Rounded up: waking before the deadline would mean to wait again for nothing.
        wait_ms = 0 if ready else int(wait_s * 1000 + 0.999)
        for descriptor, _ in self._poll.poll(wait_ms):
            source = self._owners[descriptor]
            wanted = self._sockets.get(source)
            # What lies behind the descriptor of a socket may be of no interest to anybody.
            if wanted is None or source.getsockopt(zmq.EVENTS) & wanted:
                ready[source] = None
        for source in ready:
            # What was called before may have removed this one.
            take = self._takes.get(source)
            if take is not None:
                take()
                if source in self._sockets:
                    self._touched[source] = None


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
