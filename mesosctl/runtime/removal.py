"""Removing trees that belong to somebody else, without ever being led out of them.

A tree that is to go is first renamed into the *grave*, a directory that only we can enter; from
then on nobody finds it by a path, and a crash leaves nothing but a grave to be emptied.

Rules:
- Everything is named by one part relative to an open directory; no link is followed. A directory
  in the grave becomes ours and closed to others before it is emptied.
- No directory is entered where it is: it is renamed into the grave first, and only what is there is
  opened. So the depth of a tree costs neither memory nor descriptors, and what is mounted in it is
  never entered, for a mount point cannot be renamed (shutil.rmtree would empty it).
- What cannot be removed stays in the grave, is told with the reason, and tried again next time.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from itertools import count

GRAVE = "+removing"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Work and rest in turn, so that a sweep takes at most half of one CPU and of the interpreter.
SLICE_S = 0.005
# Somebody who holds the directory open can put new files into it until it is closed to them.
ROUNDS_MAX = 5


class Grave:
    """The directory `+removing` below the open directory `parent`, made if need be.

    `stopped` is asked between steps; once it is true, emptying ends early. Raises OSError.
    """

    def __init__(self, parent: int, stopped: Callable[[], bool] = lambda: False) -> None:
        try:
            os.mkdir(GRAVE, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        self._parent = parent
        self._fd = os.open(GRAVE, _DIRECTORY, dir_fd=parent)
        self._stopped = stopped
        # No two names of ours are the same, in this life or in an earlier one.
        token = os.urandom(6).hex()
        self._names = (f"{token}-{number}" for number in count())
        self._slice_end = 0.0

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def take(self, path: str) -> str:
        """Take `path`, relative to the parent, away at once; its name here. Raises OSError."""
        name = next(self._names)
        os.rename(path, name, src_dir_fd=self._parent, dst_dir_fd=self._fd)
        return name

    def empty(self) -> list[tuple[str, str]]:
        """Remove all that is here; the names of what stays, each with the reason."""
        stuck: dict[str, str] = {}
        while not self._stopped():
            names = [name for name in self._list() if name not in stuck]
            if not names:
                break
            for name in names:
                why = self._remove(name)
                if why:
                    stuck[name] = why
                if self._stopped():
                    break
        return list(stuck.items())

    def _list(self) -> list[str]:
        """Names in the grave; not all of them where there are very many."""
        names: list[str] = []
        with os.scandir(self._fd) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) >= 10_000:
                    break
        return names

    def _remove(self, name: str) -> str:
        """Remove one entry, its directories becoming entries of their own; why not, or nothing."""
        try:
            descriptor = self._open(name)
            if descriptor is None:
                os.unlink(name, dir_fd=self._fd)
                return ""
            try:
                why = self._close_and_empty(descriptor)
            finally:
                os.close(descriptor)
            if not why and not self._stopped():
                os.rmdir(name, dir_fd=self._fd)
            return why
        except FileNotFoundError:
            return ""
        except OSError as error:
            return os.strerror(error.errno or errno.EIO)

    def _open(self, name: str) -> int | None:
        """The directory of this name; None when it is something else."""
        if not stat.S_ISDIR(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
            return None
        try:
            return os.open(name, _DIRECTORY, dir_fd=self._fd)
        except PermissionError:
            # Without root a directory may be closed to its own owner. Nobody else can enter here.
            os.chmod(name, 0o700, dir_fd=self._fd)
            return os.open(name, _DIRECTORY, dir_fd=self._fd)

    def _close_and_empty(self, descriptor: int) -> str:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            os.fchown(descriptor, os.geteuid(), os.getegid())
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
        why = ""
        for _ in range(ROUNDS_MAX):
            number, why = 0, ""
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    number += 1
                    why = self._remove_entry(descriptor, entry) or why
                    self._rest()
                    if self._stopped():
                        return why
            if not number or why:
                break
        return why

    def _remove_entry(self, descriptor: int, entry: os.DirEntry[str]) -> str:
        try:
            if entry.is_dir(follow_symlinks=False):
                self._move(descriptor, entry.name)
            else:
                os.unlink(entry.name, dir_fd=descriptor)
        except (FileNotFoundError, IsADirectoryError):
            # Somebody was quicker; the next round sees what it is now.
            return ""
        except OSError as error:
            return f"{entry.name}: {os.strerror(error.errno or errno.EIO)}"
        return ""

    def _move(self, descriptor: int, name: str) -> None:
        fresh = next(self._names)
        try:
            os.rename(name, fresh, src_dir_fd=descriptor, dst_dir_fd=self._fd)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            # A directory that is moved is written to, and its own owner may have forbidden that.
            os.chmod(name, 0o700, dir_fd=descriptor)
            os.rename(name, fresh, src_dir_fd=descriptor, dst_dir_fd=self._fd)

    def _rest(self) -> None:
        now = time.monotonic()
        if now >= self._slice_end:
            if self._slice_end:
                time.sleep(SLICE_S)
            self._slice_end = time.monotonic() + SLICE_S
