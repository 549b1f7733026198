"""Who leads among several masters: candidates in ZooKeeper, and what a leader holds.

    /cluster                 the cluster's id and its server key; made once, compared ever after
    /candidates/m-<number>   ephemeral, one a master; the lowest leads
    /epoch                   how often anybody has begun to lead, raised by compare-and-set
    /leader                  ephemeral: address, cluster, key and epoch of who leads

Rules:
- A candidate that finds itself the lowest raises the epoch in a transaction that also proves that
  its session lives, and only then reads the registry: what an older leader still writes fails.
- A leader has its fence (core/master/fence.py) confirmed every second by a transaction that proves
  that epoch and session are still its own. Reads are no proof: one server answers them alone.
- What is lost is lost: a session, a fence and a seat are never mended but made anew.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from mesosctl.core.master.fence import Deposed, Fence
from mesosctl.core.master.standby import LeaderIs
from mesosctl.errors import MesosctlError, Refused
from mesosctl.limits import ZK_LOOK_S, ZK_PULSE_S
from mesosctl.model.masters import ZkPlace
from mesosctl.model.records import dataclass
from mesosctl.runtime.zk_store import EPOCH, REGISTRY, ZkStore
from mesosctl.runtime.zk_watch import AGAIN_S, CLUSTER, CONNECT_S, LEADER, leader_in, table_of
from mesosctl.runtime.zookeeper import Transaction, ZkAway, ZkConflict, ZkExpired, ZkSession

CANDIDATES = "/candidates"
Log = Callable[[str, str], None]
_PASSING = (ZkAway, ZkExpired, ZkConflict)


def boottime() -> float:
    """Seconds on a clock that also counts what the host slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Seat:
    """What a master holds that leads: session, fence, epoch and registry. Made by a Contender."""

    def __init__(self, session: ZkSession, candidate: str, cluster: str) -> None:
        self.session = session
        self.cluster = cluster
        self.epoch = 0
        self.fence = Fence(session.timeout_s, boottime)
        self._candidate = f"{CANDIDATES}/{candidate}"
        self._epoch_version = 0
        self._store: ZkStore | None = None
        self._closing = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._pulse = threading.Thread(target=self._keep, name="zk-pulse", daemon=True)

    @property
    def place(self) -> ZkPlace:
        """Where in ZooKeeper."""
        return self.session.place

    @property
    def store(self) -> ZkStore:
        """The registry, read when the seat was taken."""
        if self._store is None:
            raise Deposed("this master does not lead yet")
        return self._store

    def take(self) -> None:
        """Raise the epoch and read the registry. Raises ZkAway, ZkExpired, ZkConflict, Refused."""
        session = self.session
        session.ensure(REGISTRY)
        found = session.get(EPOCH)
        if found is None:
            session.commit(Transaction().create(EPOCH, b"0"), session.timeout_s)
            found = (b"0", 0)
        text, version = found
        if not text.isdigit():
            raise Refused(f"{session.place}{EPOCH} holds no number", "restore it, or choose a path")
        self.epoch, self._epoch_version = int(text) + 1, version + 1
        begun = self.fence.begin()
        transaction = Transaction().check(self._candidate, 0)
        transaction.set(EPOCH, str(self.epoch).encode("ascii"), version)
        session.commit(transaction, self.fence.left_s())
        self.fence.confirm(begun)
        session.on_lost(self._session_lost)
        self._pulse.start()
        self._store = ZkStore(session, self._epoch_version, self.fence)

    def announce(self, address: str, public_key: str) -> None:
        """Tell everybody where the leader is. Raises ZkAway, ZkExpired, ZkConflict."""
        value = {
            "address": address,
            "cluster": self.cluster,
            "key": public_key,
            "epoch": self.epoch,
        }
        transaction = Transaction().check(EPOCH, self._epoch_version)
        transaction.create(LEADER, json.dumps(value).encode(), ephemeral=True)
        self.session.commit(transaction, self.fence.left_s())

    def on_deposed(self, wake: Callable[[], None]) -> None:
        """Call this, from any thread, as soon as the fence is lost."""
        self._wake = wake
        if self.fence.lost:
            wake()

    def _session_lost(self) -> None:
        self.fence.lose("its session with ZooKeeper is over")
        self._wake()

    def _keep(self) -> None:
        """Have the fence confirmed again and again, until it is lost."""
        wait_s = ZK_PULSE_S
        while not self._closing.wait(wait_s):
            wait_s = ZK_PULSE_S
            proof = Transaction().check(EPOCH, self._epoch_version).check(self._candidate, 0)
            try:
                begun = self.fence.begin()
                self.session.commit(proof, self.fence.left_s())
                self.fence.confirm(begun)
            except ZkAway:
                # The connection may come back, to another server, before the time is over.
                wait_s = AGAIN_S
            except ZkConflict:
                self.fence.lose("another master has taken over")
            except MesosctlError as error:
                self.fence.lose(str(error))
            if self.fence.lost:
                self._wake()
                return

    def close(self) -> None:
        """Give the seat up: whoever is next takes over at once. Idempotent."""
        self._closing.set()
        self.fence.lose("it gave its seat up")
        if self._store is not None:
            self._store.close()
        self.session.close()


