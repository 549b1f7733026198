"""SHA-256 without OpenSSL.

`hashlib` loads it for what Python has itself: more than a megabyte in each daemon, and a twentieth
of the start of each command, for names of a few bytes.
"""

from __future__ import annotations

import importlib
from typing import Any


def _own() -> Any:
    """Python's own implementation, where this one has it under a name that is known."""
    for name in ("_sha2", "_sha256"):
        try:
            return importlib.import_module(name).sha256
        except (ImportError, AttributeError):
            continue
    return importlib.import_module("hashlib").sha256


_sha256 = _own()


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data` in 64 hexadecimal digits."""
    return str(_sha256(data).hexdigest())
