"""Where the leader is, for all who look for it in ZooKeeper.

    /leader      ephemeral: address, cluster, key and epoch of who leads
    /cluster     what the masters of this place have in common

Rules: whoever watches keeps what it was told last while ZooKeeper is away, for the leader may still
be there. What a node holds is a place to try, never a proof: the server key is checked as anywhere.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from mesosctl.core.master.standby import LeaderIs
from mesosctl.errors import MesosctlError, Unreachable
from mesosctl.limits import ZK_SESSION_S, ZK_WATCH_LOOK_S, ZK_WATCH_SESSION_S
from mesosctl.model.masters import ZkPlace
from mesosctl.runtime.zookeeper import ZkSession

CLUSTER, LEADER = "/cluster", "/leader"
CONNECT_S = 5.0
AGAIN_S = 0.2

Log = Callable[[str, str], None]


def table_of(value: bytes) -> dict[str, str]:
    """The fields of a node of ours, as text; empty when it is none."""
    try:
        found = json.loads(value)
        return {str(name): str(content) for name, content in found.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def leader_in(session: ZkSession, watch: Callable[[object], None] | None = None) -> LeaderIs:
    """Who leads. Raises ZkAway, ZkExpired, ZkConflict."""
    found = session.get(LEADER, watch)
    table = table_of(found[0]) if found is not None else {}
    epoch = table.get("epoch", "")
    return LeaderIs(
        table.get("address", ""), table.get("cluster", ""), int(epoch) if epoch.isdigit() else 0
    )


def cluster_exists(place: ZkPlace, limit_s: float = CONNECT_S) -> bool:
    """Whether there is a cluster at this place already. Raises ZkAway."""
    session = ZkSession(place)
    session.start(limit_s)
    try:
        return session.get(CLUSTER) is not None
    finally:
        session.close()


def find_leader(place: ZkPlace, limit_s: float) -> str:
    """The leader's address. Raises Unreachable when there is none, or nobody who would know."""
    until = time.monotonic() + limit_s
    session = ZkSession(place, ZK_SESSION_S)
    session.start(limit_s)
    try:
        while not (address := leader_in(session).address):
            if time.monotonic() >= until:
                raise Unreachable(
                    f"no master leads at {place}", "is one running? is it another path?"
                )
            time.sleep(AGAIN_S)
        return address
    finally:
        session.close()


class LeaderWatch:
    """A thread that tells the leader's address, and each change of it; empty: nobody leads."""

    def __init__(self, place: ZkPlace, tell: Callable[[str], None], log: Log) -> None:
        self._place, self._tell, self._log = place, tell, log
        self._wake = threading.Event()
        self._closing = False
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name="zk-watch", daemon=True)

    def start(self) -> None:
        """Begin. `tell` is called in that thread."""
        self._thread.start()

    def close(self) -> None:
        """End; does not wait for the thread."""
        self._closing = True
        self._wake.set()

    def _run(self) -> None:
        problem = ""
        while not self._closing:
            try:
                session = ZkSession(self._place, ZK_WATCH_SESSION_S)
                session.start(CONNECT_S)
                problem = ""
                try:
                    self._watch(session)
                finally:
                    session.close()
            except MesosctlError as error:
                # Who led may still lead: nothing is told but to whoever reads the log.
                if str(error) != problem:
                    problem = str(error)
                    self._log("warning", problem)
                self._wake.wait(AGAIN_S)

    def _watch(self, session: ZkSession) -> None:
        session.on_lost(self._wake.set)
        session.on_return(self._wake.set)
        while not self._closing:
            self._wake.clear()
            address = leader_in(session, self._changed).address
            if address != self._said:
                self._said = address
                self._log("info", f"the leader is {address}" if address else "no master leads")
                self._tell(address)
            self._wake.wait(ZK_WATCH_LOOK_S)

    def _changed(self, _: object) -> None:
        self._wake.set()
