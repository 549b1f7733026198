"""Durations and sizes as people type them: 7d, 1h30m, 64M."""

from __future__ import annotations

_SECONDS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_BYTES = ((1024**4, "T"), (1024**3, "G"), (1024**2, "M"), (1024, "K"))


def duration_words(seconds: float) -> str:
    """`7d`, `1h30m`, `90s` as `1m30s`; parts of a second only below one."""
    if seconds < 1:
        return f"{seconds:g}s"
    left = round(seconds)
    text = ""
    for length, unit in _SECONDS:
        if left >= length:
            text += f"{left // length}{unit}"
            left %= length
    return text


def size_words(count: int) -> str:
    """`64M`, `1536K`: in the largest unit in which it is whole, else in bytes."""
    for length, unit in _BYTES:
        if count >= length and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count} bytes"
