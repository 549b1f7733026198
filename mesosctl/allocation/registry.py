"""The policies that come with mesosctl, by the name that the master's `--allocator` takes."""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.allocation.base import Allocator
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.priority import PriorityAllocator

ALLOCATORS: dict[str, Callable[[], Allocator]] = {
    "drf": DrfAllocator,
    "priority": PriorityAllocator,
}
