"""What a host can run out of under us: descriptors and threads.

Rules: a shortage is told in words where it is noticed, never taken for something else: a user who
cannot be looked up is not a user who does not exist. Nothing here frees anything.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
import threading
from collections.abc import Callable, Iterable

import zmq

from mesosctl.core.machine import Event
from mesosctl.errors import MesosctlError
from mesosctl.runtime.endpoints import Context

# As many connections as one process may be expected to hold; tasks get their own limit.
DESCRIPTORS_MAX = 65_536
LOOK_S = 5.0
_SPARE = 8
_THREADS = 2
_SHORTAGES = (errno.EMFILE, errno.ENFILE)


def raise_descriptor_limit() -> None:
    """Take what the hard limit allows: the soft one is low for the sake of old programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_shortage(error: Exception) -> bool:
    """Whether an error of the system or of libzmq says that there are no descriptors left."""
    return getattr(error, "errno", None) in _SHORTAGES


def are_scarce(descriptor: int) -> bool:
    """Whether a few more descriptors cannot be had; `descriptor` is any that is open."""
    taken: list[int] = []
    try:
        for _ in range(_SPARE):
            taken.append(os.dup(descriptor))
    except OSError:
        return True
    finally:
        for number in taken:
            os.close(number)
    return False


class DescriptorWatch:
    """Logs once when descriptors become scarce, and once when they are not any more."""

    def __init__(self, descriptor: int, log: Callable[[str, str], None]) -> None:
        self._descriptor = descriptor
        self._log = log
        self._scarce = False

    def look(self) -> Iterable[Event]:
        """Look; there is nothing to post."""
        scarce = are_scarce(self._descriptor)
        if scarce and not self._scarce:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self._log(
                "error",
                f"nearly all of {limit} file descriptors are in use: new connections wait until"
                " some are free; raise the limit (ulimit -n, LimitNOFILE)",
            )
        elif self._scarce and not scarce:
            self._log("info", "there are file descriptors again")
        self._scarce = scarce
        return ()


def find_user(name: str) -> pwd.struct_passwd:
    """The account of this name. Raises KeyError, and OSError when nobody can tell now."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        # libc reports a shortage as "not found".
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        raise


def make_context() -> Context:
    """A zmq context. Raises MesosctlError when there are no threads to be had.

    libzmq would end the process without a word of what to do.
    """
    leave = threading.Event()
    trials = [threading.Thread(target=leave.wait, daemon=True) for _ in range(_THREADS)]
    begun: list[threading.Thread] = []
    try:
        for trial in trials:
            trial.start()
            begun.append(trial)
    except RuntimeError:
        raise MesosctlError(
            "no thread can be started here", "raise the limit of processes (ulimit -u, pids.max)"
        ) from None
    finally:
        leave.set()
        for trial in begun:
            trial.join()
    return zmq.Context()
