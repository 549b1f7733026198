"""One process a directory: a lock that the kernel drops with its holder, however that ends.

Rules: the lock is the flock on an open file, never the file's existence or its text; the process id
in it only serves the message to the second one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from mesosctl.errors import Refused
from mesosctl.storage.locations import private_dir

FILE_NAME = "lock"


class DirectoryLock:
    """The held lock of a directory; made by `take`."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Lock `directory` (made private if need be). Raises Refused naming the holder's pid."""
        path = private_dir(directory) / FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Refused(
                f"{path}: cannot be opened: {error.strerror}", "check its owner"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = _pid_in(descriptor)
            os.close(descriptor)
            who = f"process {pid}" if pid else "another process"
            raise Refused(
                f"{directory} is in use by {who}", "stop that one, or name another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(directory, descriptor)

    def release(self) -> None:
        """Give the directory up. Idempotent; ending the process does the same."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(directory: Path) -> int | None:
    """The pid of the process that holds the lock of `directory`; None: nobody does.

    0 when it is held by a process that has not yet written its number.
    """
    try:
        descriptor = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _pid_in(descriptor)
    finally:
        os.close(descriptor)
    return None


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
