"""Policies by name: what is named is loaded, everything else is one clear error."""

from __future__ import annotations

import pytest

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.errors import UsageError
from mesosctl.plugins import make_allocator


def test_built_in_and_named_modules_are_made() -> None:
    """The same class is found by its short name and by where it stands."""
    assert type(make_allocator("drf")) is DrfAllocator
    assert type(make_allocator("mesosctl.allocation.drf:DrfAllocator")) is DrfAllocator


@pytest.mark.parametrize("name", ["nope", "no.module:X", "mesosctl.errors:Nope", "builtins:dict"])
def test_what_is_none_is_refused_by_name(name: str) -> None:
    """A typo must not become a master with another policy."""
    with pytest.raises(UsageError) as caught:
        make_allocator(name)
    assert name in str(caught.value)
