"""How single values look: to programs (ISO-8601 in UTC, plain numbers) and to people.

Rules: what people are shown can be typed in again: `1h30m` is a duration and `1.5G` a size for
params.py too. None is "-" for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOTHING = "-"
_UNITS = "KMGTP"


def iso_utc(seconds: float) -> str:
    """A moment (Unix seconds) as ISO-8601 in UTC with milliseconds."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_text(seconds: float | None, utc: bool = False) -> str:
    """A moment for people: `2026-01-31T08:00:00+01:00`, or with a Z when `utc`."""
    if seconds is None:
        return NOTHING
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, UTC)
    if utc:
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return moment.astimezone().isoformat(timespec="seconds")


def duration_text(seconds: float | None) -> str:
    """A duration for people, in two units at the most: 0.35s, 45s, 5m12s, 1h30m, 2d3h."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if seconds < 9.95:
        tenths = f"{seconds:.2f}" if seconds < 0.995 else f"{seconds:.1f}"
        return f"{tenths.rstrip('0').rstrip('.') or '0'}s"
    whole = round(seconds)
    for large, small, names in ((86_400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large}{names[0]}" + (f"{rest}{names[1]}" if rest else "")
    return f"{whole}s"


def size_text(size_bytes: int | None) -> str:
    """A size for people, in powers of 1024: 0, 900B, 12K, 1.5G."""
    if size_bytes is None:
        return NOTHING
    if size_bytes < 1024:
        return f"{size_bytes}B" if size_bytes else "0"
    scaled, power = size_bytes / 1024, 0
    # What would be rounded to 1024 is one of the next unit.
    while scaled >= 1023.5 and power < len(_UNITS) - 1:
        scaled, power = scaled / 1024, power + 1
    text = f"{scaled:.1f}" if scaled < 99.95 else f"{scaled:.0f}"
    return text.removesuffix(".0") + _UNITS[power]


def cpus_text(milli: int | None) -> str:
    """Thousandths of a CPU as a decimal number without needless zeros: 4, 0.5, 0.125."""
    if milli is None:
        return NOTHING
    whole, rest = divmod(milli, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def as_data(kind: str, value: Any) -> Any:
    """A value of a column (see output.Column) as programs get it."""
    if value is None:
        return None
    match kind:
        case "time":
            return iso_utc(value)
        case "duration":
            return float(value)
        case "cpus":
            return value / 1000
        case "words":
            return list(value)
        case _:
            return value


def as_text(kind: str, value: Any, utc: bool) -> str:
    """A value of a column (see output.Column) as people get it."""
    if value is None or value == "":
        return NOTHING
    match kind:
        case "time":
            return time_text(value, utc)
        case "duration":
            return duration_text(value)
        case "size":
            return size_text(value)
        case "cpus":
            return cpus_text(value)
        case "bool":
            return "yes" if value else "no"
        case "words":
            words: Sequence[Any] = value
            return ",".join(map(str, words)) or NOTHING
        case _:
            return str(value)
