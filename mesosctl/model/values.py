"""Single values of resources and attributes, and the keys they stand under; text and algebra.

    scalar   int, in thousandths                   1.5
    ranges   ((first, last), ...), closed,         [31000-31999,32001-32001]
             ascending, neither touching nor
             overlapping
    set      frozenset of words                    {a,b}

Rules: text rounds to thousandths, half away from zero (Apache Mesos, values.cpp); what is below
0.0005 is zero. Bounds of ranges and scalars are at most `AMOUNT_MAX`. Functions that read text
raise UsageError, functions that read the wire raise ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

from mesosctl.errors import UsageError
from mesosctl.model.ids import is_role
from mesosctl.model.patterns import pattern

Ranges = tuple[tuple[int, int], ...]
Value = int | Ranges | frozenset[str]

MILLI = 1000
# Beyond this a float on somebody else's side of the wire could no longer hold the number.
AMOUNT_MAX = 2**53
PORT_MAX = 65_535
# The names that have a meaning here; all others are whatever their shape says.
SCALARS = ("cpus", "gpus", "mem", "disk")
SIZES = ("mem", "disk")
_RANK = {name: rank for rank, name in enumerate((*SCALARS, "ports"))}
_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ENTRIES_HINT = "write name:value;name:value, e.g. cpus:4;mem:4096;disk:10G;ports:[31000-32000]"
RANGES_HINT = "write [first-last], e.g. [31000-32000]"
# How many KiB a suffix stands for.
_SUFFIX_KIB = {"k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}
_NUMBER = pattern(r"([+-]?)([0-9]*)(?:\.([0-9]*))?\s*([A-Za-z]*)")
_BOUND = pattern(r"[0-9]{1,16}")
_ITEM = pattern(r"[^\s{}\[\](),;:]{1,128}")
_DIGITS_MAX = 40


# --- text -----------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """Foreign text as it may stand in an error message: one line, short, printable."""
    cut = text if len(text) <= 60 else text[:57] + "..."
    return ascii(cut)


def parse_scalar(name: str, text: str, size: bool = False) -> int:
    """Thousandths of the decimal number `text`; with `size` MiB, where a suffix K to T may follow.

    Raises UsageError, whose message begins with `name`.
    """
    match = _NUMBER.fullmatch(text)
    digits: str = match[2] + (match[3] or "") if match else ""
    if match is None or not digits:
        _refuse(name, text, "is not a number", "write a decimal number such as 4 or 1.5")
    if match[1] == "-" and digits.strip("0"):
        _refuse(name, text, "is negative", "use 0 or more")
    kib, unit = 1, 1
    if match[4]:
        kib, unit = _suffix_kib(name, text, match[4], size), 1024
    if len(digits) > _DIGITS_MAX:
        _refuse(name, text, "has too many digits", "three decimals are kept")
    scale = unit * 10 ** len(match[3] or "")
    # Half away from zero, in integers: floor(2x + 1 over 2) of the exact fraction.
    milli: int = (2 * int(digits) * MILLI * kib + scale) // (2 * scale)
    if milli > AMOUNT_MAX:
        _refuse(name, text, "is too large", f"at most {AMOUNT_MAX // MILLI}")
    return milli


def _suffix_kib(name: str, text: str, suffix: str, size: bool) -> int:
    lower = suffix.lower()
    kib = _SUFFIX_KIB.get(lower[0]) if lower[1:] in ("", "ib") else None
    if kib is not None and size:
        return kib
    if kib is not None:
        _refuse(name, text, "has a unit, but only mem and disk have one", "write the bare number")
    hint = "sizes end in K, M, G or T (powers of 1024)" if size else "write the bare number"
    _refuse(name, text, "has an unknown unit", hint)


def parse_ranges(name: str, text: str) -> Ranges:
    """Read `[1-4, 9-10, 12]`; overlapping and touching parts merge. Raises UsageError."""
    if not (text.startswith("[") and text.endswith("]")):
        _refuse(name, text, "has unbalanced brackets", RANGES_HINT)
    parts: list[tuple[int, int]] = []
    inner = text[1:-1].strip()
    for part in inner.split(",") if inner else []:
        first, dash, last = part.partition("-")
        bounds = (first.strip(), (last if dash else first).strip())
        if not all(_BOUND.fullmatch(bound) for bound in bounds):
            _refuse(name, text, "is not a list of ranges", RANGES_HINT)
        low, high = int(bounds[0]), int(bounds[1])
        if low > high:
            _refuse(name, text, f"has a range that ends before it begins ({part.strip()})", "")
        if high > AMOUNT_MAX:
            _refuse(name, text, "is too large", f"at most {AMOUNT_MAX}")
        parts.append((low, high))
    return coalesce(parts)


def parse_set(name: str, text: str) -> frozenset[str]:
    """Read `{a, b}`. Raises UsageError."""
    if not (text.startswith("{") and text.endswith("}")):
        _refuse(name, text, "has unbalanced braces", "write {a,b}")
    inner = text[1:-1].strip()
    members = [part.strip() for part in inner.split(",")] if inner else []
    if not all(is_word(member) for member in members):
        _refuse(name, text, "is not a set of words", "write {a,b}")
    return frozenset(members)


def parse_value(name: str, text: str, size: bool = False) -> Value:
    """Read a value whose shape says its kind. Raises UsageError."""
    if text[:1] in ("[", "]") or text.endswith("]"):
        return parse_ranges(name, text)
    if text[:1] in ("{", "}") or text.endswith("}"):
        return parse_set(name, text)
    return parse_scalar(name, text, size)


def is_word(text: str) -> bool:
    """Whether `text` may be a member of a set: up to 128 printable characters, no brackets."""
    return bool(_ITEM.fullmatch(text)) and text.isprintable()


def format_value(value: Value) -> str:
    """The text of a value, as `parse_value` reads it (a scalar without a suffix)."""
    if isinstance(value, int):
        whole, rest = divmod(value, MILLI)
        return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(value)) + "}"
    return "[" + ",".join(f"{first}-{last}" for first, last in value) + "]"


def _refuse(name: str, text: str, why: str, hint: str) -> NoReturn:
    raise UsageError(f"{name}: {shown(text)} {why}", hint)


def entries(text: str) -> Iterator[tuple[str, Value]]:
    """The entries of a resource text one by one. A `;` after the last one is tolerated."""
    entries = text.split(";")
    if len(entries) > 1 and not entries[-1].strip():
        entries.pop()
    for entry in entries:
        key, colon, rest = (part.strip() for part in entry.partition(":"))
        if not entry.strip():
            raise UsageError("resources: an entry is blank", _ENTRIES_HINT)
        if not colon or not rest:
            raise UsageError(f"resources: {shown(entry.strip())} has no value", _ENTRIES_HINT)
        key = _parse_key(key)
        value = parse_value(key, rest, name_of(key) in SIZES)
        fault = fault_of(key, value)
        if fault:
            raise UsageError(f"{key}: {shown(rest)}: {name_of(key)} {fault}", _ENTRIES_HINT)
        yield key, value


def _parse_key(text: str) -> str:
    """`name` or `name(role)`; blanks may stand around the brackets, and `(*)` means no role."""
    name, bracket, rest = (part.strip() for part in text.partition("("))
    role = rest[:-1].strip() if rest.endswith(")") else ""
    key = name if not bracket or role == "*" else f"{name}({role})"
    if not is_key(key):
        hint = "write name or name(role)"
        raise UsageError(f"resources: {shown(text)} is not a resource name", hint)
    return key


# --- wire -----------------------------------------------------------------------------------------


def value_from_wire(name: str, raw: object) -> Value:
    """Check one value of the wire: an int, a list of [first, last], or a list of words.

    Raises ValueError; ranges must ascend without overlap, members must not repeat.
    """
    if type(raw) is int:
        if not 0 <= raw <= AMOUNT_MAX:
            raise ValueError(f"{name} is out of range")
        return raw
    if not isinstance(raw, list):
        raise ValueError(f"{name} is neither an amount nor a list")
    if raw and isinstance(raw[0], str):
        return _set_from_wire(name, raw)
    parts: list[tuple[int, int]] = []
    for part in raw:
        if not isinstance(part, list) or len(part) != 2 or not all(type(b) is int for b in part):
            raise ValueError(f"{name} has a range that is not two integers")
        first, last = part
        if not 0 <= first <= last <= AMOUNT_MAX or (parts and first <= parts[-1][1]):
            raise ValueError(f"{name} has ranges out of order")
        parts.append((first, last))
    return coalesce(parts)


def _set_from_wire(name: str, raw: list[object]) -> frozenset[str]:
    members: dict[str, None] = {}
    for member in raw:
        if not isinstance(member, str) or not is_word(member) or member in members:
            raise ValueError(f"{name} has a bad or repeated member")
        members[member] = None
    return frozenset(members)


def value_to_wire(value: Value) -> int | list[list[int]] | list[str]:
    """The form that `value_from_wire` reads."""
    if isinstance(value, int):
        return value
    if isinstance(value, frozenset):
        return sorted(value)
    return [[first, last] for first, last in value]


# --- keys of resources ----------------------------------------------------------------------------


def name_of(key: str) -> str:
    """The name in a key `name` or `name(role)`."""
    return key.partition("(")[0]


def role_of(key: str) -> str:
    """The role in a key `name(role)`; empty for a plain name."""
    return key.partition("(")[2][:-1]


def is_within(role: str, ancestor: str) -> bool:
    """Whether `role` is `ancestor` or below it in the tree of roles: `eng/backend` in `eng`."""
    return role == ancestor or role.startswith(ancestor + "/")


def top_of(role: str) -> str:
    """The role at the top of the tree that a role belongs to."""
    return role.partition("/")[0]


def key_order(key: str) -> tuple[int, str, str]:
    """Sorts keys: cpus, gpus, mem, disk, ports, then the others by name and role."""
    name, _, role = key.partition("(")
    return _RANK.get(name, len(_RANK)), name, role


def is_key(key: str) -> bool:
    """Whether `key` is `name` or `name(role)`; the role `*` is never written."""
    if key in _RANK:
        return True
    name, bracket, role = key.partition("(")
    if not is_name(name):
        return False
    return not bracket or (role.endswith(")") and role != "*)" and is_role(role[:-1]))


def is_name(text: str) -> bool:
    """Whether a resource or an attribute may be called this."""
    return _NAME.fullmatch(text) is not None


def fault_of(key: str, value: Value) -> str:
    """Why the well-known name in `key` cannot have this value; empty if it can."""
    name = name_of(key)
    if name in SCALARS and not isinstance(value, int):
        return f"is an amount, not {kind_of(value)}"
    if name == "gpus" and isinstance(value, int) and value % MILLI:
        return "counts whole devices"
    if name == "ports" and not isinstance(value, tuple):
        return f"is written as ranges, not as {kind_of(value)}"
    if name == "ports" and isinstance(value, tuple) and value and value[-1][1] > PORT_MAX:
        return f"end at {PORT_MAX}"
    return ""


# --- algebra --------------------------------------------------------------------------------------


def kind_of(value: Value) -> str:
    """What people call this kind of value."""
    if isinstance(value, int):
        return "an amount"
    return "ranges" if isinstance(value, tuple) else "a set"


def same_kind(one: Value, other: Value) -> bool:
    """Whether two values may be added, subtracted and compared."""
    return type(one) is type(other)


def coalesce(parts: Iterable[tuple[int, int]]) -> Ranges:
    """Closed ranges in ascending order, with overlapping and touching ones merged."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def add(one: Value, other: Value) -> Value:
    """The sum of two amounts, the union of ranges or sets. Raises ValueError on mixed kinds."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return one | other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return coalesce((*one, *other))
    raise ValueError(f"cannot add {kind_of(other)} to {kind_of(one)}")


def contains(have: Value, part: Value) -> bool:
    """Whether `part` is at most, or all within, `have`; never between two kinds."""
    if isinstance(have, int) and isinstance(part, int):
        return part <= have
    if isinstance(have, frozenset) and isinstance(part, frozenset):
        return part <= have
    if isinstance(have, tuple) and isinstance(part, tuple):
        return not _ranges_without(part, have)
    return False


def remove(have: Value, part: Value) -> Value:
    """`have` without `part`; amounts must be contained. Raises ValueError otherwise."""
    if isinstance(have, int) and isinstance(part, int) and part <= have:
        return have - part
    if isinstance(have, frozenset) and isinstance(part, frozenset):
        return have - part
    if isinstance(have, tuple) and isinstance(part, tuple):
        return _ranges_without(have, part)
    raise ValueError(f"cannot take {format_value(part)} from {format_value(have)}")


def common(one: Value, other: Value) -> Value:
    """The smaller amount, or what two ranges or sets share; 0 for two kinds."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return one & other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _ranges_without(one, _ranges_without(one, other))
    return 0


def _ranges_without(have: Ranges, part: Ranges) -> Ranges:
    """The integers of `have` that are not in `part`; both are coalesced, and one walk does it."""
    left: list[tuple[int, int]] = []
    at = 0
    for first, last in have:
        while at < len(part) and part[at][1] < first:
            at += 1
        low, look = first, at
        while look < len(part) and part[look][0] <= last:
            if low < part[look][0]:
                left.append((low, part[look][0] - 1))
            low = part[look][1] + 1
            look += 1
        if low <= last:
            left.append((low, last))
    return tuple(left)
