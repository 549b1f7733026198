"""The cgroup v1 controllers: one hierarchy each, one file each, joined thread by thread.

Rules: a launcher's thread writes its own id into `tasks`, so the launcher's other threads stay
outside; cpu and cpuacct may be one mount.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.isolation.controllers import Controller, Dialect
from mesosctl.isolation.v1.cpu import Cpu, lift
from mesosctl.isolation.v1.cpuacct import Cpuacct
from mesosctl.isolation.v1.kill import stop_forks
from mesosctl.isolation.v1.memory import Memory, watch_oom
from mesosctl.isolation.v1.pids import Pids
from mesosctl.isolation.v1.renewal import renewal_of


def dialect(
    tops: Sequence[str], where: dict[str, int], *, limit_pids: bool
) -> tuple[Dialect, list[str]]:
    """Compose the controllers whose hierarchies `where` names (controller to index in `tops`).

    Returns them with the sentences about what they leave open. Raises LimitUnavailable when a
    mounted controller lacks the files that its limit needs. The tops must exist.
    """
    controllers: list[tuple[int, Controller]] = []
    sentences: list[str] = []
    if "cpu" in where:
        cpu = Cpu()
        cpu.probe(tops[where["cpu"]])
        controllers.append((where["cpu"], cpu))
    cpuacct = Cpuacct()
    if "cpuacct" in where:
        controllers.append((where["cpuacct"], cpuacct))
    memory_at = where.get("memory")
    if memory_at is not None:
        memory = Memory()
        sentences += memory.probe(tops[memory_at])
        controllers.append((memory_at, memory))
    pids_at = where.get("pids")
    if pids_at is not None:
        controllers.append((pids_at, Pids(limit_pids)))

    def stop(directories: Sequence[str]) -> None:
        if pids_at is not None:
            stop_forks(directories[pids_at])

    def hasten(directories: Sequence[str]) -> None:
        if "cpu" in where:
            lift(directories[where["cpu"]])

    def watch(directories: Sequence[str]) -> int | None:
        return None if memory_at is None else watch_oom(directories[memory_at])

    return (
        Dialect(
            controllers=tuple(controllers),
            join_file="tasks",
            join_by="thread",
            stop_forks=None if pids_at is None else stop,
            kill_at_once=None,
            hasten=hasten,
            watch=watch,
            sample=None,
            renewal=renewal_of(where, cpuacct),
        ),
        sentences,
    )
