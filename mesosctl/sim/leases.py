"""The lease guards of a simulated host, which outlive the executors that started them."""

from __future__ import annotations

from collections.abc import Callable, Container

from mesosctl.core.executor_effects import GuardLease
from mesosctl.sim.node import Node
from mesosctl.sim.world import World

SIGKILL = 9
LOOK_S = 0.2


class Guards:
    """Who is guarded: for which executor, from when on, for how long.

    `containers` are those that exist on the host, `signal` reaches what is in one of them.
    """

    def __init__(
        self, world: World, containers: Container[str], signal: Callable[[str, int], None]
    ) -> None:
        self._world = world
        self._containers = containers
        self._signal = signal
        self._guarded: dict[str, tuple[Node, float, float]] = {}

    def guard(self, node: Node, effect: GuardLease) -> None:
        """A task with a lease begins."""
        self._guarded[effect.container] = (node, effect.renewed_at, effect.lease_s)
        self._look(effect.container)

    def renew(self, node: Node, renewed_at: float) -> None:
        """The leases of this executor count from here."""
        for container, (owner, _, lease_s) in self._guarded.items():
            if owner is node:
                self._guarded[container] = (node, renewed_at, lease_s)

    def unguard(self, container: str) -> None:
        """It has no lease any more."""
        self._guarded.pop(container, None)

    def clear(self) -> None:
        """The host starts anew."""
        self._guarded.clear()

    def _look(self, container: str) -> None:
        """End what has no lease any more, whether its executor lives or not."""
        if container not in self._guarded:
            return
        owner, renewed_at, lease_s = self._guarded[container]
        left_s = renewed_at + lease_s - self._world.now.boot
        if left_s > 0:
            self._world.later(left_s, lambda: self._look(container))
        elif container in self._containers or owner.machine is not None:
            self._signal(container, SIGKILL)
            self._world.later(LOOK_S, lambda: self._look(container))
