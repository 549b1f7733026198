"""Whoever submits the jobs of a scenario to one framework, as `mesosctl submit` would.

Rules: each job is submitted when it arrives, those that come in turn when the one before has ended.
A framework that cannot take a job yet is asked again; one that will not is the scenario's fault.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mesosctl.core.machine import Effect, Event, NewId, Now
from mesosctl.errors import UsageError
from mesosctl.model.jobs import JobSpec
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import JobAccepted, SubmitJob
from mesosctl.protocol.messages.session import Refusal
from mesosctl.sim.visitor import Visitor

AGAIN_S = 1.0
HEARTBEAT_S = 1e9


@dataclass(frozen=True, slots=True)
class JobArrives(Event):
    """A job is to be submitted at `at_s`. `request` is its own."""

    at_s: float
    request: str
    job: JobSpec


class Submitter(Visitor):
    """The machine of one client; see the module."""

    def __init__(self, new_id: NewId) -> None:
        self._due: list[tuple[float, str, JobSpec]] = []
        # By the number of the message: what waits for an answer.
        self._asked: dict[int, tuple[str, JobSpec]] = {}
        super().__init__(new_id, HEARTBEAT_S)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        if isinstance(event, JobArrives):
            heappush(self._due, (event.at_s, event.request, event.job))
            return []
        return super().handle(event, now)

    def _lost(self, now: Now) -> list[Effect]:
        for request, job in self._asked.values():
            heappush(self._due, (now.mono, request, job))
        self._asked.clear()
        return []

    def _told(self, message: Message, now: Now) -> None:
        match message:
            case JobAccepted(re=re):
                self._asked.pop(re, None)
            case Refusal(re=re, code=code, message=text) if re in self._asked:
                request, job = self._asked.pop(re)
                if code != "unavailable":
                    raise UsageError(f"job {job.name} of the scenario is refused: {text}")
                heappush(self._due, (now.mono + AGAIN_S, request, job))
            case _:
                pass

    def settle(self, now: Now) -> list[Effect]:
        """Submit what has arrived."""
        effects: list[Effect] = []
        while self._session.is_open and self._due and self._due[0][0] <= now.mono:
            _, request, job = heappop(self._due)
            effects += self._session.send(SubmitJob(request, job))
            self._asked[self._session.sent] = (request, job)
        return effects

    def deadline(self) -> float | None:
        """The next arrival, or the session's own timer."""
        times = [self._session.deadline()]
        if self._session.is_open and self._due:
            times.append(self._due[0][0])
        return min((at for at in times if at is not None), default=None)

    def check(self) -> None:
        """Nothing is kept twice."""
