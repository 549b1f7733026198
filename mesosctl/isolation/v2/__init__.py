"""The cgroup v2 controllers: one hierarchy, one file each, joined by whole processes.

Source of the values: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.isolation.controllers import Controller, Dialect, must_exist
from mesosctl.isolation.v2.cpu import Cpu, lift
from mesosctl.isolation.v2.kill import kill_at_once, stop_forks
from mesosctl.isolation.v2.memory import Memory
from mesosctl.isolation.v2.pids import Pids


def dialect(trial: str, controllers: Sequence[str]) -> tuple[Dialect, list[str]]:
    """Compose the controllers. `trial` is a cgroup that shows which files a container will have.

    Returns them with the sentences about what they leave open. Raises LimitUnavailable.
    """
    chosen: list[tuple[int, Controller]] = []
    sentences: list[str] = []
    look = None
    if "cpu" in controllers:
        must_exist(trial + "/cpu.max", "cpu time")
        chosen.append((0, Cpu()))
    if "memory" in controllers:
        memory = Memory()
        sentences += memory.probe(trial)
        chosen.append((0, memory))
        if not memory.has_peak:
            look = memory.look
    if "pids" in controllers:
        chosen.append((0, Pids()))
    return (
        Dialect(
            controllers=tuple(chosen),
            join_file="cgroup.procs",
            join_by="process",
            stop_forks=stop_forks if "pids" in controllers else None,
            kill_at_once=kill_at_once,
            hasten=(lambda directories: lift(directories[0])) if "cpu" in controllers else None,
            watch=lambda _directories: None,
            sample=None if look is None else (lambda directories: look(directories[0])),
        ),
        sentences,
    )
