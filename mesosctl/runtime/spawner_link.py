"""The executor's handle on its spawner: orders out, reports in, and what a dead spawner left.

Made for a poller loop: nothing here blocks except stop(), which waits for the end of a process
that was just killed. Rules:
- One link belongs to one thread, the executor's main thread: the kernel ends the spawner when the
  thread that started it ends.
- At most WINDOW orders that may begin are with the spawner; the rest wait here. The spawner begins
  none before its earlier reports are in the socket, so when it is dead and the socket is drained,
  the oldest order without a report may have begun and every other has certainly not: those go to
  the next spawner by themselves.
- An order that follows another is held by the spawner until its turn comes with that one's end, and
  both are reported together, or until we say that it is to begin. When the spawner dies the note
  tells whose turn had come. Where the spawner cannot know (another one started the task before it,
  or there are no cgroups to look at) the order stays here until we say so.
- A descriptor handed over for standard input stays open here until its order is reported.

Messages are described in spawner_channel.py; the two files change together.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import cast

from mesosctl.errors import InvariantBroken
from mesosctl.runtime import rawcalls
from mesosctl.runtime.spawner_channel import HEADER, pack, unpack
from mesosctl.runtime.spawner_children import find_begun
from mesosctl.runtime.spawner_orders import (
    Exited,
    Pending,
    Recalled,
    Report,
    Spawned,
    SpawnerDied,
    SpawnFailed,
    SpawnOrder,
    Stage,
    encode,
    start_command,
)

__all__ = [
    "Exited",
    "Recalled",
    "Report",
    "SpawnFailed",
    "SpawnOrder",
    "Spawned",
    "SpawnerDied",
    "SpawnerLink",
]

WINDOW = 8
READ_BYTES = 256 * 1024
SPAWNER_FD = 3
NO_NOTE = b"\n\n"


class SpawnerLink:
    """The handle on one spawner at a time. Not thread-safe; see the module's rules."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._stream: socket.socket | None = None
        # The order whose turn came last, and when, as the spawner writes it; it is read once.
        self._note_fd = os.memfd_create("mesosctl-spawner-note", os.MFD_CLOEXEC)
        os.pwrite(self._note_fd, NO_NOTE, 0)
        self._pid = 0
        self._status: int | None = None
        self._ready = False
        self._unsent = b""
        # The order with whose frame that begins, and how much of it.
        self._partial: tuple[Pending, int] | None = None
        self._received = bytearray()
        self._waiting: deque[Pending] = deque()
        self._sent: deque[Pending] = deque()
        self._turns: deque[Pending] = deque()
        # What follows another: with the spawner, and what only we shall know the turn of.
        self._held: dict[str, Pending] = {}
        self._apart: dict[str, Pending] = {}
        # What was recalled from the spawner and not answered yet.
        self._recalled: dict[str, None] = {}
        self._reports: list[Report] = []
        self._tasks: dict[int, str] = {}
        self._last_exited = 0

    @property
    def alive(self) -> bool:
        """Whether a spawner was started whose end we have not seen."""
        return self._stream is not None

    @property
    def pid(self) -> int:
        """The pid of the spawner, 0 when there is none."""
        return self._pid if self.alive else 0

    @property
    def in_flight(self) -> str | None:
        """The oldest order that may begin now and is not reported."""
        begins = self._turns or self._sent
        return begins[0].order.id if begins else None

    @property
    def queued(self) -> tuple[str, ...]:
        """The ids of all orders not reported, oldest first, the one in flight included."""
        begins = (*self._turns, *self._sent, *self._waiting)
        return (*[pending.order.id for pending in begins], *self._held, *self._apart)

    @property
    def wants_write(self) -> bool:
        """Whether the poller should wait for room to send too, and then call read()."""
        return self.alive and (bool(self._unsent) or self._has_sendable())

    def fileno(self) -> int:
        """The descriptor to poll, -1 when no spawner is alive. It is another after each start()."""
        return self._stream.fileno() if self._stream is not None else -1

    def start(self) -> None:
        """Start a spawner and send it what waits. Raises OSError; RuntimeError if one is alive."""
        if self._stream is not None:
            raise RuntimeError("a spawner is alive already")
        ours, theirs = socket.socketpair()
        null = os.devnull
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                start_command(SPAWNER_FD, os.getpid()),
                {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), SPAWNER_FD),
                    (os.POSIX_SPAWN_DUP2, self._note_fd, SPAWNER_FD + 1),
                    (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
                ],
                # A session of its own keeps Ctrl-C at the executor's terminal away from it.
                setsid=True,
                setsigmask=(),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._stream, self._status, self._ready = ours, None, False
        self._received.clear()
        self._send_waiting()

    def stop(self) -> list[Report]:
        """Kill the spawner and return its last reports, SpawnerDied being the last of them.

        Its tasks live on as children of this process; what comes of them tells reap_orphans().
        """
        if self.alive:
            self._kill_and_wait()
            while self.alive:
                self._receive()
        return self._take_reports()

    def spawn(self, order: SpawnOrder, stdin_fd: int | None = None) -> None:
        """Queue an order; takes over stdin_fd, which must be given when stdin is "fd".

        Raises ValueError for an order that cannot be sent; stdin_fd then stays the caller's.
        """
        if (stdin_fd is not None) != (order.stdin == "fd"):
            raise ValueError(f"order {order.id}: stdin 'fd' and a descriptor go together")
        pending = Pending(order, encode(order), stdin_fd)
        if order.after and not order.join:
            self._apart[order.id] = pending
        else:
            self._waiting.append(pending)
            self._send_waiting()

    def begin(self, order_id: str) -> None:
        """Let an order begin that follows another; nothing if it has, or has its turn already."""
        pending = self._apart.pop(order_id, None)
        if pending is not None:
            pending.free()
            self._waiting.append(pending)
        elif order_id in self._held:
            self._unsent += pack(["begin", order_id])
            self._sent.append(self._held.pop(order_id))
        else:
            for waiting in self._waiting:
                if waiting.order.id == order_id:
                    waiting.free()
        self._send_waiting()

    def recall(self, order_id: str) -> list[Report]:
        """Take back an order that follows another, if that is still possible.

        It then ends in Recalled: in what is returned, or later. Else it goes the usual way.
        """
        if order_id in self._held:
            self._recalled[order_id] = None
            self._unsent += pack(["recall", order_id])
            self._send_waiting()
        elif self.cancel(order_id):
            self._reports.append(Recalled(order_id))
        return self._take_reports()

    def cancel(self, order_id: str) -> bool:
        """Take back an order that is not yet with the spawner; False when it is, or is unknown."""
        for pending in (*self._waiting, *self._apart.values()):
            if pending.order.id == order_id:
                if self._apart.pop(order_id, None) is None:
                    self._waiting.remove(pending)
                pending.close()
                return True
        return False

    def read(self) -> list[Report]:
        """Return what happened, without blocking; call when fileno() is readable (or writable)."""
        self._receive(once=True)
        self._send_waiting()
        return self._take_reports()

    def reap_orphans(self) -> list[Report]:
        """Reap our dead children and return what happened; call on SIGCHLD and after a death.

        They are the tasks of a dead spawner and, at any time, processes that tasks left behind
        (Exited without id). Reports of the spawner found on the way come first. Nothing else in
        the process may wait for children.
        """
        while (death := rawcalls.peek_exit()) is not None:
            pid = death[0]
            if pid == self._pid and self._status is None:
                _, self._status = os.waitpid(pid, 0)
                self._receive()
                continue
            if pid not in self._tasks and self.alive:
                # Were it a task, its spawner would be dead, and who it is would be in the socket.
                self._receive()
                if not self.alive:
                    continue
            os.waitpid(pid, 0)
            task = self._tasks.pop(pid, None)
            self._reports.append(Exited(task, *death))
        return self._take_reports()

    def _take_reports(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def _has_sendable(self) -> bool:
        return bool(self._waiting) and len(self._sent) < self._window

    def _send_waiting(self) -> None:
        """Send as far as the window and the socket allow."""
        if self._stream is None:
            return
        try:
            while self._unsent:
                sent = self._stream.send(self._unsent)
                self._unsent = self._unsent[sent:]
                if self._partial is not None:
                    pending, rest = self._partial
                    self._partial = (pending, rest - sent) if sent < rest else None
            while self._has_sendable() and not self._unsent:
                pending = self._waiting[0]
                pending.sent_boottime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
                if pending.stdin_fd is None:
                    sent = self._stream.send(pending.frame)
                else:
                    sent = socket.send_fds(self._stream, [pending.frame], [pending.stdin_fd])
                self._waiting.popleft()
                self._unsent = pending.frame[sent:]
                if self._unsent:
                    self._partial = pending, len(self._unsent)
                if pending.order.after:
                    self._held[pending.order.id] = pending
                else:
                    self._sent.append(pending)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            # Full, and wants_write says so; or dead, which reading finds out in its turn.
            return

    def _receive(self, *, once: bool = False) -> None:
        """Take in every report that is in the socket, and the spawner's death.

        `once`: what one read brings, for somebody who polls.
        """
        while self._stream is not None:
            try:
                data = self._stream.recv(READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self._bury()
                return
            self._received += data
            while len(self._received) >= HEADER.size:
                (length,) = HEADER.unpack_from(self._received)
                end = HEADER.size + length
                if len(self._received) < end:
                    break
                words = unpack(bytes(self._received[HEADER.size : end]))
                del self._received[:end]
                self._take_in(words)
            if once:
                return

    def _take_in(self, words: list[str]) -> None:
        """Turn one message of the spawner into a report and keep the books."""
        kind, *rest = words
        if kind == "exited":
            turn, pid, status, user_s, system_s, *counts = rest
            self._last_exited = int(pid)
            if turn:
                self._turns.append(self._take_turn(turn))
            task = self._tasks.pop(int(pid), None)
            size, read, written, switches = map(int, counts)
            figures = float(user_s), float(system_s), size, read, written, switches, bool(turn)
            self._reports.append(Exited(task, int(pid), int(status), *figures))
        elif kind == "ready":
            self._ready = True
        elif kind == "recalled":
            self._held.pop(rest[0]).close()
            del self._recalled[rest[0]]
            self._reports.append(Recalled(rest[0]))
        else:
            turned = bool(self._turns)
            pending = (self._turns or self._sent).popleft()
            pending.close()
            if pending.order.id != rest[0]:
                raise InvariantBroken(f"spawner answered {rest[0]} before {pending.order.id}")
            if kind == "spawned":
                name, pid, fell_back = rest
                self._tasks[int(pid)] = name
                if not turned:
                    self._last_exited = 0
                self._reports.append(Spawned(name, int(pid), bool(fell_back)))
            else:
                name, stage, number, text, code = rest
                told = cast("Stage", stage), int(number), text, int(code) if code else None
                self._reports.append(SpawnFailed(name, *told))

    def _take_turn(self, order_id: str) -> Pending:
        """An order whose turn has come; perhaps just when we said that it shall begin, or not."""
        self._recalled.pop(order_id, None)
        pending = self._held.pop(order_id, None)
        if pending is None:
            pending = next(one for one in self._sent if one.order.id == order_id)
            self._sent.remove(pending)
        return pending

    def _kill_and_wait(self) -> None:
        """Make sure that the spawner is dead, all its threads with it, and reap it."""
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)
            _, self._status = os.waitpid(self._pid, 0)

    def _bury(self) -> None:
        """Put the books in order after the socket ended: what began, what did not."""
        # A process closes its files before its children become ours: only waiting makes it sure.
        self._kill_and_wait()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._last_exited:
            # It may have died between reporting this end and reaping it: not to be told again.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._last_exited, os.WNOHANG)
            self._last_exited = 0
        in_flight, found = None, None
        # What was not sent whole, or before a spawner was there to read it, has not begun.
        noted, noted_s, _ = os.pread(self._note_fd, 4096, 0).decode().split("\n", 2)
        os.pwrite(self._note_fd, NO_NOTE, 0)
        if noted in self._held or any(one.order.id == noted for one in self._sent):
            self._turns.append(self._take_turn(noted))
        begins = self._turns or self._sent
        unbegun = begins and self._partial is not None and begins[0] is self._partial[0]
        if begins and self._ready and not unbegun:
            pending = begins.popleft()
            pending.close()
            in_flight = pending.order.id
            since_s = float(noted_s) if noted == in_flight else pending.sent_boottime_s
            found = find_begun(pending.order.join, since_s, self._pid, self._tasks)
            if found is not None:
                self._tasks[found] = in_flight
        for pending in (*self._turns, *self._sent):
            pending.free()
        self._waiting.extendleft(reversed((*self._turns, *self._sent)))
        self._turns.clear()
        self._sent.clear()
        self._apart.update(self._held)
        self._held.clear()
        for name in self._recalled:
            if self.cancel(name):
                self._reports.append(Recalled(name))
        self._recalled.clear()
        self._unsent, self._partial = b"", None
        self._reports.append(SpawnerDied(in_flight, found, self._status or 0, self._ready))
