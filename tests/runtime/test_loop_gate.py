"""The gate of a loop: once it raises nothing is made durable, sent or told, and the loop ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

from mesosctl.core.machine import Delete, Effect, Event, Log, Now, Put, Signalled, Started, Stop
from mesosctl.core.master.fence import Deposed
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.polling import hold_signals

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


class Told(Busy):
    """Stops at a signal, and has the process sent one when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[int] = []

    def handle(self, event: Event, now: Now) -> list[Effect]:
        if isinstance(event, Signalled):
            self.signals.append(event.signum)
            return [Stop(0)]
        return []


@pytest.mark.parametrize("moment", ["between", "unread"])
def test_a_signal_between_two_loops_is_for_the_later_one(moment: str) -> None:
    """A master that is told to stop while it goes from standing by to leading must not miss it."""

    def send() -> Sequence[Event]:
        first.abandon()
        os.kill(os.getpid(), signal.SIGTERM)
        return ()

    def end() -> Sequence[Event]:
        first.abandon()
        return ()

    with hold_signals():
        early = Told()
        first = Loop(early, log=lambda level, text: None)
        first.call(send if moment == "unread" else end)
        assert first.run() == 0 and early.signals == []
        if moment == "between":
            os.kill(os.getpid(), signal.SIGTERM)
        late = Told()
        assert Loop(late, log=lambda level, text: None).run() == 0
        assert late.signals == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
