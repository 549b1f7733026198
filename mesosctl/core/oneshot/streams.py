"""The three streams of a `run`: asked for with credit, sent within a window, resumed by offset.

Rules: credit is given back only for what was really written here. Input that the task has not
taken is kept, at most one window of it, and sent again after a reconnect. Nothing is shown twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from mesosctl.core.machine import Effect, NewId, Now, Open, Received
from mesosctl.core.oneshot.events import Note, Output, WantStdin, Written
from mesosctl.core.session import ClientSession
from mesosctl.limits import CHUNK_BYTES, STREAM_WINDOW_BYTES
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Command
from mesosctl.model.words import size_words
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.streams import (
    ReadStream,
    StdinTaken,
    StreamChunk,
    StreamCredit,
    WriteStdin,
)

AGENT_LINK = "agent"
OUTPUTS = ("stdout", "stderr")


@dataclass(slots=True)
class _Reading:
    """One output: what arrived, what was not written yet, whether it is whole."""

    stream: int
    offset: int = 0
    unwritten: int = 0
    eof: bool = False
    closed: bool = False
    dropped: bool = False


@dataclass(slots=True)
class _Input:
    """Our stdin on its way: `pending` are the bytes from `taken` on that were read here."""

    taken: int = 0
    sent: int = 0
    pending: bytearray = field(default_factory=bytearray)
    eof: bool = False
    eof_sent: bool = False
    wanted: bool = False
    closed: bool = False


class Streams:
    """The conversation with the agent about one task's streams.

    `refused` is called when the agent lets us in no more; its effects follow.
    """

    def __init__(
        self, command: Command, new_id: NewId, refused: Callable[[Now], list[Effect]]
    ) -> None:
        self._session = ClientSession(AGENT_LINK, self._hello, lambda now: [], new_id)
        self._refused = refused
        self._framework_id = FrameworkId("")
        self._task_id = TaskId("")
        self._reads = {name: _Reading(number) for number, name in enumerate(OUTPUTS, 1)}
        for name, where in (("stdout", command.stdout), ("stderr", command.stderr)):
            # What goes to a file of the user, or nowhere, is not there to be read.
            self._reads[name].eof = bool(where)
        self._input = _Input() if command.stdin == "stream" else None

    def start(self, framework_id: FrameworkId, task_id: TaskId, now: Now) -> list[Effect]:
        """Open the first session; the link leads to the agent already."""
        self._framework_id, self._task_id = framework_id, task_id
        return self._resumed(self._session.start(now))

    @property
    def all_read(self) -> bool:
        """Whether both outputs came to their end."""
        return all(reading.eof or reading.closed for reading in self._reads.values())

    @property
    def all_written(self) -> bool:
        """Whether everything that came was written."""
        return all(reading.unwritten == 0 for reading in self._reads.values())

    @property
    def is_live(self) -> bool:
        """Whether the agent has answered in the present session."""
        return self._session.confirmed

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        return None if self.all_read or not self._task_id else self._session.deadline()

    def tick(self, now: Now) -> list[Effect]:
        """Reconnect, ping, or notice silence."""
        if self.all_read or not self._task_id:
            return []
        return self._resumed(self._session.tick(now))

    def lose(self, now: Now) -> list[Effect]:
        """The connection is gone."""
        return self._session.lose(now)

    def end(self) -> list[Effect]:
        """Say goodbye."""
        return self._session.end()

    def _hello(self) -> Message:
        return self._read_message("stdout")

    def _read_message(self, name: str) -> Message:
        reading = self._reads[name]
        return ReadStream(
            reading.stream,
            self._framework_id,
            self._task_id,
            name,
            reading.offset,
            follow=True,
            credit=STREAM_WINDOW_BYTES - reading.unwritten,
        )

    def _resumed(self, effects: list[Effect]) -> list[Effect]:
        """After a session was opened: ask for the second output, and send input again."""
        if not any(isinstance(effect, Open) for effect in effects):
            return effects
        if self._input is not None:
            self._input.sent = self._input.taken
            self._input.eof_sent = False
        more = self._session.send(self._read_message("stderr"))
        return [*effects, *more, *self._send_input()]

    def receive(self, event: Received, now: Now) -> list[Effect]:
        """Take an envelope from the agent."""
        message, effects = self._session.receive(event.envelope, now)
        match message:
            case StreamChunk():
                self._session.confirm(now)
                return effects + self._chunk(message)
            case StdinTaken():
                return effects + self._stdin_taken(message)
            case Refusal():
                # The admission ran out while the connection was away.
                return effects + self._session.lose(now) + self._refused(now)
            case _:
                return effects

    def _chunk(self, chunk: StreamChunk) -> list[Effect]:
        effects: list[Effect] = []
        for name, reading in self._reads.items():
            gap = chunk.offset - reading.offset
            if reading.stream != chunk.stream or reading.eof or gap > chunk.dropped:
                continue
            if gap > 0:
                # What was between is not kept any more: the task has written more than its limit.
                effects += self._dropped(name, reading, gap, chunk.limit_bytes)
                reading.offset = chunk.offset
            data = chunk.data[reading.offset - chunk.offset :]
            reading.offset += len(data)
            reading.eof = chunk.eof
            if data and not reading.closed:
                reading.unwritten += len(data)
                effects.append(Output(name, data))
            elif data:
                effects += self._session.send(StreamCredit(reading.stream, len(data)))
            if chunk.problem:
                effects.append(Note(f"{name}: {chunk.problem}"))
        return effects

    def _dropped(self, name: str, reading: _Reading, gap: int, limit_bytes: int) -> list[Effect]:
        if reading.dropped:
            return []
        reading.dropped = True
        text = f"{name}: {gap} bytes dropped (limit {size_words(limit_bytes)})"
        return [Note(f"{text}; there may be more")]

    def written(self, event: Written) -> list[Effect]:
        """So much was written here: the agent may send as much more."""
        reading = self._reads[event.name]
        reading.unwritten -= event.count
        if event.closed:
            reading.closed = True
            reading.unwritten = 0
        if reading.eof or not event.count:
            return []
        return self._session.send(StreamCredit(reading.stream, event.count))

    def stdin_read(self, data: bytes) -> list[Effect]:
        """Bytes of our stdin, none at its end."""
        if self._input is None or self._input.closed:
            return []
        self._input.pending += data
        self._input.eof = self._input.eof or not data
        return self._send_input()

    def _send_input(self) -> list[Effect]:
        """Send what the window allows, and read more while there is room."""
        line = self._input
        if line is None or not self._session.is_open:
            return []
        effects: list[Effect] = []
        end = line.taken + len(line.pending)
        while not line.closed and line.sent < end:
            begin = line.sent - line.taken
            data = bytes(line.pending[begin : begin + CHUNK_BYTES])
            effects += self._session.send(self._write_message(line.sent, data, False))
            line.sent += len(data)
        if line.eof and not line.eof_sent and not line.closed:
            line.eof_sent = True
            effects += self._session.send(self._write_message(line.sent, b"", True))
        wanted = not (line.eof or line.closed) and len(line.pending) < STREAM_WINDOW_BYTES
        if wanted != line.wanted:
            line.wanted = wanted
            effects.append(WantStdin(wanted))
        return effects

    def _write_message(self, offset: int, data: bytes, eof: bool) -> Message:
        return WriteStdin(self._framework_id, self._task_id, offset, data, eof)

    def _stdin_taken(self, message: StdinTaken) -> list[Effect]:
        line = self._input
        if line is None:
            return []
        advance = min(max(message.offset - line.taken, 0), len(line.pending))
        del line.pending[:advance]
        line.taken += advance
        line.sent = max(line.sent, line.taken)
        if message.closed:
            line.closed = True
            line.pending.clear()
        return self._send_input()
