"""More planted bugs: of introductions that come late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesosctl.core.master import agents
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch


def late_registration_counts(patch: Patch) -> None:
    """The master takes what an agent had said before its present session for the newest word."""
    patch.setattr(agents, "is_late", lambda agent, incarnation: False)


# Each with the first seed that finds it; see test_mutants.py.
MUTANTS = {
    late_registration_counts: 134,
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_of_masters_is_found(
    plant: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [MUTANTS[plant], *range(1, SEEDS_MAX + 1)]
    assert finding(seeds), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
