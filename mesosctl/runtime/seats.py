"""A master among several: it stands by until elected, leads until deposed, and stands by again.

Rules:
- Each time of standing by, and each time of leading, has a loop, sockets, a session with ZooKeeper
  and a machine of its own. Nothing of one is in the next, and no connection outlasts its loop.
- Whatever goes wrong with ZooKeeper while leading ends the leading, at once and without a word to
  anybody. A mistake of ours ends the process.
- All masters of a cluster have one key pair, made by the first of them and copied by the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mesosctl.core.machine import Event
from mesosctl.core.master.standby import StandbyMachine
from mesosctl.errors import InvariantBroken, Unreachable, UsageError
from mesosctl.model.masters import ZkPlace
from mesosctl.runtime.endpoints import parse_address
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.polling import hold_signals
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.runtime.zk_election import Contender, Identity, Seat, foreign
from mesosctl.runtime.zk_watch import cluster_exists
from mesosctl.runtime.zookeeper import ZkAway, require_kazoo
from mesosctl.storage.keys import KeyFile

DOMAIN = "master"
SERVER_KEY = "server.key"
_EVERYWHERE = ("0.0.0.0", "::", "*")  # noqa: S104 - recognised, not bound

Lead = Callable[[Seat, str], int]
Authorise = Callable[[Loop], None]


def check_place(place: ZkPlace, work_dir: Path, listen: str, advertise: str) -> None:
    """See that this master may stand there, before it makes a key. Raises MesosctlError."""
    require_kazoo()
    if not advertise and parse_address(listen)[0] in _EVERYWHERE:
        raise UsageError(
            f"{listen} is no address that the others could be told", "give --advertise HOST"
        )
    if (work_dir / SERVER_KEY).exists():
        return
    try:
        is_there = cluster_exists(place)
    except ZkAway as error:
        raise Unreachable(f"{error.message}, and this master has no key yet", error.hint) from None
    if is_there:
        raise foreign(place)


class Seats:
    """Takes turns; see the module. `authorise` makes a loop let known keys in."""

    def __init__(
        self, place: ZkPlace, own: KeyFile, name: str, listen: str, authorise: Authorise
    ) -> None:
        self._place = place
        self._own = own
        self._identity = Identity(own.pair.public, name, new_id())
        self._authorise = authorise
        self._listen = listen

    def run(self, lead: Lead) -> int:
        """Until it is told to stop; the exit code. `lead(seat, listen)` runs a leader's loop.

        Raises Refused when it does not belong to the cluster there, or cannot listen.
        """
        with hold_signals():
            while True:
                code, seat = self._stand_by()
                if seat is None:
                    return code
                try:
                    code = lead(seat, self._listen)
                    if code in (0, InvariantBroken.exit_code) or not is_over(seat):
                        return code
                finally:
                    seat.close()

    def _stand_by(self) -> tuple[int, Seat | None]:
        machine = StandbyMachine()
        loop = Loop(machine, role="master")
        self._authorise(loop)
        # Whoever looked for us at a port of the system's choice looks there again.
        self._listen = loop.bind(DOMAIN, ServerSpec(self._listen, self._own.pair, DOMAIN))
        loop.log("info", f"stands by at {self._listen} for {self._place}")

        def stop() -> Iterable[Event]:
            loop.abandon()
            return ()

        contender = Contender(
            self._place,
            self._identity,
            tell=loop.post,
            done=lambda: loop.call(stop),
            log=loop.log,
        )
        contender.start()
        code = loop.run()
        if contender.problem is not None:
            raise contender.problem
        if contender.seat is None or code:
            contender.close()
            return code, None
        return code, contender.seat


def is_over(seat: Seat) -> bool:
    """Whether leading ended because of ZooKeeper, rather than because somebody asked for it."""
    return bool(seat.fence.lost) or seat.store.is_failed
