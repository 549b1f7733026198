"""A whole simulated cluster: master, agents with their hosts, batch framework, a client with jobs.

Faults come first, then healing: after it nothing goes wrong any more and everything has to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.core.agent import AgentMachine, AgentOptions
from mesosctl.core.agent.records import PROGRESS, TASKS, AgentRecords, TaskEntry
from mesosctl.core.batch.keys import KeyAsked, KeyDecided
from mesosctl.core.batch.machine import BatchMachine
from mesosctl.core.batch.records import META, META_KEY
from mesosctl.core.machine import Machine
from mesosctl.core.master import MasterMachine, RoleSettings
from mesosctl.core.master.standby import StandbyMachine
from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Principal
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.resources import Resources
from mesosctl.protocol.schema import from_plain
from mesosctl.sim.client import SimClient, Wish
from mesosctl.sim.containers import Behaviour
from mesosctl.sim.elections import Elections
from mesosctl.sim.excess import KINDS, has_excess
from mesosctl.sim.faults import Faults, Nemesis
from mesosctl.sim.history import History
from mesosctl.sim.hosts import Host
from mesosctl.sim.masters import Seeker, Usurpers
from mesosctl.sim.node import Node
from mesosctl.sim.operators import Operators
from mesosctl.sim.plan import Plan, attributes_of
from mesosctl.sim.strangers import Prey, Stranger
from mesosctl.sim.visitor import LINK
from mesosctl.sim.volumes import volumes_kept
from mesosctl.sim.wire import Connection
from mesosctl.sim.world import World

STRANGERS_MAX = 2
# The role of strangers, where masters preempt.
FOOLS = "fools"
OPERATOR = "operator-key"
CLIENT = "client-key"
STRANGER = "stranger-key"
KEYS: Mapping[str, Principal] = {
    OPERATOR: Principal("operator", OPERATOR, ("operator",), ("me",)),
    CLIENT: Principal("client", CLIENT, ("client",), ("me",)),
    **{
        key: Principal(key, key, ("framework",), ("me",))
        for key in (f"{STRANGER}{number}" for number in range(STRANGERS_MAX))
    },
}
AGENT_TOTAL = Resources.parse("cpus:4;mem:4096;disk:4096")
# Recounting the whole queue takes longer than all the rest of a pass.
QUEUE_CHECK_EVERY = 25


class Cluster:
    """The nodes of a plan, wired together in a world."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.history = History()
        self.accepted: dict[str, list[str]] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self.hosts: list[Host] = []
        self._elections: Elections | None = None
        self.masters = self._make_masters()
        self.batches = [self._batch(number) for number in range(plan.batches)]
        self.agents = [self._agent(number) for number in range(plan.agents)]
        self.clients = [self._client(number) for number in range(plan.batches)]
        self.strangers = [self._stranger(number) for number in range(len(plan.strangers))]
        self.healed = False
        world.wire.gatekeeper = self._may_talk
        world.is_busy = self.is_busy
        for node in list(world.nodes.values()):
            within_s = plan.agents_within_s if node in self.agents else 0.5
            world.later(world.random.uniform(0, within_s), node.start)
        Nemesis(self, plan.faults_s).begin()
        self.operators = Operators(self, OPERATOR, plan.faults_s)
        self.operators.begin()

    def nodes(self) -> list[Node]:
        """Everyone but the executors, in a fixed order."""
        return [*self.masters, *self.batches, *self.agents, *self.clients, *self.strangers]

    def is_busy(self) -> bool:
        """Whether a task runs anywhere."""
        return any(held.alive for host in self.hosts for held in host.containers.values())

    def _node(self, name: str, make: Any, key: str) -> Node:
        node = Node(self.world, name, make, key)
        self.world.nodes[name] = node
        return node

    def _make_masters(self) -> list[Node]:
        """One master, or several that a registry chooses among."""
        if self.plan.masters == 1:
            return [self._node("master", self._make_master, OPERATOR)]
        self._elections = elections = Elections(self.world)
        names = [f"master{number}" for number in range(self.plan.masters)]
        nodes = [self._node(name, self._make_master, OPERATOR) for name in names]
        for node in nodes:
            elections.add(node)
        Usurpers(self.world, elections, nodes, self.plan.faults_s).begin()
        return nodes

    @property
    def master(self) -> Node:
        """The master that leads; one of them while none does."""
        leading = [
            (node.machine.state.sessions.epoch, number)
            for number, node in enumerate(self.masters)
            if isinstance(node.machine, MasterMachine)
        ]
        return self.masters[max(leading)[1] if leading else 0]

    def _lead_to_masters(self, node: Node) -> None:
        """Have the node's link `master` lead to where the leader is."""
        if self._elections is None:
            node.routes["master"] = (self.master, "master")
            return
        registry, watches = self._elections.registry, self.plan.masters_watched
        Seeker(self.world, node, self.masters, registry, watches)

    def cut_from_registry(self, node: Node, lasts_s: float) -> None:
        """A node that can talk to nobody cannot talk to the masters' registry either."""
        if self._elections is not None:
            place = self._elections.registry.node
            self.world.wire.block(node, place, lasts_s)
            self.world.wire.block(place, node, lasts_s)

    def _make_master(self, node: Node) -> Machine:
        tables = node.tables()
        known = tables.get("meta", {}).get("cluster", {})
        epoch = int(known.get("epoch", 0)) + 1
        if self._elections is not None:
            epoch = self._elections.epoch(node)
            if not epoch:
                return StandbyMachine()
        preemption = self.plan.preemption
        return MasterMachine(
            cluster=str(known.get("cluster") or self.world.new_id()),
            epoch=epoch,
            cluster_name="sim",
            version="sim",
            allocator=DrfAllocator() if preemption is None else PriorityAllocator(),
            allocator_name="drf",
            new_id=self.world.new_id,
            principals=KEYS,
            role_options={FOOLS: RoleSettings(priority=preemption or 0)},
            tables=tables,
            preemption=preemption is not None,
        )

    def _batch(self, number: int) -> Node:
        def make(node: Node) -> Machine:
            info = FrameworkInfo(FrameworkId(""), "batch", "me", address="sim", public_key="sim")
            return BatchMachine(info, node.tables(), self.world.new_id, master="sim")

        node = self._node(f"framework{number}", make, OPERATOR)
        node.check_every = QUEUE_CHECK_EVERY
        self._lead_to_masters(node)
        node.deeds[KeyDecided] = lambda effect: self._key_decided(number, effect)
        return node

    def framework_id(self, node: Node) -> str:
        """The id that a batch framework has by now."""
        return str((node.row(META, META_KEY) or {}).get("framework_id", ""))

    def batch_of(self, framework_id: str) -> Node | None:
        """The batch framework that has this id; None for that of a stranger."""
        for node in self.batches:
            if self.framework_id(node) == framework_id:
                return node
        return None

    def wishes(self, number: int) -> list[Wish]:
        """What is wanted of the batch framework of this number."""
        return self.plan.wishes[number :: self.plan.batches]

    def _client(self, number: int) -> Node:
        def make(node: Node) -> Machine:
            return SimClient(self.wishes(number), self.accepted, self.world.new_id)

        node = self._node(f"client{number}", make, CLIENT)
        node.routes[LINK] = (self.batches[number], "commands")
        node.mortal = False
        return node

    def _stranger(self, number: int) -> Node:
        def make(node: Node) -> Machine:
            known = node.row("meta", "stranger") or {}
            return Stranger(
                node.name,
                FrameworkId(str(known.get("framework_id", ""))),
                self.plan.strangers[number],
                self.world.random,
                self.world.new_id,
                lambda: self._prey(node),
                lambda: self.healed,
                "*" if self.plan.preemption is None else FOOLS,
            )

        node = self._node(f"stranger{number}", make, f"{STRANGER}{number}")
        self._lead_to_masters(node)
        return node

    def _prey(self, hunter: Node) -> Prey | None:
        """Something that belongs to somebody else, as one could learn who listens well."""
        mine = str((hunter.row("meta", "stranger") or {}).get("framework_id", ""))
        found: list[Prey] = []
        offers = ""
        known: set[FrameworkId] = set()
        if isinstance(self.master.machine, MasterMachine):
            frameworks = self.master.machine.state.frameworks
            known = {name for name, framework in frameworks.items() if framework.key}
            for one in self.master.machine.state.offers.values():
                if one.offer.framework_id != mine:
                    offers = one.offer.offer_id
        for agent in self.agents:
            for row in agent.tables().get(TASKS, {}).values():
                entry = from_plain(TaskEntry, row)
                if entry.framework_id != mine:
                    key = f"{entry.framework_id}/{entry.info.task_id}"
                    progress = agent.row(PROGRESS, key) or {}
                    uuids = [str(update["uuid"]) for update in progress.get("updates", ())]
                    prey = (entry.framework_id, entry.info.task_id, entry.info.agent_id)
                    found.append(
                        Prey(*prey, uuids[0] if uuids else "u", OfferId(offers), prey[0] in known)
                    )
        return self.world.random.choice(found) if found else None

    def _agent(self, number: int) -> Node:
        def make(node: Node) -> Machine:
            boot = f"boot-{self.hosts[number].boots}"
            fresh = AgentId("A" + self.world.new_id()[-10:])
            info = AgentInfo(
                fresh,
                node.name,
                AGENT_TOTAL,
                attributes_of(node.name),
                boot_id=boot,
                user="me",
                version="sim",
            )
            options = AgentOptions(log_keep_s=self.plan.log_keep_s)
            return AgentMachine(info, AgentRecords.load(node.tables()), self.world.new_id, options)

        node = self._node(f"agent{number}", make, OPERATOR)
        self._lead_to_masters(node)
        self.hosts.append(Host(self.world, node, self.history, self._behaviour))
        return node

    def _behaviour(self, task_id: str) -> Behaviour:
        """What an attempt does: drawn once, when it first runs."""
        known = self._behaviours.get(task_id)
        if known is None:
            chance = self.world.random
            known = self._behaviours[task_id] = Behaviour(
                lasts_s=chance.choice(self.plan.lasts_s),
                exit_code=chance.choice([0, 0, 0, 0, 3]),
                stubborn=chance.random() < 0.2,
                leaves_child=chance.random() < 0.1,
                exceeds=chance.choice(KINDS) if has_excess(self.world.seed) else "",
            )
        return known

    # --- keys of clients --------------------------------------------------------------------------
    def _may_talk(self, connection: Connection) -> bool:
        """Connections to the framework wait for its verdict on their key, as ZAP has them do."""
        if connection.server not in self.batches:
            return True
        self.world.later(0.01, lambda: self._ask_key(connection))
        return False

    def _ask_key(self, connection: Connection) -> None:
        if not connection.open or connection.admitted:
            return
        if connection.server.machine is not None:
            connection.server.take(KeyAsked(connection.client.key))
        if connection.open and not connection.admitted:
            self.world.later(1.0, lambda: self._ask_key(connection))

    def _key_decided(self, number: int, effect: KeyDecided) -> None:
        connection = self.clients[number].links.get(LINK)
        waits = connection is not None and not connection.admitted
        if connection is not None and waits and effect.allowed and effect.key == CLIENT:
            self.world.wire.admit(connection)

    # --- the course of things ---------------------------------------------------------------------
    def heal(self) -> None:
        """From now on nothing goes wrong; what is down comes back."""
        world = self.world
        world.note("world", "heals")
        world.faults = replace(Faults(), restart_max_s=world.faults.restart_max_s)
        world.wire.heal()
        self.healed = True
        for node in list(world.nodes.values()):
            node.disk.problem = ""
            node.resume()
        self.operators.heal()

    def is_whole(self) -> bool:
        """Whether everybody is up and knows everybody."""
        master = self.master.machine
        if not isinstance(master, MasterMachine):
            return False
        agents, frameworks = master.state.agents.values(), master.state.frameworks.values()
        present = [framework for framework in frameworks if framework.peer]
        wanted = [node for node in self.strangers if not self.is_over(node)]
        return sum(1 for agent in agents if agent.peer) == len(self.agents) and len(present) >= len(
            self.batches
        ) + len(wanted)

    def who(self) -> str:
        """Who is there, for a person who looks for the reason."""
        down = [node.name for node in self.nodes() if node.machine is None]
        master = self.master.machine
        if not isinstance(master, MasterMachine):
            return f"down: {down}"
        agents = {one.info.name: bool(one.peer) for one in master.state.agents.values()}
        frameworks = {one.info.name: one.state for one in master.state.frameworks.values()}
        return f"down: {down}, at the master: {agents}, {frameworks}"

    def is_over(self, stranger: Node) -> bool:
        """Whether this stranger has ended itself."""
        return isinstance(stranger.machine, Stranger) and stranger.machine.is_over

    def is_quiet(self) -> bool:
        """Whether every job was accepted and has ended, and nobody holds anything for any."""
        for node in self.clients:
            if not isinstance(node.machine, SimClient) or not node.machine.is_content:
                return False
        for node in self.batches:
            if not isinstance(node.machine, BatchMachine):
                return False
            queue = node.machine.queue
            if queue.stale or not all(job.has_ended() for job in queue.jobs.values()):
                return False
        master = self.master.machine
        if not isinstance(master, MasterMachine):
            return False
        ended = (
            self.is_over(node)
            for node, character in zip(self.strangers, self.plan.strangers, strict=True)
            if not character.stays
        )
        return (
            all(not agent.tasks for agent in master.state.agents.values())
            and all(not host.containers for host in self.hosts)
            and all(
                not agent.disk.rows(table) for agent in self.agents for table in (TASKS, PROGRESS)
            )
            and not volumes_kept(master.state.registry)
            and all(ended)
        )

    def what_is_left(self) -> str:
        """Why it is not quiet, for a person who looks for the reason."""
        machines: list[Any] = [node.machine for node in self.clients]
        parts = [] if all(one and one.is_content for one in machines) else ["a client waits"]
        down = [node.name for node in self.nodes() if node.machine is None]
        parts += [f"down: {down}"] if down else []
        for node in self.batches:
            if isinstance(node.machine, BatchMachine):
                queue = node.machine.queue
                open_jobs = [job.id for job in queue.jobs.values() if not job.has_ended()]
                parts.append(f"{node.name}: open jobs {open_jobs}, stale {list(queue.stale)}")
        if isinstance(self.master.machine, MasterMachine):
            for agent_record in self.master.machine.state.agents.values():
                if agent_record.tasks:
                    parts.append(f"master: {list(agent_record.tasks)}")
            kept = volumes_kept(self.master.machine.state.registry)
            parts += [f"volumes: {', '.join(kept)}"] if kept else []
        for agent, host in zip(self.agents, self.hosts, strict=True):
            tasks, held = list(agent.disk.rows(TASKS)), list(host.containers)
            parts += [f"{agent.name} keeps {tasks} in {held}"] if tasks or held else []
        return "; ".join(parts)
