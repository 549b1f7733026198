"""The lease guard: what it is told, what it ends, and what it must not end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mesosctl.core.executor_effects import GuardLease, RenewGuard, UnguardLease, WakeAt
from mesosctl.core.machine import Now, Tick
from mesosctl.runtime.executor_leases import LeaseDeeds
from mesosctl.runtime.lease_guard import Guard, run
from mesosctl.runtime.loop import Loop, system_now


class FakeIsolation:
    """Containers that die when they are killed."""

    def __init__(self, *alive: str) -> None:
        self.alive = dict.fromkeys(alive)
        self.killed: list[str] = []

    def recover(self) -> tuple[str, ...]:
        return tuple(self.alive)

    def is_empty(self, container: str) -> bool:
        return container not in self.alive

    def kill(self, container: str) -> None:
        self.killed.append(container)
        self.alive.pop(container, None)


def guard(isolation: FakeIsolation) -> Guard:
    return Guard(lambda: isolation)  # type: ignore[arg-type,return-value]


def test_it_ends_what_is_overdue_and_nothing_else() -> None:
    """Lines come in pieces, leases differ, and a renewal counts for all of them."""
    isolation = FakeIsolation("f/short", "f/long")
    it = guard(isolation)
    it.receive(b'{"guard": "f/short", "lease_s": 30, "renewed_at": 100}\n{"guard": "f/l')
    it.receive(b'ong", "lease_s": 60, "renewed_at": 100}\n{"renewed_at": 120}\n')
    assert it.due() == 150.0
    it.tick(149.9, False)
    assert isolation.killed == []
    it.tick(150.0, False)
    assert isolation.killed == ["f/short"]
    it.receive(b'{"unguard": "f/short"}\n{"unguard": "f/unknown"}\n{"renewed_at": 90}\n')
    assert it.due() == 180.0


def test_without_its_executor_it_stays_for_as_long_as_anything_lives() -> None:
    """The agent ends the tasks of a dead executor; where it cannot, the guard does in time."""
    isolation = FakeIsolation("f/1", "f/2")
    it = guard(isolation)
    it.receive(b'{"guard": "f/1", "lease_s": 30, "renewed_at": 100}\n')
    it.receive(b'{"guard": "f/2", "lease_s": 40, "renewed_at": 100}\n')
    del isolation.alive["f/1"]
    it.tick(110.0, True)
    assert list(it.leases) == ["f/2"] and isolation.killed == []
    it.tick(140.0, True)
    assert it.leases == {} and isolation.killed == ["f/2"]


def test_what_was_renewed_while_it_was_stopped_counts() -> None:
    """It reads its news before it acts on a time that was read before them."""
    isolation = FakeIsolation("f/1")
    it = guard(isolation)
    boot = system_now().boot
    it.receive(b'{"guard": "f/1", "lease_s": 30, "renewed_at": %d}\n' % (boot - 3600))
    source, sink = os.pipe()
    os.write(sink, b'{"renewed_at": %f}\n{"unguard": "f/1"}\n' % boot)
    os.close(sink)
    run(it, source)
    os.close(source)
    assert isolation.killed == [] and it.leases == {}


class Nothing:
    """A machine that only remembers its ticks."""

    def __init__(self) -> None:
        self.ticks = 0

    def handle(self, event: Any, now: Now) -> list[Any]:
        self.ticks += isinstance(event, Tick)
        return []

    def settle(self, now: Now) -> list[Any]:
        return []

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        """There is nothing to check."""


@pytest.fixture
def deeds(tmp_path: Path) -> Any:
    machine = Nothing()
    loop = Loop(machine, log=lambda level, text: None)
    made = LeaseDeeds(
        loop, ["--isolation", "posix", "--cgroup-root", "mesosctl-t", "--agent-id", "A-guard-test"]
    )
    made.attach()
    yield made, loop, machine
    made.carry_out(UnguardLease("F/t"))
    made.close()
    loop.close()


def test_the_boot_clock_wakes_the_loop(deeds: Any) -> None:
    """The loop's own timers stand still in a suspended host."""
    made, loop, machine = deeds
    made.carry_out(WakeAt(system_now().boot + 0.05))
    loop.run_pass(10.0)
    assert machine.ticks == 1


def test_a_guard_that_is_gone_is_replaced_and_told_everything(deeds: Any) -> None:
    """It may be killed for want of memory like any other process."""
    made, _, _ = deeds
    far = system_now().boot + 1e6
    made.carry_out(GuardLease("F/t", 60.0, far))
    first = made.guard_pid
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    made.carry_out(RenewGuard(far + 1))
    second = made.guard_pid
    assert second not in (0, first)
    made.carry_out(UnguardLease("F/t"))
    made.close()
    assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 0
