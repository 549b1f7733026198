"""The registry stays bounded, and forgets nobody who matters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mesosctl.core.machine import Delete
from mesosctl.core.master import pruning
from mesosctl.core.master.registry import AGENTS, AgentEntry, Mode
from mesosctl.core.master.state import MasterState


def state(seen: tuple[str, ...] = ()) -> MasterState:
    """Four agents, of which one was declared gone."""
    entries: dict[str, AgentEntry] = {f"A{number}": AgentEntry("key") for number in range(4)}
    entries["A0"] = AgentEntry("key", mode=Mode.GONE)
    made: Any = SimpleNamespace(registry=entries, agents=dict.fromkeys(seen), absent={}, missing={})
    return cast("MasterState", made)


@pytest.mark.parametrize(
    ("limit", "seen", "forgotten"),
    [(4, (), []), (2, (), ["A1", "A2"]), (3, ("A1",), ["A2"]), (0, ("A2",), ["A1", "A3"])],
)
def test_only_surplus_agents_that_nobody_has_seen_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, limit: int, seen: tuple[str, ...], forgotten: list[str]
) -> None:
    """What an operator decided of an agent, and whoever was here, is kept in any case."""
    monkeypatch.setattr(pruning, "REGISTRY_AGENTS_MAX", limit)
    held = state(seen)
    effects = pruning.forget_surplus(held)
    gone = [effect.key for effect in effects if isinstance(effect, Delete)]
    assert gone == forgotten and all(
        effect.table == AGENTS for effect in effects if isinstance(effect, Delete)
    )
    assert "A0" in held.registry and not set(gone) & set(held.registry)
