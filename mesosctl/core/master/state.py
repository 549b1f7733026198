"""What the master knows, all of it soft but the registry: agents, frameworks, tasks, offers.

Rules:
- A task is here from its acceptance until its terminal update is acknowledged. It holds resources
  until its latest state is terminal, whoever still has to be told of it.
- Offered and used resources are charged in the allocator; nothing else is. `check()` recounts.
- Tasks of one lane (docs/decisions/lanes.md) are charged once, until the last of them has ended.
- An agent that is away keeps its tasks and its charges: unreachable is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from mesosctl.allocation.base import Allocator, Client
from mesosctl.allocation.filters import FilterBook
from mesosctl.allocation.ledger import Ledger
from mesosctl.core.machine import Effect, NewId
from mesosctl.core.master.clearing import Clearings
from mesosctl.core.master.gathering import Gatherings
from mesosctl.core.master.registry import AgentEntry, Mode, RoleEntry
from mesosctl.core.master.removals import Removals
from mesosctl.core.master.waiters import VolumeKey, Waiter
from mesosctl.core.master.wheres import Wheres
from mesosctl.core.session import ServerSessions
from mesosctl.errors import require
from mesosctl.limits import (
    AGENT_TIMEOUT_S,
    OFFER_TIMEOUT_S,
)
from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Offer, Principal
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TERMINAL, Revocable, StatusUpdate, TaskState
from mesosctl.model.values import top_of
from mesosctl.protocol.messages.base import Message

REMOVED_FRAMEWORKS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """What the master's options say of a role: its weight in thousandths, its priority."""

    weight_milli: int = 1000
    priority: int = 0


@dataclass(slots=True)
class TaskRecord:
    """One task between acceptance and the acknowledgement of its end."""

    task_id: TaskId
    framework_id: FrameworkId
    agent_id: AgentId
    name: str
    resources: Resources
    state: TaskState
    # The newest update that the framework has not acknowledged: told again when it comes back.
    update: StatusUpdate | None = None
    lane: str = ""
    # Launched by a master before this one: all that is known of it is what its agent said.
    inherited: bool = False
    revocable: Revocable | None = None

    @property
    def holds_resources(self) -> bool:
        """Whether its resources are in use."""
        return self.state not in TERMINAL


@dataclass(slots=True)
class AgentRecord:
    """An agent that registered with this master.

    `info.total` is what it has with its reservations, `own` what it told that it has by itself.
    """

    info: AgentInfo
    key: str
    own: Resources
    peer: str = ""
    registered_wall: float = 0.0
    away_since: float | None = None
    told_unreachable: bool = False
    # The life of the agent and its session in that life which registered last.
    incarnation: tuple[int, int] = (0, 0)
    # Whether it has said something since it heard from this master. Before, what it registered with
    # may be from long ago, for only a master that has led for a while knows what came late.
    is_present: bool = False
    offers: dict[OfferId, None] = field(default_factory=dict)
    tasks: dict[tuple[FrameworkId, TaskId], TaskRecord] = field(default_factory=dict)


@dataclass(slots=True)
class LaneRecord:
    """One lane: what it holds until none of its tasks is open."""

    resources: Resources
    open: int = 0


@dataclass(slots=True)
class FrameworkRecord:
    """A framework that subscribed, or is known only from the agents that run its tasks."""

    info: FrameworkInfo
    principal: Principal | None
    key: str = ""
    peer: str = ""
    suppressed: bool = False
    # As of an agent, with life 0 when it does not count; its process then, and those before.
    incarnation: tuple[int, int] = (0, 0)
    process: str = ""
    outlived: dict[str, None] = field(default_factory=dict)
    subscribed_wall: float = 0.0
    remove_at: float | None = None
    # How long the next unanswered offer filters an agent; 0 while the framework answers.
    silent_s: float = 0.0
    # Whether it told what it wants; otherwise the size of what it launched last stands for it.
    states_demand: bool = False
    task_size: Resources | None = None
    task_count: int | None = None
    offers: dict[OfferId, None] = field(default_factory=dict)
    tasks: dict[TaskId, TaskRecord] = field(default_factory=dict)
    # How many tasks of each lane have not ended, and what they hold together.
    lanes: dict[tuple[AgentId, str], LaneRecord] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """`active`, `suppressed`, `disconnected`, or `recovered` when it never subscribed here."""
        if self.peer:
            return "suppressed" if self.suppressed else "active"
        return "disconnected" if self.principal else "recovered"


