"""From a name to an object: an entry point of another package, or MODULE:CLASS.

Rules: what cannot be loaded is a UsageError that says which name led where, whatever it raised.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from mesosctl.errors import UsageError


def load(name: str, group: str, what: str, known: Iterable[str]) -> Callable[[], Any]:
    """What makes the object that `name` stands for. `what` it is, and those `known` already.

    Raises UsageError.
    """
    if ":" in name:
        return _named_object(name)
    # Late, and only for what is not ours: it brings in half of the standard library.
    from importlib import metadata

    found = {point.name: point for point in metadata.entry_points(group=group)}
    point = found.get(name)
    if point is None:
        names = ", ".join(dict.fromkeys([*known, *sorted(found)]))
        raise UsageError(f"no {what} is named {name!r}", f"there are: {names}")
    try:
        loaded: Callable[[], Any] = point.load()
    except Exception as error:
        raise UsageError(f"{what} {name} cannot be loaded: {error}", _REINSTALL) from None
    return loaded


_REINSTALL = "install its package again, for this interpreter"


def make(factory: Callable[[], Any], name: str, what: str) -> Any:
    """An object of it. Raises UsageError."""
    try:
        return factory()
    except Exception as error:
        raise UsageError(
            f"{what} {name} cannot be made: {error}", "see its documentation"
        ) from None


def _named_object(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    try:
        loaded: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise UsageError(f"{name} cannot be loaded: {error}", "write MODULE:CLASS") from None
    return loaded
