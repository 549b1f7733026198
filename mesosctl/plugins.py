"""Policies by name: built in, from an entry point of another package, or named as MODULE:CLASS.

Rules: nothing is loaded that was not named by whoever starts the process. What cannot be loaded is
a UsageError that says which name led where.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

from mesosctl.allocation.base import Allocator
from mesosctl.allocation.registry import ALLOCATORS
from mesosctl.errors import UsageError

ALLOCATOR_GROUP = "mesosctl.allocators"


def make_allocator(name: str) -> Allocator:
    """The allocation module that `name` stands for. Raises UsageError."""
    factory: Callable[[], Any] | None = ALLOCATORS.get(name)
    if factory is None:
        factory = _named_object(name) if ":" in name else _entry_point(name)
    made = factory()
    missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(f"{name} is no allocation module", f"it lacks {', '.join(missing)}")
    allocator: Allocator = made
    return allocator


_METHODS = tuple(name for name in vars(Allocator) if not name.startswith("_"))


def _entry_point(name: str) -> Callable[[], Any]:
    found = {point.name: point for point in metadata.entry_points(group=ALLOCATOR_GROUP)}
    point = found.get(name)
    if point is None:
        known = ", ".join(sorted({*ALLOCATORS, *found}))
        raise UsageError(f"no allocation module is named {name!r}", f"there are: {known}")
    try:
        loaded: Callable[[], Any] = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"allocation module {name} cannot be loaded: {error}") from None
    return loaded


def _named_object(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    try:
        loaded: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{name} cannot be loaded: {error}", "write MODULE:CLASS") from None
    return loaded
