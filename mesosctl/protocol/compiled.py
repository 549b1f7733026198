"""Functions written for one dataclass each, for what is read and written a thousand times a second.

schema.py says what fits and what is wrong with what does not; here is the same for values that
fit, as straight code instead of loops over fields. Rules:
- A reader answers None for whatever it does not like, and schema.py then looks again: it alone
  words refusals. So a reader may be too strict and never too lax; a test compares the two.
- A class is compiled when it has been used often enough to be worth the millisecond.
- Field names come from our own classes, never from a peer: nothing else gets into the source.

A frozen dataclass sets each field through `object.__setattr__`, which is most of the cost of
reading one. A reader fills an instance of a twin instead, a class with the same slots and without
the guard, and then says what it is; Python allows that between classes of the same layout.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from mesosctl.limits import ARRAY_ITEMS_MAX, MAP_ITEMS_MAX, TEXT_CHARS_MAX
from mesosctl.model.ids import is_ident
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command
from mesosctl.protocol.schema import decoder_of

Read = Callable[[Any], Any]
Write = Callable[[Any], dict[str, Any]]

_INT_MAX = 2**63 - 1
_FLOAT_MAX = sys.float_info.max
_MISSING = object()
# Ids that were looked at: most messages are about agents and frameworks that were seen before.
_IDENTS_KEPT = 4_096
_idents: dict[str, None] = {}
_BAGS_KEPT = 256
_ONLY_INT = {int}
_bags: dict[tuple[tuple[str, int], ...], Resources] = {}
_writers: dict[type, Write] = {}
_readers: dict[type, Read] = {}


# Of these the same one comes again and again (sharing.py): it is made once, for all who ask next.
_REPEATED = (Command,)


def _remembering(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`make`, but what it made last is its answer again for the very same value."""
    asked, answer = object(), None

    def again(value: Any) -> Any:
        nonlocal asked, answer
        if value is not asked:
            answer = make(value)
            asked = value
        return answer

    return again


# The tasks of a job all have the same.
_wire_of = _remembering(Resources.to_wire)


class Unfit(Exception):
    """A value inside another one does not fit; the outermost reader answers None."""


def _is_new_ident(text: str) -> bool:
    """Whether a text that was not seen before is an id; then it is remembered."""
    if text and not is_ident(text):
        return False
    if len(_idents) > _IDENTS_KEPT:
        _idents.clear()
    _idents[text] = None
    return True


def _read_resources(wire: Any) -> Resources:
    """Resources.from_wire; the tasks of a job all ask for the same."""
    if type(wire) is not dict:
        raise Unfit
    # True and 1.0 equal 1, so what is not an integer must not get as far as the comparison.
    if {*map(type, wire.values())} != _ONLY_INT:
        return Resources.from_wire(wire)
    entries = tuple(wire.items())
    known = _bags.get(entries)
    if known is None:
        if len(_bags) >= _BAGS_KEPT:
            _bags.clear()
        known = _bags[entries] = Resources.from_wire(wire)
    return known


