"""Which tasks go into which offers; what the offers have told of agents.

Rules:
- Jobs are served in the queue's order; a job that does not fit does not stop those behind it, but
  on the agent that is kept for it (core/batch/keeping.py).
- Within a job the offer with the most CPUs left is taken first, which spreads tasks over agents.
- Where a task would run, short ones go one behind the other into a lane (core/batch/lanes.py).
- An ACCEPT is bounded in tasks and in bytes. What an offer still holds when it is cut off is not
  refused, what nothing fitted into is.
- A job that is only to run on some agents is placed on those and on no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from heapq import heapify, heappop, heappush, heapreplace

from mesosctl.core.batch.keeping import Keeping
from mesosctl.core.batch.lanes import length
from mesosctl.core.batch.queue import LEADS, Queue
from mesosctl.core.batch.records import Job, Task
from mesosctl.limits import (
    ACCEPT_TASKS_MAX,
    CPUS_MILLI_MIN,
    FRAME_BYTES_MAX_BULK,
)
from mesosctl.model.cluster import Offer
from mesosctl.model.constraints import Place, parse_constraint, place_of
from mesosctl.model.ids import AgentId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.reservations import renamed
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.maintenance import InverseOffer, WithheldAgent

ACCEPT_BYTES_MAX = FRAME_BYTES_MAX_BULK // 2


@dataclass(slots=True)
class Slot:
    """An offer on its way to be used: what is left of it, and what goes into it."""

    offer: Offer
    cpus_milli: int
    mem_milli: int
    more: Resources
    size_bytes: int = 0
    is_full: bool = False
    placed: list[tuple[Job, Task]] = field(default_factory=list)
    where: Place | None = None

    @property
    def agent_id(self) -> AgentId:
        """Whose it is."""
        return self.offer.agent_id

    def has(self, job: Job) -> bool:
        """Whether it is one for this job, be it large enough or not."""
        return self.more.contains(job.spec.more) and self.suits(job)

    def fits(self, job: Job) -> int:
        """How many tasks of this job would fit into it beside each other."""
        if not self.has(job):
            return 0
        return min(self.cpus_milli // job.cpus_milli, self.mem_milli // max(1, job.mem_milli))

    def suits(self, job: Job) -> bool:
        """Whether the job's next task may run on this agent at all."""
        spec, offer = job.spec, self.offer
        if spec.spread and offer.agent_id in job.spots:
            return False
        if not spec.constraint:
            return True
        if self.where is None:
            self.where = place_of(offer.agent_id, offer.agent_name, offer.attributes)
        return parse_constraint(spec.constraint).holds(self.where)

    def takes(self, job: Job) -> bool:
        """Whether one more task of this job still goes into the same ACCEPT."""
        grown = self.size_bytes + job.launch_bytes
        if self.placed and (grown > ACCEPT_BYTES_MAX or len(self.placed) >= ACCEPT_TASKS_MAX):
            self.is_full = True
            return False
        return True


def slot_of(offer: Offer) -> Slot:
    """What is offered, whether it is reserved to our role or not: the master serves both."""
    plain = offer.resources if offer.resources.is_plain() else renamed(offer.resources, "")
    held = dict(plain.items())
    cpus, mem = held.get("cpus", 0), held.get("mem", 0)
    cpus, mem = (amount if isinstance(amount, int) else 0 for amount in (cpus, mem))
    return Slot(offer, cpus, mem, plain)


def place(
    queue: Queue, offers: Iterable[Offer], mono: float, keeping: Keeping | None = None
) -> list[Slot]:
    """Start as many tasks as fit into these offers; every offer comes back as a slot.

    `mono`: the present, from which on it is measured how long they take.
    """
    if keeping is not None:
        keeping.look(queue.jobs, mono)
    kept: AgentId | None = None
    slots = [slot_of(offer) for offer in offers]
    heap = [(-slot.cpus_milli, number) for number, slot in enumerate(slots)]
    heapify(heap)
    misfits: list[tuple[int, int]] = []
    for job in queue.in_order():
        if not heap or -heap[0][0] < CPUS_MILLI_MIN:
            break
        if any(job.cpus_milli >= cpus and job.mem_milli >= mem for cpus, mem in misfits):
            continue
        # That one lacks GPUs, say, tells nothing about jobs that need none.
        is_plain = not (job.spec.more or job.spec.constraint or job.spec.spread)
        room = job.room()
        if _fill(queue, job, slots, heap, mono, kept):
            continue
        if is_plain:
            misfits.append((job.cpus_milli, job.mem_milli))
        if keeping is not None and kept is None:
            keeping.placed(job, job.room() < room, slots, mono)
            kept = keeping.kept_from(job)
    return slots


