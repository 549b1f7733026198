"""Judges of who may cause what: I8 one leader, I13 recovery that changes nothing twice, I14 rights.

Rules: who somebody is says the connection that a message came on, as in the real network the key
behind it does. What a message causes is what its receiver's machine answers it with.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.core.agent.records import EXECUTORS
from mesosctl.core.machine import Delete, Effect, Put, Received, Send, Started
from mesosctl.core.master import MasterMachine
from mesosctl.errors import require
from mesosctl.protocol.messages.agent import (
    Acknowledge,
    AgentRegistered,
    KillTasks,
    LaunchTasks,
    ShutdownFramework,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import FrameworkError, Subscribed
from mesosctl.protocol.messages.session import Reset
from mesosctl.sim.cluster import Cluster
from mesosctl.sim.disk import Row
from mesosctl.sim.node import KEPT, Node

Tables = dict[str, dict[str, Row]]


class Rights:
    """Watches a cluster beside the other judges."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Which life of which master wrote an epoch down first.
        self._leaders: dict[int, tuple[str, int]] = {}
        # The highest epoch in which a node was given an order, and who has which id.
        self._obeyed: dict[str, int] = {}
        self._frameworks: dict[str, str] = {}
        self._agents: dict[str, str] = {}
        cluster.world.judges.append(self)

    # --- I8 ---------------------------------------------------------------------------------------
    def sends(self, node: Node) -> None:
        """Two leaders never speak in one epoch."""
        machine = node.machine
        if isinstance(machine, MasterMachine):
            epoch, me = machine.state.sessions.epoch, (node.name, node.life)
            leader = self._leaders.setdefault(epoch, me)
            require(leader == me, f"I8: {me} leads in epoch {epoch}, which is that of {leader}")

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """See Judges."""

    def _obeys(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """Whoever heard of a newer leader does nothing for an older one."""
        epoch = event.envelope.epoch
        highest = self._obeyed.get(node.name, 0)
        if isinstance(event.envelope.message, Reset):
            return
        if epoch < highest:
            done = [effect for effect in effects if isinstance(effect, KEPT)]
            text = f"I8: {node.name} heeds epoch {epoch} after {highest}: {done}"
            require(not done, text)
        elif effects:
            self._obeyed[node.name] = epoch

    # --- I14 --------------------------------------------------------------------------------------
    def saw(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """Judge what a message from outside caused."""
        if node not in self._cluster.masters:
            if event.peer == "master":
                self._obeys(node, event, effects)
            return
        connection = node.peers.get(event.peer)
        if connection is None or not isinstance(node.machine, MasterMachine):
            return
        sender = connection.client
        sent = [(one.peer, one.envelope.message) for one in effects if isinstance(one, Send)]
        for peer, message in sent:
            self._names(sender, peer, message, event)
        if sender in self._cluster.batches or sender in self._cluster.strangers:
            for peer, message in sent:
                self._may_cause(node, sender, peer, message)
        elif sender in self._cluster.agents:
            for _, message in sent:
                self._may_tell(sender, message)

    def _names(self, sender: Node, peer: str, message: Message, event: Received) -> None:
        if peer != event.peer:
            return
        if isinstance(message, Subscribed):
            known = self._frameworks.setdefault(message.framework_id, sender.name)
            text = f"I14: {sender.name} is given {message.framework_id}, which is that of {known}"
            require(known == sender.name, text)
        elif isinstance(message, AgentRegistered):
            known = self._agents.setdefault(message.agent_id, sender.name)
            text = f"I14: {sender.name} is given {message.agent_id}, which is that of {known}"
            require(known == sender.name, text)

    def _may_cause(self, master: Node, sender: Node, peer: str, message: Message) -> None:
        """A framework causes orders for its own tasks, and answers to itself."""
        match message:
            case LaunchTasks(framework=info):
                owners = [info.framework_id]
            case KillTasks(framework_id=one) | ShutdownFramework(framework_id=one):
                owners = [one]
            case Acknowledge(acks=acks):
                owners = [ack.framework_id for ack in acks]
            case _:
                owners = []
        for owner in owners:
            known = self._frameworks.get(owner)
            text = f"I14: {sender.name} causes {message.kind} for {owner}, which is that of {known}"
            require(known == sender.name, text)
        reached = master.peers.get(peer)
        if reached is not None and isinstance(message, FrameworkError):
            text = f"I14: {sender.name} has {reached.client.name} thrown out"
            require(reached.client is sender, text)

    def _may_tell(self, sender: Node, message: Message) -> None:
        """An agent tells of its own tasks."""
        if isinstance(message, StatusUpdates):
            for update in message.updates:
                known = self._agents.get(update.agent_id)
                text = f"I14: {sender.name} tells of a task on {known}"
                require(known in (None, sender.name), text)

    # --- I13 --------------------------------------------------------------------------------------
    def began(self, node: Node) -> None:
        """Recovering from what a recovery left changes nothing, and does not fail."""
        if node.life < 2 or not node.mortal or node in self._cluster.strangers:
            return
        before = node.tables()
        with self._cluster.world.apart():
            machine = node.make(node)
            effects = [*machine.handle(Started(), node.now), *machine.settle(node.now)]
            machine.check()
        after: Tables = {table: dict(rows) for table, rows in before.items()}
        for effect in effects:
            if isinstance(effect, Put):
                after.setdefault(effect.table, {})[effect.key] = effect.value
            elif isinstance(effect, Delete):
                after.get(effect.table, {}).pop(effect.key, None)
        for tables in (before, after):
            # Each start of a master is an epoch of its own, any other one a life.
            meta = tables.get("meta", {})
            if node in self._cluster.masters:
                meta.pop("cluster", None)
            for who in ("agent", "framework"):
                if who in meta:
                    meta[who] = {**meta[who], "life": 0}
        for tables in (before, after):
            # One that nothing was heard of may be given up for another.
            for name, row in list(tables.get(EXECUTORS, {}).items()):
                if not row.get("pid"):
                    del tables[EXECUTORS][name]
        for table in after:
            rows, again = before.get(table, {}), after[table]
            changed = [key for key in {**rows, **again} if rows.get(key) != again.get(key)]
            text = f"I13: {node.name} recovers {table} {changed} differently: "
            require(not changed, text + f"{[(rows.get(key), again.get(key)) for key in changed]}")

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """See Judges."""

    def failed(self, node: Node) -> None:
        """See Judges."""
