"""The status updates that an executor has made and its agent has not acknowledged.

Rules: of several updates that a task makes before the first is sent only the last is kept, and
RUNNING is held back for a moment: a short task then costs everyone on the way to its framework one
update instead of two. The end of a task that others follow in its lane is held back, too, so that
many go in one message. What was sent is kept until it is acknowledged, and all of it goes with each
registration.
"""

from __future__ import annotations

from mesosctl.errors import require
from mesosctl.model.tasks import StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import Ack

# Longer than a short task takes, shorter than anybody notices.
RUNNING_HELD_S = 0.02
# In a lane, where tasks are short by all that is known, but may wait for a processor.
RUNNING_IN_LANE_HELD_S = 0.2
# Ends in a lane with more to come; the protocol allows it.
FOLLOWED_HELD_S = 0.2


class Updates:
    """Status updates from the moment they are made until the agent has taken them."""

    def __init__(self) -> None:
        # To be sent from a monotonic time on, by container; then by uuid until acknowledged.
        self._made: dict[str, tuple[float, StatusUpdate]] = {}
        # Not later than the earliest of these times.
        self._due: float | None = None
        self._unacked: dict[str, StatusUpdate] = {}
        # The uuid of the terminal update of each container that has one here.
        self._ends: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._made or self._unacked)

    def has_ended(self, container: str) -> bool:
        """Whether the end of this container is not acknowledged yet."""
        return container in self._ends

    def put(
        self,
        container: str,
        made: StatusUpdate,
        mono: float,
        *,
        in_lane: bool = False,
        is_followed: bool = False,
    ) -> None:
        """Keep an update, in place of one of the same container that was not sent yet.

        `is_followed`: others come after it in its lane, whose ends it may be told with.
        """
        at = mono
        if made.state is TaskState.RUNNING:
            at += RUNNING_IN_LANE_HELD_S if in_lane else RUNNING_HELD_S
        elif made.is_terminal:
            self._ends[container] = made.uuid
            at += FOLLOWED_HELD_S if is_followed else 0.0
        self._made[container] = (at, made)
        self._due = at if self._due is None else min(self._due, at)

    def take(self, mono: float) -> list[StatusUpdate]:
        """What is to be sent now."""
        if self._due is None or self._due > mono:
            return []
        # When one end is told, those that were held back are told with it.
        any_end = any(one.is_terminal for at, one in self._made.values() if at <= mono)
        due = [
            container
            for container, (at, one) in self._made.items()
            if at <= mono or (any_end and one.is_terminal)
        ]
        fresh = [self._made.pop(container)[1] for container in due]
        for item in fresh:
            self._unacked[item.uuid] = item
        self._due = min((at for at, _ in self._made.values()), default=None)
        return fresh

    def deadline(self) -> float | None:
        """When the next update is to be sent, in monotonic seconds."""
        return self._due

    def take_all(self) -> tuple[StatusUpdate, ...]:
        """Everything that is not acknowledged, oldest first, and what was not due yet.

        For an introduction: whoever misses a task in it, and its end as well, believes that it
        never began.
        """
        for _, item in self._made.values():
            self._unacked[item.uuid] = item
        self._made.clear()
        self._due = None
        return tuple(self._unacked.values())

    def acknowledge(self, ack: Ack) -> None:
        """The agent has it. An unknown uuid is an update acknowledged twice."""
        taken = self._unacked.pop(ack.uuid, None)
        if taken is not None and taken.is_terminal:
            del self._ends[f"{taken.framework_id}/{taken.task_id}"]

    def check(self) -> None:
        """Raises InvariantBroken where the table of ends does not fit the updates."""
        items = [*self._unacked.values(), *(made for _, made in self._made.values())]
        ends = {
            f"{item.framework_id}/{item.task_id}": item.uuid for item in items if item.is_terminal
        }
        require(ends == self._ends, "the table of ended tasks is wrong")
