"""Tasks' output read and input written by clients, directly at the agent.

Rules:
- A key gets at exactly the tasks that it was admitted for. An admission runs out; what a connection
  has begun under it goes on.
- Never more bytes are under way to a reader than it granted, nor than STREAM_WINDOW_BYTES; one read
  of a file at a time for each stream.
- A followed stream ends when a read that began after the end of its task found nothing more.
- Input waits here until its task has been handed to its executor, and what the task did not take
  is kept: at most a window of it, sent again when the executor comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mesosctl.core.agent.effects import AllowKey, FileRead, ForgetKey, ReadFile
from mesosctl.core.agent.options import AgentOptions
from mesosctl.core.agent.stdin import StdinRelays
from mesosctl.core.agent.task import Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Now
from mesosctl.core.session import ServerSessions
from mesosctl.errors import require
from mesosctl.limits import ADMISSION_S, CHUNK_BYTES, STREAM_WINDOW_BYTES
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.agent import AdmitKey
from mesosctl.protocol.messages.streams import ReadStream, StreamChunk, StreamCredit, WriteStdin

NAMES = ("stdout", "stderr")
STREAMS_PER_PEER_MAX = 64
# Between two looks at a file that does not grow: at first, then doubling up to the maximum.
LOOK_FIRST_S = 0.005
LOOK_MAX_S = 0.05


@dataclass(slots=True)
class Reading:
    """One stream to one reader. `allowed`: bytes that may still be sent."""

    peer: str
    stream: int
    container: str
    name: str
    offset: int
    tail_lines: int
    follow: bool
    allowed: int
    # A read is under way; it began after the task had ended.
    busy: bool = False
    final: bool = False
    look_at: float | None = None
    look_s: float = LOOK_FIRST_S

    @property
    def token(self) -> str:
        """Names it to the shell."""
        return f"{self.peer}/{self.stream}"


class Streams:
    """All streams of an agent. `refuse(peer, code, text, hint)` makes the effects of a refusal."""

    def __init__(
        self,
        tasks: Tasks,
        sessions: ServerSessions,
        stdin: StdinRelays,
        refuse: Callable[[str, str, str, str], list[Effect]],
        agent_name: str,
        options: AgentOptions,
    ) -> None:
        self._tasks = tasks
        self._sessions = sessions
        self._stdin = stdin
        self._refuse = refuse
        self._agent_name = agent_name
        self._options = options
        # Key -> container -> until when.
        self._admitted: dict[str, dict[str, float]] = {}
        # Connection -> containers that it has used.
        self._used: dict[str, dict[str, None]] = {}
        self._readings: dict[str, Reading] = {}
        # Why a sandbox is not there any more.
        self.gone_text = ""

    def is_read(self, container: str) -> bool:
        """Whether somebody reads or follows a stream of this task right now."""
        return any(reading.container == container for reading in self._readings.values())

    # --- who may ----------------------------------------------------------------------------------
    def admit(self, message: AdmitKey, now: Now) -> list[Effect]:
        """Let a key at one task's streams for a while."""
        container = f"{message.framework_id}/{message.task_id}"
        until = now.mono + min(max(0.0, message.seconds), ADMISSION_S)
        known = self._admitted.setdefault(message.key, {})
        known[container] = max(until, known.get(container, until))
        return [AllowKey(message.key)]

    def _may(self, peer: str, container: str, now: Now) -> bool:
        used = self._used.setdefault(peer, {})
        if container in used:
            return True
        until = self._admitted.get(self._sessions.key(peer), {}).get(container)
        if until is None or until <= now.mono:
            return False
        used[container] = None
        return True

    def _refused(self, peer: str, container: str) -> list[Effect]:
        text = f"this key may not use the streams of task {container}"
        return self._refuse(peer, "not-permitted", text, "ask its framework again")

    # --- reading ----------------------------------------------------------------------------------
    def read(self, peer: str, message: ReadStream, now: Now) -> list[Effect]:
        """Begin a stream."""
        container = f"{message.framework_id}/{message.task_id}"
        if not self._may(peer, container, now):
            return self._refused(peer, container)
        token = f"{peer}/{message.stream}"
        if message.name not in NAMES or message.offset < 0 or token in self._readings:
            text = f"stream {message.stream}: a bad name, offset or number"
            return self._refuse(peer, "invalid", text, "")
        if self._count(peer) >= STREAMS_PER_PEER_MAX:
            text = f"at most {STREAMS_PER_PEER_MAX} streams at once"
            return self._refuse(peer, "unavailable", text, "end one before")
        elsewhere = self._elsewhere(self._tasks.get(container), message.name)
        if elsewhere:
            chunk = StreamChunk(message.stream, message.offset, b"", True, elsewhere)
            return self._sessions.send(peer, chunk)
        reading = Reading(
            peer,
            message.stream,
            container,
            message.name,
            message.offset,
            message.tail_lines,
            message.follow,
            min(max(0, message.credit), STREAM_WINDOW_BYTES),
        )
        self._readings[token] = reading
        return self._go_on(reading)

    def _count(self, peer: str) -> int:
        return sum(1 for reading in self._readings.values() if reading.peer == peer)

    def _elsewhere(self, task: Task | None, name: str) -> str:
        """Where this stream went instead of into the sandbox; empty when it is there."""
        if task is None:
            return ""
        command = task.entry.info.command
        place = command.stdout if name == "stdout" else command.stderr
        if place == "":
            return ""
        if place == "none":
            return f"{name} of this task was not kept"
        if place == "merge" and name == "stderr":
            return "stderr of this task went into its stdout"
        return f"{name} of this task went to {place[:300]} on agent {self._agent_name}"

    def credit(self, peer: str, message: StreamCredit) -> list[Effect]:
        """The reader took some: that much more may be sent."""
        reading = self._readings.get(f"{peer}/{message.stream}")
        if reading is None or message.taken <= 0:
            return []
        reading.allowed = min(reading.allowed + message.taken, STREAM_WINDOW_BYTES)
        return self._go_on(reading)

    def _has_ended(self, reading: Reading) -> bool:
        task = self._tasks.get(reading.container)
        return task is None or task.phase is Phase.ENDED

    def _go_on(self, reading: Reading) -> list[Effect]:
        if reading.busy or reading.allowed <= 0 or reading.look_at is not None:
            return []
        reading.busy, reading.final = True, self._has_ended(reading)
        return [
            ReadFile(
                reading.token,
                reading.container,
                reading.name,
                reading.offset,
                min(CHUNK_BYTES, reading.allowed),
                reading.tail_lines,
            )
        ]

    def file_read(self, event: FileRead, now: Now) -> list[Effect]:
        """Pass on what was read, and read on, look again later, or end."""
        reading = self._readings.get(event.token)
        if reading is None or not reading.busy:
            return []
        reading.busy = False
        if event.missing:
            return self._missing(reading, event.gone, now)
        if event.problem:
            return self._end(reading, b"", event.problem)
        # From now on the place is known, whether it was counted in lines or not.
        reading.offset, reading.tail_lines = event.offset, -1
        over = event.at_end and (reading.final or not reading.follow)
        if over:
            return self._end(reading, event.data, dropped=event.dropped)
        effects: list[Effect] = []
        if event.data:
            reading.allowed -= len(event.data)
            reading.look_s = LOOK_FIRST_S
            chunk = self._chunk(reading, event.data, event.dropped)
            reading.offset += len(event.data)
            effects += self._sessions.send(reading.peer, chunk)
        if event.at_end:
            self._look_later(reading, now)
        return effects + self._go_on(reading)

    def _missing(self, reading: Reading, gone: bool, now: Now) -> list[Effect]:
        removed = gone and self._tasks.get(reading.container) is None
        if reading.final or not reading.follow:
            text = "its sandbox is not there any more" if gone and reading.final else ""
            return self._end(reading, b"", self.gone_text if removed else text, removed)
        # It has not begun yet.
        self._look_later(reading, now)
        return []

    def _look_later(self, reading: Reading, now: Now) -> None:
        if self._has_ended(reading):
            return
        reading.look_at = now.mono + reading.look_s
        reading.look_s = min(reading.look_s * 2, LOOK_MAX_S)

    def _chunk(self, reading: Reading, data: bytes, dropped: int) -> StreamChunk:
        chunk = StreamChunk(reading.stream, reading.offset, data)
        if not dropped:
            return chunk
        task = self._tasks.get(reading.container)
        options = self._options
        limit = options.limit_of(task.entry.info.command) if task else options.log_max_bytes
        return replace(chunk, dropped=dropped, limit_bytes=limit)

    def _end(
        self,
        reading: Reading,
        data: bytes,
        problem: str = "",
        removed: bool = False,
        dropped: int = 0,
    ) -> list[Effect]:
        del self._readings[reading.token]
        chunk = replace(
            self._chunk(reading, data, dropped), eof=True, problem=problem[:500], removed=removed
        )
        return self._sessions.send(reading.peer, chunk)

    # --- writing ----------------------------------------------------------------------------------
    def write(self, peer: str, message: WriteStdin, now: Now) -> list[Effect]:
        """Input for a task, from a key that may."""
        container = f"{message.framework_id}/{message.task_id}"
        if not self._may(peer, container, now):
            return self._refused(peer, container)
        return self._stdin.write(peer, message)

    # --- what happens meanwhile -------------------------------------------------------------------
    def task_ended(self, container: str) -> list[Effect]:
        """Whoever follows it reads what is left."""
        effects: list[Effect] = []
        for reading in self._readings.values():
            if reading.container == container:
                reading.look_at = None
                effects += self._go_on(reading)
        return effects

    def peer_gone(self, peer: str) -> None:
        """Its streams end with its connection."""
        self._used.pop(peer, None)
        for token in [key for key, one in self._readings.items() if one.peer == peer]:
            del self._readings[token]
        self._stdin.peer_gone(peer)

    def tick(self, now: Now) -> list[Effect]:
        """Look at files that may have grown; forget admissions that ran out."""
        effects: list[Effect] = []
        for reading in self._readings.values():
            if reading.look_at is not None and reading.look_at <= now.mono:
                reading.look_at = None
                effects += self._go_on(reading)
        for key, containers in list(self._admitted.items()):
            for container in [name for name, until in containers.items() if until <= now.mono]:
                del containers[container]
            if not containers:
                del self._admitted[key]
                effects.append(ForgetKey(key))
        return effects

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        times = [one.look_at for one in self._readings.values() if one.look_at is not None]
        times += [until for known in self._admitted.values() for until in known.values()]
        return min(times, default=None)

    def check(self) -> None:
        """Raises InvariantBroken for a stream that nobody moves on."""
        for token, reading in self._readings.items():
            require(reading.token == token, f"stream {token} is entered under another name")
            moves = reading.busy or reading.look_at is not None or reading.allowed <= 0
            require(moves, f"stream {token} has stopped")
            require(0 <= reading.allowed <= STREAM_WINDOW_BYTES, f"stream {token} has no bound")
        for key, known in self._admitted.items():
            require(bool(known), f"key {key} is admitted to nothing")
