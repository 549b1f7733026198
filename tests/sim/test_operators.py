"""Operators in the simulator: agents drained, declared gone and brought back among faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.core.master import maintenance
from mesosctl.core.master.state import MasterState
from mesosctl.sim import operators
from mesosctl.sim.seeds import run_seed

Patch = pytest.MonkeyPatch


def withheld_is_offered(patch: Patch) -> None:
    """The master forgets that an operator took an agent out of use."""
    patch.setattr(
        MasterState, "is_offerable", lambda self, agent_id: bool(self.agents[agent_id].peer)
    )


def offers_stay(patch: Patch) -> None:
    """Offers that were made before an agent was withheld can still be used."""
    patch.setattr(maintenance, "rescind", lambda state, offer_ids: [])


def gone_is_forgotten(patch: Patch) -> None:
    """An agent that was declared gone is brought back by the next decision."""
    original = maintenance._change

    def change(state: Any, peer: str, request: str, words: Any, wanted: Any, now: Any) -> Any:
        patch.setattr(maintenance, "_find", lambda _, word: next(iter(state.registry)))
        from dataclasses import replace

        for agent_id, entry in state.registry.items():
            state.registry[agent_id] = replace(entry, mode=maintenance.Mode.IN_USE)
        return original(state, peer, request, words, wanted, now)

    patch.setattr(maintenance, "_change", change)


def test_every_seed_with_operators_comes_to_a_good_end(monkeypatch: Patch) -> None:
    """And they did something, also while tasks ran."""
    monkeypatch.setattr(operators, "SHARE", 1.0)
    tally: dict[str, int] = {}
    for seed in range(9000, 9010):
        outcome = run_seed(seed)
        assert not outcome.problem, f"seed {seed}: {outcome.problem}"
        for fault, count in outcome.tally.items():
            tally[fault] = tally.get(fault, 0) + count
    for deed in ("drain", "undrain", "deactivate", "gone"):
        assert tally.get(deed), f"nobody said {deed}"
    assert tally.get("drain with tasks")


@pytest.mark.parametrize("plant", [withheld_is_offered, offers_stay, gone_is_forgotten])
def test_a_planted_bug_of_maintenance_is_found(
    monkeypatch: Patch, plant: Callable[[Patch], None]
) -> None:
    """Otherwise the judges look away from what operators decide."""
    monkeypatch.setattr(operators, "SHARE", 1.0)
    plant(monkeypatch)
    assert any(run_seed(seed).problem for seed in range(9000, 9040))
