"""When an executor's machine has to look at which container; what is due then the task knows.

Rules: an alarm that is not needed any more rings all the same, and nothing comes of it. Those of
tasks that are long gone must not pile up: time limits can be days away.
"""

from __future__ import annotations

import heapq
from collections.abc import Sized
from typing import Protocol


class _Table(Sized, Protocol):
    def __contains__(self, name: str, /) -> bool: ...


class Alarms:
    """Alarms of the containers in `tasks`, in monotonic seconds."""

    def __init__(self, tasks: _Table) -> None:
        self._tasks = tasks
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, alarm: tuple[float, str]) -> bool:
        return alarm in self._heap

    def set(self, due: float, container: str) -> None:
        """Ring for this container then."""
        heapq.heappush(self._heap, (due, container))

    def ring(self, mono: float) -> str:
        """A container whose time has come, empty when there is none."""
        if self._heap and self._heap[0][0] <= mono:
            return heapq.heappop(self._heap)[1]
        return ""

    def deadline(self) -> float | None:
        """When the next one rings."""
        if len(self._heap) > 64 + 8 * len(self._tasks):
            self._heap = [alarm for alarm in self._heap if alarm[1] in self._tasks]
            heapq.heapify(self._heap)
        return self._heap[0][0] if self._heap else None
