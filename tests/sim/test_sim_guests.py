"""Executors of strangers in the simulator: they have to be there for their rules to be tried."""

from __future__ import annotations

import pytest

from mesosctl.core.machine import Effect, Now
from mesosctl.protocol.messages.base import Message
from mesosctl.sim.guests import Program
from mesosctl.sim.seeds import run_seed_as_planned

SEEDS_MAX = 60
WANTED = {"run-tasks", "kill-tasks", "status-updates", "acknowledge", "shutdown-executor"}


def test_strangers_bring_executors_that_are_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds in which none ever registers would prove nothing about them."""
    heard: set[str] = set()
    take = Program._take

    def listen(program: Program, message: Message, now: Now) -> list[Effect]:
        heard.add(message.kind)
        return take(program, message, now)

    monkeypatch.setattr(Program, "_take", listen)
    for seed in range(1, SEEDS_MAX):
        assert not run_seed_as_planned(seed).problem
        if heard >= WANTED:
            break
    assert heard >= WANTED
