"""An agent that is kept for a large task among small ones of the same queue.

Owns which agent that is, for which job, and until when. Rules:
- It is for the first job in the queue's order that fits into no offer, and one of the offered
  agents on which it would fit if all that we run there had ended. What comes behind that job is not
  started there; what comes before it is. What is offered of the agent is declined as ever: an offer
  that has grown comes again.
- One agent at a time. It ends when the job starts a task, wherever, or has none to start, and after
  GATHER_S. A job for which that was in vain is kept nothing again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Protocol

from mesosctl.core.batch.records import Job
from mesosctl.limits import GATHER_S
from mesosctl.model.ids import AgentId


class Room(Protocol):
    """What an agent has, in thousandths, whoever uses it."""

    cpus_milli: int
    mem_milli: int


class Offered(Protocol):
    """What is left of an offer."""

    cpus_milli: int

    @property
    def agent_id(self) -> AgentId:
        """Whose it is."""
        ...

    def has(self, job: Job) -> bool:
        """Whether it is one for this job, be it large enough or not."""
        ...


class Keeping:
    """The agent that is kept, if one is. Times in monotonic seconds."""

    def __init__(self, seen: Mapping[AgentId, Room], withheld: Container[AgentId]) -> None:
        self._seen = seen
        self._withheld = withheld
        self._job = 0
        self._agent: AgentId | None = None
        self._until = 0.0
        # Jobs for which it was in vain, as long as they are in the queue.
        self._in_vain: dict[int, None] = {}

    def look(self, jobs: Mapping[int, Job], mono: float) -> None:
        """Keep nothing any more for what needs it no more, or had it for too long."""
        self._in_vain = {number: None for number in self._in_vain if number in jobs}
        job = jobs.get(self._job)
        if job is None or not job.room():
            self._agent, self._job = None, 0
        elif mono >= self._until:
            self._in_vain[self._job] = None
            self._agent, self._job = None, 0

    def kept_from(self, job: Job) -> AgentId | None:
        """The agent that whatever comes behind this job is kept from."""
        return self._agent if job.number == self._job else None

    def placed(self, job: Job, started: bool, slots: Iterable[Offered], mono: float) -> None:
        """A job was tried, and did not fit with all that it wants to start now."""
        if started:
            # Its tasks are not too large for what is offered; it goes on when more is.
            if job.number == self._job:
                self._agent, self._job = None, 0
            return
        if self._agent is not None or job.number in self._in_vain:
            return
        best: Offered | None = None
        for slot in slots:
            large = self._is_large_enough(slot.agent_id, job) and slot.has(job)
            if large and (best is None or slot.cpus_milli > best.cpus_milli):
                best = slot
        if best is not None:
            self._agent, self._job, self._until = best.agent_id, job.number, mono + GATHER_S

    def _is_large_enough(self, agent_id: AgentId, job: Job) -> bool:
        room = self._seen.get(agent_id)
        return (
            room is not None
            and agent_id not in self._withheld
            and room.cpus_milli >= job.cpus_milli
            and room.mem_milli >= job.mem_milli
        )
