"""Why tasks wait: what we know ourselves, what the master said of their fit, what offers told us.

Rules: there is one order of causes, and the first of them is the reason in listings. A task that
waits always has one. What the master said is believed for FIT_BELIEVED_S.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from mesosctl.core.batch.fitwords import causes_of
from mesosctl.core.batch.history import Waits
from mesosctl.core.batch.placing import Agents
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import Job, Size, Task
from mesosctl.model.explanations import Cause
from mesosctl.model.fit import Fit
from mesosctl.model.records import dataclass

# So long after we asked for offers their absence says nothing yet.
OFFER_PATIENCE_S = 1.0
FIT_BELIEVED_S = 10.0


@dataclass(frozen=True, slots=True)
class KnownFit:
    """What the master said of a need, and when, in monotonic seconds."""

    fit: Fit
    at: float


@dataclass(frozen=True, slots=True)
class Drained:
    """Tasks of a job on agents that are emptied, and the earliest deadline, in wall time."""

    tasks: int = 0
    deadline: float | None = None

    def with_one(self, deadline: float | None) -> Drained:
        """The same with one task more."""
        known = [at for at in (self.deadline, deadline) if at is not None]
        return Drained(self.tasks + 1, min(known, default=None))


NOT_DRAINED = Drained()


@dataclass(slots=True)
class Outlook:
    """What pending tasks wait for, besides themselves."""

    agents: Agents
    queue: Queue
    is_registered: bool = False
    wanted_since: float | None = None
    now: float = 0.0
    wall: float = 0.0
    # Jobs with tasks on agents that are emptied; None: not counted since something changed.
    drained: dict[int, Drained] | None = None
    # What the master said of a need, and when it did, in monotonic seconds.
    fits: dict[Size, KnownFit] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)

    def drained_of(self, job: Job) -> Drained:
        """How many tasks of a job are on agents that are emptied."""
        if self.drained is None:
            self.drained = {}
            for other, task in self.queue.live_tasks() if self.agents.asked_back else ():
                drain = self.agents.drain_of(task.agent_id)
                if drain is not None:
                    known = self.drained.get(other.number, NOT_DRAINED)
                    self.drained[other.number] = known.with_one(drain.deadline)
        return self.drained.get(job.number, NOT_DRAINED)

    def reason(self, job: Job, task: Task | None) -> tuple[str, str]:
        """Why a pending task of this job is pending: a word of the table, and a sentence."""
        first = self.causes(job, task)[0]
        return first.reason, first.text

    def observe(self, jobs: Iterable[Job]) -> None:
        """Note what these wait for, as far as it is known."""
        for job in jobs:
            if job.ready() or job.delayed:
                self.waits.observe(job.number, self.wall, *self.reason(job, None))

    def fit_of(self, job: Job) -> Fit | None:
        """What the master said of late of the job's next task."""
        known = self.fits.get(job.size)
        is_old = known is None or self.now - known.at > FIT_BELIEVED_S or not self.is_registered
        return None if is_old or known is None else known.fit

    def causes(self, job: Job, task: Task | None) -> list[Cause]:
        """Everything that keeps a task of this job waiting, the first thing first."""
        found: list[Cause] = []
        if job.delayed and not (task.position in job.requeued if task else job.ready()):
            found.append(Cause("Backoff", "its last attempt was in vain; it is tried again soon"))
        if not self.is_registered:
            text = "the batch framework is not connected to the master"
            return [*found, Cause("NoFramework", text)]
        limit = job.spec.max_running
        if limit is not None and job.active >= limit:
            found.append(Cause("MaxRunning", f"{limit} tasks of the job are under way"))
        fit = self.fit_of(job)
        if fit is not None:
            return [*found, *causes_of(fit)]
        return found or [self._as_seen(job)]

    def _as_seen(self, job: Job) -> Cause:
        """What offers have told us, where the master has not been asked."""
        misfit = self.agents.misfit(job.cpus_milli, job.mem_milli)
        since = self.wanted_since
        if since is None or self.now - since < OFFER_PATIENCE_S:
            return Cause("OfferPending", "offers were just asked for")
        withheld = self.agents.held_back_for(job.cpus_milli, job.mem_milli)
        if withheld is not None:
            why = f" ({withheld.reason})" if withheld.reason else ""
            text = f"agent {withheld.name} is {withheld.mode}{why}, and no other fits"
            return Cause("Draining", text)
        if not self.agents.seen:
            return Cause("NoAgents", misfit)
        return Cause("Resources", misfit or "what it needs is in use, or is offered to others")
