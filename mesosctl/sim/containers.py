"""A container of the simulated world, and what a task in it is going to do."""

from __future__ import annotations

from dataclasses import field

from mesosctl.model.records import dataclass
from mesosctl.sim.history import Run
from mesosctl.sim.node import Node


@dataclass(slots=True)
class Behaviour:
    """What a task does once it runs."""

    lasts_s: float
    exit_code: int
    stubborn: bool = False
    leaves_child: bool = False
    # Beyond which of its limits it goes (excess.py).
    exceeds: str = ""


@dataclass(slots=True)
class Container:
    """A container: the runs alive in it, and children that outlive their parents."""

    owner: Node
    cpus_milli: int
    mem_bytes: int
    alive: list[Run] = field(default_factory=list)
    children: int = 0
    exceeds: str = ""
    oom_kills: int = 0
    # The program inside, if it is an executor of a framework's own.
    guest: Node | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it is alive."""
        return not self.alive and not self.children
