"""Allocation modules by name: `--allocator` of the master."""

from __future__ import annotations

from mesosctl.allocation.base import Allocator
from mesosctl.allocation.registry import ALLOCATORS
from mesosctl.errors import UsageError
from mesosctl.plugins.loading import load, make

ALLOCATOR_GROUP = "mesosctl.allocators"
_METHODS = tuple(name for name in vars(Allocator) if not name.startswith("_"))


def make_allocator(name: str) -> Allocator:
    """The allocation module that `name` stands for. Raises UsageError."""
    what = "allocation module"
    factory = ALLOCATORS.get(name) or load(name, ALLOCATOR_GROUP, what, ALLOCATORS)
    made = make(factory, name, what)
    missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(f"{name} is no allocation module", f"it lacks {', '.join(missing)}")
    allocator: Allocator = made
    return allocator
