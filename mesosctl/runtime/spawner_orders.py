"""What the executor and its spawner say to each other, as values, and the command that starts one.

Framing and fields are described in spawner_channel.py, which cannot import this module because it
has to start quickly; the two files change together.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mesosctl.model.records import dataclass
from mesosctl.runtime.spawner_channel import FRAME_LIMIT_BYTES, pack

Stage = Literal["join", "user", "cwd", "stdin", "stdout", "stderr", "exec"]


@dataclass(frozen=True, slots=True)
class SpawnOrder:
    """Everything the spawner needs to start one task.

    `join` are the files a thread ("tasks") or a process ("cgroup.procs") is written into to enter
    the task's cgroups, `home` those of the executor's own; `by` says which. `uid` None stays the
    user we are, and then `gid` and `groups` mean nothing. Paths are relative to the directory the
    task really starts in; `stdin` is "null", "fd" or a path, `stdout` "null" or a path, `stderr`
    those or "merge" (a file of such a name is written with "./"). `append` False empties the
    files. `path_is_script` names a captured script in argv[0]: not searched for in PATH, and run
    even without execute permission. `as_helper`: directory and streams are the user's, but what is
    executed is a program of ours under our own ids, which becomes the user later.
    `after` the order of this id, once its cgroups are left, but not when CLOCK_MONOTONIC is `due`.
    """

    id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    fallback_cwd: str | None = None
    join: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    by: Literal["thread", "process", "none"] = "none"
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    stdin: str = "null"
    stdout: str = "null"
    stderr: str = "null"
    append: bool = False
    umask: int = 0o077
    path_is_script: bool = False
    as_helper: bool = False
    after: str = ""
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Spawned:
    """The task of order `id` runs as `pid`; in its fallback directory if `cwd_fallback`."""

    id: str
    pid: int
    cwd_fallback: bool


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """Order `id` started nothing: one line of `text` says why.

    `exit_code` is what a shell would give (126 or 127) when the command itself is at fault, else
    None: then it is the host, the user or the sandbox.
    """

    id: str
    stage: Stage
    errno: int
    text: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """Order `id` was taken back before it began."""

    id: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A process ended with the raw wait `status`; read it with os.waitstatus_to_exitcode.

    `id` is the order it was started for, None for a process we did not start (an orphan that a
    task left to us). Usage is of the process and the children it waited for; `maxrss_bytes` is
    never below the spawner's own (about 13 MB), because a child begins in its memory. Bytes read
    and written are of disks, `switches` times that it left a CPU. `is_left`: the spawner has seen
    that nothing is in the order's cgroups any more; it only looks when another order follows.
    """

    id: str | None
    pid: int
    status: int
    utime_s: float
    stime_s: float
    maxrss_bytes: int
    read_bytes: int = 0
    written_bytes: int = 0
    switches: int = 0
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class SpawnerDied:
    """The spawner is dead and reaped: its raw wait `status`.

    `in_flight` is the oldest unreported order, and `in_flight_pid` the process it started, None
    if it started none; it is not ordered again by itself. Every other unreported order has not
    begun and goes to the next spawner. `ready` is False when this one died before it could serve
    at all, which another start is unlikely to mend.
    """

    in_flight: str | None
    in_flight_pid: int | None
    status: int
    ready: bool


Report = Spawned | SpawnFailed | Recalled | Exited | SpawnerDied


def start_command(descriptor: int, parent_pid: int) -> list[str]:
    """Return the command that starts a spawner serving on an inherited descriptor.

    Its directory is put last on the path, so that the file is found in a wheel as in a checkout,
    its compiled form is used, no package of ours is imported and none of its neighbours can hide
    a module of the standard library. Isolated, without site, always in UTF-8.
    """
    home = str(Path(__file__).resolve().parent)
    program = "import sys; sys.path.append(sys.argv[1]); import spawner as s; "
    program += "sys.exit(s.main(sys.argv[2:]))"
    return [
        *(sys.executable, "-I", "-S", "-X", "utf8", "-c", program),
        *(home, str(descriptor), str(parent_pid)),
    ]


def encode(order: SpawnOrder) -> bytes:
    """Return the frame of an order. Raises ValueError when it is one no spawner could obey."""
    if not order.argv:
        raise ValueError(f"order {order.id} has no command")
    if order.uid is not None and order.gid is None:
        raise ValueError(f"order {order.id} names a user and no group")
    if order.by == "none" and order.join:
        raise ValueError(f"order {order.id} has cgroups and no way to join them")
    if order.join and not order.home:
        raise ValueError(f"order {order.id} has no cgroups to come back to")
    flags = ("a" if order.append else "") + ("s" if order.path_is_script else "")
    words = [
        order.id,
        order.by,
        order.cwd,
        order.fallback_cwd or "",
        "" if order.uid is None else str(order.uid),
        "" if order.gid is None else str(order.gid),
        str(order.umask),
        flags + ("h" if order.as_helper else ""),
        order.stdin,
        order.stdout,
        order.stderr,
        order.after,
        "" if order.due is None else repr(order.due),
        *map(str, map(len, (order.groups, order.join, order.home, order.argv))),
        *map(str, order.groups),
        *order.join,
        *order.home,
        *order.argv,
        *order.env,
        *order.env.values(),
    ]
    frame = pack(words)
    if len(frame) > FRAME_LIMIT_BYTES:
        raise ValueError(f"order {order.id} is {len(frame)} bytes; at most {FRAME_LIMIT_BYTES}")
    return frame


@dataclass(slots=True)
class Pending:
    """An order that is not reported yet, its frame, and the descriptor that goes with it."""

    order: SpawnOrder
    frame: bytes
    stdin_fd: int | None
    sent_boottime_s: float = 0.0

    def free(self) -> None:
        """From now on it follows nobody."""
        self.order = replace(self.order, after="", due=None)
        self.frame = encode(self.order)

    def close(self) -> None:
        """Close the descriptor that was handed over for standard input."""
        if self.stdin_fd is not None:
            os.close(self.stdin_fd)
            self.stdin_fd = None
