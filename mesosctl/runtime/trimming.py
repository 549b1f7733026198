"""The output that a task keeps in its sandbox, held at its limit by giving back the oldest of it.

A task writes straight into its file, so nothing of ours can be in its way. Instead the blocks in
the middle are given back to the file system (fallocate(2), FALLOC_FL_PUNCH_HOLE): the file keeps
its beginning, its newest part and its size, so that every offset stays what it was, and whoever
appends to it does not notice.

Rules: what is there is the user's. A file is opened as for reading (runtime.beneath): beneath its
sandbox, through no link, a regular file with one name, which belongs to the sandbox's owner. Files
that a user named himself are never touched, only `stdout` and `stderr` of a sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable

from mesosctl.core.machine import Event
from mesosctl.limits import LOG_HEAD_BYTES
from mesosctl.model.records import dataclass
from mesosctl.model.words import size_words
from mesosctl.protocol.messages.agent import ExecutorLaunch
from mesosctl.runtime.beneath import NotReadable, open_regular
from mesosctl.runtime.loop import Loop

# Between two looks at all streams; the second while something outgrows its limit.
LOOK_S = 1.0
LOOK_SOON_S = 0.1
# So many streams at one look, so that the executor's loop is not held up.
STREAMS_AT_ONCE = 400
# The block that holes begin and end with; larger ones only keep more.
_BLOCK = 4096
_STAT_BLOCK = 512
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# File systems that cannot give back the middle of a file say one of these.
_NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class _Held:
    """One running task: where its streams are, which of them, and what each may occupy."""

    sandbox: str
    names: tuple[str, ...]
    limit_bytes: int


class StreamLimits:
    """Looks at the streams of all running tasks of an executor. `begin` and `end` each task."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held: dict[str, _Held] = {}
        self._is_armed = False
        self._next = 0
        self._told: dict[str, None] = {}

    def begin(self, launch: ExecutorLaunch) -> None:
        """The task runs. Without a limit, or with files of its user's own, nothing is done."""
        command = launch.task.command
        names = [name for name in ("stdout", "stderr") if getattr(command, name) == ""]
        if launch.log_max_bytes <= 0 or not names:
            return
        self._held[launch.container] = _Held(launch.sandbox, tuple(names), launch.log_max_bytes)
        self._arm(LOOK_S)

    def end(self, container: str) -> None:
        """Nothing of it is alive any more: one last look."""
        held = self._held.pop(container, None)
        if held is not None:
            self._trim(held)

    def _arm(self, wait_s: float) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._loop.after(wait_s, self._look)

    def _look(self) -> list[Event]:
        self._is_armed = False
        held = list(self._held.values())
        if not held:
            return []
        part = held[self._next : self._next + STREAMS_AT_ONCE]
        self._next = self._next + len(part) if self._next + len(part) < len(held) else 0
        growing = [one for one in part if self._trim(one)]
        self._arm(LOOK_SOON_S if growing or self._next else LOOK_S)
        return []

    def _trim(self, held: _Held) -> bool:
        """Whether something was over its limit."""
        try:
            directory = os.open(held.sandbox, _DIRECTORY)
        except OSError:
            # Removed under the task by its user.
            return False
        try:
            found = [trim(directory, name, held.limit_bytes, self._tell) for name in held.names]
        finally:
            os.close(directory)
        return any(found)

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < 20:
            self._told[text] = None
            self._loop.log("warning", text)


def trim(directory: int, name: str, limit_bytes: int, tell: Callable[[str], None]) -> bool:
    """Bring one stream below its limit; whether it was above. `tell` takes what goes wrong."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if found.st_blocks * _STAT_BLOCK <= limit_bytes or not stat.S_ISREG(found.st_mode):
            return False
        descriptor = open_regular(directory, name, os.O_RDWR)
    except (OSError, NotReadable):
        # Not there (yet), or the user has put something else there: then there is no stream.
        return False
    try:
        if os.fstat(descriptor).st_uid == os.fstat(directory).st_uid:
            _give_back(descriptor, limit_bytes, tell)
    except OSError as error:
        tell(f"a stream cannot be held at its limit: {error.strerror}")
    finally:
        os.close(descriptor)
    return True


def _give_back(descriptor: int, limit_bytes: int, tell: Callable[[str], None]) -> None:
    found = os.fstat(descriptor)
    size = found.st_size
    head, end = hole(size, limit_bytes)
    if end <= head:
        # Sparse in another way than ours, or allocated beyond its end.
        return
    try:
        punch(descriptor, head, end - head)
    except OSError as error:
        if error.errno not in _NO_HOLES:
            raise
        tell(
            "this file system cannot give back the middle of a file: streams beyond their limit "
            "are cut and put together again, and what a task writes in that moment may be lost"
        )
        _cut(descriptor, size, head, end)
    after = os.fstat(descriptor)
    if after.st_size == found.st_size and after.st_blocks >= found.st_blocks:
        limit = size_words(limit_bytes)
        tell(f"this file system keeps what it is told to give back: the limit {limit} is not kept")


def hole(size: int, limit_bytes: int) -> tuple[int, int]:
    """The bytes that go, from and to, so that a quarter of the limit can be written before more.

    Whole blocks; the first LOG_HEAD_BYTES, of small limits a quarter, stay.
    """
    head = min(LOG_HEAD_BYTES, limit_bytes // 4) // _BLOCK * _BLOCK
    end = (size - (limit_bytes * 3 // 4 - head)) // _BLOCK * _BLOCK
    return head, end


def punch(descriptor: int, offset: int, length: int) -> None:
    """Give back these bytes, which read as zeros from now on. Raises OSError."""
    done = _libc.fallocate(
        ctypes.c_int(descriptor),
        ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE),
        ctypes.c_int64(offset),
        ctypes.c_int64(length),
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _cut(descriptor: int, size: int, head: int, end: int) -> None:
    """Without holes: cut behind the head, make the file as long again, write the newest back.

    Where files can be sparse at all the middle takes no room then, and offsets stay what they were.
    """
    newest = os.pread(descriptor, size - end, end)
    os.ftruncate(descriptor, head)
    os.ftruncate(descriptor, size)
    written = 0
    while written < len(newest):
        written += os.pwrite(descriptor, newest[written:], end + written)
