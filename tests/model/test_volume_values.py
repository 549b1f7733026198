"""Volumes as values: what they take, what they are, what may be called so."""

from __future__ import annotations

import pytest

from mesosctl.model.reservations import Reservation
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import (
    Volume,
    VolumeEntry,
    VolumeMount,
    VolumePlace,
    VolumeState,
    clash,
    is_volume_id,
    mounts_problem,
    path_problem,
    places_of,
    total_of,
    wanted,
)

R = Resources.parse
G = 1024 * 1000
OWN = R("cpus:4;disk:8G")
KEPT = (Reservation("eng", R("disk:4G")),)
DATA = Volume("data1", "eng", G)


def entry(volume: Volume = DATA, state: VolumeState = VolumeState.READY) -> VolumeEntry:
    """A volume in some state."""
    return VolumeEntry(volume, state)


def test_a_volume_is_taken_out_of_what_is_reserved_and_seen_only_when_it_is_ready() -> None:
    """The sums of everything else stay what they were."""
    without = R("cpus:4;disk:4G;disk(eng):3G")
    for state in VolumeState:
        seen = R("volumes(eng):{data1}") if state is VolumeState.READY else Resources()
        assert total_of(OWN, KEPT, [entry(state=state)]) == without + seen
    assert total_of(OWN, KEPT, []) == R("cpus:4;disk:4G;disk(eng):4G")


def test_what_tasks_hold_is_always_there() -> None:
    """Also on an agent that came back with less than is reserved and in volumes."""
    held = R("cpus:1;disk(eng):1G;volumes(eng):{data1}")
    assert total_of(OWN, KEPT, [entry()], held).contains(held)
    small = total_of(R("cpus:1;disk:1G"), KEPT, [entry()], held)
    assert small.contains(held)
    assert small.scalar("disk") == G
    # The name is ours: what an agent calls so itself is nothing.
    assert total_of(R("cpus:1;volumes:{x}"), (), []) == R("cpus:1")


@pytest.mark.parametrize("name", ["data1", "a", "A_b-9", "x" * 64])
def test_ids(name: str) -> None:
    """Words that are safe in a path and in a set."""
    assert is_volume_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a.b", "-a", "a b", "x" * 65, "a,b", "é"])
def test_no_ids(name: str) -> None:
    """Neither dots nor slashes, nor what would end a set."""
    assert not is_volume_id(name)


@pytest.mark.parametrize("path", ["db", "var/lib/db", "a.b", "..a", "x y"])
def test_paths(path: str) -> None:
    """Below the sandbox."""
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    "path", ["", "/", "/db", "..", "a/../b", "a//b", "a/", ".", "stderr", "a\nb", "x" * 256, "a\0"]
)
def test_no_paths(path: str) -> None:
    """Not out of it, and not where its outputs are."""
    assert path_problem(path)


def test_mounts_are_those_among_the_resources_and_apart() -> None:
    """Each once, none inside of another; names that only begin alike are apart."""
    two = (VolumeMount("a", "db"), VolumeMount("b", "db-2"))
    assert mounts_problem(two, R("cpus:1") + wanted(two)) == ""
    assert mounts_problem(two, R("volumes(eng):{a};volumes(eng/web):{b}")) == ""
    assert mounts_problem(two, R("volumes(eng):{a}"))
    inside = (VolumeMount("a", "db"), VolumeMount("b", "db/b"))
    assert "inside of another" in mounts_problem(inside, wanted(inside))
    twice = (VolumeMount("a", "x"), VolumeMount("a", "y"))
    assert "named twice" in mounts_problem(twice, wanted(twice))
    many = tuple(VolumeMount(f"v{n}", f"p{n}") for n in range(17))
    assert "16 volumes at the most" in mounts_problem(many, wanted(many))


def test_the_resources_say_whose_volume_it_is() -> None:
    """The same id may be that of another role's elsewhere."""
    mounts = (VolumeMount("a", "db"),)
    given = R("cpus:1;volumes(eng/web):{a}")
    assert places_of(given, mounts) == (VolumePlace("eng/web", "a", "db"),)


@pytest.mark.parametrize(
    ("role", "is_near"), [("eng", True), ("eng/web", True), ("eng/web/x", True), ("ops", False)]
)
def test_an_id_is_used_once_among_those_who_see_each_others(role: str, is_near: bool) -> None:
    """Otherwise a task that names it could mean either."""
    known = [entry(Volume("data1", "eng/web", G))]
    assert (clash(known, role, "data1") is not None) is is_near
    assert clash(known, role, "data2") is None
