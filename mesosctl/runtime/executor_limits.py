"""From a task's description to the limits of its container.

Rules: what cannot be a limit refuses the task here; most tasks ask for CPUs and memory alone, and
pay for nothing else.
"""

from __future__ import annotations

from mesosctl.core.executor_effects import Prepare, Resize
from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import Limits
from mesosctl.model.resources import MIB
from mesosctl.model.values import MILLI

_PLAIN = frozenset(("cpus", "mem"))
_OURS = (*_PLAIN, "disk", "gpus")


def limits_of(effect: Prepare | Resize) -> Limits:
    """The limits that an order to prepare or to resize asks for. Raises LimitUnavailable."""
    launch = effect.launch
    if launch is None:
        return Limits(effect.cpus_milli, effect.mem_bytes, effect.pids)
    task = launch.task
    resources = task.resources
    others: dict[str, int] | None = None
    ports: tuple[tuple[int, int], ...] = ()
    disk_milli = gpus = 0
    if not _PLAIN.issuperset(resources.names()):
        found = resources.quantities()
        disk_milli = found.get("disk", 0)
        gpus = _whole("gpus", found.get("gpus", 0))
        ports = resources.ranges("ports")
        others = {name: amount for name, amount in found.items() if name not in _OURS} or None
    return Limits(
        effect.cpus_milli,
        effect.mem_bytes,
        effect.pids,
        disk_milli * MIB // MILLI if disk_milli else None,
        gpus,
        ports,
        _whole("cpus", effect.cpus_milli) if task.whole_cores else 0,
        {name: (_bound(soft), _bound(hard)) for name, (soft, hard) in task.rlimits.items()} or None,
        task.private,
        others,
        launch.sandbox,
    )


def _whole(name: str, milli: int) -> int:
    if milli % MILLI:
        raise LimitUnavailable(
            f"{milli / MILLI:g} {name} are no whole {name}", "ask for whole ones"
        )
    return milli // MILLI


def _bound(value: int) -> int | None:
    return None if value < 0 else value
