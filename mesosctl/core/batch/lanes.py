"""How many tasks of a job go into one lane, from what its tasks have taken so far.

Rules: measured is what a slot of ours took, on our own monotonic clock, from the launch of a lane
to its last end, divided by the tasks that ran: that is what the next lane will take, with all that
the way there costs. A job of which nothing has ended gets none, unless the last job of its owner
with the same command was measured: many small jobs are as quick as a large one. A job of `--once`
never gets any: what an executor that dies was told of counts as started. Nor does one of
`--spread`, whose tasks are to be on many agents. docs/decisions/lanes.md has the reasons.
"""

from __future__ import annotations

from mesosctl.core.batch.records import Job, command_of
from mesosctl.limits import LANE_SHARE_S, LANE_TASKS_MAX, LANE_WORK_S
from mesosctl.model.records import dataclass

# How quickly the mean follows: upwards at once, downwards only after several lanes have agreed.
_RISE, _FALL = 0.5, 0.25
# Commands of which is known how long they take: each a few hundred bytes.
PACES_KEPT = 1_000


@dataclass(slots=True)
class Lane:
    """A lane with tasks under way. `begun` is None after a restart, and once it was measured."""

    open: int = 0
    ran: int = 0
    begun: float | None = None


class Lanes:
    """The lanes with tasks under way, by name; and what slots took for each task of late."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        # Of commands that jobs may have in common: seconds a task, known from so many tasks.
        self._paces: dict[tuple[str, ...], tuple[float, int]] = {}

    def __eq__(self, other: object) -> bool:
        """Whether as many tasks are under way in the same lanes."""
        return isinstance(other, Lanes) and self._counts() == other._counts()

    def _counts(self) -> dict[str, int]:
        return {name: lane.open for name, lane in self._lanes.items()}

    def get(self, name: str) -> Lane | None:
        """The lane of this name, while a task of it is under way."""
        return self._lanes.get(name) if name else None

    def enter(self, name: str, mono: float | None) -> bool:
        """A task is under way; whether it holds what its lane holds, or would, being alone."""
        if not name:
            return True
        lane = self._lanes.setdefault(name, Lane(begun=mono))
        lane.open += 1
        return lane.open == 1

    def leave(self, name: str) -> bool:
        """A task is not under way any more; whether what it held is free by that."""
        if not name:
            return True
        lane = self._lanes[name]
        lane.open -= 1
        if not lane.open:
            del self._lanes[name]
        return not lane.open

    # --- measuring --------------------------------------------------------------------------------
    def lend(self, job: Job) -> None:
        """A job is new: what is known of its like holds until it is measured itself."""
        job.like = (job.owner, job.spec.user, job.spec.name, command_of(job))
        job.pace_s, job.paced = self._paces.get(job.like, (None, 0))

    def measure(self, job: Job, lane: Lane, ran: int, mono: float) -> None:
        """Learn from a lane, once, that it took until now for so many tasks."""
        if lane.begun is not None:
            self.note(job, mono - lane.begun, ran)
            lane.begun = None

    def note(self, job: Job, took_s: float, ran: int) -> None:
        """A slot took so long for so many tasks of the job."""
        seen_s = took_s / ran
        known_s = job.pace_s
        if known_s is None:
            job.pace_s = seen_s
        else:
            job.pace_s = known_s + (seen_s - known_s) * (_RISE if seen_s > known_s else _FALL)
        job.paced += ran
        self._paces.pop(job.like, None)
        self._paces[job.like] = (job.pace_s, job.paced)
        if len(self._paces) > PACES_KEPT:
            del self._paces[next(iter(self._paces))]


def length(job: Job, room: int, slots: int) -> int:
    """How many tasks to put into the next lane, of `room` that could be started on `slots`.

    Half of each slot's share of what is left at the most, so that all slots end together, as far as
    a tenth of a second matters.
    """
    if job.spec.once or job.spec.spread or not job.pace_s:
        return 1
    filling = int(LANE_WORK_S / job.pace_s)
    share = max(-(-room // (2 * max(1, slots))), int(LANE_SHARE_S / job.pace_s))
    return max(1, min(filling, LANE_TASKS_MAX, job.paced, share))
