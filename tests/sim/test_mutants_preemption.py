"""Planted bugs of preemption: each must be found by the judges; see test_mutants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.allocation.preempting import Candidate
from mesosctl.core.batch import launch
from mesosctl.core.master import preemption
from mesosctl.core.master.clearing import Clearings
from mesosctl.model.tasks import TaskInfo
from mesosctl.sim.preemption import EVERY, THESE
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch


def one_too_many(patch: Patch) -> None:
    """The master revokes one task more than it has to."""
    original = preemption.fewest

    def more(free: Any, need: Any, role: str, candidates: list[Candidate], *rest: Any) -> Any:
        chosen = original(free, need, role, candidates, *rest)
        others = [one for one in candidates if chosen and one not in chosen]
        return (*chosen, others[0]) if chosen and others else chosen

    patch.setattr(preemption, "fewest", more)


def in_vain(patch: Patch) -> None:
    """The master revokes all that it may where even that would not do."""
    original = preemption.fewest

    def try_all(free: Any, need: Any, role: str, candidates: list[Candidate], *rest: Any) -> Any:
        chosen = original(free, need, role, candidates, *rest)
        return tuple(candidates) or None if chosen is None else chosen

    patch.setattr(preemption, "fewest", try_all)


def kept_for_nobody(patch: Patch) -> None:
    """What becomes free goes to whoever is next."""
    patch.setattr(Clearings, "holds_back", lambda *_: False)


def everybody_may_be_revoked(patch: Patch) -> None:
    """Tasks are launched as preemptible that were not submitted so."""
    original = launch.TaskInfo

    def soft(*words: Any, **more: Any) -> TaskInfo:
        return original(*words, **{**more, "preemptible": True})

    patch.setattr(launch, "TaskInfo", soft)


PLANTS = [one_too_many, in_vain, kept_for_nobody, everybody_may_be_revoked]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_of_preemption_is_found(
    plant: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [seed for seed in range(SEEDS_MAX) if seed % EVERY in THESE]
    assert finding(seeds, begins="I18"), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
