"""The leases of an executor's tasks: how long each may run without word from the master.

A lease counts from the last moment at which the agent was certainly present to the master: the
sending of a ping that was answered. Rules: times are those of CLOCK_BOOTTIME, which goes on while
the host is suspended; a lease that has run out stays so, whatever is renewed afterwards; a task
whose lease has no beginning may not start. docs/decisions/leases.md shows why this is enough.
"""

from __future__ import annotations

from mesosctl.core.executor_effects import GuardLease, RenewGuard, UnguardLease
from mesosctl.core.machine import Effect, Now


class Leases:
    """Which containers are held by which lease; `renewed_at` None: there was no renewal yet."""

    def __init__(self) -> None:
        self.renewed_at: float | None = None
        # By length, for most tasks of an executor have the same.
        self._held: dict[float, dict[str, None]] = {}

    def renew(self, renewed_at: float, now: Now) -> list[Effect]:
        """Count from here. The caller has ended before what ran out until now."""
        known = self.renewed_at
        # An agent cannot have been present later than now.
        self.renewed_at = min(max(known or 0.0, renewed_at), now.boot)
        if not self._held or self.renewed_at == known:
            return []
        return [RenewGuard(self.renewed_at)]

    def may_start(self, lease_s: float, now: Now) -> bool:
        """Whether a task with such a lease may begin."""
        return self.renewed_at is not None and now.boot < self.renewed_at + lease_s

    def hold(self, container: str, lease_s: float) -> list[Effect]:
        """A task begins that may_start() let begin."""
        self._held.setdefault(lease_s, {})[container] = None
        return [GuardLease(container, lease_s, self.renewed_at or 0.0)]

    def drop(self, container: str, lease_s: float | None) -> list[Effect]:
        """A task has ended, or its lease has run out and is being dealt with."""
        held = self._held.get(lease_s or 0.0, {})
        if container not in held:
            return []
        del held[container]
        if not held:
            del self._held[lease_s or 0.0]
        return [UnguardLease(container)]

    def overdue(self, now: Now) -> list[str]:
        """The containers whose lease has run out."""
        found: list[str] = []
        for lease_s, containers in self._held.items():
            if (self.renewed_at or 0.0) + lease_s <= now.boot:
                found += containers
        return found

    def due(self) -> float | None:
        """When the next lease runs out, in seconds of CLOCK_BOOTTIME."""
        shortest = min(self._held, default=None)
        return None if shortest is None else (self.renewed_at or 0.0) + shortest
