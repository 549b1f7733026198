"""Attributes: what is a number, what are ranges, and that everything else is text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.errors import UsageError
from mesosctl.model.attributes import Attributes


def test_values_are_numbers_ranges_or_text() -> None:
    """The shape of a value says what it is; inf and nan are words."""
    found = Attributes.parse("rack:r1; ssd:true;zone:[1-3, 7];gen:2.50;x:inf;y:nan;at:10.0.0.1:80;")
    assert dict(found) == {
        "at": "10.0.0.1:80",
        "gen": 2500,
        "rack": "r1",
        "ssd": "true",
        "x": "inf",
        "y": "nan",
        "zone": ((1, 3), (7, 7)),
    }
    assert found["gen"] == 2500 and len(found) == 7 and "rack" in found


def test_format_and_wire_are_in_the_order_of_names() -> None:
    """Two agents with the same attributes look the same."""
    found = Attributes.parse("b:2.50;a:x")
    assert found.format() == str(found) == "a:x;b:2.5"
    assert found.to_wire() == {"a": "x", "b": "2.5"}
    assert found == Attributes.parse("a:x;b:2.5")
    assert hash(found) == hash(Attributes.parse("a:x;b:2.5"))
    assert repr(found) == "Attributes('a:x;b:2.5')"
    assert len(Attributes()) == 0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "blank"),
        ("a:1;;b:2", "blank"),
        ("a:", "blank"),
        ("a", "not name:value"),
        ("a b:1", "not name:value"),
        ("a:1;a:2", "twice"),
        ("a:[1-", "unbalanced"),
        ("a:1]", "unbalanced"),
        ("a:[x-y]", "not a list of ranges"),
        ("a:{b", "cannot be"),
        ("a:x\ny", "cannot be"),
        ("a:" + "9" * 30, "too large"),
        ("a:" + "x" * 2000, "cannot be"),
    ],
)
def test_parse_refuses_what_cannot_be_meant(text: str, part: str) -> None:
    """An attribute that is silently dropped would send tasks to the wrong agents."""
    with pytest.raises(UsageError) as caught:
        Attributes.parse(text)
    assert part in caught.value.message


@pytest.mark.parametrize(
    "wire", [None, [], {1: "a"}, {"a": 1}, {"a": ""}, {"a": "[1-"}, {"a": "b;c"}, {"a": " b"}]
)
def test_from_wire_refuses_what_is_not_text(wire: object) -> None:
    """A peer's attributes are checked like an operator's."""
    with pytest.raises(ValueError):
        Attributes.from_wire(wire)


@given(st.text(st.sampled_from("ab:;[]{}-,.0123456789 \n\x00é"), max_size=30))
def test_any_text_is_read_or_refused_and_round_trips(text: str) -> None:
    """Whatever is typed: attributes that survive being written, or one line."""
    try:
        found = Attributes.parse(text)
    except UsageError:
        return
    assert Attributes.parse(found.format()) == found
    assert Attributes.from_wire(found.to_wire()) == found
