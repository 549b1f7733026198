"""Memory that was freed and that the system has not got back."""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Give back what is free in the heap: pages between what is in use, which only glibc can do.

    Costs a few milliseconds where the heap has hundreds of megabytes.
    """
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
