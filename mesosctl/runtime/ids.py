"""Fresh ids from the system's randomness; the machines are given `new_id`."""

from __future__ import annotations

import os


def new_id() -> str:
    """A fresh id of 16 hexadecimal digits (64 random bits)."""
    return os.urandom(8).hex()
