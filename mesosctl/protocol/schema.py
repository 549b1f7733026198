"""From dataclasses to plain maps and back, strictly.

Rules: the type hints of a dataclass are its schema. A field that equals its default is left out; an
absent field takes its default, or is an error when it has none; an unknown field is ignored, so
that fields can be added. Everything else that does not fit raises ValueError: bool is no int, an
int passes for a float, NaN and infinities are nothing. This file knows types, not bytes; records
on disk use it as well as the wire.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar, cast

from mesosctl.limits import ARRAY_ITEMS_MAX, MAP_ITEMS_MAX, TEXT_CHARS_MAX
from mesosctl.model.ids import check_ident
from mesosctl.model.resources import Resources

T = TypeVar("T")
Convert = Callable[[Any], Any]
_INT_MAX = 2**63 - 1


def _same(value: Any) -> Any:
    return value


_MISSING = object()
# A class that was read or written so often is worth straight code (compiled.py), which costs about
# a millisecond. Commands never get there, daemons do within their first second of work.
_HOT_USES = 50


@dataclasses.dataclass(slots=True)
class _Schema:
    """How one dataclass is written and read.

    `writes`: name, converter (None: the value itself) and default, _MISSING where there is none.
    `reads`: name and converter. `required`: the names that have to be there. `written` and `read`
    count until straight code takes over.
    """

    writes: tuple[tuple[str, Convert | None, Any], ...]
    reads: tuple[tuple[str, Convert], ...]
    required: frozenset[str]
    written: int = 0
    read: int = 0


_SCHEMAS: dict[type, _Schema] = {}
_WRITERS: dict[type, Callable[[Any], dict[str, Any]]] = {}
_READERS: dict[type, Callable[[Any], Any]] = {}


def to_plain(value: Any) -> dict[str, Any]:
    """The plain map of a dataclass instance; fields that equal their defaults are left out."""
    cls = type(value)
    write = _WRITERS.get(cls)
    if write is not None:
        return write(value)
    schema = _SCHEMAS.get(cls) or _compile(cls)
    schema.written += 1
    if schema.written >= _HOT_USES:
        from mesosctl.protocol import compiled

        _WRITERS[cls] = compiled.writer(cls)
    plain = {}
    for name, encode, default in schema.writes:
        held = getattr(value, name)
        # Most defaults are one and the same object: comparing them would be most of the work.
        if held is not default and (default is _MISSING or held != default):
            plain[name] = held if encode is None else encode(held)
    return plain


def from_plain(cls: type[T], plain: Any) -> T:
    """An instance of the dataclass `cls` from a plain map.

    Raises ValueError, naming the field, when the map does not fit the type hints.
    """
    read = _READERS.get(cls)
    if read is not None:
        made = read(plain)
        if made is not None:
            return cast(T, made)
    if type(plain) is not dict:
        raise ValueError(f"{cls.__name__}: expected a map, got {type(plain).__name__}")
    schema = _SCHEMAS.get(cls) or _compile(cls)
    schema.read += 1
    if schema.read >= _HOT_USES:
        from mesosctl.protocol import compiled

        _READERS[cls] = compiled.reader(cls)
    values = {}
    name = ""
    try:
        for name, decode in schema.reads:
            if name in plain:
                values[name] = decode(plain[name])
    except ValueError as error:
        raise ValueError(f"{cls.__name__}.{name}: {error}") from None
    if len(values) < len(schema.reads) and not schema.required <= values.keys():
        lacking = next(name for name, _ in schema.reads if name in schema.required - values.keys())
        raise ValueError(f"{cls.__name__}.{lacking} is missing")
    return cls(**values)


def _compile(cls: type) -> _Schema:
    hints = typing.get_type_hints(cls)
    writes: list[tuple[str, Convert | None, Any]] = []
    reads: list[tuple[str, Convert]] = []
    for field in dataclasses.fields(cls):
        encode, decode = _converters(hints[field.name])
        default: Any = _MISSING
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        writes.append((field.name, None if encode is _same else encode, default))
        reads.append((field.name, decode))
    required = frozenset(name for name, _, default in writes if default is _MISSING)
    made = _SCHEMAS[cls] = _Schema(tuple(writes), tuple(reads), required)
    return made


def decoder_of(hint: Any) -> Convert:
    """What turns a plain value into one of this type hint; raises ValueError where it does not fit.

    Raises TypeError for a type that has no form on the wire.
    """
    return _converters(hint)[1]


def _converters(hint: Any) -> tuple[Convert, Convert]:
    """How a value of this type hint becomes plain, and comes back."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hasattr(hint, "__supertype__"):
        return _same, _decode_ident
    if hint in _SIMPLE:
        return _same, _SIMPLE[hint]
    if origin is tuple:
        return _tuple_converters(arguments)
    if origin is dict:
        return _map_converters(arguments)
    if origin in (types.UnionType, typing.Union):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1 and len(arguments) == 2:
            encode, decode = _converters(inner[0])
            return (
                lambda value: None if value is None else encode(value),
                lambda value: None if value is None else decode(value),
            )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _same, _enum_converter(hint)
    if hint is Resources:
        return Resources.to_wire, Resources.from_wire
    if dataclasses.is_dataclass(hint):
        return to_plain, lambda value: from_plain(cast(type, hint), value)
    raise TypeError(f"no wire form for {hint!r}")


