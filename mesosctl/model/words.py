"""Durations, sizes and amounts of resources as people type them: 7d, 1h30m, 64M, 6.2G, 0.5."""

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


def amount_words(name: str, milli: int) -> str:
    """Thousandths of a resource: `0.5` (CPUs and the like), `6.2G` (memory and disk, in MiB)."""
    if name not in ("mem", "disk"):
        whole, rest = divmod(milli, 1000)
        return f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)
    count = milli * 1024**2 // 1000
    for length, unit in _BYTES:
        if count >= length:
            # Rounded down: what is not quite as large must not be shown as if it were.
            return f"{count * 10 // length / 10:g}{unit}"
    return f"{count} bytes" if count else "0"
