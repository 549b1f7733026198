"""Operators of a simulated cluster: they drain agents, declare dead hosts gone, set quotas.

Rules: their chance is their own, so that what they do changes nothing else that a seed draws, and
only some seeds have any. They say `gone` of hosts alone that were switched off. Healing ends with
every agent in use, no quota, no volume, nothing reserved. What they decided is on the master's
disk, and is believed from there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mesosctl.core.machine import Effect, Event, Put, Received, Send
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.errors import require
from mesosctl.model.reservations import renamed
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import Volume
from mesosctl.protocol.codec import pack, unpack
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.maintenance import (
    DeactivateAgents,
    DeclareGone,
    DrainAgents,
    Reserve,
    UndrainAgents,
    Unreserve,
)
from mesosctl.protocol.messages.roles import Quota, SetQuotas, SetRoles
from mesosctl.protocol.messages.volumes import CreateVolume, DestroyVolume
from mesosctl.protocol.schema import from_plain
from mesosctl.sim import volumes

if TYPE_CHECKING:
    from mesosctl.sim.cluster import Cluster
    from mesosctl.sim.disk import Row
    from mesosctl.sim.hosts import Host
    from mesosctl.sim.node import Node

SHARE = 0.25
MEAN_S = 8.0
DEADLINES_S = (0.0, 2.0, 10.0, None)
LOOK_S = 2.0
# What an agent stops with that the master refuses for good.
REFUSED = 5
WITHHELD = ("draining", "deactivated")


def _begin_anew(agent: Node, host: Host) -> None:
    """Somebody gives a refused agent an empty disk."""
    agent.disk.clear()
    host.volumes.clear()


class Operators:
    """Everything that people do to the agents of one cluster, as a judge of what follows, too."""

    def __init__(self, cluster: Cluster, key: str, until_s: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._key = key
        self._until_s = until_s
        # Chance that can be repeated is the point here.
        self._chance = random.Random(self._world.seed ^ 0x0DECADE)  # noqa: S311
        self._asked = 0

    def begin(self) -> None:
        """In some seeds, start to decide things."""
        if self._chance.random() < SHARE:
            self._world.judges.append(self)
            for agent, host in zip(self._cluster.agents, self._cluster.hosts, strict=True):
                agent.stops_with[REFUSED] = partial(_begin_anew, agent, host)
            self._later()

    def _later(self) -> None:
        self._world.later(self._chance.expovariate(1 / MEAN_S), self._decide)

    def _decide(self) -> None:
        if self._world.now.mono >= self._until_s:
            return
        deeds = (
            self._drain,
            self._drain,
            self._undrain,
            self._undrain,
            self._deactivate,
            self._gone,
            self._role,
            self._quota,
            self._reserve,
            self._unreserve,
            self._create,
            self._create,
            self._destroy,
        )
        self._chance.choice(deeds)(self._chance.randrange(len(self._cluster.agents)))
        self._later()

    def _drain(self, number: int) -> None:
        name = self._cluster.agents[number].name
        self._say("drain", DrainAgents(self._id(), (name,), self._chance.choice(DEADLINES_S)))

    def _undrain(self, number: int) -> None:
        self._say("undrain", UndrainAgents(self._id(), (self._cluster.agents[number].name,)))

    def _deactivate(self, number: int) -> None:
        name = self._cluster.agents[number].name
        self._say("deactivate", DeactivateAgents(self._id(), (name,)))

    def _gone(self, number: int) -> None:
        """A host is switched off, and comes back later with a work directory that is refused."""
        self._cluster.hosts[number].reboot()
        self._say("gone", DeclareGone(self._id(), (self._cluster.agents[number].name,)))

    def _role(self, _number: int) -> None:
        """Weights and priorities, of the role that batch frameworks have and of another."""
        role = self._chance.choice(["*", "other"])
        weight, priority = self._chance.choice([1, 1000, 7000]), self._chance.choice([None, 0, 5])
        self._say("role", SetRoles(self._id(), (role,), weight, priority))

    def _quota(self, _number: int) -> None:
        """A limit, also below what is held, or a guarantee to a role that never uses it."""
        limit = self._chance.choice([{}, {"cpus": 0}, {"cpus": 1000}, {"cpus": 2000}])
        kept = self._chance.choice([{}, {"cpus": 1000}, {"mem": 1_000_000}])
        wanted = Quota("*", limit), Quota("other", {}, kept)
        self._say("quota", SetQuotas(self._id(), wanted, force=self._chance.random() < 0.7))

    def _reserve(self, number: int) -> None:
        """Of nobody, or refined; for a role that never uses it."""
        name, size = self._cluster.agents[number].name, self._chance.choice(["1", "2.5"])
        source, role = self._chance.choice([("", "other"), ("(other)", "other/sub")])
        wanted = Resources.parse(f"cpus{source}:{size}")
        self._say("reserve", Reserve(self._id(), (name,), role, wanted))

    def _unreserve(self, number: int) -> None:
        name, role = self._cluster.agents[number].name, self._chance.choice(["other", "other/sub"])
        self._say("unreserve", Unreserve(self._id(), (name,), role, Resources.scalars(cpus=1)))

    def _create(self, number: int) -> None:
        """A volume of one or the other id, of disk that is reserved for it just before."""
        name = self._cluster.agents[number].name
        volume = Volume(self._chance.choice(volumes.IDS), volumes.ROLE, volumes.DISK_MILLI)
        size = Resources.of_values({"disk": volumes.DISK_MILLI})
        self._say("reserve", Reserve(self._id(), (name,), volumes.ROLE, size))
        self._say("create", CreateVolume(self._id(), name, volume))

    def _destroy(self, number: int) -> None:
        name, volume = self._cluster.agents[number].name, self._chance.choice(volumes.IDS)
        self._say("destroy", DestroyVolume(self._id(), name, volumes.ROLE, volume))

    def _give_back(self, agent_id: str, row: Row) -> bool:
        """Have the volumes and the latest reservation of an agent given back; whether any are."""
        entry = from_plain(AgentEntry, dict(row))
        if entry.mode is not Mode.GONE and entry.volumes:
            for volume_id, is_settled in volumes.volumes_of(entry):
                if is_settled:
                    message = DestroyVolume(self._id(), agent_id, volumes.ROLE, volume_id)
                    self._say("destroy", message)
            return True
        # The deepest first: what was refined goes back before what it was refined from.
        known = sorted(entry.reserved, key=lambda one: one.role.count("/"))
        if not known or entry.mode is Mode.GONE:
            return False
        wanted = renamed(known[-1].resources, "")
        self._say("unreserve", Unreserve(self._id(), (agent_id,), known[-1].role, wanted))
        return True

    def _id(self) -> str:
        self._asked += 1
        return f"{self._asked:016x}"

    def _say(self, what: str, message: Message) -> None:
        """One command: it is said once, and a master that is down does not hear it."""
        self._world.struck(what, "operator")
        envelope = Envelope("", 0, self._id(), 1, message)
        self._cluster.master.take(Received(f"operator-{self._asked}", self._key, envelope))

    def heal(self) -> None:
        """Bring every agent back into use, end quotas and reservations, until all of it is done."""
        bounded = [
            role
            for role, row in self._cluster.master.tables().get("roles", {}).items()
            if row.get("limit") or row.get("guarantee")
        ]
        if bounded:
            self._say("quota", SetQuotas(self._id(), tuple([Quota(role) for role in bounded])))
        rows = self._cluster.master.tables().get("agents", {})
        held = tuple([agent_id for agent_id, row in rows.items() if row.get("mode") in WITHHELD])
        if held:
            self._say("undrain", UndrainAgents(self._id(), held))
        given_back = [self._give_back(agent_id, row) for agent_id, row in rows.items()]
        if held or bounded or any(given_back):
            self._world.later(LOOK_S, self.heal)

    # --- as a judge -------------------------------------------------------------------------------
    def saw(self, node: Node, event: Event, effects: Sequence[Effect]) -> None:
        """Single events are judged by others."""

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Nothing is launched on an agent that was withheld before, and nobody gone comes back."""
        if node not in self._cluster.masters:
            return
        decided = {effect.key for effect in effects if isinstance(effect, Put)}
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.envelope.message, LaunchTasks):
                agent_id = effect.envelope.message.tasks[0].agent_id
                mode = (node.row("agents", agent_id) or {}).get("mode", "")
                fresh = agent_id in decided
                require(not mode or fresh, f"I4: {agent_id} is {mode} and is given tasks")
            if isinstance(effect, Put) and effect.table == "agents":
                before = (node.row("agents", effect.key) or {}).get("mode", "")
                stays = before != "gone" or effect.value.get("mode") == "gone"
                require(stays, f"I3: {effect.key} was gone and is {effect.value.get('mode')}")
                known = node.row("agents", effect.key)
                if known is not None:
                    volumes.require_kept(known, unpack(pack(effect.value)))

    def began(self, node: Node) -> None:
        """See Judge."""

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """See Judge."""

    def sends(self, node: Node) -> None:
        """See Judge."""

    def failed(self, node: Node) -> None:
        """See Judge."""
