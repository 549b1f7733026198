"""The policies that come with mesosctl, by the name that the master's `--allocator` takes.

`random` is beside them in plugins/allocators.py: it is given a source of chance, and there is none
in this layer.
"""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.allocation.base import Allocator
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.priority import PriorityAllocator

ALLOCATORS: dict[str, Callable[[], Allocator]] = {
    "drf": DrfAllocator,
    "priority": PriorityAllocator,
}
