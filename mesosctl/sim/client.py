"""A client of the batch framework that wants jobs done, and sometimes changes its mind.

Rules: a request is repeated under its id until it is answered, a kill until it is. It remembers
every id that it was ever told, so that a judge can see whether one request became two jobs.
"""

from __future__ import annotations

from mesosctl.core.machine import Effect, NewId, Now
from mesosctl.model.jobs import JobSpec
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import (
    JobAccepted,
    KillJobs,
    KillsBegun,
    SubmitJob,
)
from mesosctl.protocol.messages.session import Refusal
from mesosctl.sim.visitor import Visitor

REFUSED_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """A job that is wanted from `at_s` on, and maybe not any more `kill_after_s` later."""

    request_id: str
    job: JobSpec
    at_s: float = 0.0
    kill_after_s: float | None = None


class SimClient(Visitor):
    """The machine of the client. `accepted` maps a request to every job id it was answered with."""

    def __init__(self, wishes: list[Wish], accepted: dict[str, list[str]], new_id: NewId) -> None:
        self._accepted = accepted
        self._wishes = {wish.request_id: wish for wish in wishes}
        self._submit_at = {wish.request_id: wish.at_s for wish in wishes}
        self._kill_at: dict[str, float] = {}
        # By the number of the message, in the present session: what waits for an answer.
        self._submitted: dict[int, str] = {}
        self._killed: dict[int, str] = {}
        super().__init__(new_id)

    def _lost(self, now: Now) -> list[Effect]:
        for request in self._submitted.values():
            self._submit_at[request] = now.mono
        for job in self._killed.values():
            self._kill_at[job] = now.mono
        self._submitted.clear()
        self._killed.clear()
        return []

    def _told(self, message: Message, now: Now) -> None:
        match message:
            case JobAccepted(re=re, job_id=job_id):
                wish = self._wishes[self._submitted.pop(re)]
                self._accepted.setdefault(wish.request_id, []).append(job_id)
                if wish.kill_after_s is not None:
                    self._kill_at[job_id] = now.mono + wish.kill_after_s
            case KillsBegun(re=re):
                del self._killed[re]
            case Refusal(re=re) if re in self._submitted:
                self._submit_at[self._submitted.pop(re)] = now.mono + REFUSED_AGAIN_S
            case Refusal(re=re) if re in self._killed:
                self._kill_at[self._killed.pop(re)] = now.mono + REFUSED_AGAIN_S
            case _:
                pass

    def settle(self, now: Now) -> list[Effect]:
        """Ask for whatever is due."""
        effects: list[Effect] = []
        if not self._session.is_open:
            return effects
        for request in [name for name, at in self._submit_at.items() if at <= now.mono]:
            del self._submit_at[request]
            effects += self._session.send(SubmitJob(request, self._wishes[request].job))
            self._submitted[self._session.sent] = request
        for job in [job for job, at in self._kill_at.items() if at <= now.mono]:
            del self._kill_at[job]
            effects += self._session.send(KillJobs((job,)))
            self._killed[self._session.sent] = job
        return effects

    def deadline(self) -> float | None:
        """The session's next timer, or the next wish."""
        times = [self._session.deadline()]
        if self._session.is_open:
            times += [*self._submit_at.values(), *self._kill_at.values()]
        return min((at for at in times if at is not None), default=None)

    @property
    def is_content(self) -> bool:
        """Whether everything it ever wanted was answered."""
        return not (self._submit_at or self._kill_at or self._submitted or self._killed)

    def check(self) -> None:
        """Nothing is kept twice."""
