"""Reading files that belong to tasks: parts of them, and the last lines.

Rules: a file is opened as runtime.beneath does it, and read only when it belongs to the sandbox's
owner.
"""

from __future__ import annotations

import os

from mesosctl.core.agent.effects import FileRead, ReadFile
from mesosctl.runtime.beneath import NotReadable, open_beneath, open_regular

_BLOCK_BYTES = 64 * 1024
# So far back lines are counted; a longer tail begins in the middle of a line.
TAIL_BYTES_MAX = 64 * 1024 * 1024


def tail_offset(descriptor: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin; a line without its end counts as one.

    What was given back (runtime.trimming) holds no line: it is passed over.
    """
    size = os.fstat(descriptor).st_size
    if lines <= 0:
        return size
    at = size
    left = lines
    while at > max(0, size - TAIL_BYTES_MAX):
        start = max(0, at - _BLOCK_BYTES)
        block = os.pread(descriptor, at - start, start)
        end = len(block)
        if at == size and block.endswith(b"\n"):
            # The end of the last line begins no other.
            end -= 1
        while True:
            end = block.rfind(b"\n", 0, end)
            if end < 0:
                break
            left -= 1
            if left == 0:
                return start + end + 1
        at = _data_end(descriptor, start) if block.count(0) == len(block) else start
    return at


def _data_end(descriptor: int, at: int) -> int:
    """Where the hole begins that `at` is in; `at` itself when it is in none."""
    try:
        first = os.lseek(descriptor, 0, os.SEEK_HOLE)
        after = os.lseek(descriptor, first, os.SEEK_DATA)
    except OSError:
        return at
    return first if first < at < after else at


def _next_data(descriptor: int, offset: int) -> int:
    """Where the next bytes are from `offset` on that were not given back."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:
        # There is none, or this file system does not tell.
        return offset


def _read_data(descriptor: int, offset: int, bytes_max: int) -> tuple[int, bytes]:
    """Bytes from `offset` on, or from the end of the hole that it is in, and where they are.

    Somebody may give back what is being read: then it is read again, from behind the hole.
    """
    while True:
        start = _next_data(descriptor, offset)
        data = os.pread(descriptor, bytes_max, start)
        if not data:
            return start, data
        if _next_data(descriptor, start) != start:
            continue
        try:
            hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError:
            return start, data
        return start, data[: hole - start] if hole > start else data


def _open_own(sandboxes: int, container: str, name: str) -> int:
    """A regular file of a sandbox that belongs to the sandbox's owner. OSError, NotReadable.

    Of one with a second name the first may be removed by its owner, and then it has only one.
    """
    sandbox = open_beneath(sandboxes, container)
    try:
        descriptor = open_regular(sandbox, name)
        if os.fstat(descriptor).st_uid == os.fstat(sandbox).st_uid:
            return descriptor
        os.close(descriptor)
        raise NotReadable("it belongs to another user")
    finally:
        os.close(sandbox)


def read_file(sandboxes: int, effect: ReadFile) -> FileRead:
    """Carry out a ReadFile below the open directory of all sandboxes; never raises OSError."""
    offset = effect.offset
    try:
        descriptor = _open_own(sandboxes, effect.container, effect.name)
    except NotReadable as error:
        return FileRead(effect.token, offset, b"", True, problem=f"{effect.name}: {error}")
    except FileNotFoundError:
        return _missing(sandboxes, effect)
    except OSError as error:
        text = f"{effect.name} cannot be read: {error.strerror}"
        return FileRead(effect.token, offset, b"", True, problem=text)
    try:
        if effect.tail_lines >= 0:
            offset = tail_offset(descriptor, effect.tail_lines)
        start, data = _read_data(descriptor, offset, effect.bytes_max)
        at_end = start + len(data) >= os.fstat(descriptor).st_size
        return FileRead(effect.token, start, data, at_end, dropped=start - offset)
    except OSError as error:
        text = f"{effect.name} cannot be read: {error.strerror}"
        return FileRead(effect.token, offset, b"", True, problem=text)
    finally:
        os.close(descriptor)


def _missing(sandboxes: int, effect: ReadFile) -> FileRead:
    try:
        os.close(open_beneath(sandboxes, effect.container))
    except FileNotFoundError:
        return FileRead(effect.token, effect.offset, b"", True, missing=True, gone=True)
    except OSError as error:
        problem = f"the sandbox cannot be read: {error.strerror}"
        return FileRead(effect.token, effect.offset, b"", True, problem=problem)
    return FileRead(effect.token, effect.offset, b"", True, missing=True)
