"""What the spawners of a simulated host were ordered to start after another container.

Owns those orders. Rules: their turn comes with the end of the task before, if its container is
empty by then and they are not overdue; some turns are left to the executor all the same, as a
spawner does that cannot tell. A spawner ends with its executor.
"""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.core.executor_effects import Begin, LaunchRecalled, Recall, Spawn
from mesosctl.core.machine import Event
from mesosctl.sim.containers import Container
from mesosctl.sim.node import Node
from mesosctl.sim.world import World

# From an order to the process.
SPAWN_S = 0.001
# A recall is on its way so long, while tasks end and others have their turns; a spawner that gets
# no processor lets it wait.
RECALL_MAX_S = 0.03
RECALL_SLOW_S = 4.0


class Turns:
    """Orders that wait, by container. `start` starts one, `tell` tells an executor of something."""

    def __init__(
        self,
        world: World,
        start: Callable[[Node, Spawn], None],
        tell: Callable[[Node, Event], None],
    ) -> None:
        self._world = world
        self._start = start
        self._tell = tell
        self._waiting: dict[str, tuple[Node, Spawn]] = {}

    def order(self, node: Node, effect: Spawn) -> None:
        """Start this at once, or when its turn has come."""
        if effect.after:
            self._waiting[effect.launch.container] = node, effect
        else:
            self._world.later(SPAWN_S, lambda: self._start(node, effect))

    def begin(self, effect: Begin) -> None:
        """The executor says that it is to begin."""
        found = self._waiting.pop(effect.container, None)
        if found is not None:
            self._world.later(SPAWN_S, lambda: self._start(*found))

    def recall(self, node: Node, effect: Recall) -> None:
        """Take it back, unless its turn comes while that is on its way."""

        def take_back() -> None:
            if self._waiting.pop(effect.container, None) is not None:
                self._tell(node, LaunchRecalled(effect.container))

        longest_s = RECALL_SLOW_S if self._world.chance(0.4) else RECALL_MAX_S
        self._world.later(self._world.random.uniform(SPAWN_S, longest_s), take_back)

    def ended(self, container: str, held: Container) -> None:
        """The first process of a container is gone."""
        for name, (node, effect) in self._waiting.items():
            if effect.after == container:
                lives = node.machine is not None and not self._world.chance(0.1)
                in_time = effect.due is None or node.now.mono + SPAWN_S < effect.due
                if lives and in_time and held.is_empty:
                    self.begin(Begin(name))
                return

    def forget(self, node: Node) -> None:
        """This executor is gone, and its spawner with it."""
        self._waiting = {
            name: found for name, found in self._waiting.items() if found[0] is not node
        }

    def clear(self) -> None:
        """Nothing of the host is left."""
        self._waiting.clear()