def _enum_converter(hint: type[StrEnum]) -> Convert:
    # Looking a member up by its value is several times as quick as calling the class.
    members = {str(member): member for member in hint}

    def decode(value: Any) -> StrEnum:
        member = members.get(value) if type(value) is str else None
        return hint(_decode_text(value)) if member is None else member

    return decode


def _tuple_converters(arguments: tuple[Any, ...]) -> tuple[Convert, Convert]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        encode, decode = _converters(arguments[0])

        def decode_many(value: Any) -> tuple[Any, ...]:
            return tuple([decode(item) for item in _list(value)])

        if encode is _same:
            return list, decode_many
        return lambda value: [encode(item) for item in value], decode_many
    pairs = [_converters(argument) for argument in arguments]

    def decode_fixed(value: Any) -> tuple[Any, ...]:
        items = _list(value)
        if len(items) != len(pairs):
            raise ValueError(f"expected {len(pairs)} items, got {len(items)}")
        return tuple(decode(item) for (_, decode), item in zip(pairs, items, strict=True))

    return (
        lambda value: [encode(item) for (encode, _), item in zip(pairs, value, strict=True)],
        decode_fixed,
    )


def _map_converters(arguments: tuple[Any, ...]) -> tuple[Convert, Convert]:
    if arguments[0] is not str:
        raise TypeError("maps have text keys")
    encode, decode = _converters(arguments[1])

    def decode_map(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError(f"expected a map, got {type(value).__name__}")
        if len(value) > MAP_ITEMS_MAX:
            raise ValueError(f"more than {MAP_ITEMS_MAX} entries")
        return {_decode_text(key): decode(item) for key, item in value.items()}

    return lambda value: {key: encode(item) for key, item in value.items()}, decode_map


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"expected a list, got {type(value).__name__}")
    if len(value) > ARRAY_ITEMS_MAX:
        raise ValueError(f"more than {ARRAY_ITEMS_MAX} items")
    return value


def _decode_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"expected text, got {type(value).__name__}")
    if len(value) > TEXT_CHARS_MAX:
        raise ValueError(f"more than {TEXT_CHARS_MAX} characters")
    return value


def _decode_ident(value: Any) -> str:
    text = _decode_text(value)
    # The empty id stands for "none yet" where a message allows it; handlers check which.
    return check_ident(text) if text else text


def _decode_int(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected an integer, got {type(value).__name__}")
    if not -_INT_MAX <= value <= _INT_MAX:
        raise ValueError("integer out of range")
    return value


def _decode_float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, got {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("number is not finite")
    return number


def _decode_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"expected true or false, got {type(value).__name__}")
    return value


def _decode_bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ValueError(f"expected bytes, got {type(value).__name__}")
    return value


_SIMPLE: dict[Any, Convert] = {
    str: _decode_text,
    int: _decode_int,
    float: _decode_float,
    bool: _decode_bool,
    bytes: _decode_bytes,
}
