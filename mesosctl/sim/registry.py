"""The registry that several masters of a simulated cluster share: a model of ZooKeeper's.

It follows runtime/zk_election.py and runtime/zk_store.py: sessions that end when nothing was heard
of them for ZK_SESSION_S, candidates of which the lowest may lead, an epoch that is raised by
compare-and-set, records that only the leader of the present epoch may write, and where it is.

Rules: the servers are one thing that never fails; what goes wrong is the way to them and back, and
the process that asks. What a request does it does in one piece, when it arrives; whether its answer
arrives is another question. So somebody may have done what it never learns that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from mesosctl.core.machine import Effect
from mesosctl.core.master.standby import LeaderIs, StandbyMachine
from mesosctl.limits import ZK_SESSION_S
from mesosctl.model.records import dataclass
from mesosctl.sim.disk import Disk, DiskFailed
from mesosctl.sim.node import Node

if TYPE_CHECKING:
    from mesosctl.sim.world import World

# An answer that does not come is given up after this.
AWAY_S = 0.5
DELAY_S = (0.0005, 0.02)
TOLD_S = (0.001, 0.2)


class Answer(StrEnum):
    """How a request to the registry ended."""

    DONE = "done"
    CONFLICT = "conflict"  # something that it relied on is not so any more
    EXPIRED = "expired"  # the session is over
    AWAY = "away"  # no answer: it was carried out or not


@dataclass(slots=True, eq=False)
class Session:
    """A session of a master, which is a candidate as long as it lives; `heard`: by the servers."""

    number: int
    node: Node
    heard: float
    alive: bool = True


class Registry:
    """See the module. `node` is its place in the network, where nobody lives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.node = Node(world, "registry", lambda node: StandbyMachine())
        self.epoch = 0
        self.leader = LeaderIs("")
        # Told of every change of the leader or the candidates.
        self.watchers: list[Callable[[], None]] = []
        self._owner: Session | None = None
        self._sessions: dict[int, Session] = {}
        self._numbers = 0

    def begin(self, node: Node) -> Session:
        """A session for this master, which is the last of the candidates."""
        self._numbers += 1
        session = Session(self._numbers, node, self._world.now.mono)
        self._sessions[session.number] = session
        self._expire_later(session)
        return session

    def end(self, session: Session) -> None:
        """A session is over: what it stood for is gone with it."""
        if not session.alive:
            return
        session.alive = False
        del self._sessions[session.number]
        self._world.note("registry", "ends", f"session {session.number} of {session.node.name}")
        if self._owner is session:
            self._owner, self.leader = None, LeaderIs("")
        self._changed()

    def _expire_later(self, session: Session) -> None:
        def look() -> None:
            if session.alive and self._world.now.mono >= session.heard + ZK_SESSION_S:
                self._world.struck("session expired", session.node.name)
                self.end(session)
            elif session.alive:
                self._expire_later(session)

        # A little late rather than early, as sums of floats are not exact.
        left_s = session.heard + ZK_SESSION_S - self._world.now.mono
        self._world.later(left_s + 1e-6, look)

    def is_lowest(self, session: Session) -> bool:
        """Whether this candidate may lead."""
        return session.alive and min(self._sessions) == session.number

    # --- what is asked of it ----------------------------------------------------------------------
    def raise_epoch(self, session: Session, seen: int) -> bool:
        """Begin to lead in the epoch after `seen`, unless somebody else did, or it is too late."""
        if not session.alive or self.epoch != seen:
            return False
        self.epoch += 1
        self._world.note("registry", "epoch", f"{self.epoch} of {session.node.name}")
        return True

    def announce(self, session: Session, epoch: int) -> bool:
        """Say where the leader of this epoch is."""
        if not self.is_of(epoch) or self._owner is not None:
            return False
        self._owner, self.leader = session, LeaderIs(session.node.name, "", epoch)
        self._changed()
        return True

    def is_of(self, epoch: int) -> bool:
        """Whether this is the present epoch: what every write of a leader is compared with."""
        return epoch == self.epoch

    def _changed(self) -> None:
        for tell in self.watchers:
            tell()

    # --- the way there and back -------------------------------------------------------------------
    def hears(self, node: Node) -> bool:
        """Whether what the node sends arrives."""
        return not self._world.wire.is_blocked(node, self.node)

    def reaches(self, node: Node) -> bool:
        """Whether the node gets what is sent to it."""
        return not self._world.wire.is_blocked(self.node, node)

    def ask(
        self, session: Session, deed: Callable[[], bool], then: Callable[[Answer], None]
    ) -> None:
        """Have `deed` done when the request arrives (False: a conflict), and `then` be told."""
        world, node = self._world, session.node

        def arrive() -> None:
            answer = Answer.EXPIRED
            if session.alive:
                session.heard = world.now.mono
                answer = Answer.DONE if deed() else Answer.CONFLICT
            if self.reaches(node):
                world.later(self._delay_s(), lambda: then(answer))
            else:
                world.later(AWAY_S, lambda: then(Answer.AWAY))

        if self.hears(node):
            world.later(self._delay_s(), arrive)
        else:
            world.later(AWAY_S, lambda: then(Answer.AWAY))

    def _delay_s(self) -> float:
        slowest_s = max(DELAY_S[1], self._world.faults.delay_max_s)
        return self._world.random.uniform(DELAY_S[0], slowest_s)


class SharedDisk(Disk):
    """The records of all masters as one of them reads and writes them.

    `may_write` says whether the servers take a transaction: True, False when it is done and nobody
    hears of it; raises DiskFailed when they do not. `first`: the disk whose records these are.
    """

    def __init__(self, may_write: Callable[[], bool], first: Disk | None) -> None:
        super().__init__()
        self._may_write = may_write
        if first is not None:
            self._tables = first._tables

    def write(self, kept: Iterable[Effect]) -> None:
        """Write one transaction. Raises DiskFailed, also when only the answer is missing."""
        if self.problem:
            raise DiskFailed(self.problem)
        is_told = self._may_write()
        super().write(kept)
        self.sync()
        if not is_told:
            raise DiskFailed("silent")

    def cut_power(self) -> None:
        """What the servers have taken they keep."""
