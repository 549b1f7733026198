"""Fresh ids from the system's randomness; the machines are given `new_id`."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """A fresh id of 16 hexadecimal digits (64 random bits)."""
    return secrets.token_hex(8)
