"""Constraints: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.errors import UsageError
from mesosctl.model.attributes import Attributes
from mesosctl.model.constraints import (
    CONSTRAINT_CHARS_MAX,
    Joint,
    Place,
    Term,
    Where,
    combined,
    misses,
    parse_constraint,
    place_of,
)
from mesosctl.model.ids import AgentId

NODE = Place("A1", "node1", Attributes.parse("rack:r1;ssd:true;gpu:false;cores:8;zone:[1-3,7]"))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rack==r1", True),
        ("rack==r2", False),
        ("rack!=r2", True),
        ("rack == r1 && ssd", True),
        ("rack==r2 || ssd", True),
        ("ssd", True),
        ("!ssd", False),
        # Set, and set to no.
        ("gpu", False),
        ("!gpu", True),
        # What an agent has no word of equals nothing.
        ("os==linux", False),
        ("os!=linux", True),
        ("os", False),
        ("os<5", False),
        ("cores==8", True),
        ("cores==8.0", True),
        ("cores<=8 && cores>=8", True),
        ("cores<8 || cores>8", False),
        # A number is in ranges that hold it; ranges equal themselves.
        ("zone==2", True),
        ("zone==5", False),
        ("zone==[1-3,7]", True),
        # && binds closer than ||.
        ("rack==r1 || rack==r2 && rack==r3", True),
        ("(rack==r1 || rack==r2) && rack==r3", False),
        ("agent==node1", True),
        ("agent==A1", True),
        ("agent!=node1", False),
        ("agent==node2 || agent==node3", False),
        ('rack=="r1"', True),
    ],
)
def test_what_a_constraint_means(text: str, holds: bool) -> None:
    """The rules of the module, one by one."""
    assert parse_constraint(text).holds(NODE) is holds


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("rack=r1", 5, "did you mean ==?"),
        ("rack==r1 & ssd", 10, "did you mean &&?"),
        ("rack==r1 | ssd", 10, "did you mean ||?"),
        ("rack==", 7, "a value is missing after =="),
        ("rack==r1 &&", 12, "something is missing at the end"),
        ("(rack==r1", 10, "a ) is missing"),
        ("rack==r1)", 9, "')' does not belong there"),
        ("rack==r1 ssd", 10, "follows without && or ||"),
        ("rack==r1 AND ssd", 10, "did you mean &&?"),
        ("==r1", 1, "where a name belongs"),
        ("cores>big", 7, "compares numbers"),
        ('rack=="r1', 7, "a second quote"),
        ("agent", 1, "which agent?"),
        ("agent<node1", 7, "does not compare agents"),
        ("ra+ck==1", 1, "no name of an attribute"),
        ("!" * 100 + "ssd", 41, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, at: int, says: str) -> None:
    """Whoever mistypes a constraint finds the character, in one line."""
    with pytest.raises(UsageError) as caught:
        parse_constraint(text)
    told = f"{caught.value.message}; {caught.value.hint}"
    assert f"character {at}:" in told and says in told
    assert "\n" not in told


@pytest.mark.parametrize("text", ["", "  ", "a==" + "x" * CONSTRAINT_CHARS_MAX, "a\n==\0"])
def test_what_is_no_constraint_at_all_is_refused(text: str) -> None:
    """Nothing, too much, and characters that are none: errors, not surprises."""
    with pytest.raises(UsageError):
        parse_constraint(text)


names = st.sampled_from(["rack", "ssd", "cores", "zone", "agent"])
values = st.sampled_from(["r1", "8", "true", "node1", "[1-3]", "a b", "x&&y"])


def terms() -> st.SearchStrategy[str]:
    def text(name: str, operator: str, value: str) -> str:
        return f'{name}{operator}"{value}"'

    named = st.sampled_from(["rack", "ssd", "gpu"])
    return st.one_of(named, st.builds(text, names, st.sampled_from(["==", "!="]), values))


expressions = st.recursive(
    terms(),
    lambda inner: st.one_of(
        st.builds(lambda one: f"!({one})", inner),
        st.builds(lambda one, two: f"({one}) && ({two})", inner, inner),
        st.builds(lambda one, two: f"{one} || {two}", inner, inner),
    ),
    max_leaves=8,
)


@given(expressions)
def test_the_text_of_an_expression_means_the_same(text: str) -> None:
    """What `combined` writes is read again by the framework and by the master."""
    found = parse_constraint(text)
    again = parse_constraint(str(found))
    assert str(again) == str(found)
    assert again.holds(NODE) == found.holds(NODE)
    assert (misses(found, NODE) == "") == found.holds(NODE)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A constraint comes from outside: nothing but UsageError may leave the parser."""
    with contextlib.suppress(UsageError):
        assert parse_constraint(text).holds(NODE) in (True, False)


def test_agents_are_named_beside_a_constraint() -> None:
    """--on and --not-on are parts of one expression, so one thing is told to the master."""
    text = combined("rack==r1 || ssd", ("node1", "node 2"), ("node3",))
    assert text == '(rack==r1 || ssd) && (agent==node1 || agent=="node 2") && agent!=node3'
    assert parse_constraint(text).holds(NODE)
    assert combined("", (), ()) == ""
    assert combined("", ("node1",), ()) == "agent==node1"


def test_what_an_agent_misses_is_told_with_what_it_has() -> None:
    """`explain` shows the parts that do not hold, not the whole of them."""
    expression = parse_constraint("ssd && rack==r2 && os==linux && agent!=node1")
    assert misses(expression, NODE) == (
        "rack==r2 (rack is r1), os==linux (no os), agent!=node1 (it is node1)"
    )


def test_a_place_takes_nothing_for_granted() -> None:
    """Attributes come from an agent: those that are none count as not there."""
    assert not parse_constraint("rack==r1").holds(place_of("A1", "n", {"rack": " x ;"}))
    where = Where("rack==r1", (AgentId("A2"),))
    assert where.accepts(place_of("A1", "n", {"rack": "r1"}))
    assert not where.accepts(place_of("A2", "n", {"rack": "r1"}))


def test_an_expression_is_a_value() -> None:
    """It can be compared and printed."""
    found = parse_constraint("rack==r1 && !ssd")
    assert isinstance(found, Joint) and isinstance(found.parts[0], Term)
    assert str(found) == "rack==r1 && !ssd"