@dataclass(frozen=True, slots=True)
class Identity:
    """What all masters of a cluster have in common. `cluster`: the id for one that is new."""

    public_key: str
    name: str
    cluster: str


class Contender:
    """A thread that stands as a candidate until it has the seat, or a problem that stays."""

    def __init__(
        self,
        place: ZkPlace,
        identity: Identity,
        *,
        tell: Callable[[LeaderIs], None],
        done: Callable[[], None],
        log: Log,
    ) -> None:
        self.seat: Seat | None = None
        self.problem: MesosctlError | None = None
        self._place, self._identity = place, identity
        self._tell, self._done, self._log = tell, done, log
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zk-candidate", daemon=True)

    def start(self) -> None:
        """Begin; `done` is called, in that thread, when `seat` or `problem` is there."""
        self._thread.start()

    def close(self) -> None:
        """Stand no longer, and give up a seat that nobody asked for."""
        self._closing = True
        self._wake.set()
        # One that still waits for a connection has nothing to give up.
        self._thread.join(1.0)
        if self.seat is not None:
            self.seat.close()

    def _run(self) -> None:
        said = ""
        while not self._closing:
            session: ZkSession | None = None
            try:
                session = ZkSession(self._place)
                session.start(CONNECT_S)
                said = ""
                seat = self._contend(session)
            except _PASSING as error:
                if str(error) != said:
                    said = str(error)
                    self._log("warning", said)
                self._tell(LeaderIs(""))
                if session is not None:
                    session.close()
                self._wake.wait(AGAIN_S)
                continue
            except MesosctlError as error:
                self.problem = error
                if session is not None:
                    session.close()
            else:
                if seat is None or self._closing:
                    (seat or session).close()
                    return
                self.seat = seat
            self._done()
            return

    def _contend(self, session: ZkSession) -> Seat | None:
        cluster = self._cluster(session)
        session.on_lost(self._wake.set)
        session.on_return(self._wake.set)
        mine = session.create_sequential(f"{CANDIDATES}/m-", b"")
        while not self._closing:
            self._wake.clear()
            names = session.children(CANDIDATES, self._changed)
            if mine not in names:
                raise ZkExpired("ZooKeeper ended the session")
            if names[0] == mine:
                seat = Seat(session, mine, cluster)
                try:
                    seat.take()
                except BaseException:
                    seat.close()
                    raise
                return seat
            self._tell(leader_in(session, self._changed))
            self._wake.wait(ZK_LOOK_S)
        return None

    def _changed(self, _: object) -> None:
        self._wake.set()

    def _cluster(self, session: ZkSession) -> str:
        """The cluster's id. Raises Refused when it is another cluster than ours."""
        own = self._identity
        found = session.get(CLUSTER)
        if found is None:
            value = {"cluster": own.cluster, "key": own.public_key, "name": own.name, "form": 1}
            making = Transaction().create(CLUSTER, json.dumps(value).encode())
            session.commit(making, session.timeout_s)
            return own.cluster
        table = table_of(found[0])
        if table.get("form") != "1" or not table.get("cluster"):
            raise Refused(
                f"{session.place}{CLUSTER} is of no form that this mesosctl knows",
                "start the mesosctl that wrote it, or choose another path",
            )
        if table.get("key") != own.public_key:
            raise foreign(session.place)
        return table["cluster"]


def foreign(place: ZkPlace) -> Refused:
    """The masters of one cluster have one key, and this one has another, or none."""
    return Refused(
        f"the cluster at {place} has another server key than this master",
        "copy server.key and authorized_keys.toml from a master of it into this --work-dir,"
        " or choose another path",
    )
