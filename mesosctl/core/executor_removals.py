"""Containers of ended tasks that could not be removed: tried again, less and less often.

Rules: nothing waits for a removal; what cannot be removed at last is left to the agent's next
start.
"""

from __future__ import annotations

from mesosctl.core.executor_effects import Remove, RemoveFailed
from mesosctl.core.machine import Effect, Log, Now

REMOVE_AGAIN_S = 0.01
REMOVE_TRIES = 10


class Removals:
    """When to try which container again, and how often it was tried."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._due)

    def failed(self, event: RemoveFailed, now: Now) -> list[Effect]:
        """Try again later, or give up."""
        if event.tries >= REMOVE_TRIES:
            return [Log("warning", f"container {event.container} cannot be removed; left behind")]
        self._due[event.container] = (now.mono + REMOVE_AGAIN_S * 2**event.tries, event.tries)
        return []

    def tick(self, now: Now) -> list[Effect]:
        """Try what is due. Silence is success; a failure puts it back with its count of tries."""
        due = [(name, tries) for name, (at, tries) in self._due.items() if at <= now.mono]
        for name, _ in due:
            del self._due[name]
        return [Remove(name, tries + 1) for name, tries in due]

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        return min((at for at, _ in self._due.values()), default=None)
