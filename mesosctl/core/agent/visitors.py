"""The clients that read and write the streams of tasks: their sessions, and what they may say.

Rules: a visitor gets only at what its key was admitted for (core/agent/streams.py); what it sends
beside that is refused, and nothing else happens.
"""

from __future__ import annotations

from mesosctl.core.agent.streams import Streams
from mesosctl.core.machine import Effect, Now, Received
from mesosctl.core.session import ServerSessions
from mesosctl.protocol.messages.session import Bye, Refusal
from mesosctl.protocol.messages.streams import ReadStream, StreamCredit, WriteStdin


class Visitors:
    """The agent's side of its data socket."""

    def __init__(self, sessions: ServerSessions, streams: Streams) -> None:
        self._sessions = sessions
        self._streams = streams

    def receive(self, event: Received, now: Now) -> list[Effect]:
        """Take an envelope from a client."""
        peer = event.peer
        message, effects = self._sessions.receive(event, now)
        if peer not in self._sessions:
            self._streams.peer_gone(peer)
        match message:
            case None | Bye():
                return effects
            case ReadStream():
                return effects + self._streams.read(peer, message, now)
            case StreamCredit():
                return effects + self._streams.credit(peer, message)
            case WriteStdin():
                return effects + self._streams.write(peer, message, now)
            case _:
                text = f"the agent takes no {message.kind} here"
                return effects + refuse(self._sessions, peer, "unknown-kind", text, "")

    def drop(self, peer: str) -> None:
        """The connection of a client is gone."""
        self._sessions.drop(peer)
        self._streams.peer_gone(peer)

    def expire(self, now: Now) -> None:
        """Give up on those that fell silent."""
        for peer, _ in self._sessions.expire(now):
            self._streams.peer_gone(peer)


def refuse(sessions: ServerSessions, peer: str, code: str, text: str, hint: str) -> list[Effect]:
    """Answer the last message of a client with a refusal."""
    return sessions.send(peer, Refusal(sessions.answered(peer), code, text[:500], hint))
