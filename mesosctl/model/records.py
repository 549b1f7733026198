"""`dataclass` for classes with slots, made in a tenth of the time.

The standard one writes and compiles six functions for each class when its module is imported: half
of what a short command takes until it ends. Here each is made when it is first called, or shared by
all classes. What is promised is the same: fields(), replace(), pattern matching, ==, hash, repr,
copies and FrozenInstanceError. What asks for more than slots, frozen or not, or inherits fields,
goes to the standard one; so does what the standard one would refuse.

Instances are filled through the descriptors of their slots, which is twice as quick as the
`object.__setattr__` by name of a frozen standard one.
"""

from __future__ import annotations

import copy
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
    frozen = options == {"frozen": True, "slots": True}
    inherits = any(hasattr(base, "__dataclass_fields__") for base in cls.__mro__[1:])
    wanted = None if inherits else _fields(cls)
    if wanted is None or not (frozen or options == {"slots": True}):
        return dataclasses.dataclass(**options)(cls)
    own = cls.__dict__
    written = [name for name in ("__init__", "__repr__", "__eq__", "__hash__") if name in own]
    fields = tuple(wanted)
    methods: dict[str, Any] = {
        "__repr__": _repr,
        "__eq__": _equality(fields),
        "__hash__": _hashing(fields) if frozen else None,
    }
    if frozen:
        methods |= _FROZEN
    for name in written:
        methods.pop(name, None)
    # Methods that come with the class cost a tenth of those that are given to it later.
    made: Any = _with_slots(cls, wanted, frozen, methods)
    if "__init__" not in written:
        made.__init__ = _first_init(made)
    return made


@dataclasses.dataclass(frozen=True, slots=True)
class _Standard:
    """One made by the standard one, for the parts of it that have no public name."""

    field: int = 0


(_FIELD,) = dataclasses.fields(_Standard)
# In the text of a hint these say that a name is no field, or no usual one.
_SPECIAL = ("ClassVar", "InitVar", "KW_ONLY")


def _fields(cls: Any) -> dict[str, Any] | None:
    """The fields of a class in their order; None for one that the standard one has to look at."""
    found: dict[str, Any] = {}
    has_default = False
    for name, hint in inspect.get_annotations(cls).items():
        text = hint if isinstance(hint, str) else str(hint)
        value = cls.__dict__.get(name, dataclasses.MISSING)
        field: Any = value
        if isinstance(value, dataclasses.Field):
            if not _is_plain(value):
                return None
        elif value is dataclasses.MISSING:
            field = dataclasses.field()
        else:
            field = dataclasses.field(default=value)
        missing = field.default is dataclasses.MISSING
        lacks_default = missing and field.default_factory is dataclasses.MISSING
        mutable = not missing and field.default.__class__.__hash__ is None
        if any(word in text for word in _SPECIAL) or mutable or (has_default and lacks_default):
            return None
        has_default = not lacks_default
        field.name, field.type, field.kw_only = name, hint, False
        field._field_type = _FIELD._field_type  # type: ignore[attr-defined]
        found[name] = field
    # A field() without a hint is a mistake.
    for name, value in cls.__dict__.items():
        if isinstance(value, dataclasses.Field) and name not in found:
            return None
    return found


def _with_slots(cls: Any, fields: dict[str, Any], frozen: bool, methods: dict[str, Any]) -> Any:
    """The class once more, its fields in slots, and what dataclasses look for in a class."""
    params = copy.copy(_Standard.__dataclass_params__)  # type: ignore[attr-defined]
    params.frozen = frozen
    left_out = (*fields, "__dict__", "__weakref__")
    namespace = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    namespace.update(methods)
    namespace["__slots__"] = tuple(fields)
    namespace["__match_args__"] = tuple(fields)
    namespace["__dataclass_fields__"] = fields
    namespace["__dataclass_params__"] = params
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
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


_FROZEN = {
    "__setattr__": _set_attribute,
    "__delattr__": _delete_attribute,
    "__getstate__": _state,
    "__setstate__": _set_state,
}
