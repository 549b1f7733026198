"""How long sandboxes are kept: which are removed, and when; the removal itself is a deed.

Nothing of this is in the agent's records. That a sandbox is there, and when its task ended, stands
in the file system: the time of the last change of its directory, which is set anew when the task
ends, and which no user can set back.

Rules:
- A sandbox goes when it is older than the retention, and sooner while the disk is nearly full; the
  oldest first, a few at a time, with a look at the disk in between.
- Never one of a task that has not ended or whose end is not acknowledged, nor one that is read.
- What cannot be removed is told once and tried again with every later sweep.
- Work is bounded: the oldest of all sandboxes are listed, and the list is used up before the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from mesosctl.core.agent.effects import (
    DiskMeasured,
    ListSandboxes,
    MarkEnded,
    MeasureDisk,
    RemoveSandboxes,
    SandboxesListed,
    SandboxesRemoved,
)
from mesosctl.core.agent.task import Phase
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Effect, Log, Now
from mesosctl.errors import require
from mesosctl.limits import DISK_FULL_MILLI, DISK_LOOK_S, DISK_PRESSURE_MILLI
from mesosctl.model.words import duration_words

LISTED_MAX = 5_000
REMOVED_AT_ONCE = 100
# So many failures are remembered as told.
STUCK_MAX = 1_000


class _Step(Enum):
    IDLE = auto()
    MEASURING = auto()
    LISTING = auto()
    REMOVING = auto()


def allowed_age_s(keep_s: float, used_milli: int) -> float:
    """How old a sandbox may become while so many thousandths of its disk are in use.

    The whole retention up to DISK_PRESSURE_MILLI, nothing from DISK_FULL_MILLI on, in proportion
    between them. Mesos lets it shrink from an empty disk on, so that a stated time is never kept.
    """
    room = (DISK_FULL_MILLI - used_milli) / (DISK_FULL_MILLI - DISK_PRESSURE_MILLI)
    return keep_s * min(1.0, max(0.0, room))


class Retention:
    """The sandboxes of an agent after the end of their tasks. `is_read(container)`: somebody does.

    `keep_s` is the retention in seconds.
    """

    def __init__(self, tasks: Tasks, is_read: Callable[[str], bool], keep_s: float) -> None:
        self.keep_s = keep_s
        self._tasks = tasks
        self._is_read = is_read
        self._step = _Step.IDLE
        self._look_at: float | None = None
        # Ended sandboxes of the last list with the wall time of their end, oldest first; whether
        # these were all that there are, and when they were listed.
        self._known: deque[tuple[float, str]] = deque()
        self._is_whole = False
        self._listed_wall: float | None = None
        self._used_milli = 0
        self._told: dict[str, None] = {}

    @property
    def text(self) -> str:
        """What somebody is told who asks for a sandbox that is not there any more."""
        keep = duration_words(self.keep_s)
        return f"removed after its retention of {keep} (sooner if the disk was full)"

    def begin(self, now: Now) -> list[Effect]:
        """Start looking at the disk; the ages of tasks that wait for their acknowledgement begin.

        Whoever took their ends down may have been killed before it could set them.
        """
        self._look_at = now.mono
        return self.ended([task.container for task in self._tasks.of(Phase.ENDED)])

    def ended(self, containers: list[str]) -> list[Effect]:
        """The ages of these sandboxes begin."""
        return [MarkEnded(tuple(containers))] if containers else []

    # --- time -------------------------------------------------------------------------------------
    def tick(self, now: Now) -> list[Effect]:
        """Look at the disk when it is time to."""
        if self._step is not _Step.IDLE or self._look_at is None or now.mono < self._look_at:
            return []
        self._step, self._look_at = _Step.MEASURING, None
        return [MeasureDisk()]

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        return self._look_at

    def _rest(self, now: Now, at_once: bool = False) -> list[Effect]:
        # A retention of seconds is not to be kept to the minute.
        wait_s = min(DISK_LOOK_S, max(1.0, self.keep_s / 10))
        self._step, self._look_at = _Step.IDLE, now.mono + (0.0 if at_once else wait_s)
        return []

    # --- what the host says -----------------------------------------------------------------------
    def take(
        self, event: DiskMeasured | SandboxesListed | SandboxesRemoved, now: Now
    ) -> list[Effect]:
        """The answer to what was asked for last; one that comes late means nothing."""
        match event:
            case DiskMeasured(used_milli=used_milli) if self._step is _Step.MEASURING:
                # Remove what is too old for a disk as full as this one.
                self._used_milli = used_milli
                return self._remove(now)
            case SandboxesListed() if self._step is _Step.LISTING:
                self._known = deque(event.oldest)
                self._is_whole = event.is_whole
                self._listed_wall = now.wall
                unused = tuple([name for name in event.empty if name not in self._frameworks()])
                return self._remove(now, unused, may_list=False)
            case SandboxesRemoved() if self._step is _Step.REMOVING:
                return self._removed(event, now)
            case _:
                return []

    def _frameworks(self) -> dict[str, None]:
        return dict.fromkeys(str(framework_id) for framework_id in self._tasks.frameworks)

    def _remove(
        self, now: Now, unused: tuple[str, ...] = (), may_list: bool = True
    ) -> list[Effect]:
        before = now.wall - allowed_age_s(self.keep_s, self._used_milli)
        at_most = REMOVED_AT_ONCE
        if self._used_milli > DISK_PRESSURE_MILLI:
            # No more than is needed: a part of them, then another look at the disk.
            at_most = max(1, min(at_most, len(self._known) // 20))
        batch: list[str] = []
        spared: list[tuple[float, str]] = []
        while self._known and self._known[0][0] <= before and len(batch) < at_most:
            ended_at, container = self._known.popleft()
            if self._is_spared(container):
                spared.append((ended_at, container))
            else:
                batch.append(container)
        self._known.extendleft(reversed(spared))
        if batch or unused:
            self._step = _Step.REMOVING
            return [RemoveSandboxes(tuple(batch), unused)]
        if may_list and len(spared) == len(self._known) and self._is_stale(before):
            self._step = _Step.LISTING
            return [ListSandboxes(LISTED_MAX, tuple([one.container for one in self._tasks.all()]))]
        return self._rest(now)

    def _is_spared(self, container: str) -> bool:
        return self._tasks.get(container) is not None or self._is_read(container)

    def _is_stale(self, before: float) -> bool:
        """Whether there can be sandboxes as old as that which are not in the list."""
        if self._listed_wall is None or not self._is_whole:
            return True
        # All that ended since the last list is younger than that.
        return self._listed_wall <= before

    def _removed(self, event: SandboxesRemoved, now: Now) -> list[Effect]:
        # They are gone, but for those that cannot be; there may be more that are due.
        effects: list[Effect] = []
        if event.removed:
            age = duration_words(allowed_age_s(self.keep_s, self._used_milli))
            text = f"{event.removed} sandboxes removed after their retention of {age}"
            if self._used_milli > DISK_PRESSURE_MILLI:
                text += f": the disk is {self._used_milli / 10:.0f}% full"
            effects.append(Log("info", text))
        for name, why in event.stuck:
            if name not in self._told:
                self._told[name] = None
                text = f"sandbox {name} cannot be removed: {why}; it is tried again"
                effects.append(Log("warning", text))
        while len(self._told) > STUCK_MAX:
            del self._told[next(iter(self._told))]
        return effects + self._rest(now, at_once=event.removed > 0)

    def check(self) -> None:
        """Raises InvariantBroken where the sweep has stopped, or would take the young first."""
        waits = self._look_at is not None
        require(waits == (self._step is _Step.IDLE) or self._listed_wall is None, "no sweep comes")
        known = list(self._known)
        require(known == sorted(known), "the oldest sandboxes are not the first")
