"""Persistent volumes: what operators ask for, what agents are told, and what they say of it.

Rules: a volume is named by its agent, its role and its id. What the master has decided is kept
before anybody is told; the agent answers when its disk has it, or has it no more.
"""

from __future__ import annotations

from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass
from mesosctl.model.volumes import Volume
from mesosctl.protocol.messages.base import Message, message


# --- operator -> master ---------------------------------------------------------------------------
@message("create-volume")
@dataclass(frozen=True, slots=True)
class CreateVolume(Message):
    """Make a volume of disk that is reserved to its role. Answered when the agent has made it."""

    request_id: str
    agent: str
    volume: Volume


@message("destroy-volume")
@dataclass(frozen=True, slots=True)
class DestroyVolume(Message):
    """Remove a volume that no task uses, with its data. Answered when these are gone."""

    request_id: str
    agent: str
    role: str
    volume_id: str


@message("list-volumes")
@dataclass(frozen=True, slots=True)
class ListVolumes(Message):
    """Which volumes are there? `agents` are names and ids; none asks for all."""

    agents: tuple[str, ...] = ()


# --- master -> operator ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume. `state`: making, ready, removing or lost; of a ready one, `task` uses it now.

    `framework` is the name of the one whose task that is.
    """

    volume: Volume
    agent_id: AgentId
    agent_name: str
    state: str
    framework: str = ""
    task: str = ""


@message("volumes")
@dataclass(frozen=True, slots=True)
class Volumes(Message):
    """Answer to ListVolumes, and to CreateVolume and DestroyVolume with that agent's alone."""

    re: int
    volumes: tuple[VolumeView, ...]


# --- master -> agent ------------------------------------------------------------------------------
@message("order-volumes")
@dataclass(frozen=True, slots=True)
class OrderVolumes(Message):
    """Make these and remove those. Repeating it is harmless, and each is answered each time."""

    make: tuple[Volume, ...] = ()
    remove: tuple[Volume, ...] = ()


# --- agent -> master ------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class VolumeResult:
    """What became of an order. `problem`: empty when it was done and is on the agent's disk."""

    volume: Volume
    removed: bool
    problem: str = ""


@message("volumes-done")
@dataclass(frozen=True, slots=True)
class VolumesDone(Message):
    """Answer to OrderVolumes, volume by volume, in any order."""

    results: tuple[VolumeResult, ...]
