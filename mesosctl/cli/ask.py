"""How a command reaches the master, the batch framework and agents: found, asked, asked again.

Rules: the master is asked where the batch framework listens, then the framework is asked itself. A
framework that was restarted may listen elsewhere, so a request that it did not answer is repeated,
once, where the master says that it is now; requests that change something carry an id of their own.
Answers of a kind that was not asked for are a fault of the other side, never a traceback here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from mesosctl.errors import PeerError, Unreachable
from mesosctl.model.masters import is_zk, parse_zk
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.runtime.client import Client, Hub
from mesosctl.storage.keys import KeyFile, load_key

if TYPE_CHECKING:
    from mesosctl.cli.options import Globals

Answer = TypeVar("Answer", bound=Message)

FRAMEWORK_NAME = "batch"
# A framework that is started together with its master subscribes within this time.
STARTING_S = 5.0
ASK_AGAIN_S = 0.1
FIND_AGAIN_S = 2.0


def expect(reply: Message, kind: type[Answer]) -> Answer:
    """`reply`, which has to be of this kind. Raises PeerError."""
    if not isinstance(reply, kind):
        raise PeerError("unexpected", f"an answer of kind {reply.kind} came where none belongs")
    return reply


class Cluster:
    """The cluster that the options and the configuration name; a context manager.

    Connections are made when they are first needed. Raises Unreachable when no master is known,
    Refused when there is something wrong with the key file.
    """

    def __init__(self, found: Globals) -> None:
        endpoint = found.locate()
        self.masters = endpoint.master
        self.key: KeyFile = load_key(Path(endpoint.key_file))
        self.timeout_s = found.request_timeout
        self.hub = Hub()
        self._master: Client | None = None
        self._at = ""
        self._framework: Client | None = None
        self._where: tuple[str, str] = ("", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.close()

    # --- the master -------------------------------------------------------------------------------

    def ask_master(
        self, message: Message, kind: type[Answer], timeout_s: float | None = None
    ) -> Answer:
        """The leading master's answer, whichever of several that is. Raises as `request`."""
        master = self._master or self._meet_master(self._leader())
        try:
            return expect(master.request(message, timeout_s), kind)
        except Unreachable:
            if not is_zk(self.masters) or (leader := self._leader()) == self._at:
                raise
        # Another one leads by now.
        return expect(self._meet_master(leader).request(message, timeout_s), kind)

    def _leader(self) -> str:
        """Where to look for the leader: the list itself, or what ZooKeeper says."""
        if not is_zk(self.masters):
            return self.masters
        from mesosctl.runtime.zk_watch import find_leader

        return find_leader(parse_zk(self.masters), self.timeout_s)

    def _meet_master(self, address: str) -> Client:
        if self._master is not None:
            self._master.close()
        self._at = address
        self._master = self._connect(address, self.key.server_key, "the master")
        return self._master

    def _connect(self, address: str, server_key: str, name: str) -> Client:
        return self.hub.connect(
            address, self.key.pair, server_key, name=name, timeout_s=self.timeout_s
        )

    # --- the batch framework ----------------------------------------------------------------------

    def find_framework(self) -> tuple[str, str]:
        """Where the batch framework listens now, and its public key.

        One that is not there yet is waited for. Raises Unreachable.
        """
        until = time.monotonic() + min(STARTING_S, self.timeout_s)
        while True:
            try:
                found = self.ask_master(FindFramework(FRAMEWORK_NAME), FrameworkFound)
                return found.address, found.public_key
            except Unreachable:
                # The master itself would have to be there already.
                if self._master is None or not self._master.cluster or time.monotonic() >= until:
                    raise
            # Not a pause for its own sake: heartbeats are answered meanwhile.
            self.hub.wait(lambda: False, ASK_AGAIN_S)

    @property
    def framework(self) -> Client:
        """The conversation with the batch framework. Raises as `request`."""
        return self._framework or self._meet(self.find_framework())

    def _meet(self, where: tuple[str, str]) -> Client:
        if self._framework is not None:
            self._framework.close()
        self._where = where
        self._framework = self._connect(*where, "the batch framework")
        return self._framework

    def find_again(self) -> bool:
        """Whether the batch framework has moved; if so, `framework` is a new conversation.

        Never raises: where nobody can tell (for FIND_AGAIN_S at the most), it has not moved.
        """
        try:
            found = self.ask_master(FindFramework(FRAMEWORK_NAME), FrameworkFound, FIND_AGAIN_S)
            where = found.address, found.public_key
        except Unreachable:
            return False
        if where == self._where:
            return False
        self._meet(where)
        return True

    def ask(self, message: Message, kind: type[Answer], timeout_s: float | None = None) -> Answer:
        """The batch framework's answer. Raises UsageError, NotFound, Refused, Unreachable."""
        try:
            return expect(self.framework.request(message, timeout_s), kind)
        except Unreachable:
            if self._framework is None or not self.find_again():
                raise
        return expect(self.framework.request(message, timeout_s), kind)

    # --- agents -----------------------------------------------------------------------------------

    def agent(self, address: str, public_key: str, name: str) -> Client:
        """A conversation with an agent that has admitted our key."""
        return self._connect(address, public_key, f"agent {name}")
