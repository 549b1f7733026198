"""Values as people type them: durations, sizes, cpus, names, array specifications, addresses.

Rules: a `parse_…` function knows nothing of click, takes text and returns the value that the rest
of the program works with (seconds, bytes, thousandths); it raises UsageError with what is wrong and
the form that is right. The click types only call them. Foreign text is shown shortened and escaped.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Generic, TypeVar

import click

from mesosctl.errors import UsageError
from mesosctl.limits import (
    ARRAY_TASKS_MAX,
    CPUS_MILLI_MIN,
    ENV_VALUE_BYTES_MAX,
    LOG_MAX_BYTES_MIN,
    MEM_BYTES_MIN,
    NAME_BYTES_MAX,
)
from mesosctl.model.masters import is_zk, parse_zk
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass
from mesosctl.model.words import size_words

Value = TypeVar("Value")

PORT_DEFAULT = 5050
PORT_MAX = 65_535
# A century: beyond it a duration is a slip of the finger, and deadlines stay well within a float.
DURATION_MAX_S = 100 * 365 * 86_400.0
# Whole numbers beyond this are no longer exact in JSON readers that know only floats.
SIZE_MAX_BYTES = 2**53
INDEX_MAX = 999_999_999

_DURATION_HINT = "write 90s, 5m, 1h30m, 2d or [D-]HH:MM:SS"
_SIZE_HINT = "write 512M, 2G or 64MiB (powers of 1024)"
_CPUS_HINT = "write a decimal number such as 0.5 or 4, at least 0.01"
_ARRAY_HINT = "write 0-99, 0-15:4, 1,3,5-7 or 0-99%10"
_ADDRESS_HINT = "write tcp://HOST:PORT, HOST:PORT or HOST"

_UNITS_S = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_DURATION_PART = pattern(rf"({_NUMBER})(ms|[wdhms])")
_CLOCK = pattern(r"(?:([0-9]{1,6})-)?([0-9]{1,6}):([0-9]{2}):([0-9]{2})")
_SIZE = pattern(rf"({_NUMBER})\s*(?:([kmgtp])(i?b)?|b)", re.IGNORECASE)
_BARE_NUMBER = pattern(r"[0-9]+(?:\.[0-9]*)?")
_CPUS = pattern(r"([0-9]{1,15})?(?:\.([0-9]{0,15}))?(?:[eE]\+?([0-9]))?")
_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VARIABLE = pattern(r"[A-Za-z_][A-Za-z0-9_]*")
_ARRAY_PART = pattern(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_HOST = pattern(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9.])?")


def shown(text: str) -> str:
    """Foreign text as it may stand in an error message: quoted, short, printable."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


# --- durations and sizes --------------------------------------------------------------------------


def parse_duration(text: str, zero: bool = False) -> float:
    """Seconds. 0 is refused unless `zero`. Raises UsageError."""
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        if minutes > 59 or seconds > 59 or (clock[1] and hours > 23):
            raise UsageError(f"{shown(text)} is not a time on any clock", _DURATION_HINT)
        total = days * 86_400.0 + hours * 3600 + minutes * 60 + seconds
    else:
        total = _sum_of_units(text)
    if total <= 0 and not zero:
        raise UsageError(f"{shown(text)} is no time at all", "write a duration above zero")
    if total > DURATION_MAX_S:
        raise UsageError(f"{shown(text)} is more than a hundred years", _DURATION_HINT)
    return total


def _sum_of_units(text: str) -> float:
    total, position, units = 0.0, 0, list(_UNITS_S)
    while match := _DURATION_PART.match(text, position):
        # Each unit once, the larger before the smaller: 30m1h and 1h1h are slips.
        if match[2] not in units:
            raise UsageError(f"{shown(text)} has its units in no order", _DURATION_HINT)
        units = units[units.index(match[2]) + 1 :]
        total += float(match[1]) * _UNITS_S[match[2]]
        position = match.end()
    if position == 0 and _BARE_NUMBER.fullmatch(text):
        raise UsageError(f"{shown(text)} has no unit", f"did you mean {text[:9]}s or {text[:9]}m?")
    if position == 0 or position != len(text):
        raise UsageError(f"{shown(text)} is not a duration", _DURATION_HINT)
    return total


