"""Log lines of the daemons on stderr: `HH:MM:SS level role text`, one line each.

Rules: what a peer wrote never reaches the terminal raw: control characters are escaped. A log that
cannot be written (stderr is closed or full) never stops a daemon.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TextIO

_BLOCK_BYTES = 1024 * 1024
LEVELS = ("debug", "info", "warning", "error")
# C0 and C1 controls, DEL, and the marks that turn the direction of text around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` as one harmless line: controls become escapes, lone surrogates become \\xNN."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), shown)


class Logger:
    """Writes the lines of one role that are at least as grave as `level`."""

    def __init__(self, role: str, level: str = "info", stream: TextIO | None = None) -> None:
        self.role = role
        self._least = LEVELS.index(level)
        self._stream = stream

    def __call__(self, level: str, text: str) -> None:
        """Write one line, in local time."""
        if LEVELS.index(level) < self._least:
            return
        clock = time.strftime("%H:%M:%S")
        stream = self._stream or sys.stderr
        try:
            stream.write(f"{clock} {level} {self.role} {printable(text)}\n")
            stream.flush()
        except (OSError, ValueError):
            # There is nowhere left to say it.
            return


def rotate(path: Path, bytes_max: int) -> bool:
    """Empty a log that has outgrown `bytes_max`, its text kept in `<path>.1`; whether it was.

    For files that living processes append to and will not open anew: they go on at the new end.
    What one of them writes in the moment between is lost.
    """
    try:
        if path.stat().st_size <= bytes_max:
            return False
        scratch = path.with_name(f"{path.name}.new")
        with path.open("rb") as source, scratch.open("wb") as kept:
            # The newest part only: a process gone wild may have written more than is kept.
            source.seek(max(0, path.stat().st_size - bytes_max))
            while block := source.read(_BLOCK_BYTES):
                kept.write(block)
        scratch.chmod(0o600)
        scratch.replace(path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
    except OSError:
        return False
    return True
