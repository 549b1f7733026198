"""An isolator that gives each task numbered seats of a licensed program, for itself alone.

A task that has `seats:2` among its resources finds two numbers in SEATS, such as `0,3`. What is
not enforced is said, too: nothing keeps a program from taking a number that it was not given.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Additions, Isolator, Limits, Place
from mesosctl.isolation.claims import Claims

RESOURCE = "seats"
SEATS_MAX = 20
MILLI = 1000


class Seats(Isolator):
    """See the module. Who has which seat is on disk, so that it survives an executor."""

    name = "site/seats"
    not_enforced = ("a program may use a seat that it was not given (site/seats)",)

    def open(self, place: Place) -> None:
        """The seats of one agent are told apart below its directory."""
        if not place.state_dir:
            raise LimitUnavailable("site/seats needs a directory", "open it by an agent")
        self._claims = Claims(f"{place.state_dir}/seats", "seat")

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Take as many seats as the task asks for."""
        wanted = (limits.others or {}).get(RESOURCE, 0)
        if not wanted:
            return None
        if wanted % MILLI:
            raise LimitUnavailable("half a seat is no seat", "ask for whole ones")
        numbers = map(str, range(SEATS_MAX))
        return Additions(
            {"SEATS": ",".join(self._claims.take(container, numbers, wanted // MILLI))}
        )

    def cleanup(self, container: str) -> None:
        """The seats are free again."""
        self._claims.give_back(container)

    def recover(self) -> Sequence[str]:
        """Whoever held seats when everything stopped."""
        return self._claims.settled()
