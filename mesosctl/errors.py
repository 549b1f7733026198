"""The exceptions of mesosctl: what went wrong, why, what to try, and the exit code it ends in.

    MesosctlError                 1   the answer is no
    ├── UsageError                2   the caller wrote something that cannot be meant
    ├── Unreachable               3   nobody answers at that address, or not in time
    ├── NotFound                  4   no such job, task, agent or framework
    ├── Refused                   5   authority, quota or state forbid it
    │   └── LimitUnavailable      5   a limit that was asked for cannot be enforced here
    ├── PeerError                 1   a peer broke the protocol; it is refused, we go on
    ├── StorageFailed             1   a disk did not keep what it was given; the process stops
    └── InvariantBroken          70   we are wrong about our own state; the process stops

Rules: an error that a user meets is one line, `what: why; what to try`. `InvariantBroken` alone may
show a traceback, and it ends the process: a half-alive daemon is worse than a dead one.
"""

from __future__ import annotations


class MesosctlError(Exception):
    """Anything that mesosctl says no to.

    `message` holds what and why in one line, `hint` what to try (may be empty), `exit_code` the
    status that a command which meets it ends with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(MesosctlError):
    """Input of a user that cannot be meant: a bad value, an unknown name, a contradiction."""

    exit_code = 2


class Unreachable(MesosctlError):
    """A master, framework or agent does not answer, or not in time."""

    exit_code = 3


class NotFound(MesosctlError):
    """What was named does not exist, or no longer."""

    exit_code = 4


class Refused(MesosctlError):
    """Authority, quota or the present state forbid what was asked."""

    exit_code = 5


class LimitUnavailable(Refused):
    """A limit that a task asked for cannot be applied here, so the task is not run without it."""


class PeerError(MesosctlError):
    """A peer sent what the protocol does not allow. `code` is the word that is sent back to it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StorageFailed(MesosctlError):
    """A write, an fsync or a read of our own state failed. Nothing after it may be promised."""


class InvariantBroken(MesosctlError):
    """Our own state contradicts itself. The process stops with a traceback and exit code 70."""

    exit_code = 70


def require(condition: bool, message: str) -> None:
    """Stop the process when one of our own invariants does not hold.

    Unlike `assert` it is not removed by `python -O`. Raises InvariantBroken.
    """
    if not condition:
        raise InvariantBroken(message)
