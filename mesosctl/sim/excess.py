"""Tasks of the simulated world that go beyond their limits, and how their hosts notice.

Rules: the kernel ends what has too much memory, with KILL, when the task would have ended; what
has too much on disk, or too much memory where no kernel counts it, somebody has to look for. Which
seeds have such tasks is certain, so that the others go on as they were.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.core.executor_effects import ContainerEmptied, LimitExceeded
from mesosctl.model.tasks import Reason, Usage
from mesosctl.sim.containers import Container
from mesosctl.sim.node import Node

EXCESS_EVERY = 6
EXCESS_AT = 4
SAMPLE_S = 0.5
SIGKILL = 9
# What a task goes beyond: nothing mostly, memory that the kernel counts, or what is looked for.
KINDS = ("", "", "", "oom", "mem", "disk")
REASONS = {Reason.MEMORY_LIMIT: ("oom", "mem"), Reason.DISK_LIMIT: ("disk",)}
_CPU_S = 0.1


def has_excess(seed: int) -> bool:
    """Whether tasks of this seed go beyond their limits."""
    return seed % EXCESS_EVERY == EXCESS_AT


def found(node: Node, containers: Mapping[str, Container]) -> list[LimitExceeded]:
    """What an executor finds when it looks at its containers."""
    events = []
    for name, held in containers.items():
        if held.owner is node and held.alive and held.exceeds in ("mem", "disk"):
            held.alive[0].exceeded = held.exceeds
            limit = held.mem_bytes
            events.append(LimitExceeded(name, held.exceeds, limit + 4096, limit))
    return events


def emptied(container: str, held: Container | None) -> ContainerEmptied:
    """What the counters of a container say in the end."""
    limit = held.mem_bytes if held is not None else 1 << 26
    killed = held is not None and held.oom_kills
    usage = Usage(_CPU_S, _CPU_S, limit if killed else 1 << 20, limit)
    return ContainerEmptied(container, usage, int(killed))
