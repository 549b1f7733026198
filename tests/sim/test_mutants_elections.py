"""Planted bugs of masters that take turns: each must be found by the judges of I8.

Three lines stand between a deposed master and the cluster: its fence, masters that refuse whoever
has heard of a newer epoch, and peers that ignore an older one. The second and the third only matter
where those before them fail, so their mutants take these, and the judge of the first, away as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.core.machine import Now
from mesosctl.core.master.fence import Fence
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.sim.elections import Elections
from mesosctl.sim.masters import MASTERS_EVERY
from mesosctl.sim.seeds import run_seed
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch


def fence_not_asked(patch: Patch) -> None:
    """A leader goes on with what came while it was paused, whoever leads by then."""
    patch.setattr(Elections, "_holds", lambda self, node: True)


def writes_not_compared(patch: Patch) -> None:
    """The registry takes a write of whoever believes to lead."""
    patch.setattr(Elections, "_may_write", lambda self, node: True)


def _two_lead(patch: Patch) -> None:
    """The fence holds for ever, and no judge looks at who acts."""
    patch.setattr(Fence, "check", lambda self: None)
    patch.setattr(Elections, "_leads", lambda self, node, what: None)


def stale_master_answers(patch: Patch) -> None:
    """A master serves those who have heard of a newer one."""
    _two_lead(patch)
    original = ServerSessions._problem

    def problem(self: ServerSessions, *given: Any) -> str:
        found = original(self, *given)
        return "" if found == "stale-epoch" else found

    patch.setattr(ServerSessions, "_problem", problem)


def older_epoch_heeded(patch: Patch) -> None:
    """Agents and frameworks take orders of a master that is older than one that they know."""
    stale_master_answers(patch)
    patch.setattr(Elections, "saw", lambda self, node, event, effects: None)
    original = ClientSession.receive

    def receive(self: ClientSession, envelope: Any, now: Now) -> Any:
        self.epoch = min(self.epoch, envelope.epoch)
        return original(self, envelope, now)

    patch.setattr(ClientSession, "receive", receive)


MUTANTS = {
    fence_not_asked: 2,
    writes_not_compared: 210,
    stale_master_answers: 30,
    older_epoch_heeded: 62,
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_of_elections_is_found(
    plant: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    # What else goes wrong where two lead is no proof that this was seen. Seeds with one master have
    # nothing to look at.
    seeds = [MUTANTS[plant], *range(2, SEEDS_MAX * MASTERS_EVERY, MASTERS_EVERY)]
    assert finding(seeds, begins="I8"), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"


def test_a_second_line_holds_where_the_first_fails(monkeypatch: Patch) -> None:
    """With a fence that never falls, epochs alone keep everybody from heeding two masters."""
    _two_lead(monkeypatch)
    for seed in range(2, 34, MASTERS_EVERY):
        problem = run_seed(seed).problem
        assert "I8" not in problem, f"seed {seed}: {problem}"
