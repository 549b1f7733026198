"""A TCP proxy whose links a test cuts, holds, delays and slows down, from one thread of its own.

Rules: what is held is not lost: it waits in the kernel's buffers, as TCP would resend it, and goes
on after `resume`. `up` is from whoever connected to the target, `down` the way back. Every call
may be made from any thread and holds for the connections there are and for new ones.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Self

CHUNK_BYTES = 65_536
LOOK_S = 0.2
UP, DOWN = "up", "down"
BOTH = (UP, DOWN)
# With this, close() sends RST: the other side learns at once, and whatever was under way is gone.
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Flow:
    """One direction of one connection: what was read and waits for its time to be written."""

    way: str
    source: socket.socket
    target: socket.socket
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    free_at: float = 0.0
    is_over: bool = False


class Proxy:
    """Listens on 127.0.0.1 and passes bytes on to `target`, an address like tcp://host:port."""

    def __init__(self, target: str, port: int = 0) -> None:
        self._target = _place(target)
        self._lock = threading.Lock()
        self._flows: list[_Flow] = []
        # How the links are now. Times in seconds, rates in bytes a second (0: without a bound).
        self._held: frozenset[str] = frozenset()
        self._is_cut = self._is_closed = False
        self._delay_s = 0.0
        self._rate = 0
        self.accepted = 0
        self.passed = {UP: 0, DOWN: 0}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- what a test says -------------------------------------------------------------------------
    def aim(self, target: str) -> None:
        """Lead new connections somewhere else."""
        self._set(_target=_place(target))

    def cut(self) -> None:
        """Reset every connection, and every new one as soon as it is made."""
        with self._lock:
            self._is_cut = True
            self._reset_all()
        self._poke()

    def hold(self, *ways: str) -> None:
        """Pass nothing on in these directions (both if none is named): a partition."""
        self._set(_held=frozenset(ways or BOTH))

    def half_open(self) -> None:
        """Cut the target's side off without a word to the other: a host that has vanished."""
        with self._lock:
            self._held = frozenset(BOTH)
            for flow in self._flows:
                if flow.way == UP:
                    _close(flow.target)
        self._poke()

    def delay(self, seconds: float) -> None:
        """Let everything arrive so much later."""
        self._set(_delay_s=seconds)

    def throttle(self, rate: int) -> None:
        """Pass on at most so many bytes a second in each direction of each connection."""
        self._set(_rate=rate)

    def resume(self) -> None:
        """Be an ordinary line again, and pass on what was held."""
        self._set(_held=frozenset(), _is_cut=False, _delay_s=0.0, _rate=0)

    @property
    def connections(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._flows) // 2

    def close(self) -> None:
        """End everything. Idempotent."""
        if not self._is_closed:
            self._set(_is_closed=True)
            self._thread.join()
            for end in self._wake:
                os.close(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set(self, **state: object) -> None:
        with self._lock:
            for name, value in state.items():
                setattr(self, name, value)
        self._poke()

    def _poke(self) -> None:
        try:
            os.write(self._wake[1], b"\0")
        except BlockingIOError:
            # It is going to wake up anyhow.
            return

    # --- the thread -------------------------------------------------------------------------------
    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while not self._is_closed:
                with self._lock:
                    wait_s = self._watch(selector)
                ready = {key.fileobj for key, _ in selector.select(wait_s)}
                if self._wake[0] in ready:
                    os.read(self._wake[0], 4096)
                with self._lock:
                    if self._listener in ready:
                        self._accept()
                    self._move(ready)
            with self._lock:
                self._reset_all()
                self._listener.close()

    def _watch(self, selector: selectors.BaseSelector) -> float:
        """Wait for what can go on at present; for how long at the most, in seconds."""
        for known in list(selector.get_map().values()):
            selector.unregister(known.fileobj)
        selector.register(self._wake[0], selectors.EVENT_READ)
        selector.register(self._listener, selectors.EVENT_READ)
        wanted: dict[socket.socket, int] = {}
        now, wait_s = time.monotonic(), LOOK_S
        for flow in self._flows:
            if flow.way in self._held:
                continue
            if len(flow.waiting) < 64 and not flow.is_over:
                wanted[flow.source] = wanted.get(flow.source, 0) | selectors.EVENT_READ
            if flow.waiting and flow.waiting[0][0] <= now:
                wanted[flow.target] = wanted.get(flow.target, 0) | selectors.EVENT_WRITE
            elif flow.waiting:
                wait_s = min(wait_s, flow.waiting[0][0] - now)
        for end, events in wanted.items():
            if end.fileno() >= 0:
                selector.register(end, events)
        return max(0.0, wait_s)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        self.accepted += 1
        far = socket.socket()
        far.settimeout(1.0)
        try:
            if self._is_cut:
                raise OSError("cut")
            far.connect(self._target)
        except OSError:
            _reset(near)
            far.close()
            return
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flows += [_Flow(UP, near, far), _Flow(DOWN, far, near)]

    def _move(self, ready: set[object]) -> None:
        now = time.monotonic()
        for flow in list(self._flows):
            if flow.way in self._held or flow not in self._flows:
                continue
            try:
                if flow.source in ready and not flow.is_over and len(flow.waiting) < 64:
                    self._read(flow, now)
                if flow.waiting and flow.waiting[0][0] <= now:
                    self._write(flow)
                if flow.is_over and not flow.waiting:
                    raise ConnectionError("the end came through")
            except BlockingIOError:
                continue
            except OSError:
                self._end(flow)

    def _read(self, flow: _Flow, now: float) -> None:
        data = flow.source.recv(min(CHUNK_BYTES, self._rate or CHUNK_BYTES))
        if not data:
            flow.is_over = True
            return
        due = max(now + self._delay_s, flow.free_at)
        flow.free_at = due + len(data) / self._rate if self._rate else due
        flow.waiting.append((due, data))

    def _write(self, flow: _Flow) -> None:
        due, data = flow.waiting[0]
        sent = flow.target.send(data)
        self.passed[flow.way] += sent
        flow.waiting.popleft()
        if sent < len(data):
            flow.waiting.appendleft((due, data[sent:]))

    def _end(self, flow: _Flow) -> None:
        """One side is gone: so is the other."""
        ends = {flow.source, flow.target}
        self._flows = [other for other in self._flows if other.source not in ends]
        for end in ends:
            _close(end)

    def _reset_all(self) -> None:
        for flow in self._flows:
            if flow.way == UP:
                _reset(flow.source)
                _reset(flow.target)
        self._flows.clear()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _close(end: socket.socket) -> None:
    if end.fileno() >= 0:
        end.close()


def _reset(end: socket.socket) -> None:
    if end.fileno() >= 0:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.close()
