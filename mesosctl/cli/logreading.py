"""Output of tasks read straight from their agents, with credit, resumed where it broke off.

Rules: credit is given back only for what was written here, so a slow reader holds the agent back.
What cannot be read is said once, on stderr, with the reason, and counted as missing. A lost
connection is made anew and goes on at the byte where it was; nothing is printed twice.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import field
from typing import TYPE_CHECKING

from mesosctl.cli.output import Console, silence
from mesosctl.errors import MesosctlError
from mesosctl.limits import STREAM_WINDOW_BYTES
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.words import size_words
from mesosctl.protocol.messages.batch import LocateLogs, LogSource, LogSources
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.streams import ReadStream, StreamChunk, StreamCredit
from mesosctl.runtime.client import Client, Reopened

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster

# An agent serves 64 streams to one connection; several connections share many tasks.
STREAMS_PER_CLIENT = 60
OPEN_MAX = 240
# A line that is longer is printed in pieces.
LINE_BYTES_MAX = 64 * 1024
WINDOW_BYTES = STREAM_WINDOW_BYTES // 4
# A stream that is not followed brings something within this time, or its agent is away.
SILENT_S = 15.0
EXIT_REMOVED = 4


@dataclass(slots=True, eq=False)
class Stream:
    """One output of one attempt on its way. `name` is stdout or stderr."""

    source: LogSource
    name: str
    follow: bool
    tail_lines: int
    offset: int = 0
    number: int = 0
    seq: int = 0
    client: Client | None = None
    heard: float = 0.0
    # The agent says at which byte a tail begins.
    is_placed: bool = False
    is_over: bool = False
    was_located: bool = False
    # Bytes that were not kept, and how many of them the user was told of.
    dropped: int = 0
    dropped_told: int = 0
    limit_bytes: int = 0
    line: bytearray = field(default_factory=bytearray)


class LogReader:
    """Reads streams and prints them. `pump` waits and works, `work` only works.

    `tag`: each line begins with its task. `apart`: stderr of tasks goes to our stderr. Lines are
    kept whole where several streams are read at once.
    """

    def __init__(self, cluster: Cluster, console: Console, tag: bool, apart: bool) -> None:
        self._cluster = cluster
        self._console = console
        self._tag = tag
        self._apart = apart
        self._clients: dict[tuple[str, str], list[Client]] = {}
        self._waiting: deque[Stream] = deque()
        self._open: list[Stream] = []
        self._numbers = 0
        self.by_lines = tag
        self.missing = 0
        # How much of that will never be there again.
        self.removed = 0

    # --- what to read -----------------------------------------------------------------------------

    def add(self, source: LogSource, name: str, follow: bool, tail_lines: int = -1) -> None:
        """Read this stream, now or when others have ended; one that is not there is told of."""
        place = source.stdout if name == "stdout" else source.stderr
        if place == "merge" and name == "stderr":
            # It is in stdout, and shown with it.
            return
        if place:
            gone = "was thrown away" if place == "none" else f"went to {place}"
            self.tell_missing(source, f"its {name} {gone} on agent {source.task.agent}")
            return
        self._waiting.append(Stream(source, name, follow, tail_lines))
        self._fill()

    def tell_missing(self, source: LogSource, why: str) -> None:
        """Say that output of a task cannot be had."""
        self.missing += 1
        self._console.error_line(f"mesosctl: task {source.task.id}: no output: {why}")

    def _tell_removed(self, source: LogSource, why: str) -> None:
        if source.task.started is None and source.task.ended is not None:
            self.tell_missing(source, "it never started")
            return
        self.removed += 1
        self.tell_missing(source, why)

    def tell_faded(self, job_id: str, why: str) -> None:
        """Say that nothing is known any more of where a job's output was."""
        self.missing += 1
        self.removed += 1
        self._console.error_line(f"mesosctl: job {job_id}: no output: {why}")

    @property
    def exit_code(self) -> int:
        """What a command that printed all this ends with: 4 when all that is missing is removed."""
        if self.missing and self.removed == self.missing:
            return EXIT_REMOVED
        return 1 if self.missing else 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was added has been read."""
        return not self._open and not self._waiting

    def has_input(self) -> bool:
        """Whether something has arrived that `work` would take."""
        return any(client.inbox for clients in self._clients.values() for client in clients)

    def pump(self, timeout_s: float = 1.0) -> None:
        """Wait for something to arrive, and print it."""
        self._cluster.hub.wait(self.has_input, timeout_s)
        self.work()

    def work(self) -> None:
        """Print what has arrived. Raises WriteFailed, BrokenPipeError."""
        for clients in self._clients.values():
            for client in clients:
                while client.inbox:
                    self._take(client, client.inbox.popleft())
        self._check()
        self._fill()

    # --- streams ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self._waiting and len(self._open) < OPEN_MAX:
            stream = self._waiting.popleft()
            self._open.append(stream)
            self._start(stream)

    def _start(self, stream: Stream) -> None:
        source = stream.source
        self._numbers += 1
        stream.number = self._numbers
        stream.heard = time.monotonic()
        try:
            client = self._client_for(source)
        except MesosctlError as error:
            self._lose(stream, error.message)
            return
        stream.client = client
        stream.seq = client.tell(
            ReadStream(
                stream.number,
                FrameworkId(source.framework_id),
                TaskId(source.wire_id),
                stream.name,
                stream.offset,
                -1 if stream.is_placed else stream.tail_lines,
                stream.follow,
                WINDOW_BYTES,
            )
        )

    def _client_for(self, source: LogSource) -> Client:
        clients = self._clients.setdefault((source.address, source.public_key), [])
        for client in clients:
            if sum(stream.client is client for stream in self._open) < STREAMS_PER_CLIENT:
                return client
        name = source.task.agent or "?"
        clients.append(self._cluster.agent(source.address, source.public_key, name))
        return clients[-1]

    def _take(self, client: Client, item: object) -> None:
        match item:
            case StreamChunk():
                for stream in self._open:
                    if stream.client is client and stream.number == item.stream:
                        self._chunk(stream, item)
                        break
            case Refusal():
                for stream in self._open:
                    if stream.client is client and stream.seq == item.re:
                        self._refused(stream, item)
                        break
            case Reopened():
                for stream in list(self._open):
                    if stream.client is client:
                        self._start(stream)
            case _:
                pass

    def _chunk(self, stream: Stream, chunk: StreamChunk) -> None:
        stream.heard = time.monotonic()
        if not stream.is_placed:
            stream.offset, stream.is_placed = chunk.offset, True
        if chunk.dropped and chunk.offset > stream.offset:
            self._drop(stream, chunk)
        data = chunk.data[max(0, stream.offset - chunk.offset) :]
        stream.offset = max(stream.offset, chunk.offset + len(chunk.data))
        if data:
            self._print(stream, data)
        if chunk.eof:
            self._end(stream)
            if chunk.removed:
                self._tell_removed(stream.source, chunk.problem)
            elif chunk.problem:
                self.tell_missing(stream.source, chunk.problem)
        elif chunk.data and stream.client is not None:
            stream.client.tell(StreamCredit(stream.number, len(chunk.data)))

    def _drop(self, stream: Stream, chunk: StreamChunk) -> None:
        stream.dropped += chunk.offset - stream.offset
        own = stream.source.log_max_bytes
        stream.limit_bytes = min(own, chunk.limit_bytes) if own else chunk.limit_bytes
        if not stream.dropped_told:
            self._tell_dropped(stream)

    def _tell_dropped(self, stream: Stream) -> None:
        """Say what is missing in the middle: where it is met, and once more what came to it."""
        number = stream.dropped - stream.dropped_told
        if number:
            more = " more" if stream.dropped_told else ""
            text = f"{number} bytes{more} dropped (limit {size_words(stream.limit_bytes)})"
            where = f"task {stream.source.task.id}: {stream.name}"
            self._console.error_line(f"mesosctl: {where}: {text}")
            stream.dropped_told = stream.dropped

    def _refused(self, stream: Stream, refusal: Refusal) -> None:
        """The agent does not let us in (any more): ask the framework once more, then give up."""
        if stream.was_located:
            self._lose(stream, refusal.message)
            return
        stream.was_located = True
        task = stream.source.task
        try:
            ask = LocateLogs((task.id,), attempt_of(stream.source))
            found = self._cluster.ask(ask, LogSources).sources
        except MesosctlError as error:
            self._lose(stream, error.message)
            return
        if not found or found[0].problem:
            self._lose(stream, found[0].problem if found else refusal.message)
            return
        stream.source = found[0]
        self._start(stream)

    def _check(self) -> None:
        """Give up streams whose agent will not answer."""
        now = time.monotonic()
        for stream in list(self._open):
            if stream.client is None:
                continue
            try:
                stream.client.check(0.0)
            except MesosctlError as error:
                self._lose(stream, error.message)
                continue
            if not stream.follow and now - stream.heard > SILENT_S:
                self._lose(stream, f"its agent has been silent for {SILENT_S:g}s")

    def _lose(self, stream: Stream, why: str) -> None:
        self._end(stream)
        self.tell_missing(stream.source, why)

    def _end(self, stream: Stream) -> None:
        self._tell_dropped(stream)
        if stream.line:
            self._write(stream, bytes(stream.line) + (b"\n" if self.by_lines else b""))
            stream.line.clear()
        stream.is_over = True
        if stream in self._open:
            self._open.remove(stream)

    # --- printing ---------------------------------------------------------------------------------

    def _print(self, stream: Stream, data: bytes) -> None:
        if not self.by_lines:
            self._write(stream, data)
            return
        stream.line += data
        end = stream.line.rfind(b"\n") + 1
        if not end and len(stream.line) >= LINE_BYTES_MAX:
            stream.line += b"\n"
            end = len(stream.line)
        if end:
            whole = bytes(stream.line[:end])
            del stream.line[:end]
            self._write(stream, whole)

    def _write(self, stream: Stream, data: bytes) -> None:
        if self._tag:
            prefix = f"{stream.source.task.id}: ".encode()
            data = b"".join(prefix + line for line in data.splitlines(keepends=True))
        if stream.name == "stderr" and self._apart:
            _write_stderr(data)
        else:
            self._console.raw(data)


def attempt_of(source: LogSource) -> int | None:
    """The number of the attempt that a source means: the last part of its name on the wire."""
    number = source.wire_id.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def _write_stderr(data: bytes) -> None:
    try:
        sys.stderr.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    except (OSError, ValueError):
        # A stderr that is closed is no error, as everywhere.
        silence(sys.stderr)


def read_all(
    reader: LogReader,
    sources: tuple[LogSource, ...],
    names: tuple[str, ...],
    tail_lines: int,
) -> None:
    """Print these sources one after the other, as far as they are now."""
    for source in sources:
        if not source.address:
            reader.tell_missing(source, source.problem or "nobody knows where it is")
            continue
        for name in names:
            reader.add(source, name, False, tail_lines)
        while not reader.is_idle:
            reader.pump()