def parse_size(text: str, floor_bytes: int = 0) -> int:
    """Bytes; K to P are powers of 1024. Below `floor_bytes` is refused. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        if _BARE_NUMBER.fullmatch(text):
            raise UsageError(f"{shown(text)} has no unit", f"did you mean {text[:12]}M?")
        raise UsageError(f"{shown(text)} is not a size", _SIZE_HINT)
    if match[3] and match[3].lower() == "b":
        raise UsageError(f"{shown(text)}: units are powers of 1024 here", _SIZE_HINT)
    power = " kmgtp".index(match[2].lower()) if match[2] else 0
    whole, _, fraction = match[1].partition(".")
    # In whole numbers, because a float would round what is above 2**53.
    scaled: int = int(whole + fraction) * 1024**power // 10 ** len(fraction)
    if scaled > SIZE_MAX_BYTES:
        raise UsageError(f"{shown(text)} is more than any machine has", _SIZE_HINT)
    if scaled <= 0:
        raise UsageError(f"{shown(text)} is nothing", _SIZE_HINT)
    if scaled < floor_bytes:
        raise UsageError(
            f"{shown(text)} is too little", f"write at least {size_words(floor_bytes)}"
        )
    return scaled


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU, rounded half up; at least 0.01. Raises UsageError."""
    match = _CPUS.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise UsageError(f"{shown(text)} is not a number of CPUs", _CPUS_HINT)
    digits = (match[1] or "") + (match[2] or "")
    # Ten-thousandths of the number first, so that the rounding happens once, at the end.
    shift = int(match[3] or 0) - len(match[2] or "") + 4
    exact = int(digits) * 10**shift if shift >= 0 else int(digits) // 10**-shift
    milli: int = (exact + 5) // 10
    if exact < CPUS_MILLI_MIN * 10:
        raise UsageError(f"{shown(text)} is less than can be given", _CPUS_HINT)
    if milli > SIZE_MAX_BYTES:
        raise UsageError(f"{shown(text)} is more than any cluster has", _CPUS_HINT)
    return milli


# --- names and environment ------------------------------------------------------------------------


def parse_name(text: str) -> str:
    """A name of a job, key or agent: letters, digits and . _ - in ASCII. Raises UsageError."""
    if len(text) > NAME_BYTES_MAX:
        raise UsageError(f"{shown(text)} is longer than {NAME_BYTES_MAX} characters", "shorten it")
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{shown(text)} is not a name",
            "write letters, digits and . _ - (not first: . and -)",
        )
    return text


