"""A whole simulated cluster: master, agents with their hosts, batch framework, a client with jobs.

Faults come first, then healing: after it nothing goes wrong any more and everything has to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.core.agent import AgentMachine
from mesosctl.core.agent.records import PROGRESS, TASKS, AgentRecords
from mesosctl.core.batch.keys import KeyAsked, KeyDecided
from mesosctl.core.batch.machine import BatchMachine
from mesosctl.core.machine import Machine
from mesosctl.core.master import MasterMachine
from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Principal
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.resources import Resources
from mesosctl.sim.client import LINK, SimClient
from mesosctl.sim.faults import Faults, Nemesis
from mesosctl.sim.history import History
from mesosctl.sim.hosts import Behaviour, Host
from mesosctl.sim.node import Node
from mesosctl.sim.operators import Operators
from mesosctl.sim.plan import Plan
from mesosctl.sim.wire import Connection
from mesosctl.sim.world import World

OPERATOR = "operator-key"
CLIENT = "client-key"
KEYS: Mapping[str, Principal] = {
    OPERATOR: Principal("operator", OPERATOR, ("operator",), ("me",)),
    CLIENT: Principal("client", CLIENT, ("client",), ("me",)),
}
AGENT_TOTAL = Resources.parse("cpus:4;mem:4096")
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
        self.master = self._node("master", self._make_master, OPERATOR)
        self.framework = self._node("framework", self._make_framework, OPERATOR)
        self.framework.check_every = QUEUE_CHECK_EVERY
        self.framework.routes["master"] = (self.master, "master")
        self.framework.deeds[KeyDecided] = self._key_decided
        self.agents = [self._agent(number) for number in range(plan.agents)]
        self.client = self._node("client", self._make_client, CLIENT)
        self.client.routes[LINK] = (self.framework, "commands")
        self.client.mortal = False
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
        return [self.master, self.framework, *self.agents, self.client]

    def is_busy(self) -> bool:
        """Whether a task runs anywhere."""
        return any(held.alive for host in self.hosts for held in host.containers.values())

    def _node(self, name: str, make: Any, key: str) -> Node:
        node = Node(self.world, name, make, key)
        self.world.nodes[name] = node
        return node

    def _make_master(self, node: Node) -> Machine:
        tables = node.tables()
        known = tables.get("meta", {}).get("cluster", {})
        return MasterMachine(
            cluster=str(known.get("cluster") or self.world.new_id()),
            epoch=int(known.get("epoch", 0)) + 1,
            cluster_name="sim",
            version="sim",
            allocator=DrfAllocator(),
            allocator_name="drf",
            new_id=self.world.new_id,
            principals=KEYS,
            roles={},
            registry=tables.get("agents", {}),
        )

    def _make_framework(self, node: Node) -> Machine:
        info = FrameworkInfo(FrameworkId(""), "batch", "me", address="sim", public_key="sim")
        return BatchMachine(info, node.tables(), self.world.new_id, master="sim")

    def _make_client(self, node: Node) -> Machine:
        return SimClient(self.plan.wishes, self.accepted, self.world.new_id)

    def _agent(self, number: int) -> Node:
        def make(node: Node) -> Machine:
            boot = f"boot-{self.hosts[number].boots}"
            fresh = AgentId("A" + self.world.new_id()[-10:])
            info = AgentInfo(fresh, node.name, AGENT_TOTAL, boot_id=boot, user="me", version="sim")
            return AgentMachine(info, AgentRecords.load(node.tables()), self.world.new_id)

        node = self._node(f"agent{number}", make, OPERATOR)
        node.routes["master"] = (self.master, "master")
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
            )
        return known

    # --- keys of clients --------------------------------------------------------------------------
    def _may_talk(self, connection: Connection) -> bool:
        """Connections to the framework wait for its verdict on their key, as ZAP has them do."""
        if connection.server is not self.framework:
            return True
        self.world.later(0.01, lambda: self._ask_key(connection))
        return False

    def _ask_key(self, connection: Connection) -> None:
        if not connection.open or connection.admitted:
            return
        if self.framework.machine is not None:
            self.framework.take(KeyAsked(connection.client.key))
        if connection.open and not connection.admitted:
            self.world.later(1.0, lambda: self._ask_key(connection))

    def _key_decided(self, effect: KeyDecided) -> None:
        connection = self.client.links.get(LINK)
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
        for node in list(world.nodes.values()):
            node.resume()
        self.operators.heal()

    def is_quiet(self) -> bool:
        """Whether every job was accepted and has ended, and nobody holds anything for any."""
        client: Any = self.client.machine
        master, framework = self.master.machine, self.framework.machine
        if not isinstance(client, SimClient) or not client.is_content:
            return False
        if not isinstance(master, MasterMachine) or not isinstance(framework, BatchMachine):
            return False
        return (
            all(job.has_ended() for job in framework.queue.jobs.values())
            and not framework.queue.stale
            and all(not agent.tasks for agent in master.state.agents.values())
            and all(not host.containers for host in self.hosts)
            and all(
                not agent.disk.get(table) for agent in self.agents for table in (TASKS, PROGRESS)
            )
        )

    def what_is_left(self) -> str:
        """Why it is not quiet, for a person who looks for the reason."""
        client: Any = self.client.machine
        framework: Any = self.framework.machine
        parts = [] if client and client.is_content else ["the client waits"]
        down = [node.name for node in self.nodes() if node.machine is None]
        parts += [f"down: {down}"] if down else []
        if framework is not None:
            open_jobs = [job.id for job in framework.queue.jobs.values() if not job.has_ended()]
            parts.append(f"open jobs {open_jobs}, stale {list(framework.queue.stale)}")
        for agent, host in zip(self.agents, self.hosts, strict=True):
            tasks, held = list(agent.disk.get(TASKS, {})), list(host.containers)
            parts += [f"{agent.name} keeps {tasks} in {held}"] if tasks or held else []
        return "; ".join(parts)