@dataclass(slots=True)
class OutstandingOffer:
    """An offer and when it was made."""

    offer: Offer
    made_at: float


@dataclass(slots=True)
class InverseRecord:
    """A framework that was asked to leave an agent. `answer`: empty, accepted or declined."""

    framework_id: FrameworkId
    agent_id: AgentId
    answer: str = ""


def amounts_held(tasks: Iterable[TaskRecord]) -> list[Resources]:
    """What these tasks hold, lane by lane and task by task."""
    holders: dict[tuple[str, str, str, str], Resources] = {}
    for task in tasks:
        if task.holds_resources:
            alone = "" if task.lane else task.task_id
            holders[task.framework_id, task.agent_id, task.lane, alone] = task.resources
    return list(holders.values())


def held_on(agent: AgentRecord) -> Resources:
    """What all tasks of an agent hold, ports and the like as well."""
    held = Resources()
    for amount in amounts_held(agent.tasks.values()):
        held = held + amount
    return held


@dataclass(slots=True)
class MasterState:
    """Everything that the master's handlers share."""

    sessions: ServerSessions
    allocator: Allocator
    new_id: NewId
    cluster_name: str
    version: str
    allocator_name: str
    principals: Mapping[str, Principal]
    # What options say of roles, and what operators set while it ran, which goes first.
    roles: Mapping[str, RoleSettings]
    role_entries: dict[str, RoleEntry]
    # Every agent that was ever admitted; see core/master/registry.py.
    registry: dict[AgentId, AgentEntry]
    offer_timeout_s: float = OFFER_TIMEOUT_S
    agent_timeout_s: float = AGENT_TIMEOUT_S
    allocation_interval_s: float = 1.0
    filters: FilterBook = field(default_factory=FilterBook)
    wheres: Wheres = field(default_factory=Wheres)
    gatherings: Gatherings = field(default_factory=Gatherings)
    clearings: Clearings = field(default_factory=Clearings)
    agents: dict[AgentId, AgentRecord] = field(default_factory=dict)
    frameworks: dict[FrameworkId, FrameworkRecord] = field(default_factory=dict)
    offers: dict[OfferId, OutstandingOffer] = field(default_factory=dict)
    removed: dict[FrameworkId, str] = field(default_factory=dict)
    agent_of_peer: dict[str, AgentId] = field(default_factory=dict)
    framework_of_peer: dict[str, FrameworkId] = field(default_factory=dict)
    # Admissions under way: the agent's request id -> who asked and under which id of its own.
    admissions: dict[str, tuple[FrameworkId, str, AgentId]] = field(default_factory=dict)
    # Agents that are away, and when each counts as unreachable; those that do so and have not come
    # back since the start, each with the frameworks that were told.
    absent: dict[AgentId, float] = field(default_factory=dict)
    missing: dict[AgentId, dict[FrameworkId, None]] = field(default_factory=dict)
    removals: Removals = field(default_factory=Removals)
    offers_made: int = 0
    # Drains whose deadline is to come, in monotonic seconds, and who was asked to leave.
    drain_at: dict[AgentId, float] = field(default_factory=dict)
    inverse: dict[OfferId, InverseRecord] = field(default_factory=dict)
    inverse_made: int = 0
    # Volumes that an agent is to make or to remove, and who is told when it has.
    volume_waits: dict[tuple[AgentId, VolumeKey], Waiter] = field(default_factory=dict)
    # Until when roles with a limit get nothing: agents are to come that may run tasks of theirs.
    limits_wait_until: float | None = None
    allocation_wanted: bool = False

    def principal(self, peer: str) -> Principal | None:
        """Who this peer is; None for a key that the list does not hold any more."""
        return self.principals.get(self.sessions.key(peer))

    def name_of(self, peer: str) -> str:
        """The name that this peer's key is listed under; empty as for `principal`."""
        principal = self.principal(peer)
        return principal.name if principal else ""

    def send(self, peer: str, message: Message) -> list[Effect]:
        """Send in the peer's session; nothing when it has none."""
        return self.sessions.send(peer, message) if peer else []

    def mode(self, agent_id: AgentId) -> Mode:
        """What an operator decided of this agent."""
        entry = self.registry.get(agent_id)
        return Mode.IN_USE if entry is None else entry.mode

    def is_offerable(self, agent_id: AgentId) -> bool:
        """Whether the agent is here and not withheld by an operator."""
        return bool(self.agents[agent_id].peer) and self.mode(agent_id) is Mode.IN_USE

    def free(self, agent: AgentRecord) -> Resources:
        """What neither tasks nor offers hold of an agent."""
        if isinstance(self.allocator, Ledger):
            return self.allocator.free(agent.info.agent_id)
        free = agent.info.total.without(held_on(agent))
        for offer_id in agent.offers:
            free = free.without(self.offers[offer_id].offer.resources)
        return free

    def show_agent(self, agent_id: AgentId) -> None:
        """Tell the allocator what the agent has and whether it may be offered; look at it anew."""
        agent = self.agents.get(agent_id)
        if agent is not None:
            self.allocator.set_agent(agent_id, agent.info.total, self.is_offerable(agent_id))
            self.allocation_wanted = True

    def send_to_agent(self, agent_id: AgentId, message: Message) -> list[Effect]:
        """Send to an agent; nothing to one that is away or gone."""
        agent = self.agents.get(agent_id)
        return [] if agent is None else self.send(agent.peer, message)

    def show_framework(self, framework: FrameworkRecord) -> None:
        """Tell the allocator what the framework wants; every free agent is put before it anew."""
        client = Client(
            framework.info.framework_id,
            framework.info.role,
            bool(framework.peer) and not framework.suppressed and not self._waits(framework),
            framework.task_size,
            framework.task_count,
        )
        self.allocator.set_framework(client)
        self.allocation_wanted = self.allocation_wanted or client.active

    def _waits(self, framework: FrameworkRecord) -> bool:
        """Whether what its role holds is not known yet, and limited (see quotas.py)."""
        entry = self.role_entries.get(top_of(framework.info.role))
        return self.limits_wait_until is not None and entry is not None and entry.limit is not None

    def add_task(self, task: TaskRecord) -> None:
        """Enter a task and charge what it holds."""
        agent, framework = self.agents[task.agent_id], self.frameworks[task.framework_id]
        agent.tasks[task.framework_id, task.task_id] = task
        framework.tasks[task.task_id] = task
        if task.holds_resources:
            self.clearings.enter(task)
            if self._opens(task):
                self.allocator.charge(task.framework_id, task.agent_id, task.resources)

    def _opens(self, task: TaskRecord) -> bool:
        """Count a task that begins to hold; whether nobody in its lane has before it."""
        if not task.lane:
            return True
        lanes = self.frameworks[task.framework_id].lanes
        lane = lanes.setdefault((task.agent_id, task.lane), LaneRecord(task.resources))
        lane.open += 1
        return lane.open == 1

    def _closes(self, task: TaskRecord) -> Resources | None:
        """Count a task that holds no more; what it frees, None while others of its lane hold."""
        if not task.lane:
            return task.resources
        lanes = self.frameworks[task.framework_id].lanes
        lane = lanes[task.agent_id, task.lane]
        lane.open -= 1
        if lane.open:
            return None
        del lanes[task.agent_id, task.lane]
        return lane.resources

    def set_state(self, task: TaskRecord, state: TaskState) -> None:
        """Move a task on; a terminal state gives its resources back, once, and is never left."""
        if task.state in TERMINAL:
            return
        task.state = state
        if state in TERMINAL:
            self.clearings.leave(task)
            freed = self._closes(task)
            if freed is not None:
                self.allocator.release(task.framework_id, task.agent_id, freed)
                self.allocation_wanted = True

    def forget_task(self, task: TaskRecord) -> None:
        """Drop a task whose end is acknowledged, and with it a removed framework's last trace."""
        require(not task.holds_resources, f"task {task.task_id} is forgotten while it holds")
        agent = self.agents[task.agent_id]
        agent.tasks.pop((task.framework_id, task.task_id), None)
        self.bury_agent(agent)
        framework = self.frameworks.get(task.framework_id)
        if framework is not None:
            framework.tasks.pop(task.task_id, None)
            self.bury(framework)

    def bury(self, framework: FrameworkRecord) -> None:
        """Drop the record of a removed framework once none of its tasks is left."""
        framework_id = framework.info.framework_id
        if framework_id in self.removed and not framework.tasks:
            self.frameworks.pop(framework_id, None)
            self.allocator.remove_framework(framework_id)

    def bury_agent(self, agent: AgentRecord) -> None:
        """Drop the record of an agent that is gone once none of its tasks is left."""
        agent_id = agent.info.agent_id
        over = self.mode(agent_id) is Mode.GONE and not agent.peer and not agent.tasks
        if over and self.agents.pop(agent_id, None) is not None:
            self.allocator.remove_agent(agent_id)
            self.wheres.forget_agent(agent_id)

    def check(self) -> None:
        """Recount what agents hold against their tasks and offers. Raises InvariantBroken."""
        self.wheres.check({agent_id: agent.info for agent_id, agent in self.agents.items()})
        for agent_id, agent in self.agents.items():
            held = held_on(agent)
            for key, task in agent.tasks.items():
                require(task.agent_id == agent_id, f"task {key} is on another agent")
                require(
                    self.frameworks[task.framework_id].tasks.get(task.task_id) is task,
                    f"task {key} is unknown to its framework",
                )
            for offer_id in agent.offers:
                require(self.is_offerable(agent_id), f"agent {agent_id} is withheld and offered")
                held = held + self.offers[offer_id].offer.resources
            if isinstance(self.allocator, Ledger):
                is_right = self.allocator.is_offered(agent_id) == self.is_offerable(agent_id)
                require(is_right, f"the allocator is not told whether agent {agent_id} is offered")
                free = self.allocator.free(agent_id)
                require(
                    free == agent.info.total.without(held),
                    f"agent {agent_id}: {free} is free beside {held}",
                )
            require(agent.info.total.contains(held), f"agent {agent_id} is overcommitted: {held}")
        if isinstance(self.allocator, Ledger):
            self.allocator.check()
        self._check_offers()
        self.clearings.check(self)
        for agent_id in self.drain_at:
            require(self.mode(agent_id) is Mode.DRAINING, f"agent {agent_id} is no drain's")
        for asked in self.inverse.values():
            agent_id = asked.agent_id
            require(self.mode(agent_id) is Mode.DRAINING, f"agent {agent_id} is asked back")
            require(bool(self.frameworks[asked.framework_id].peer), "an absent framework is asked")
        for framework_id, framework in self.frameworks.items():
            for task in framework.tasks.values():
                require(
                    self.agents[task.agent_id].tasks.get((framework_id, task.task_id)) is task,
                    f"task {task.task_id} is unknown to its agent",
                )

    def _check_offers(self) -> None:
        for offer_id, outstanding in self.offers.items():
            agent = self.agents[outstanding.offer.agent_id]
            require(offer_id in agent.offers, f"offer {offer_id} is unknown to its agent")
            framework = self.frameworks[outstanding.offer.framework_id]
            require(offer_id in framework.offers, f"offer {offer_id} is not its framework's")
        for owner in (self.agents, self.frameworks):
            known = sum(len(record.offers) for record in owner.values())
            require(known == len(self.offers), f"{known} offers are known, {len(self.offers)} are")
