"""What live attempts hold on each agent."""

from __future__ import annotations

from mesosctl.core.batch.records import Job
from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass


@dataclass(slots=True)
class Held:
    """What our live attempts hold on one agent, in thousandths."""

    cpus_milli: int = 0
    mem_milli: int = 0
    tasks: int = 0


class Holdings(dict[AgentId, Held]):
    """By agent; those on which nothing of ours is under way are left out."""

    def enter(self, agent_id: AgentId, job: Job) -> None:
        """A task, or the first of a lane, is under way there."""
        held = self.setdefault(agent_id, Held())
        held.cpus_milli += job.cpus_milli
        held.mem_milli += job.mem_milli
        held.tasks += 1
        if job.spec.spread:
            job.spots[agent_id] = job.spots.get(agent_id, 0) + 1

    def leave(self, agent_id: AgentId, job: Job) -> None:
        """It is not any more."""
        held = self[agent_id]
        held.cpus_milli -= job.cpus_milli
        held.mem_milli -= job.mem_milli
        held.tasks -= 1
        if not held.tasks:
            del self[agent_id]
        if job.spec.spread:
            job.spots[agent_id] -= 1
            if not job.spots[agent_id]:
                del job.spots[agent_id]
