"""A real master that also takes several agents along one connection: for scale.py, with 50,000.

`python bench/scale_master.py master …` is `mesosctl master …`, but the key that this cluster was
started with speaks for any number of agents: what comes along one of its connections is told apart
by its session, and the master takes each session for a connection. A process here may hold 20,000
descriptors, so there is no other way to 50,000. Nothing of this is in mesosctl itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mesosctl.cli.main import run
from mesosctl.core.machine import Close, Effect, Event, Now, PeerLost, Received, Send
from mesosctl.core.master import MasterMachine
from mesosctl.protocol.messages.agent import RegisterAgent
from mesosctl.runtime import master_process


class ManyInOne(MasterMachine):
    """A master that tells agents apart by their sessions."""

    def __init__(self, **known: Any) -> None:
        super().__init__(**known)
        # By connection: the sessions of agents that were opened along it.
        self._sessions: dict[str, dict[str, None]] = {}

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """The same, with other names for the peers that are agents."""
        match event:
            case Received(peer=peer, envelope=envelope):
                known = self._sessions.get(peer)
                is_agent = isinstance(envelope.message, RegisterAgent)
                if is_agent and envelope.seq == 1:
                    known = self._sessions.setdefault(peer, {})
                    known[envelope.session] = None
                if known is not None:
                    event = replace(event, peer=f"{peer}/{envelope.session}")
                return self._outward(super().handle(event, now))
            case PeerLost(peer=peer) if peer in self._sessions:
                effects: list[Effect] = []
                for session in self._sessions.pop(peer):
                    effects += super().handle(PeerLost(f"{peer}/{session}"), now)
                return self._outward(effects)
            case _:
                return self._outward(super().handle(event, now))

    def settle(self, now: Now) -> list[Effect]:
        """The same."""
        return self._outward(super().settle(now))

    def _outward(self, effects: Sequence[Effect]) -> list[Effect]:
        outward: list[Effect] = []
        for effect in effects:
            match effect:
                case Send(peer=peer) if "/" in peer:
                    outward.append(replace(effect, peer=peer.partition("/")[0]))
                case Close(peer=peer) if "/" in peer:
                    connection, _, session = peer.partition("/")
                    self._sessions.get(connection, {}).pop(session, None)
                case _:
                    outward.append(effect)
        return outward


if __name__ == "__main__":
    master_process.MasterMachine = ManyInOne  # type: ignore[attr-defined]
    sys.exit(run(sys.argv[1:]))
