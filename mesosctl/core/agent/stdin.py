"""Standard input on its way from a client to a task's executor.

Rules: offsets count from the first byte. What the task has not taken is kept here, never more than
a window; a gap or an excess is not taken but answered with how far we are, and the client sends
again from there. Input for a task that reads none, or has ended, is answered as closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import field, replace

from mesosctl.core.agent.task import Phase, Task
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect
from mesosctl.core.session import ServerSessions
from mesosctl.errors import require
from mesosctl.limits import CHUNK_BYTES, STREAM_WINDOW_BYTES
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.streams import StdinTaken, WriteStdin


@dataclass(slots=True)
class Relay:
    """The input of one task: the task took all below `taken`, all below `end` came here."""

    peer: str
    taken: int
    end: int
    parts: deque[WriteStdin] = field(default_factory=deque)
    ended: bool = False

    def forget_taken(self) -> None:
        """Drop what the task has; a part that it has some of is kept whole."""
        while self.parts:
            first = self.parts[0]
            if first.offset + len(first.data) > self.taken or first.eof:
                return
            self.parts.popleft()


class StdinRelays:
    """All relays. `to_executor(framework, message)` sends to its executor if it is here."""

    def __init__(
        self,
        tasks: Tasks,
        sessions: ServerSessions,
        to_executor: Callable[[FrameworkId, Message], list[Effect]],
    ) -> None:
        self._tasks = tasks
        self._sessions = sessions
        self._to_executor = to_executor
        self._relays: dict[str, Relay] = {}

    def write(self, peer: str, message: WriteStdin) -> list[Effect]:
        """Keep a part of the input, and pass it on when its task is where it can be."""
        container = f"{message.framework_id}/{message.task_id}"
        task = self._tasks.get(container)
        if task is None or task.phase is Phase.ENDED or task.entry.info.command.stdin != "stream":
            return self._tell(peer, message.framework_id, message.task_id, message.offset, True)
        relay = self._relays.get(container)
        if relay is None:
            # After a restart of ours the client knows how far its input got, and we do not.
            relay = self._relays[container] = Relay(peer, message.offset, message.offset)
        relay.peer = peer
        skip = relay.end - message.offset
        room = STREAM_WINDOW_BYTES - (relay.end - relay.taken)
        fresh = len(message.data) - skip
        if message.offset < 0 or skip < 0 or fresh < 0 or fresh > room or relay.ended:
            return self._tell(peer, message.framework_id, message.task_id, relay.taken, False)
        if not fresh and not message.eof:
            return []
        part = replace(message, offset=relay.end, data=message.data[skip:])
        last = relay.parts[-1] if relay.parts else None
        if last is not None and len(last.data) + fresh <= CHUNK_BYTES:
            # Many small parts would cost far more than the bytes that they carry.
            relay.parts[-1] = replace(last, data=last.data + part.data, eof=part.eof)
        else:
            relay.parts.append(part)
        relay.end += fresh
        relay.ended = message.eof
        return self._to_executor(part.framework_id, part) if task.phase is Phase.SENT else []

    def _tell(
        self, peer: str, framework_id: FrameworkId, task_id: TaskId, offset: int, closed: bool
    ) -> list[Effect]:
        return self._sessions.send(peer, StdinTaken(framework_id, task_id, offset, closed))

    def taken(self, message: StdinTaken) -> list[Effect]:
        """An executor says how far a task's input is: make room, and tell the writer."""
        container = f"{message.framework_id}/{message.task_id}"
        relay = self._relays.get(container)
        if relay is None:
            return []
        relay.taken = min(max(relay.taken, message.offset), relay.end)
        relay.forget_taken()
        if message.closed:
            del self._relays[container]
        return self._sessions.send(relay.peer, message)

    def send_again(self, task: Task) -> list[Effect]:
        """The task's executor has just been told of it, or is back: give it what it lacks."""
        relay = self._relays.get(task.container)
        effects: list[Effect] = []
        for part in relay.parts if relay is not None else ():
            effects += self._to_executor(part.framework_id, part)
        return effects

    def task_ended(self, container: str) -> list[Effect]:
        """It reads no more."""
        relay = self._relays.pop(container, None)
        if relay is None:
            return []
        framework_id, _, task_id = container.partition("/")
        return self._tell(relay.peer, FrameworkId(framework_id), TaskId(task_id), relay.taken, True)

    def peer_gone(self, peer: str) -> None:
        """Nobody is left to be told; what came is still given to the task."""
        for relay in self._relays.values():
            if relay.peer == peer:
                relay.peer = ""

    def check(self) -> None:
        """Raises InvariantBroken where more is kept than a window, or parts do not join."""
        for container, relay in self._relays.items():
            require(relay.end - relay.taken <= STREAM_WINDOW_BYTES, f"{container}: too much input")
            if relay.parts:
                last = relay.parts[-1]
                ends = last.offset + len(last.data)
                require(ends == relay.end, f"{container}: input does not join")