def _fill(
    queue: Queue,
    job: Job,
    slots: list[Slot],
    heap: list[tuple[int, int]],
    mono: float,
    kept: AgentId | None,
) -> bool:
    """Place tasks of one job; answers False when some found no offer that is large enough.

    `kept`: an agent that it gets nothing of.
    """
    aside: list[tuple[int, int]] = []
    room = job.room()
    many = length(job, room, job.busy + sum(slot.fits(job) for slot in slots))
    cut_off = False
    while room and heap and -heap[0][0] >= job.cpus_milli:
        slot = slots[heap[0][1]]
        if slot.mem_milli < job.mem_milli or slot.agent_id == kept or not slot.has(job):
            aside.append(heappop(heap))
            continue
        if not slot.takes(job):
            aside.append(heappop(heap))
            cut_off = True
            continue
        room -= _launch(queue, job, slot, min(many, room), mono)
        slot.cpus_milli -= job.cpus_milli
        slot.mem_milli -= job.mem_milli
        if job.spec.more:
            slot.more = slot.more - job.spec.more
        heapreplace(heap, (-slot.cpus_milli, heap[0][1]))
    for entry in aside:
        heappush(heap, entry)
    return not room or cut_off


def _launch(queue: Queue, job: Job, slot: Slot, many: int, mono: float) -> int:
    """Start up to so many tasks where one has room, at least that one; how many it were."""
    lane = LEADS if many > 1 else ""
    for number in range(many):
        if number and not slot.takes(job):
            return number
        task = queue.start(job, slot.offer.agent_id, slot.offer.agent_name, lane, mono)
        slot.placed.append((job, task))
        slot.size_bytes += job.launch_bytes
        lane = task.lane
    return many


def refusal_s(slot: Slot, filter_s: float) -> float:
    """For how long what is left of an offer is not wanted."""
    return 0.0 if slot.is_full else filter_s


@dataclass(slots=True)
class AgentSeen:
    """An agent known from its offers: the most that it was seen to have, in thousandths."""

    name: str
    cpus_milli: int = 0
    mem_milli: int = 0


class Agents:
    """What offers have told of the agents. It is never the whole truth, and is told as such."""

    def __init__(self) -> None:
        self.seen: dict[AgentId, AgentSeen] = {}
        # What operators decided, by agent: nothing is offered of these.
        self.withheld: dict[AgentId, WithheldAgent] = {}
        self.asked_back: dict[OfferId, InverseOffer] = {}

    def hold_back(self, agents: Iterable[WithheldAgent]) -> None:
        """Operators withhold these agents, or (with an empty mode) do no longer."""
        for agent in agents:
            self.withheld.pop(agent.agent_id, None)
            if agent.mode:
                self.withheld[agent.agent_id] = agent

    def note(self, offer: Offer, queue: Queue) -> None:
        """An agent has at least what it offers together with what we hold there."""
        slot = slot_of(offer)
        known = self.seen.setdefault(offer.agent_id, AgentSeen(offer.agent_name))
        held = queue.held.get(offer.agent_id)
        cpus = slot.cpus_milli + (held.cpus_milli if held else 0)
        mem = slot.mem_milli + (held.mem_milli if held else 0)
        known.cpus_milli = max(known.cpus_milli, cpus)
        known.mem_milli = max(known.mem_milli, mem)

    def forget(self, agent_id: AgentId) -> None:
        """The agent was declared gone."""
        self.seen.pop(agent_id, None)
        self.withheld.pop(agent_id, None)

    def ask_back(self, offers: Iterable[InverseOffer]) -> tuple[AgentId, ...]:
        """These agents with tasks of ours are emptied; which they are."""
        new = {offer.inverse_offer_id: offer for offer in offers}
        self.asked_back.update(new)
        return tuple([offer.agent_id for offer in new.values()])

    def keep(self, offer_ids: Iterable[OfferId]) -> tuple[AgentId, ...]:
        """Inverse offers are void; the agents of those that were known."""
        gone = [self.asked_back.pop(offer_id, None) for offer_id in offer_ids]
        return tuple([offer.agent_id for offer in gone if offer is not None])

    def drain_of(self, agent_id: AgentId) -> InverseOffer | None:
        """The drain of this agent, if we were asked to leave it."""
        for offer in self.asked_back.values():
            if offer.agent_id == agent_id:
                return offer
        return None

    def held_back_for(self, cpus_milli: int, mem_milli: int) -> WithheldAgent | None:
        """A withheld agent that such a task would fit on, if it fits on no other.

        One that was never seen may be large enough: nobody can tell.
        """
        large = [
            agent_id
            for agent_id, agent in self.seen.items()
            if agent.cpus_milli >= cpus_milli and agent.mem_milli >= mem_milli
        ]
        if any(agent_id not in self.withheld for agent_id in large):
            return None
        for agent_id, withheld in self.withheld.items():
            if agent_id in large or agent_id not in self.seen:
                return withheld
        return None

    def misfit(self, cpus_milli: int, mem_milli: int) -> str:
        """Why no agent was yet seen to be large enough for such a task; empty when one was."""
        if not self.seen:
            return "no agent has offered anything yet"
        if any(
            agent.cpus_milli >= cpus_milli and agent.mem_milli >= mem_milli
            for agent in self.seen.values()
        ):
            return ""
        cpus = max(agent.cpus_milli for agent in self.seen.values())
        mem = max(agent.mem_milli for agent in self.seen.values())
        return (
            f"no agent has offered so much yet: needs {cpus_milli / 1000:g} cpus and"
            f" {mem_milli / 1000:.0f}M, most seen {cpus / 1000:g} cpus and {mem / 1000:.0f}M"
        )