class _Source:
    """Lines of one function, and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"Unfit": Unfit}
        self.names.update(idents=_idents, is_new_ident=_is_new_ident, only_text={str})

    def name(self, value: Any) -> str:
        """A name under which the source finds `value`."""
        made = f"k{len(self.names)}"
        self.names[made] = value
        return made

    def function(self, name: str) -> Any:
        """The function `name` that the lines define."""
        exec("\n".join(self.lines), self.names)  # noqa: S102 - the source is ours, see the module
        return self.names[name]


# --- writing --------------------------------------------------------------------------------------


def writer(cls: type) -> Write:
    """The function that makes the plain map of an instance of the dataclass `cls`."""
    known = _writers.get(cls)
    if known is not None:
        return known
    source = _Source()
    hints = typing.get_type_hints(cls)
    source.lines = ["def write(value):", " plain = {}"]
    for field in dataclasses.fields(cls):
        name, default = field.name, _default(field)
        expression = _written(source, hints[name], "x")
        source.lines.append(f" x = value.{name}")
        if default is _MISSING:
            source.lines.append(f" plain[{name!r}] = {expression}")
        else:
            # Most defaults are one and the same object: comparing them would be most of the work.
            same = source.name(default)
            source.lines.append(f" if x is not {same} and x != {same}:")
            source.lines.append(f"  plain[{name!r}] = {expression}")
    source.lines.append(" return plain")
    made: Write = source.function("write")
    if cls in _REPEATED:
        made = _remembering(made)
    _writers[cls] = made
    return made


def _written(source: _Source, hint: Any, held: str) -> str:
    """The expression that makes the value in the variable `held` plain."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_same(hint):
        return held
    if origin is tuple and arguments[1:] == (Ellipsis,):
        inner = _written(source, arguments[0], "y")
        return f"list({held})" if inner == "y" else f"[{inner} for y in {held}]"
    if origin is tuple:
        each = [_written(source, one, f"{held}[{at}]") for at, one in enumerate(arguments)]
        return f"[{', '.join(each)}]"
    if origin is dict:
        inner = _written(source, arguments[1], "z")
        return f"dict({held})" if inner == "z" else f"{{k: {inner} for k, z in {held}.items()}}"
    if origin in (types.UnionType, typing.Union):
        inner = _written(source, _not_none(arguments), held)
        return held if inner == held else f"(None if {held} is None else {inner})"
    if hint is Resources:
        return f"{source.name(_wire_of)}({held})"
    return f"{source.name(writer(hint))}({held})"


# --- reading --------------------------------------------------------------------------------------


def reader(cls: type) -> Read:
    """The function that makes an instance of `cls` from a plain map, or None if it does not fit."""
    inner = _inner_reader(cls)

    def read(plain: Any) -> Any:
        try:
            return inner(plain)
        except (Unfit, KeyError, TypeError, ValueError):
            return None

    return read


def _inner_reader(cls: type) -> Read:
    """The same, but raising Unfit, KeyError, TypeError or ValueError for what does not fit."""
    known = _readers.get(cls)
    if known is not None:
        return known
    source = _Source()
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    source.lines = ["def read(plain):", " if type(plain) is not dict: raise Unfit"]
    for number, field in enumerate(fields):
        held, indent = f"v{number}", " "
        if _default(field) is _MISSING:
            source.lines.append(f" {held} = plain[{field.name!r}]")
        else:
            given = f"{source.name(field.default_factory)}()"
            if field.default is not dataclasses.MISSING:
                given = source.name(field.default)
            source.lines.append(f" if {field.name!r} not in plain: {held} = {given}")
            source.lines.append(" else:")
            indent = "  "
            source.lines.append(f"{indent}{held} = plain[{field.name!r}]")
        _check(source, hints[field.name], held, indent)
    source.lines += _made(source, cls, [field.name for field in fields])
    made: Read = source.function("read")
    if cls in _REPEATED:
        made = _remembering(made)
    _readers[cls] = made
    return made


def _made(source: _Source, cls: Any, names: list[str]) -> list[str]:
    """Lines that put the variables v0, v1, … together to an instance."""
    values = [f"v{number}" for number in range(len(names))]
    params = getattr(cls, "__dataclass_params__", None)
    is_plain = params is not None and params.frozen and not hasattr(cls, "__post_init__")
    if not is_plain or tuple(cls.__dict__.get("__slots__", ())) != tuple(names):
        return [f" return {source.name(cls)}({', '.join(values)})"]
    twin = type(cls.__name__, cls.__bases__, {"__slots__": tuple(names)})
    lines = [f" made = {source.name(object.__new__)}({source.name(twin)})"]
    lines += [f" made.{name} = {value}" for name, value in zip(names, values, strict=True)]
    return [*lines, f" made.__class__ = {source.name(cls)}", " return made"]


