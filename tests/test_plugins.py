"""Policies by name: what is named is loaded, everything else is one clear error."""

from __future__ import annotations

import pytest

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.lottery import RandomAllocator
from mesosctl.errors import UsageError
from mesosctl.isolation import Isolator, choose
from mesosctl.plugins.allocators import make_allocator
from mesosctl.plugins.isolators import has_plug_ins, open_isolation, plug_ins


def test_built_in_and_named_modules_are_made() -> None:
    """The same class is found by its short name and by where it stands."""
    assert type(make_allocator("drf")) is DrfAllocator
    assert type(make_allocator("random")) is RandomAllocator
    assert type(make_allocator("mesosctl.allocation.drf:DrfAllocator")) is DrfAllocator


@pytest.mark.parametrize("name", ["nope", "no.module:X", "mesosctl.errors:Nope", "builtins:dict"])
def test_what_is_none_is_refused_by_name(name: str) -> None:
    """A typo must not become a master with another policy."""
    with pytest.raises(UsageError) as caught:
        make_allocator(name)
    assert name in str(caught.value)


def test_built_in_isolators_load_nothing() -> None:
    """Every executor asks, and most have no plug-in."""
    assert plug_ins("auto") == {} and plug_ins(",".join(choose.KNOWN[1:])) == {}
    assert not has_plug_ins("cgroups, posix/mem") and has_plug_ins("auto,site/x")


def test_an_isolator_of_another_package_takes_part() -> None:
    """Named where it stands; what it does not enforce is told with the rest."""
    name = f"{__name__}:Site"
    isolation = open_isolation(f"posix,{name}", root="mesosctl-none", agent_id="a1")
    assert isolation.names == ("posix/cpu", "posix/mem", name)
    assert "nothing at all" in isolation.not_enforced


class Site(Isolator):
    """A plug-in that does nothing."""

    not_enforced = ("nothing at all",)


class Failing(Isolator):
    """A plug-in that cannot be made."""

    def __init__(self) -> None:
        raise OSError("no licence file")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("site/none", "there are: auto, cgroups"),
        ("no.module:X", "No module named"),
        ("builtins:dict", "is no isolator"),
        (f"{__name__}:Failing", "no licence file"),
    ],
)
def test_what_is_no_isolator_is_refused_by_name(name: str, why: str) -> None:
    """An agent without an isolator that was asked for would run tasks without their limits."""
    with pytest.raises(UsageError) as caught:
        open_isolation(f"posix,{name}", root="mesosctl-none", agent_id="a1")
    text = f"{caught.value.message} {caught.value.hint}"
    assert name in text and why in text
