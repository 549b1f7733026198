"""Opening files that belong to tasks, without ever being led anywhere else by them.

Rules: a sandbox is its user's: what is found there may be a link, a pipe, a device or another
name of a file that only we may read. So a file is opened beneath the directory of sandboxes, no
link is followed, nothing blocks, and only a regular file with one name is opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_OPENAT2 = 437  # the same number on every machine (asm-generic/unistd.h, Linux 5.6)
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS | NO_SYMLINKS | BENEATH (linux/openat2.h)
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
# Kernels and sandboxes that do not have openat2 say one of these.
_NO_OPENAT2 = (errno.ENOSYS, errno.EPERM, errno.E2BIG)
_MACHINES = ("x86_64", "aarch64")

_libc = ctypes.CDLL(None, use_errno=True)


class NotReadable(Exception):
    """What is there may not be read: the text says what it is."""


def open_beneath(
    directory: int, path: str, access: int = os.O_RDONLY, *, by_parts: bool = False
) -> int:
    """A descriptor of `path` below the open `directory`, without following any link.

    `access` is O_RDONLY, O_RDWR, or O_DIRECTORY for a directory and nothing else. `by_parts` does
    it the slow way that works on every kernel. Raises OSError; ELOOP for a link, EXDEV for a path
    with an empty name or dots.
    """
    # The kernel would take some of these for the directory itself.
    *parents, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*parents, name)):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    flags = _FLAGS | access
    if not by_parts and os.uname().machine in _MACHINES:
        # struct open_how: flags, mode, resolve.
        how = struct.pack("=QQQ", flags, 0, _RESOLVE)
        found: int = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.c_char_p(how),
            ctypes.c_size_t(len(how)),
        )
        if found >= 0:
            return found
        error = ctypes.get_errno()
        if error not in _NO_OPENAT2:
            raise OSError(error, os.strerror(error), path)
    opened: list[int] = []
    try:
        at = directory
        for part in parents:
            at = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            opened.append(at)
        return os.open(name, flags, dir_fd=at)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def open_regular(directory: int, path: str, access: int = os.O_RDONLY) -> int:
    """As open_beneath, a regular file with one name only. Raises OSError, NotReadable."""
    try:
        descriptor = open_beneath(directory, path, access)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise NotReadable("it is a symbolic link") from None
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise NotReadable("it is not a regular file") from None
        raise
    found = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = "it is not a regular file"
    elif found.st_nlink > 1:
        problem = "it is a file with several names"
    if problem:
        os.close(descriptor)
        raise NotReadable(problem)
    return descriptor