def _check(source: _Source, hint: Any, held: str, indent: str) -> None:
    """Append lines that turn the plain value in the variable `held` into what `hint` says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    add = source.lines.append
    if hasattr(hint, "__supertype__"):
        add(f"{indent}if type({held}) is not str: raise Unfit")
        add(f"{indent}if {held} not in idents and not is_new_ident({held}): raise Unfit")
    elif hint is str:
        long = f"len({held}) > {TEXT_CHARS_MAX}"
        add(f"{indent}if type({held}) is not str or {long}: raise Unfit")
    elif hint is int:
        wide = f"not {-_INT_MAX} <= {held} <= {_INT_MAX}"
        add(f"{indent}if type({held}) is not int or {wide}: raise Unfit")
    elif hint is float:
        # What is not a number is not between anything.
        bad = f"not {-_FLOAT_MAX} <= {held} <= {_FLOAT_MAX}"
        add(f"{indent}if type({held}) is not float or {bad}:")
        add(f"{indent} if type({held}) is not int: raise Unfit")
        add(f"{indent} {held} = float({held})")
    elif hint in (bool, bytes):
        add(f"{indent}if type({held}) is not {hint.__name__}: raise Unfit")
    elif origin in (types.UnionType, typing.Union):
        add(f"{indent}if {held} is not None:")
        _check(source, _not_none(arguments), held, indent + " ")
    elif origin is tuple and arguments[1:] == (Ellipsis,):
        long = f"len({held}) > {ARRAY_ITEMS_MAX}"
        add(f"{indent}if type({held}) is not list or {long}: raise Unfit")
        add(f"{indent}{held} = tuple([{_converted(source, arguments[0], 'y')} for y in {held}])")
    elif hint == dict[str, str]:
        long = f"len({held}) > {MAP_ITEMS_MAX}"
        add(f"{indent}if type({held}) is not dict or {long}: raise Unfit")
        add(f"{indent}if {held}:")
        add(f"{indent} both = [*{held}, *{held}.values()]")
        add(f"{indent} if {{*map(type, both)}} != only_text: raise Unfit")
        add(f"{indent} if max(map(len, both)) > {TEXT_CHARS_MAX}: raise Unfit")
        add(f"{indent}{held} = {held}.copy()")
    elif origin is dict and arguments[0] is str:
        add(f"{indent}if type({held}) is not dict or len({held}) > {MAP_ITEMS_MAX}: raise Unfit")
        add(f"{indent}if not {{*map(type, {held})}} <= only_text: raise Unfit")
        add(f"{indent}if max(map(len, {held}), default=0) > {TEXT_CHARS_MAX}: raise Unfit")
        each = _converted(source, arguments[1], "z")
        add(f"{indent}{held} = {{k: {each} for k, z in {held}.items()}}")
    else:
        add(f"{indent}{held} = {_converted(source, hint, held)}")


def _converted(source: _Source, hint: Any, held: str) -> str:
    """An expression for `_check` where there is no room for lines."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"{source.name({str(member): member for member in hint})}[{held}]"
    if hint is Resources:
        return f"{source.name(_read_resources)}({held})"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"{source.name(_inner_reader(hint))}({held})"
    return f"{source.name(decoder_of(hint))}({held})"


# --- both -----------------------------------------------------------------------------------------


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _MISSING


def _not_none(arguments: tuple[Any, ...]) -> Any:
    inner = [argument for argument in arguments if argument is not type(None)]
    if len(inner) != 1 or len(arguments) != 2:
        raise TypeError(f"no wire form for a choice of {arguments!r}")
    return inner[0]


def _is_same(hint: Any) -> bool:
    """Whether values of this type are plain already."""
    if hasattr(hint, "__supertype__") or hint in (str, int, float, bool, bytes):
        return True
    return isinstance(hint, type) and issubclass(hint, StrEnum)
