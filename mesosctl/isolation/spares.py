"""Empty containers that are kept for a moment, because the next task is likely to want the same.

Making and removing a container in four hierarchies costs more than starting the task. Owns which of
them may be used once more. Rules:
- Only within one framework, for the same limits, and only after the holder has found it empty.
- Nothing of one task is told of, or charged to, the next: a container in which something was
  killed, whose limits were changed, or which holds memory of the one before is removed.
- Until it is removed it may use half of what its CPU quota allows in one period, all of its tasks
  together. So its quota is never used up when the next one is started in it: the launcher, which
  passes through, would be stopped with it and could not serve others.
- What nobody wanted for a while is removed (`stale`).
"""

from __future__ import annotations

from mesosctl.isolation.base import Limits, Usage
from mesosctl.model.records import dataclass

# More than one agent's slots change hands at once; each is a directory in four hierarchies.
KEPT_MAX = 32
# The period of a CPU quota, which is that of v1/cpu.py.
_PERIOD_S = 0.1
_PAGE_BYTES = 4096

_Key = tuple[str, int, int | None, int]


@dataclass(slots=True)
class _Known:
    """A container in use: who may have it next, and the CPU seconds of all tasks before."""

    key: _Key
    spent_s: float
    used: Usage | None = None


class Spares:
    """Which containers are free, and which may become so."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        # Those that are free, the latest last, and what they have spent.
        self._free: dict[_Key, dict[str, float]] = {}
        self._count = 0
        # Free since before the last look.
        self._old: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._count)

    def take(self, container: str, limits: Limits) -> str | None:
        """The name of a free one that `container` may become, None when it has to be made."""
        key = _key(container, limits)
        free = self._free.get(key)
        if not free:
            self._known[container] = _Known(key, 0.0)
            return None
        name, spent_s = free.popitem()
        self._count -= 1
        self._old.pop(name, None)
        self._known[container] = _Known(key, spent_s)
        return name

    def told(self, container: str, used: Usage) -> None:
        """What the container has used."""
        known = self._known.get(container)
        if known is not None:
            known.used = used

    def spoil(self, container: str) -> None:
        """Whatever happens, this one is not used again."""
        self._known.pop(container, None)

    def may_keep(self, container: str) -> bool:
        """Whether it may be used once more if it is empty."""
        known = self._known.get(container)
        if known is None or known.used is None or self._count >= KEPT_MAX:
            return False
        _, cpus_milli, mem_bytes, _ = known.key
        used = known.used
        if used.oom_kills or not _is_kept(mem_bytes, used.mem_limit_bytes):
            return False
        spent_s = known.spent_s + used.cpu_user_s + used.cpu_system_s
        return spent_s <= cpus_milli / 1000 * _PERIOD_S / 2

    def keep(self, container: str) -> None:
        """It is empty and free from now on; only after `may_keep`."""
        known = self._known.pop(container)
        spent_s = known.spent_s
        if known.used is not None:
            spent_s += known.used.cpu_user_s + known.used.cpu_system_s
        self._free.setdefault(known.key, {})[container] = spent_s
        self._count += 1

    def stale(self, *, everything: bool = False) -> list[str]:
        """Those that were free the last time as well; they are not kept any more."""
        found: list[str] = []
        for key, free in list(self._free.items()):
            for name in list(free):
                if everything or name in self._old:
                    del free[name]
                    found.append(name)
            if not free:
                del self._free[key]
        self._count -= len(found)
        self._old = {name: None for free in self._free.values() for name in free}
        return found


def _key(container: str, limits: Limits) -> _Key:
    framework = container.partition("/")[0]
    return framework, limits.cpus_milli, limits.mem_bytes, limits.pids


def _is_kept(wanted: int | None, found: int | None) -> bool:
    """Whether the memory limit is the one that was written, which the kernel cuts to pages."""
    if wanted is None or found is None:
        return wanted is found
    return found == wanted // _PAGE_BYTES * _PAGE_BYTES
