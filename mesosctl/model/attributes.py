"""Attributes: what an operator says of an agent, e.g. `rack:r1;ssd:true;zone:[1-3]`.

Owns the value, its text and its wire form. The master gives an attribute no meaning of its own;
frameworks do (model/constraints.py).

Rules: a value is tried as a number, then as ranges, and is text otherwise; `inf` and `nan` are
text, not numbers (Apache Mesos, docs/attributes-resources.md). A name occurs once: Mesos lets it
repeat and leaves open which one counts. On the wire an attribute is its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesosctl.errors import UsageError
from mesosctl.model import values as v
from mesosctl.model.patterns import pattern
from mesosctl.model.values import Ranges

AttributeValue = str | int | Ranges

TEXT_CHARS_MAX = 1024
_NUMBER = pattern(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_HINT = "write name:value;name:value, e.g. rack:r1;ssd:true;zone:[1-3]"


class Attributes(Mapping[str, AttributeValue]):
    """An immutable, hashable mapping from names to text, thousandths (int) or ranges.

    Iterates in the order of the names. Make one with `parse` or `from_wire`.
    """

    __slots__ = ("_values",)
    _values: dict[str, AttributeValue]

    def __init__(self) -> None:
        self._values = {}

    @classmethod
    def parse(cls, text: str) -> Attributes:
        """Read `name:value;name:value`; a `;` after the last is tolerated. Raises UsageError."""
        entries = text.split(";")
        if len(entries) > 1 and not entries[-1].strip():
            entries.pop()
        values: dict[str, AttributeValue] = {}
        for entry in entries:
            name, colon, rest = (part.strip() for part in entry.partition(":"))
            if not entry.strip():
                raise UsageError("attributes: an entry is blank", _HINT)
            if not colon or not v.is_name(name):
                raise UsageError(f"attributes: {v.shown(entry.strip())} is not name:value", _HINT)
            if name in values:
                raise UsageError(f"attributes: {name} is given twice", "give each name once")
            values[name] = parse_attribute(name, rest)
        return cls._make(values)

    @classmethod
    def from_wire(cls, wire: object) -> Attributes:
        """Check and read `{"rack": "r1", "zone": "[1-3]"}`. Raises ValueError."""
        if not isinstance(wire, dict):
            raise ValueError("attributes are not a map")
        values: dict[str, AttributeValue] = {}
        for name, text in wire.items():
            if not isinstance(name, str) or not v.is_name(name) or not isinstance(text, str):
                raise ValueError(f"bad attribute {name!r:.80}")
            if ";" in text or text != text.strip():
                raise ValueError(f"attribute {name} holds what its text cannot")
            try:
                values[name] = parse_attribute(name, text)
            except UsageError as error:
                raise ValueError(error.message) from None
        return cls._make(values)

    @classmethod
    def _make(cls, values: dict[str, AttributeValue]) -> Attributes:
        made = cls.__new__(cls)
        made._values = {name: values[name] for name in sorted(values)}
        return made

    def to_wire(self) -> dict[str, str]:
        """The text of each value by name, as `from_wire` reads it."""
        return {name: format_attribute(value) for name, value in self._values.items()}

    def format(self) -> str:
        """The text that `parse` reads, in the order of the names. Empty if there are none."""
        return ";".join(f"{name}:{text}" for name, text in self.to_wire().items())

    def __getitem__(self, name: str) -> AttributeValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Attributes) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __str__(self) -> str:
        return self.format()

    def __repr__(self) -> str:
        return f"Attributes({self.format()!r})"


def parse_attribute(name: str, text: str) -> AttributeValue:
    """Read the value of one attribute. Raises UsageError."""
    if not text:
        raise UsageError(f"{name}: the value is blank", _HINT)
    if _NUMBER.fullmatch(text):
        return v.parse_scalar(name, text)
    if text.startswith("[") or text.endswith("]"):
        return v.parse_ranges(name, text)
    if set(text) & set("[]{}();") or not text.isprintable() or len(text) > TEXT_CHARS_MAX:
        hint = f"text is up to {TEXT_CHARS_MAX} printable characters without brackets"
        raise UsageError(f"{name}: {v.shown(text)} cannot be the value of an attribute", hint)
    return text


def format_attribute(value: AttributeValue) -> str:
    """The text of one value, as `parse_attribute` reads it."""
    return value if isinstance(value, str) else v.format_value(value)