def parse_env(text: str) -> tuple[str, str]:
    """One variable for a task: K=V, or K alone for its value here. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"{shown(name)} is not a variable's name", "write NAME=VALUE or NAME")
    if name.startswith("MESOS_") or name == "MESOSCTL":
        raise UsageError(f"{name} is set by mesosctl itself", "choose another name")
    if not equals:
        if name not in os.environ:
            raise UsageError(f"{name} is not in this environment", f"write {name}=VALUE")
        value = os.environ[name]
    if "\0" in value:
        raise UsageError(f"{name} holds a NUL character", "remove it")
    if len(os.fsencode(value)) > ENV_VALUE_BYTES_MAX:
        limit = f"{ENV_VALUE_BYTES_MAX // 1024} KiB"
        raise UsageError(f"{name} is longer than {limit}", "pass it in a file instead")
    return name, value


# --- arrays ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Indices of an array as inclusive ranges (first, last, step), and how many may run at once."""

    ranges: tuple[tuple[int, int, int], ...]
    max_running: int | None = None

    def __len__(self) -> int:
        return sum((last - first) // step + 1 for first, last, step in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last, step in self.ranges:
            yield from range(first, last + 1, step)


def parse_array(text: str) -> ArraySpec:
    """Indices in Slurm's form: 0-99%10, 0-15:4, 1,3,5-7. Raises UsageError."""
    body, percent, cap = text.partition("%")
    max_running = None
    if percent:
        if not re.fullmatch(r"[0-9]{1,9}", cap) or int(cap) == 0:
            raise UsageError(f"{shown(text)}: after % stands how many may run", _ARRAY_HINT)
        max_running = int(cap)
    ranges = tuple(_parse_range(text, part) for part in body.split(","))
    spec = ArraySpec(ranges, max_running)
    if len(spec) > ARRAY_TASKS_MAX:
        raise UsageError(
            f"{shown(text)} has {len(spec)} tasks", f"an array has at most {ARRAY_TASKS_MAX}"
        )
    twice = _first_duplicate(ranges)
    if twice is not None:
        raise UsageError(f"{shown(text)} names task {twice} twice", "name each index once")
    return spec


def _parse_range(text: str, part: str) -> tuple[int, int, int]:
    match = _ARRAY_PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{shown(text)} is not a list of indices", _ARRAY_HINT)
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    step = 1 if match[3] is None else int(match[3])
    if last < first:
        raise UsageError(f"{shown(text)}: {first}-{last} goes backwards", _ARRAY_HINT)
    if step == 0:
        raise UsageError(f"{shown(text)}: a step of 0 never ends", _ARRAY_HINT)
    # The last index that the step reaches, so that equal sets of indices look equal.
    return first, last - (last - first) % step, step


def _first_duplicate(ranges: tuple[tuple[int, int, int], ...]) -> int | None:
    """The smallest index that two ranges share, or None."""
    by_start = sorted(ranges)
    if all(one[1] < two[0] for one, two in pairwise(by_start)):
        return None
    indices = sorted(ArraySpec(ranges))
    for one, two in pairwise(indices):
        if one == two:
            return one
    return None


# --- addresses ------------------------------------------------------------------------------------


def parse_address(text: str, listen: bool = False) -> str:
    """An address as tcp://HOST:PORT, completed by the default port. Raises UsageError.

    With `listen` also the port 0 (any free one) and the host * (all interfaces) are accepted.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "tcp", text
    if scheme != "tcp":
        raise UsageError(f"{shown(text)}: only tcp:// is spoken here", _ADDRESS_HINT)
    host, port = _split_port(text, rest)
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise UsageError(f"{shown(text)}: {shown(port)} is not a port", _ADDRESS_HINT)
    if not (0 if listen else 1) <= int(port) <= PORT_MAX:
        least = 0 if listen else 1
        raise UsageError(f"{shown(text)}: ports are {least} to {PORT_MAX}", _ADDRESS_HINT)
    if host == "*":
        if not listen:
            raise UsageError(f"{shown(text)} names no host to connect to", _ADDRESS_HINT)
        host = "0.0.0.0"  # noqa: S104 - the user has asked for every interface.
    return f"tcp://{host}:{int(port)}"


def _split_port(text: str, rest: str) -> tuple[str, str]:
    """Host (an IPv6 one in brackets) and port of `rest`, checked as far as text can be."""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")) or not _is_ipv6(host):
            raise UsageError(f"{shown(text)} is not an IPv6 address", "write [::1]:5050")
        return f"[{host}]", tail[1:] if tail else str(PORT_DEFAULT)
    if rest.count(":") > 1:
        raise UsageError(f"{shown(text)}: an IPv6 address stands in brackets", "write [::1]:5050")
    host, colon, port = rest.partition(":")
    if host != "*" and not _HOST.fullmatch(host):
        raise UsageError(f"{shown(text)} names no host", _ADDRESS_HINT)
    return host, port if colon else str(PORT_DEFAULT)


def _is_ipv6(host: str) -> bool:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, UnicodeError):
        return False
    return host.isascii() and host.isprintable() and " " not in host


def parse_masters(text: str) -> str:
    """A zk:// place, or one or several addresses of masters with commas between; completed."""
    if is_zk(text.strip()):
        return str(parse_zk(text.strip()))
    return ",".join(parse_address(part.strip()) for part in text.split(","))


def parse_words(text: str) -> tuple[str, ...]:
    """Words separated by commas; blanks around them do not count."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


# --- the click types ------------------------------------------------------------------------------


class Parsed(click.ParamType, Generic[Value]):  # type: ignore[type-arg]
    """A click type around one parse function; `metavar` is how its help writes the value."""

    def __init__(self, metavar: str, parse: Callable[[str], Value]) -> None:
        self.name = metavar
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Value | Any:
        """The parsed value. Numbers of a configuration file are read as their text."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            # A default that is a value of ours already.
            return value
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(f"{value} is not a finite number", param, ctx)
        is_default = ctx is not None and param is not None and value == param.default
        if not isinstance(value, str) and is_default:
            return value
        try:
            return self._parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """How the value is written in help and man page."""
        return self.name


class Duration(Parsed[float]):
    """Seconds; `zero=True` also accepts 0s."""

    def __init__(self, zero: bool = False) -> None:
        super().__init__("TIME", lambda text: parse_duration(text, zero))


class Size(Parsed[int]):
    """Bytes, at least `floor_bytes`."""

    def __init__(self, floor_bytes: int = 0) -> None:
        super().__init__("SIZE", lambda text: parse_size(text, floor_bytes))


DURATION = Duration()
SIZE = Size()
MEMORY = Size(MEM_BYTES_MIN)
LOG_SIZE = Size(LOG_MAX_BYTES_MIN)
CPUS = Parsed("CPUS", parse_cpus)
NAME = Parsed("NAME", parse_name)
ENV = Parsed("NAME[=VALUE]", parse_env)
ARRAY = Parsed("INDICES", parse_array)
ADDRESS = Parsed("ADDR", parse_address)
LISTEN = Parsed("ADDR", lambda text: parse_address(text, listen=True))
ZK = Parsed("URL", parse_zk)
MASTERS = Parsed("ADDR[,ADDR...]", parse_masters)
WORDS = Parsed("A,B", parse_words)
