"""Asking the master how what waits would fit, and keeping its answers for a while.

Rules:
- A request that shows reasons waits for the answer, not longer than FIT_ANSWER_S; so what a command
  prints is as of now, and a master that is away keeps nobody waiting.
- Watchers are told of reasons as well: while somebody watches what waits, the master is asked
  every FIT_REFRESH_S.
- So it is every HISTORY_LOOK_S while anything waits at all, for the history of reasons.
- What two tasks of one size are told is the same, so one question serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from itertools import islice

from mesosctl.core.batch.explaining import need_of
from mesosctl.core.batch.keys import HeldRequest
from mesosctl.core.batch.outlook import FIT_BELIEVED_S, KnownFit, Outlook
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import Job, Size
from mesosctl.core.batch.watching import Watches
from mesosctl.core.driver import FrameworkDriver
from mesosctl.core.machine import Effect, NewId, Now
from mesosctl.limits import HISTORY_LOOK_JOBS, HISTORY_LOOK_S
from mesosctl.model.fit import Fit
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.explain import HowFits

# A listing right after another one is told the same.
FIT_FRESH_S = 1.0
FIT_FRESH_EACH_S = 0.0002
FIT_ANSWER_S = 1.0
FIT_REFRESH_S = 5.0
# Most of what waits is alike; of the rest no answer is awaited.
SIZES_MAX = 20
QUESTIONS_MAX = 20


@dataclass(slots=True)
class _Question:
    sizes: list[Size]
    until: float
    held: list[HeldRequest] = field(default_factory=list)


def _fresh_s(known: KnownFit) -> float:
    """How long an answer counts as one of now: the more agents, the dearer is the next one."""
    return min(FIT_BELIEVED_S, max(FIT_FRESH_S, known.fit.agents * FIT_FRESH_EACH_S))


class Fitting:
    """Questions that are open, and the requests that wait for them."""

    def __init__(self, queue: Queue, outlook: Outlook, watches: Watches, new_id: NewId) -> None:
        self._queue = queue
        self._watches = watches
        self._outlook = outlook
        self._new_id = new_id
        self._open: dict[str, _Question] = {}
        self._refresh_at: float | None = None
        self._look_at: float | None = None

    def waiting(self) -> list[Job]:
        """A job of each size that waits, the first ones in order."""
        found: dict[Size, Job] = {}
        most = min(SIZES_MAX, len(self._queue.wanted))
        for job in self._queue.in_order() if most else ():
            found.setdefault(job.size, job)
            if len(found) == most:
                break
        return list(found.values())

    def hold(
        self, jobs: Iterable[Job], request: HeldRequest, driver: FrameworkDriver, now: Now
    ) -> list[Effect] | None:
        """Ask what is not known of these; None when a request need not wait for anything."""
        effects = self._ask(jobs, driver, now)
        if not effects:
            return None
        next(reversed(self._open.values())).held.append(request)
        return effects

    def _ask(self, jobs: Iterable[Job], driver: FrameworkDriver, now: Now) -> list[Effect]:
        known = self._outlook.fits
        stale = {
            job.size: job
            for job in jobs
            if job.size not in known or now.mono - known[job.size].at >= _fresh_s(known[job.size])
        }
        if not stale or not driver.is_registered or len(self._open) >= QUESTIONS_MAX:
            return []
        request = self._new_id()
        self._open[request] = _Question(list(stale), now.mono + FIT_ANSWER_S)
        return driver.ask(HowFits(request, tuple([need_of(job) for job in stale.values()])))

    def answered(self, request: str, fits: tuple[Fit, ...], now: Now) -> list[HeldRequest]:
        """The master said it; the requests that waited for that."""
        question = self._open.pop(request, None)
        if question is None:
            return []
        known = self._outlook.fits
        for size in [size for size, fit in known.items() if now.mono - fit.at > FIT_REFRESH_S * 3]:
            del known[size]
        before = {number: self._reason(number) for number in self._watched()}
        for size, fit in zip(question.sizes, fits, strict=False):
            known[size] = KnownFit(fit, now.mono)
        for number, reason in before.items():
            if self._reason(number) != reason:
                self._queue.touched.jobs[number] = None
        self._outlook.observe(self._first(question.sizes))
        return question.held

    def _first(self, sizes: list[Size] | None = None) -> list[Job]:
        """The first jobs in order that wait, of some sizes or of any."""
        first = islice(self._queue.in_order(), HISTORY_LOOK_JOBS)
        return [job for job in first if sizes is None or job.size in sizes]

    def look(self, driver: FrameworkDriver, now: Now) -> list[Effect]:
        """See what the first jobs wait for, if anything waits and it is time."""
        if not self._queue.wanted:
            self._look_at = None
            return []
        if self._look_at is None:
            # What starts at once needs no reason.
            self._look_at = now.mono + HISTORY_LOOK_S
        if now.mono < self._look_at:
            return []
        self._look_at = now.mono + HISTORY_LOOK_S
        effects = self._ask(self.waiting(), driver, now)
        if not effects:
            self._outlook.observe(self._first())
        return effects

    def _watched(self) -> list[int]:
        jobs = self._queue.jobs
        return [number for number in self._watches.jobs() if jobs[number].offered]

    def _reason(self, number: int) -> str:
        return self._outlook.reason(self._queue.jobs[number], None)[0]

    def expire(self, now: Now) -> list[HeldRequest]:
        """Give up questions that are not answered; the requests that waited for them."""
        over = [name for name, question in self._open.items() if now.mono >= question.until]
        return [request for name in over for request in self._open.pop(name).held]

    def refresh(self, driver: FrameworkDriver, now: Now) -> list[Effect]:
        """Ask again, if somebody watches something that waits and it is time."""
        since = self._outlook.wanted_since
        if since is None or not driver.is_registered or not self._watched():
            self._refresh_at = None
            return []
        if self._refresh_at is None:
            # What starts at once needs no reason.
            self._refresh_at = max(now.mono, since + FIT_FRESH_S)
        if now.mono < self._refresh_at:
            return []
        self._refresh_at = now.mono + FIT_REFRESH_S
        return self._ask(self.waiting(), driver, now)

    def deadline(self) -> float | None:
        """When `expire` or `refresh` has something to do."""
        times = [question.until for question in self._open.values()]
        times += [at for at in (self._refresh_at, self._look_at) if at is not None]
        return min(times, default=None)
