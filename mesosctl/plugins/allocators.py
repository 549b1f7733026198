"""Allocation modules by name: `--allocator` of the master."""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.allocation.base import Allocator
from mesosctl.allocation.lottery import RandomAllocator
from mesosctl.allocation.registry import ALLOCATORS
from mesosctl.errors import UsageError
from mesosctl.plugins.loading import load, make

ALLOCATOR_GROUP = "mesosctl.allocators"


def random_allocator() -> Allocator:
    """The policy `random`. It draws the same from every start, so that runs can be repeated."""
    # Late: a master of another policy does without.
    from random import Random

    # Nothing is kept secret by it.
    return RandomAllocator(Random(0).random)  # noqa: S311


BUILT_IN: dict[str, Callable[[], Allocator]] = {**ALLOCATORS, "random": random_allocator}
_METHODS = tuple(name for name in vars(Allocator) if not name.startswith("_"))


def make_allocator(name: str) -> Allocator:
    """The allocation module that `name` stands for. Raises UsageError."""
    what = "allocation module"
    factory = BUILT_IN.get(name) or load(name, ALLOCATOR_GROUP, what, BUILT_IN)
    made = make(factory, name, what)
    missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(f"{name} is no allocation module", f"it lacks {', '.join(missing)}")
    allocator: Allocator = made
    return allocator
