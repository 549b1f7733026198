"""Persistent volumes of a simulated host, and the operators' part in them; I19.

Rules: a volume's directory is on the host's disk: it outlives the agent and the host's power. What
is made or removed takes a moment, in which its agent may die with the deed done and nobody told.
I19: a volume leaves the master's registry only by removal, or when it could not be made; data are
removed only while the registry has them as being removed, or of an agent that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesosctl.core.agent.effects import (
    CloseVolumes,
    MakeVolume,
    RemoveVolume,
    VolumeMade,
    VolumeRemoved,
)
from mesosctl.core.machine import Effect, Event
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.errors import require
from mesosctl.model.ids import AgentId
from mesosctl.model.volumes import Volume, VolumeState
from mesosctl.protocol.schema import from_plain
from mesosctl.sim.disk import Row
from mesosctl.sim.node import Node
from mesosctl.sim.world import World

ROLE, IDS, DISK_MILLI = "other", ("v1", "v2"), 1_000_000
FULL_SHARE, SLOW_S = 0.1, (0.001, 0.3, 5.0)
_SETTLED = (VolumeState.READY, VolumeState.LOST)


class VolumeDisk:
    """The volumes of one host. `soon` tells its agent of something after so many seconds."""

    def __init__(
        self, world: World, agent: Node, soon: Callable[[Node, Event, float], None]
    ) -> None:
        self._world = world
        self._agent = agent
        self._soon = soon
        self.there: dict[tuple[str, str], Volume] = {}
        deeds: dict[type[Effect], Callable[..., None]] = {
            MakeVolume: lambda effect: self._make(effect.volume),
            RemoveVolume: lambda effect: self._remove(effect.volume),
            CloseVolumes: lambda effect: self._close(effect.volumes),
        }
        agent.deeds.update(deeds)

    def _make(self, volume: Volume) -> None:
        problem = "No space left on device" if self._world.chance(FULL_SHARE) else ""
        if not problem:
            self.there[volume.key] = volume
        self._soon(self._agent, VolumeMade(volume, problem), self._moment())

    def _remove(self, volume: Volume) -> None:
        self.there.pop(volume.key, None)
        self._soon(self._agent, VolumeRemoved(volume), self._moment())

    def _close(self, volumes: tuple[Volume, ...]) -> None:
        for volume in volumes:
            require(volume.key in self.there, f"volume {volume} is closed and not there")

    def _moment(self) -> float:
        return self._world.random.choice(SLOW_S)

    def clear(self) -> None:
        """The host begins anew, with another disk."""
        self.there.clear()


def volumes_of(entry: AgentEntry) -> list[tuple[str, bool]]:
    """The volumes of an agent in the registry: their ids, and whether each is settled."""
    return [(one.volume.volume_id, one.state in _SETTLED) for one in entry.volumes]


def volumes_kept(registry: Mapping[AgentId, AgentEntry]) -> list[str]:
    """The volumes that a master's registry has, but those of agents that are gone."""
    return [
        f"{one.volume} of {entry.name} is {one.state}"
        for entry in registry.values()
        if entry.mode is not Mode.GONE
        for one in entry.volumes
    ]


def require_kept(before: Row, after: Row) -> None:
    """What the registry forgets of an agent was to be removed, or was never made."""
    known, kept = (from_plain(AgentEntry, dict(row)) for row in (before, after))
    keys = [one.volume.key for one in kept.volumes]
    for one in known.volumes:
        is_over = one.state not in _SETTLED
        require(is_over or one.volume.key in keys, f"I19: volume {one.volume} is forgotten")
    for one in kept.volumes:
        # Nothing takes a disk away here.
        require(one.state is not VolumeState.LOST, f"I19: volume {one.volume} is taken for lost")


def require_none(name: str, disk: VolumeDisk, rows: Mapping[str, bytes]) -> None:
    """After the last removal nothing of any volume is left on this host."""
    require(not disk.there, f"I6: {name} still has volumes: {list(disk.there)}")
    require(not rows, f"I6: {name} still has records of volumes: {list(rows)}")
