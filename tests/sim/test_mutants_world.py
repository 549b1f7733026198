"""More planted bugs: of disks, epochs, rights, clocks, recovery, leaks and bad company.

Each is of a kind that some fault or judge is there for; the first half is in test_mutants.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.allocation.filters import FilterBook
from mesosctl.core.agent import AgentMachine
from mesosctl.core.machine import Delete, Effect, Now, Put
from mesosctl.core.master import frameworks, offering, queries
from mesosctl.core.master.machine import DISPATCH, MasterMachine
from mesosctl.core.master.state import MasterState
from mesosctl.core.session import ClientSession
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks
from mesosctl.protocol.messages.framework import Rescind
from mesosctl.protocol.messages.query import TeardownFramework
from mesosctl.sim.disk import Disk
from mesosctl.sim.node import Node
from mesosctl.sim.seeds import run_seed_as_planned
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch


def commit_not_synced(patch: Patch) -> None:
    """A commit is acknowledged when it is written, not when it is synced."""
    patch.setattr(Disk, "sync", lambda self: None)


def opening_trusts_the_cache(patch: Patch) -> None:
    """A store believes what it reads although the sync of it had failed."""
    patch.setattr(Disk, "open", lambda self: None)


def failed_commit_ignored(patch: Patch) -> None:
    """A process goes on although its disk did not take what it promises."""
    original = Node._commit

    def commit(self: Node, kept: Iterable[Effect]) -> bool:
        if not self.disk.problem:
            return original(self, kept)
        for judge in self.world.judges:
            judge.failed(self)
        return True

    patch.setattr(Node, "_commit", commit)


def sent_before_commit(patch: Patch) -> None:
    """Messages of a pass leave before its commit."""

    def carry_out_all(self: Node, machine: Any, effects: list[Effect]) -> None:
        kept = [effect for effect in effects if isinstance(effect, Put | Delete)]
        steps: list[Effect | None] = [
            effect for effect in effects if not isinstance(effect, Put | Delete)
        ]
        steps += [None] if kept else []
        killed_at = self._kill_point(len(steps))
        for number, step in enumerate(steps):
            if number == killed_at:
                self.crash()
                return
            if step is not None:
                self._carry_out(step)
            elif not self._commit(kept):
                return
            if self.machine is not machine:
                return
        self._plan_tick()

    patch.setattr(Node, "_carry_out_all", carry_out_all)


def epoch_used_twice(patch: Patch) -> None:
    """A master that starts again leads in the epoch that it had."""
    original = MasterMachine.__init__

    def init(self: MasterMachine, *, epoch: int, **given: Any) -> None:
        original(self, epoch=max(1, epoch - 1), **given)

    patch.setattr(MasterMachine, "__init__", init)


def acknowledges_for_others(patch: Patch) -> None:
    """The master takes acknowledgements of a framework for the tasks of another."""

    original = frameworks.on_acknowledge

    def acknowledge(state: MasterState, peer: str, message: Acknowledge, now: Now) -> Any:
        effects = original(state, peer, message, now)
        for ack in message.acks:
            agent = state.agents.get(ack.agent_id)
            effects += state.send(agent.peer, Acknowledge((ack,))) if agent else []
        return effects

    patch.setitem(DISPATCH, Acknowledge, ("framework", acknowledge))


def kills_for_others(patch: Patch) -> None:
    """The master believes the framework id in a kill."""
    original = frameworks.on_kill

    def kill(state: MasterState, peer: str, message: KillTasks, now: Now) -> Any:
        mine = state.framework_of_peer[peer]
        if message.framework_id in state.frameworks:
            state.framework_of_peer[peer] = message.framework_id
        effects = original(state, peer, message, now)
        state.framework_of_peer[peer] = mine
        return effects

    patch.setitem(DISPATCH, KillTasks, ("framework", kill))


def thief_is_believed(patch: Patch) -> None:
    """Whoever names the id of a framework is that framework."""
    original = frameworks._subscription_problem

    def problem(state: Any, peer: str, info: Any) -> tuple[str, str]:
        code, text = original(state, peer, info)
        return ("", "") if "belongs to another key" in text else (code, text)

    patch.setattr(frameworks, "_subscription_problem", problem)


def anybody_tears_down(patch: Patch) -> None:
    """A framework may end another one."""

    def teardown(state: MasterState, peer: str, message: TeardownFramework, now: Now) -> Any:
        framework = state.frameworks.get(message.framework_id)
        if framework is None or message.framework_id in state.removed:
            return []
        return queries.remove_framework(state, framework, "torn down", now)

    patch.setitem(DISPATCH, TeardownFramework, ("any", teardown))


def wall_clock_decides(patch: Patch) -> None:
    """How long somebody waits before it connects again depends on the clock on the wall."""
    original = ClientSession.lose

    def lose(self: ClientSession, now: Now, moved: bool = False) -> list[Effect]:
        effects = original(self, now, moved)
        if self._open_at is not None:
            self._open_at += now.wall % 7 / 10
        return effects

    patch.setattr(ClientSession, "lose", lose)


def recovery_tells_anew(patch: Patch) -> None:
    """A recovering agent gives the updates that it found other ids."""
    original = AgentMachine._start

    def start(self: AgentMachine, now: Now) -> list[Effect]:
        effects = original(self, now)
        for task in self.tasks.all():
            if task.updates:
                task.updates = [replace(u, uuid=self.tasks._new_id()) for u in task.updates]
                effects.append(self.tasks._keep(task))
        return effects

    patch.setattr(AgentMachine, "_start", start)


def removed_framework_stays(patch: Patch) -> None:
    """The master keeps the record of a framework that was removed."""
    patch.setattr(MasterState, "bury", lambda self, framework: None)


def offers_never_time_out(patch: Patch) -> None:
    """Whoever hoards offers keeps them."""
    patch.setattr(offering, "time_out", lambda state, now: [])
    patch.setattr(offering, "deadline", lambda state: None)


def filter_never_ends(patch: Patch) -> None:
    """What was refused once is never offered again."""
    original = FilterBook.refuse

    def refuse(self: FilterBook, framework: str, agent: str, bag: Any, until_s: float) -> None:
        original(self, framework, agent, bag, until_s + 1e6)

    patch.setattr(FilterBook, "refuse", refuse)
    patch.setattr(FilterBook, "clear", lambda self, framework: None)


def rescind_not_told(patch: Patch) -> None:
    """Frameworks are not told that offers are void."""
    original = MasterState.send

    def send(self: MasterState, peer: str, message: Any) -> list[Effect]:
        return [] if isinstance(message, Rescind) else original(self, peer, message)

    patch.setattr(MasterState, "send", send)


MUTANTS = {
    commit_not_synced: 4,
    opening_trusts_the_cache: 16,
    failed_commit_ignored: 1,
    sent_before_commit: 23,
    epoch_used_twice: 3,
    acknowledges_for_others: 8,
    kills_for_others: 8,
    thief_is_believed: 11,
    anybody_tears_down: 15,
    wall_clock_decides: 60,
    recovery_tells_anew: 1,
    removed_framework_stays: 1,
    offers_never_time_out: 5,
    filter_never_ends: 1,
    rescind_not_told: 5,
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_of_the_world_is_found(
    plant: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [MUTANTS[plant], *range(1, SEEDS_MAX + 1)]
    assert finding(seeds, lambda seed: run_seed_as_planned(seed).problem), (
        f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
    )
