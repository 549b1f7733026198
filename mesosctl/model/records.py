"""`dataclass` for classes with slots, made in a tenth of the time.

The standard one writes and compiles six functions for each class when its module is imported: half
of what a short command takes until it ends. Here the class is made by the standard one without
these, and each is made when it is first called, or shared by all classes. What is promised is the
same: fields(), replace(), pattern matching, ==, hash, repr, copies and FrozenInstanceError. What
asks for more than slots, frozen or not, or inherits fields, goes to the standard one.

Instances are filled through the descriptors of their slots, which is twice as quick as the
`object.__setattr__` by name of a frozen standard one.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`; see the module."""
        if cls is None:
            return lambda made: _made(made, options)
        return _made(cls, options)


__all__ = ["dataclass"]


def _made(cls: Any, options: dict[str, bool]) -> Any:
    hints = inspect.get_annotations(cls).values()
    special = any("InitVar" in str(hint) or "KW_ONLY" in str(hint) for hint in hints)
    special = special or any(
        isinstance(value, dataclasses.Field) and not _is_plain(value)
        for value in cls.__dict__.values()
    )
    inherits = any(hasattr(base, "__dataclass_fields__") for base in cls.__mro__[1:])
    frozen = options == {"frozen": True, "slots": True}
    if special or inherits or not (frozen or options == {"slots": True}):
        return dataclasses.dataclass(**options)(cls)
    own = cls.__dict__
    written = [name for name in ("__init__", "__repr__", "__eq__", "__hash__") if name in own]
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    params = made.__dataclass_params__
    params.init = params.repr = params.eq = True
    params.frozen = frozen
    fields = tuple(field.name for field in dataclasses.fields(made))
    methods: dict[str, Any] = {
        "__init__": _first_init(made),
        "__repr__": _repr,
        "__eq__": _equality(fields),
        "__hash__": _hashing(fields) if frozen else None,
    }
    if frozen:
        methods |= {
            "__setattr__": _set_attribute,
            "__delattr__": _delete_attribute,
            "__getstate__": _state,
            "__setstate__": _set_state,
        }
    for name, method in methods.items():
        if name not in written:
            setattr(made, name, method)
    return made


def _is_plain(field: Any) -> bool:
    """Whether a field takes part in everything, as fields do that say nothing else."""
    return bool(field.init and field.repr and field.compare and field.hash is None)


def _first_init(cls: Any) -> Callable[..., None]:
    """An `__init__` that makes the real one when it is first called, and takes its place."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        real = _real_init(cls)
        cls.__init__ = real
        real(self, *values, **named)

    return __init__


def _real_init(cls: Any) -> Callable[..., None]:
    names: dict[str, Any] = {}
    heads, lines = [], []
    for at, field in enumerate(dataclasses.fields(cls)):
        names[f"set{at}"] = cls.__dict__[field.name].__set__
        held = field.name
        if field.default is not dataclasses.MISSING:
            names[f"d{at}"] = field.default
            heads.append(f"{field.name}=d{at}")
        elif field.default_factory is not dataclasses.MISSING:
            names[f"d{at}"], names["missing"] = field.default_factory, dataclasses.MISSING
            heads.append(f"{field.name}=missing")
            held = f"d{at}() if {field.name} is missing else {field.name}"
        else:
            heads.append(field.name)
        lines.append(f" set{at}(self, {held})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    source = f"def __init__({', '.join(('self', *heads))}):\n" + "\n".join(lines or [" pass"])
    exec(source, names)  # noqa: S102 - names of our own fields
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _equality(fields: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    # Of a single name attrgetter gives no tuple, which would compare another way.
    get: Callable[[Any], Any] = attrgetter(*fields) if len(fields) > 1 else _tuple_of(fields)

    def __eq__(self: Any, other: Any) -> Any:
        return get(self) == get(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _tuple_of(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple([getattr(value, name) for name in fields])


def _hashing(fields: tuple[str, ...]) -> Callable[[Any], int]:
    get = _tuple_of(fields)

    def __hash__(self: Any) -> int:
        return hash(get(self))

    return __hash__


def _repr(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self)]
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _set_attribute(self: Any, name: str, value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete_attribute(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
