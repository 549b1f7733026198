"""Regular expressions that are compiled when they are first used.

A short command uses two of the fifty that the modules it imports name, and compiling the others
would be a twentieth of its time. Rule: written as `re.compile` is, at the top of a module, so that
a mistake in one is found by its test and not by a user.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import compile as pattern
else:

    class pattern:
        """As `re.compile`, later."""

        def __init__(self, source: str, flags: int = 0) -> None:
            self._what = (source, flags)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            found = getattr(re.compile(*self._what), name)
            # From now on it is found without us.
            setattr(self, name, found)
            return found


__all__ = ["pattern"]
