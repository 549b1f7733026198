"""Filters: containment, expiry, and what people are shown of them."""

from __future__ import annotations

import pytest

from mesosctl.allocation.filters import Filter, FilterBook
from mesosctl.model.resources import Resources

ONE = Resources.scalars(cpus=1, mem=100)
TWO = Resources.scalars(cpus=2, mem=200)
WIDE = Resources.scalars(cpus=3, mem=50)


@pytest.fixture
def book() -> FilterBook:
    found = FilterBook()
    found.refuse("f", "a", TWO, until_s=10.0)
    return found


def test_what_is_contained_in_the_refusal_is_blocked(book: FilterBook) -> None:
    """More than was refused is news, and so is another agent or framework."""
    assert book.blocks("f", "a", TWO, 0.0)
    assert book.blocks("f", "a", ONE, 0.0)
    assert not book.blocks("f", "a", WIDE, 0.0)
    assert not book.blocks("f", "b", ONE, 0.0)
    assert not book.blocks("g", "a", ONE, 0.0)


def test_a_filter_ends(book: FilterBook) -> None:
    """From its end on it blocks nothing, whether or not anyone tidied up."""
    assert book.blocks("f", "a", ONE, 9.9)
    assert not book.blocks("f", "a", ONE, 10.0)
    assert book.deadline() == 10.0
    assert book.expire(9.9) == []
    assert book.expire(10.0) == ["a"]
    assert book.expire(99.0) == [] and book.deadline() is None


def test_several_filters_stand_side_by_side(book: FilterBook) -> None:
    """Each blocks what it contains; the longer one stays when the shorter one ends."""
    book.refuse("f", "a", WIDE, until_s=20.0)
    assert book.blocks("f", "a", TWO, 0.0) and book.blocks("f", "a", WIDE, 0.0)
    # Neither contains 3 cpus with 200 MiB.
    assert not book.blocks("f", "a", Resources.scalars(cpus=3, mem=200), 0.0)
    assert book.expire(10.0) == ["a"]
    assert book.blocks("f", "a", WIDE, 15.0) and not book.blocks("f", "a", TWO, 15.0)
    assert book.deadline() == 20.0


def test_a_filter_that_adds_nothing_is_not_kept(book: FilterBook) -> None:
    """A framework that declines the same thing all day must not make the book grow."""
    book.refuse("f", "a", ONE, until_s=5.0)
    assert len(book.listing(0.0)) == 1
    for step in range(50):
        book.refuse("f", "a", TWO, until_s=11.0 + step)
    assert book.listing(0.0) == [Filter("f", "a", TWO, 60.0)]
    # The ends of the replaced filters are met and skipped.
    assert book.deadline() == 60.0
    assert book.expire(59.0) == []


def test_clearing_and_dropping(book: FilterBook) -> None:
    """A revived framework hears of everything, a changed agent is offered to everyone."""
    book.refuse("f", "b", ONE, until_s=30.0)
    book.refuse("g", "a", ONE, until_s=30.0)
    book.drop_agent("a")
    assert [f.agent for f in book.listing(0.0)] == ["b"]
    book.clear("f")
    assert book.listing(0.0) == [] and book.deadline() is None
    assert book.expire(99.0) == []


def test_listing_is_ordered_by_what_ends_first(book: FilterBook) -> None:
    """`explain` says how long a framework will not hear of an agent."""
    book.refuse("g", "a", ONE, until_s=4.0)
    assert book.listing(1.0) == [Filter("g", "a", ONE, 3.0), Filter("f", "a", TWO, 9.0)]
    assert book.listing(5.0) == [Filter("f", "a", TWO, 5.0)]
    assert book.listing(1.0, framework="g") == [Filter("g", "a", ONE, 3.0)]
