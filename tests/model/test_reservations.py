"""Reservations: refined downwards, given back to where they came from, never more than there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.model.reservations import (
    Reservation,
    applied,
    problem_of,
    renamed,
    reserved,
    unreserved,
)
from mesosctl.model.resources import EMPTY, Resources

R = Resources.parse
OWN = R("cpus:4;mem:4G;ports:[1-9];cpus(ops):2")


def made(*steps: tuple[str, str]) -> tuple[Reservation, ...]:
    """Reservations made one after the other: (role, resources)."""
    known: tuple[Reservation, ...] = ()
    for role, text in steps:
        known = reserved(known, role, R(text))
    return known


def test_a_refinement_takes_from_the_role_above() -> None:
    """2 CPUs and 4 ports for eng, one CPU of them for eng/backend."""
    known = made(("eng", "cpus:2;ports:[1-4]"), ("eng/backend", "cpus(eng):1"))
    assert applied(OWN, known) == R(
        "cpus:2;mem:4G;ports:[5-9];cpus(ops):2;cpus(eng):1;ports(eng):[1-4];cpus(eng/backend):1"
    )


def test_what_is_given_up_goes_back_to_where_it_was_the_latest_first() -> None:
    """eng/backend has 1 CPU of everybody's and 1 of eng's: the latter came later, so goes first."""
    known = made(("eng", "cpus:2"), ("eng/backend", "cpus:1"), ("eng/backend", "cpus(eng):1"))
    found = unreserved(known, "eng/backend", R("cpus:1"))
    assert found is not None
    assert found[1] == R("cpus(eng):1")
    found = unreserved(found[0], "eng/backend", R("cpus:1"))
    assert found is not None
    assert found[1] == R("cpus:1")
    assert applied(OWN, found[0]) == applied(OWN, made(("eng", "cpus:2")))
    assert unreserved(found[0], "eng/backend", R("cpus:1")) is None


def test_what_the_agent_reserves_itself_can_be_refined_but_not_given_up() -> None:
    """`--resources cpus(ops):2` is the word of whoever started the agent."""
    known = made(("ops/db", "cpus(ops):1"))
    assert applied(OWN, known).reserved_to("ops/db") == R("cpus(ops/db):1")
    assert unreserved((), "ops", R("cpus:1")) is None
    found = unreserved(known, "ops/db", R("cpus:1"))
    assert found == ((), R("cpus(ops):1"))


@pytest.mark.parametrize(
    ("role", "text", "told"),
    [
        ("eng", "", "nothing is to be reserved"),
        ("eng", "cpus(eng):1", "reserved to eng can be reserved to roles below it, not to eng"),
        ("eng", "cpus(eng/web):1", "not to eng"),
        ("ops", "cpus(eng):1", "not to ops"),
        ("eng/backend", "cpus(eng):1;cpus:1", ""),
    ],
)
def test_roles_are_refined_downwards_only(role: str, text: str, told: str) -> None:
    """Or one role would take what another was promised."""
    problem = problem_of(role, R(text) if text else EMPTY)
    assert (told in problem) if told else problem == ""


def test_an_agent_that_came_back_smaller_keeps_what_its_tasks_hold() -> None:
    """3 CPUs are for eng and 2 of them in use, with 1 of nobody's: of 4 one is left, for eng."""
    known = made(("eng", "cpus:3"))
    held = R("cpus(eng):2;cpus:1")
    assert applied(R("cpus:4"), known, held) == R("cpus(eng):3;cpus:1")
    assert applied(R("cpus:3"), known, held) == held
    # In use under keys that nobody reserved any more, as after a lost registry: nothing is doubled.
    assert applied(R("cpus:4"), (), R("cpus:1")) == R("cpus:4")


KEYS = ("", "(eng)", "(eng/a)", "(eng/a/b)", "(ops)")


@given(
    st.lists(
        st.tuples(st.sampled_from(["eng", "eng/a", "eng/a/b", "ops"]), st.sampled_from(KEYS)),
        max_size=8,
    ),
    st.integers(0, 8),
    st.lists(st.sampled_from(KEYS), max_size=4),
)
def test_nothing_is_made_and_nothing_lost(
    steps: list[tuple[str, str]], cpus: int, used: list[str]
) -> None:
    """Whatever was reserved of a host that may have shrunk: its amounts stay, held ones as held."""
    known: tuple[Reservation, ...] = ()
    for role, key in steps:
        if not problem_of(role, R(f"cpus{key}:1")):
            known = reserved(known, role, R(f"cpus{key}:1"))
    own = R(f"cpus:{cpus};cpus(eng):2")
    held = EMPTY
    for key in used[: cpus + 2]:
        held = held + R(f"cpus{key}:1")
    total = applied(own, known, held)
    if known:
        assert total.contains(held)
    assert renamed(total, "") == renamed(own, "")
