"""The quick dataclass: whoever uses one cannot tell it from the standard one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from mesosctl.model.records import dataclass

Make = Callable[..., Any]


class Base:
    """A base without fields, as messages have one."""

    __slots__ = ()
    kind: ClassVar[str] = "base"


def frozen(make: Make) -> Any:
    """A frozen class with every kind of field."""

    @make(frozen=True, slots=True)
    class Value(Base):
        """What it is for."""

        name: str
        size: int = 3
        tags: dict[str, str] = field(default_factory=dict)
        rest: tuple[int, ...] = ()

        @property
        def double(self) -> int:
            """Twice the size."""
            return self.size * 2

    return Value


def changing(make: Make) -> Any:
    """One that can be changed."""

    @make(slots=True)
    class State:
        """What it is for."""

        count: int = 0
        seen: list[int] = field(default_factory=list)

    return State


BOTH = pytest.mark.parametrize("make", [dataclass, dataclasses.dataclass], ids=["ours", "standard"])


@BOTH
def test_a_frozen_value(make: Make) -> None:
    """Each line holds for the standard one; so it has to for ours."""
    cls = frozen(make)
    one, same = cls("a", tags={"x": "y"}), cls(name="a", size=3, tags={"x": "y"})
    assert one == same
    assert one != cls("b")
    assert one != ("a", 3, {"x": "y"}, ())
    assert repr(one).endswith("Value(name='a', size=3, tags={'x': 'y'}, rest=())")
    assert cls("a").tags is not cls("a").tags
    assert (one.double, one.kind) == (6, "base")
    assert hash(cls("a", 1, (), (2,))) == hash(("a", 1, (), (2,)))
    assert dataclasses.replace(one, size=4) == cls("a", 4, {"x": "y"})
    assert [f.name for f in dataclasses.fields(cls)] == ["name", "size", "tags", "rest"]
    assert dataclasses.asdict(one) == {"name": "a", "size": 3, "tags": {"x": "y"}, "rest": ()}
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert not hasattr(one, "__dict__")
    match one:
        case cls(name, size=3):
            assert name == "a"
        case _:
            pytest.fail("it does not match")


@BOTH
def test_a_frozen_value_stays_as_it_is(make: Make) -> None:
    """Values are shared between machines, which rely on nobody changing them."""
    one = frozen(make)("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'size'"):
        one.size = 4
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'size'"):
        del one.size
    with pytest.raises(TypeError):
        frozen(make)()
    with pytest.raises(TypeError):
        frozen(make)("a", other=1)


@BOTH
def test_one_that_can_be_changed(make: Make) -> None:
    """States of machines change, are compared in tests, and are no keys."""
    cls = changing(make)
    one = cls()
    one.count += 1
    one.seen.append(1)
    assert one == cls(1, [1])
    assert one != cls(1)
    assert repr(one).endswith("State(count=1, seen=[1])")
    assert cls.__hash__ is None
    with pytest.raises(AttributeError):
        one.other = 1


def test_what_it_does_not_make_itself_is_the_standard_one() -> None:
    """Options that nobody here has thought of must not be dropped in silence."""

    @dataclass(slots=True, order=True)
    class Ordered:
        size: int = 0

    @dataclass(frozen=True, slots=True)
    class Hidden:
        shown: int
        hidden: int = field(default=0, compare=False, repr=False)

    assert Ordered(1) < Ordered(2)
    assert Hidden(1, 2) == Hidden(1, 3)
    assert "hidden=" not in repr(Hidden(1, 2))


def test_a_written_method_is_kept() -> None:
    """A class that says how it is shown or compared is taken at its word."""

    @dataclass(frozen=True, slots=True)
    class Secret:
        word: str

        def __repr__(self) -> str:
            return "Secret()"

        def __eq__(self, other: object) -> bool:
            return True

    assert repr(Secret("x")) == "Secret()"
    assert Secret("x") == 1


def test_what_the_standard_one_refuses_is_refused() -> None:
    """A default that all share, a field without one behind one with, a field without a type."""

    class Mutable:
        """A list for everybody."""

        items: list[int] = []  # noqa: RUF012 - what is tested

    class Disorder:
        """The second could never be left out."""

        first: int = 0
        second: int

    class Untyped:
        """A field that would be lost."""

        first: int = 0
        second = field(default=1)

    for cls, error in ((Mutable, ValueError), (Disorder, TypeError), (Untyped, TypeError)):
        with pytest.raises(error):
            dataclass(frozen=True, slots=True)(cls)


def test_a_variable_of_the_class_is_no_field() -> None:
    """ClassVar goes to the standard one, with the same result."""

    @dataclass(frozen=True, slots=True)
    class Counted:
        """Has one field."""

        number: int
        kind: ClassVar[str] = "counted"

    assert [one.name for one in dataclasses.fields(Counted)] == ["number"]
    assert (Counted(1), Counted.kind) == (Counted(1), "counted")
