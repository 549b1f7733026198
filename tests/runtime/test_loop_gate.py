"""The gate of a loop: once it raises nothing is made durable, sent or told, and the loop ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mesosctl.core.machine import Delete, Effect, Event, Log, Now, Put, Started
from mesosctl.runtime.fence import Deposed
from mesosctl.runtime.loop import Loop

pytestmark = pytest.mark.integration


class Busy:
    """Has something to keep and something to do in its first pass."""

    def __init__(self) -> None:
        self.handled = 0

    def handle(self, event: Event, now: Now) -> list[Effect]:
        self.handled += 1
        return [Log("info", "done"), Put("t", "k", {})] if isinstance(event, Started) else []

    def settle(self, now: Now) -> list[Effect]:
        return []

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        return


class Kept:
    """A store that counts, and does something while it is written."""

    def __init__(self) -> None:
        self.applied = 0

    def apply(self, operations: Sequence[Put | Delete]) -> None:
        self.applied += 1


@pytest.mark.parametrize(
    ("open_times", "handled", "kept"),
    [
        # Before the events are taken, before they are made durable, before anything is told.
        (0, 0, 0),
        (1, 1, 0),
        (2, 1, 1),
    ],
)
def test_nothing_is_done_once_the_gate_is_shut(open_times: int, handled: int, kept: int) -> None:
    """Whenever in the first pass that is."""
    asked: list[int] = []

    def gate() -> None:
        asked.append(1)
        if len(asked) > open_times:
            raise Deposed("over")

    machine, store, log = Busy(), Kept(), []
    loop = Loop(machine, store=store, gate=gate, log=lambda level, text: log.append(text))
    assert loop.run() == Deposed.exit_code
    assert (machine.handled, store.applied) == (handled, kept)
    assert log == ["over"]


def test_a_call_from_another_thread_reaches_the_gate() -> None:
    """A loop without anything to do is woken, so that it notices at once."""
    shut: list[bool] = []

    def gate() -> None:
        if shut:
            raise Deposed("over")

    loop = Loop(Busy(), store=Kept(), gate=gate, log=lambda level, text: None)

    def lose() -> Sequence[Event]:
        shut.append(True)
        return ()

    loop.call(lose)
    assert loop.run() == Deposed.exit_code
