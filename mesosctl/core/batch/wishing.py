"""What the master is asked for: how much, and on which agents; and when that is worth telling.

Rules:
- Offers are wanted exactly while something could be started.
- One size of tasks is told exactly, with how many there are; of several sizes nothing is told,
  because an offer cut to one size may hold none of the others.
- Agents are named as long as every task that waits is choosy: what any of them could use counts.
- A master that preempts is told what is served first, job by job, exactly: for that others may end.
  It believes nothing of it once we have launched anything, so it is told again then.
"""

from __future__ import annotations

from itertools import islice

from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import Queue
from mesosctl.core.driver import FrameworkDriver
from mesosctl.core.machine import Effect, Now
from mesosctl.limits import WAITING_COUNT_MAX, WAITING_MAX, WHERE_AGENTS_MAX, WHERES_MAX
from mesosctl.model.cluster import Demand, Waiting
from mesosctl.model.constraints import ANYWHERE, Where
from mesosctl.model.records import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether offers are wanted, and for what: no demand when the tasks are of several sizes.

    `where`: on which agents; empty when some task may run on every one.
    """

    is_wanted: bool = False
    demand: Demand | None = None
    where: tuple[Where, ...] = ()


def wish(queue: Queue) -> Wish:
    """What the master is to be asked for."""
    wanted = queue.wanted
    if not wanted:
        return Wish()
    sizes = {size[:3] for size in wanted} if len(wanted) <= WHERES_MAX else None
    present = None
    if sizes is not None and len(sizes) == 1:
        present = Demand(queue.head().resources, sum(wanted.values()))
    return Wish(True, present, _wheres(queue))


def _wheres(queue: Queue) -> tuple[Where, ...]:
    if len(queue.wanted) > WHERES_MAX:
        return ()
    found: dict[Where, None] = {}
    for size in queue.wanted:
        if not size.constraint and not size.apart:
            return ()
        spots = queue.jobs[size.apart].spots if size.apart else ()
        where = Where(size.constraint, tuple(sorted(spots))[:WHERE_AGENTS_MAX])
        if where == ANYWHERE:
            return ()
        found[where] = None
    return tuple(sorted(found, key=lambda where: (where.constraint, where.not_on)))


def pressing(queue: Queue) -> tuple[Waiting, ...]:
    """The tasks that are served first, as many as are told of."""
    found = []
    for job in islice(queue.in_order(), WAITING_MAX):
        where = Where(job.spec.constraint, tuple(sorted(job.spots))[:WHERE_AGENTS_MAX])
        # Of tasks that keep apart the second one may not be where the first one will be.
        count = 1 if job.spec.spread else min(job.room(), WAITING_COUNT_MAX)
        place = None if where == ANYWHERE else where
        found.append(Waiting(job.resources, count, job.spec.priority, place))
    return tuple(found)


def is_news(told: Demand | None, present: Demand | None) -> bool:
    """Whether a demand differs so much from what the master was told that it is worth telling."""
    if told is None or present is None:
        return told is not present
    if told.task != present.task:
        return True
    return present.count > told.count or present.count * 2 < told.count


class Wishing:
    """What the master was told, and what it has yet to be told."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.told = wish(queue)
        self._unheard = False
        # What the master believes to wait, of which a launch is left out.
        self.pressed: tuple[Waiting, ...] = ()
        self.has_launched = False

    def state(
        self, driver: FrameworkDriver, outlook: Outlook, is_new: bool, now: Now
    ) -> list[Effect]:
        """Tell the master what is wanted if that is news. `is_new`: there are new jobs."""
        present = wish(self._queue)
        unheard = self._unheard and driver.is_registered
        if not present.is_wanted:
            was, self.told = self.told.is_wanted, present
            outlook.wanted_since = None
            return self._tell(driver.suppress()) if was or unheard else []
        if self.told.is_wanted and not unheard and not self._is_worth_telling(present, is_new):
            return []
        self.told = present
        if outlook.wanted_since is None:
            outlook.wanted_since = now.mono
        return self._tell(driver.revive(present.demand, present.where))

    def press(self, driver: FrameworkDriver) -> list[Effect]:
        """Tell a master that preempts what waits first, if that is news."""
        launched, self.has_launched = self.has_launched, False
        if not driver.preempts or not driver.is_registered:
            return []
        present = pressing(self._queue)
        if present == self.pressed and not (launched and present):
            return []
        self.pressed = present
        return driver.state_waiting(present)

    def _tell(self, effects: list[Effect]) -> list[Effect]:
        # What changes while a subscription is under way is in no message of it: told afterwards.
        self._unheard = not effects
        return effects

    def _is_worth_telling(self, present: Wish, is_new: bool) -> bool:
        if is_news(self.told.demand, present.demand) or present.where != self.told.where:
            return True
        # Of several sizes the master is told nothing, but a new job may be of one that fits into
        # what was refused.
        return present.demand is None and is_new
