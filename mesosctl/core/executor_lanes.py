"""The lanes of an executor: which task's turn it is, and what has waited too long for its own.

Rules: of each lane one task at a time is on its way from its turn to its end; the others wait in
the order in which they came, the first few of them ahead: ordered, and ready to begin. What has not
begun when its lane is LANE_S old is given back and never started (docs/decisions/lanes.md). A lane
is there exactly as long as one of its tasks is; its age is known a while longer, for the rest of it
may come when what came before is over.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import field

from mesosctl.errors import require
from mesosctl.limits import LANE_S
from mesosctl.model.records import dataclass

# So many lanes that are over are remembered: more than end while a message is under way.
PAST_KEPT = 1_000
# So many of a lane are ordered ahead. Several, because short tasks end while we do not get a
# processor: of three, one turn in five found nobody ordered. Each has a container meanwhile.
AHEAD_MAX = 6


@dataclass(slots=True)
class Lane:
    """One lane: whose turn it is, who waits behind, until when. Times in monotonic seconds.

    `ahead` come before `waiting`. `is_over`: nothing of it may begin any more, as was said.
    """

    present: str
    due: float
    waiting: dict[str, None] = field(default_factory=dict)
    ahead: dict[str, None] = field(default_factory=dict)
    is_over: bool = False


class Lanes:
    """All lanes by name, the oldest first."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        # Until when those that are over would have lasted.
        self._past: dict[str, float] = {}

    def is_too_late(self, name: str, mono: float) -> bool:
        """Whether this lane is over, and too old for anything else of it to begin."""
        return self._past.get(name, mono + LANE_S) <= mono

    def enter(self, name: str, container: str, mono: float) -> bool:
        """A task has come; whether it is its turn at once. Without a lane it is."""
        if not name:
            return True
        lane = self._lanes.get(name)
        if lane is None:
            due = self._past.pop(name, mono + LANE_S)
            self._lanes[name] = Lane(container, due)
            if due < mono + LANE_S:
                by_age = sorted(self._lanes.items(), key=lambda entry: entry[1].due)
                self._lanes = dict(by_age)
            return True
        lane.waiting[container] = None
        lane.is_over = False
        return False

    def next_ahead(self, name: str, mono: float) -> tuple[str, str, float] | None:
        """Who could be ordered ahead: after whom, who, and until when it may begin."""
        lane = self._lanes.get(name)
        if lane is None or not lane.waiting or len(lane.ahead) >= AHEAD_MAX or lane.due <= mono:
            return None
        return next(reversed(lane.ahead), lane.present), next(iter(lane.waiting)), lane.due

    def go_ahead(self, name: str) -> None:
        """The first one that waits in this lane is ordered ahead."""
        lane = self._lanes[name]
        container = next(iter(lane.waiting))
        del lane.waiting[container]
        lane.ahead[container] = None

    def has_ahead(self, name: str, container: str) -> bool:
        """Whether this one was ordered ahead in its lane, and its turn was not over yet."""
        lane = self._lanes.get(name)
        return lane is not None and (container in lane.ahead or container == lane.present)

    def leave(self, name: str, container: str) -> bool:
        """A task is over; whether it had its turn, so that it is the next one's."""
        lane = self._lanes[name]
        if lane.present == container:
            lane.present = ""
            return True
        lane.waiting.pop(container, None)
        lane.ahead.pop(container, None)
        return False

    def turn(self, name: str) -> str:
        """Whose turn it is after one that is over; empty, and the lane is over, when nobody's."""
        lane = self._lanes[name]
        for behind in (lane.ahead, lane.waiting):
            for container in behind:
                del behind[container]
                lane.present = container
                return container
        del self._lanes[name]
        self._past[name] = lane.due
        if len(self._past) > PAST_KEPT:
            del self._past[next(iter(self._past))]
        return ""

    def follows(self, name: str) -> bool:
        """Whether tasks wait in this lane."""
        lane = self._lanes.get(name)
        return lane is not None and bool(lane.waiting or lane.ahead)

    def overdue(self, mono: float) -> list[str]:
        """What has waited until its lane was too old, told once; those ahead the last one first."""
        found: list[str] = []
        for lane in self._lanes.values():
            if lane.due > mono:
                break
            if not lane.is_over:
                lane.is_over = True
                found += [*lane.waiting, *reversed(lane.ahead)]
        return found

    def behind(self) -> list[str]:
        """Every task that waits for its turn; of a lane those ahead the last one first."""
        lanes = self._lanes.values()
        return [one for lane in lanes for one in (*lane.waiting, *reversed(lane.ahead))]

    def holds_back(self, container: str) -> bool:
        """Whether this task waits for its turn, and was not ordered ahead."""
        return any(container in lane.waiting for lane in self._lanes.values())

    def deadline(self) -> float | None:
        """When the next lane with tasks that wait is too old."""
        for lane in self._lanes.values():
            if not lane.is_over and (lane.waiting or lane.ahead):
                return lane.due
        return None

    def check(self, tasks: Container[str]) -> None:
        """Raises InvariantBroken where a lane is of tasks that are not there."""
        dues = [lane.due for lane in self._lanes.values()]
        require(dues == sorted(dues), "lanes are not in the order of their age")
        for name, lane in self._lanes.items():
            require(lane.present in tasks, f"in lane {name} it is nobody's turn")
            others = lane.present not in lane.waiting and lane.present not in lane.ahead
            require(others, f"in lane {name} one waits for itself")
            behind = [*lane.ahead, *lane.waiting]
            require(all(one in tasks for one in behind), f"in lane {name} nobody waits")
