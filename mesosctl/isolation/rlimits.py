"""posix/rlimits: the kernel's limits of single processes, as ulimit(1) and setrlimit(2) know them.

Rules: what is refused is refused before the task starts: hard limits only go down, whoever we are,
because most containers withhold the capability to raise them. The limits are set by the helper
that becomes the task, so hard and soft ones hold from its first instruction on.
"""

from __future__ import annotations

import resource

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import RLIMITS, Additions, Isolator, Limits

# "nofile" to the number of RLIMIT_NOFILE, for all that this kernel and Python know.
NAMES = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in sorted(vars(resource))
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
# What the spawner has lowered for all tasks (runtime/spawner.py, prepare).
_LOWERED = {"core": 0, "nofile": 524_288}
_INFINITY = 1 << 63


class Rlimits(Isolator):
    """See the module."""

    name = "posix/rlimits"
    handles: tuple[str, ...] = (RLIMITS,)
    not_enforced: tuple[str, ...] = (
        "rlimits hold for each process alone, nproc for all of a user (posix/rlimits)",
    )

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Check the limits and hand them to the helper. Raises LimitUnavailable."""
        if not limits.rlimits:
            return None
        checked: dict[str, list[int]] = {}
        for name, (soft, hard) in sorted(limits.rlimits.items()):
            checked[name] = _checked(name, soft, hard)
        return Additions(helper={"rlimits": checked})


def _checked(name: str, soft: int | None, hard: int | None) -> list[int]:
    number = NAMES.get(name)
    if number is None:
        raise LimitUnavailable(f"there is no rlimit {name!r}", f"there are: {', '.join(NAMES)}")
    soft_value = _INFINITY if soft is None else soft
    hard_value = _INFINITY if hard is None else hard
    ours = resource.getrlimit(number)[1]
    most = _INFINITY if ours == resource.RLIM_INFINITY else ours
    most = min(most, _LOWERED.get(name, most))
    if soft_value > hard_value or soft_value < 0:
        raise LimitUnavailable(
            f"rlimit {name}: the soft limit is above the hard one", "write SOFT:HARD"
        )
    if hard_value > most:
        raise LimitUnavailable(
            f"rlimit {name} cannot be raised above {most} here",
            "ask for less",
        )
    return [-1 if value == _INFINITY else value for value in (soft_value, hard_value)]
