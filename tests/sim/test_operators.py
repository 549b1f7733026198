"""Operators in the simulator: agents drained, declared gone and brought back among faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.core.agent import volumes as agent_volumes
from mesosctl.core.machine import Log
from mesosctl.core.master import maintenance, volume_steps
from mesosctl.core.master.state import MasterState
from mesosctl.model.volumes import VolumeState
from mesosctl.sim import operators
from mesosctl.sim.seeds import run_seed
from tests.sim.planting import finding

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
    for deed in ("drain", "undrain", "deactivate", "gone", "create", "destroy"):
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


def volume_order_is_not_repeated(patch: Patch) -> None:
    """An agent that comes back is not told again what it was to make or remove."""
    patch.setattr(volume_steps, "order_again", lambda state, agent_id: [])


def volume_is_told_before_it_is_kept(patch: Patch) -> None:
    """The agent has no record of a volume that it told the master it has made."""
    patch.setattr(agent_volumes, "put", lambda table, key, entry: Log("info", "nothing is kept"))


def volume_is_forgotten_at_once(patch: Patch) -> None:
    """The registry drops a volume when its agent is told to remove it."""
    original = volume_steps.put

    def put(state: Any, agent_id: Any, key: Any, changed: Any, request: str = "") -> Any:
        over = changed is not None and changed.state is VolumeState.REMOVING
        return original(state, agent_id, key, None if over else changed, request)

    patch.setattr(volume_steps, "put", put)


@pytest.mark.parametrize(
    ("plant", "likely"),
    [
        (volume_order_is_not_repeated, 9025),
        (volume_is_told_before_it_is_kept, 9033),
        (volume_is_forgotten_at_once, 9005),
    ],
)
def test_a_planted_bug_of_volumes_is_found(
    monkeypatch: Patch, plant: Callable[[Patch], None], likely: int
) -> None:
    """By what never ends, by what is left over, or by what the registry says."""
    monkeypatch.setattr(operators, "SHARE", 1.0)
    plant(monkeypatch)
    assert finding([likely, *range(9000, 9100)], begins="I")
