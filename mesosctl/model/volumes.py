"""Persistent volumes: disk that is reserved to a role, with a name, on one agent.

    before          disk(eng):4096
    a volume of 1G  disk(eng):3072; volumes(eng):{data1}

Rules:
- A volume takes its disk out of what is reserved, and is itself a member of the set `volumes` of
  its role. So it is offered, held and counted like everything else that there is once, and by the
  role or those below it alone (docs/decisions/volumes.md).
- An id is a word without dots and slashes. On one agent a role, those above it and those below it
  never have two volumes of one id.
- A task names a volume among its resources, and says under which path of its sandbox it finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise

from mesosctl.limits import VOLUME_PATH_CHARS_MAX, VOLUMES_OF_TASK_MAX
from mesosctl.model import values as v
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass
from mesosctl.model.reservations import Reservation, applied
from mesosctl.model.resources import EMPTY, Resources

VOLUMES = "volumes"
DISK = "disk"
_ID = pattern(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
# Names in a sandbox that are not its task's to give.
_TAKEN = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a role. `disk_milli`: what it takes of the disk, in thousandths of a MiB."""

    volume_id: str
    role: str
    disk_milli: int

    @property
    def key(self) -> tuple[str, str]:
        """What names it on its agent."""
        return self.role, self.volume_id

    @property
    def disk(self) -> Resources:
        """What it is made of."""
        return Resources.of_values({f"{DISK}({self.role})": self.disk_milli})

    @property
    def itself(self) -> Resources:
        """What it is offered as."""
        return Resources.of_values({f"{VOLUMES}({self.role})": frozenset((self.volume_id,))})

    def __str__(self) -> str:
        return f"{self.volume_id} of role {self.role}"


class VolumeState(StrEnum):
    """How far a volume is."""

    MAKING = "making"  # its agent was told to make it, and has not said that it did
    READY = "ready"
    REMOVING = "removing"  # its agent was told to remove it with all that is in it
    LOST = "lost"  # its agent is here, and its data are not


@dataclass(frozen=True, slots=True)
class VolumeEntry:
    """A volume as the master keeps it, and the request that changed it last."""

    volume: Volume
    state: VolumeState = VolumeState.MAKING
    request: str = ""


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume that a task uses: it finds it under `path` of its sandbox."""

    volume_id: str
    path: str


@dataclass(frozen=True, slots=True)
class VolumePlace:
    """A volume of an agent, and where in a sandbox it is to be found."""

    role: str
    volume_id: str
    path: str


def is_volume_id(text: str) -> bool:
    """Whether `text` may name a volume: 1 to 64 of [A-Za-z0-9_-], no leading dash."""
    return _ID.fullmatch(text) is not None


def path_problem(path: str) -> str:
    """Why a volume cannot be found under this path of a sandbox; empty if it can."""
    parts = path.split("/")
    if path.startswith("/"):
        return "the path of a volume is one in the sandbox, so it does not begin with /"
    if len(path) > VOLUME_PATH_CHARS_MAX or not path.isprintable():
        return f"the path of a volume is printable, and {VOLUME_PATH_CHARS_MAX} characters at most"
    if any(part in ("", ".", "..") for part in parts):
        return "the path of a volume has no empty parts and neither . nor .."
    if parts[0] in _TAKEN:
        return f"{parts[0]} is an output of the task"
    return ""


def mounts_problem(mounts: Sequence[VolumeMount], resources: Resources) -> str:
    """Why a task with these resources cannot have these volumes; empty if it can."""
    if len(mounts) > VOLUMES_OF_TASK_MAX:
        return f"a task uses {VOLUMES_OF_TASK_MAX} volumes at the most"
    ids = [mount.volume_id for mount in mounts]
    bad = next((one for one in ids if not is_volume_id(one)), None)
    if bad is not None:
        return f"{bad[:40]!r} is no volume: write letters, digits, _ and -"
    problem = next(filter(None, (path_problem(mount.path) for mount in mounts)), "")
    if problem:
        return problem
    if len(set(ids)) < len(ids):
        return "a volume is named twice"
    paths = sorted(mount.path + "/" for mount in mounts)
    if any(after.startswith(path) for path, after in pairwise(paths)):
        return "one volume is to be found inside of another, or under the same path"
    if frozenset(ids) != volume_ids(resources):
        return "the volumes that it names are not those among its resources"
    return ""


def wanted(mounts: Iterable[VolumeMount]) -> Resources:
    """What a task with these volumes asks for, in the words of any role."""
    return Resources.of_values({VOLUMES: frozenset(mount.volume_id for mount in mounts)})


def volume_ids(resources: Resources) -> frozenset[str]:
    """The volumes among these resources, whosever they are."""
    found: frozenset[str] = frozenset()
    for key, value in resources.items():
        if v.name_of(key) == VOLUMES and isinstance(value, frozenset):
            found |= value
    return found


def keys_of(resources: Resources) -> list[tuple[str, str]]:
    """Role and id of every volume among these resources, in a fixed order."""
    return [
        (v.role_of(key), name)
        for key, value in resources.items()
        if v.name_of(key) == VOLUMES and isinstance(value, frozenset)
        for name in sorted(value)
    ]


def places_of(resources: Resources, mounts: Sequence[VolumeMount]) -> tuple[VolumePlace, ...]:
    """Where a task finds its volumes: the resources it was given say whose they are."""
    if not mounts:
        return ()
    roles = {name: role for role, name in keys_of(resources)}
    return tuple(
        [VolumePlace(roles.get(one.volume_id, ""), one.volume_id, one.path) for one in mounts]
    )


def without_volumes(resources: Resources) -> Resources:
    """What is left without the name that volumes are offered under."""
    keys = [key for key, _ in resources.items() if v.name_of(key) == VOLUMES]
    return resources.without(resources.only(keys)) if keys else resources


def total_of(
    own: Resources,
    reserved: Sequence[Reservation],
    volumes: Sequence[VolumeEntry],
    held: Resources = EMPTY,
) -> Resources:
    """What an agent with `own` has with its reservations and volumes, while its tasks hold `held`.

    What tasks hold is always in it. Of an agent that came back smaller volumes keep their disk
    before others get any.
    """
    own = without_volumes(own)
    if not volumes:
        return applied(own, reserved, held)
    plain = without_volumes(held)
    needed = plain
    for one in volumes:
        needed = needed + one.volume.disk
    free = applied(own, reserved, needed).without(plain)
    total = held
    for one in volumes:
        free = free.without(one.volume.disk)
        if one.state is VolumeState.READY:
            total = total + one.volume.itself
    return total + free


def clash(volumes: Iterable[VolumeEntry], role: str, volume_id: str) -> VolumeEntry | None:
    """The volume of that id that a role can see, or that those who see its own can see."""
    for one in volumes:
        other = one.volume.role
        is_near = v.is_within(role, other) or v.is_within(other, role)
        if one.volume.volume_id == volume_id and is_near:
            return one
    return None
