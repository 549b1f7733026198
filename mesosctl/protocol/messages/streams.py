"""Bytes of a task's streams, between a client and the agent's data socket.

A stream is named by `stream`, a number that the client chooses within its session. The reader
grants credit in bytes, the agent never has more under way than that.
"""

from __future__ import annotations

from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message, message


@message("read-stream")
@dataclass(frozen=True, slots=True)
class ReadStream(Message):
    """Send me this task's `name` (stdout or stderr) from byte `offset` on.

    A negative `tail_lines` means from `offset`; otherwise the last so many lines. `follow`: go on
    until the task has ended and everything is sent. `credit`: bytes that may be sent at once.
    """

    stream: int
    framework_id: FrameworkId
    task_id: TaskId
    name: str
    offset: int = 0
    tail_lines: int = -1
    follow: bool = False
    credit: int = 0


@message("stream-chunk")
@dataclass(frozen=True, slots=True)
class StreamChunk(Message):
    """Bytes at `offset`. `eof`: there are no more. `problem`: why it ends early (may be empty).

    `dropped`: so many bytes before these are not kept any more, because the stream has outgrown
    `limit_bytes`; `offset` is beyond them. `removed`: the sandbox was removed after its retention;
    nothing will ever be there again.
    """

    stream: int
    offset: int
    data: bytes
    eof: bool = False
    problem: str = ""
    removed: bool = False
    dropped: int = 0
    limit_bytes: int = 0


@message("stream-credit")
@dataclass(frozen=True, slots=True)
class StreamCredit(Message):
    """The reader took `taken` more bytes of the stream."""

    stream: int
    taken: int


@message("write-stdin")
@dataclass(frozen=True, slots=True)
class WriteStdin(Message):
    """Bytes for the task's stdin at `offset`: client -> agent -> executor. `eof` closes it."""

    framework_id: FrameworkId
    task_id: TaskId
    offset: int
    data: bytes
    eof: bool = False


@message("stdin-taken")
@dataclass(frozen=True, slots=True)
class StdinTaken(Message):
    """The task's stdin was given everything below `offset`; send at most a window beyond it.

    `closed`: the task reads no more; send nothing.
    """

    framework_id: FrameworkId
    task_id: TaskId
    offset: int
    closed: bool = False
