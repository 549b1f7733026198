"""Leases in the executor's machine: counted on the boot clock, enforced whatever the agent does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesosctl.core.executor_effects import (
    ContainerEmptied,
    Drain,
    GuardLease,
    KillContainer,
    MainExited,
    Prepare,
    Remove,
    RenewGuard,
    SignalContainer,
    Spawn,
    TaskStarted,
    UnguardLease,
    WakeAt,
)
from mesosctl.core.machine import Started, Tick
from mesosctl.limits import KILL_AGAIN_S
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.agent import KillTasks, RenewLeases, RunTasks, TaskKill
from tests.core.test_executor import FRAMEWORK, World, launch

LEASE_S = 60.0
CONTAINER = "f1/t1"


@pytest.fixture
def world() -> Iterator[World]:
    """A registered executor that was renewed at its 100th second; all its effects are looked at."""
    made = World()
    made.step(Started())
    made.register()
    yield made
    made.take(WakeAt)
    made.finished()


def begin(world: World, renewed_at: float | None = 100.0) -> None:
    """A task with a lease runs."""
    world.tell(RunTasks(FRAMEWORK, (launch(lease_s=LEASE_S),), renewed_at))
    world.expect(GuardLease(CONTAINER, LEASE_S, 100.0))
    assert len(world.take(Prepare)) == len(world.take(Spawn)) == 1
    world.step(TaskStarted(CONTAINER, 500))
    (update,) = world.updates()
    assert update.state is TaskState.RUNNING


def expired(world: World) -> StatusUpdate:
    """The container was killed; give its end."""
    world.expect(UnguardLease(CONTAINER))
    assert {kill.container for kill in world.take(KillContainer)} == {CONTAINER}
    world.step(MainExited(CONTAINER, None, 9))
    world.expect(Drain(CONTAINER))
    assert world.updates() == []
    world.step(ContainerEmptied(CONTAINER, Usage()))
    world.expect(Remove(CONTAINER))
    (update,) = world.updates()
    return update


def test_a_task_is_killed_when_its_lease_is_over(world: World) -> None:
    """The end is told as lost, and only when nothing of it is alive."""
    begin(world)
    world.wait(LEASE_S - 0.1)
    assert world.take(KillContainer) == []
    world.wait(0.2)
    end = expired(world)
    assert (end.state, end.reason) == (TaskState.GONE, Reason.LEASE_EXPIRED)
    assert "60 s" in end.message


def test_it_is_killed_again_until_it_is_dead(world: World) -> None:
    """A fork that slipped through must not go on because it was killed once."""
    begin(world)
    world.wait(LEASE_S)
    world.expect(KillContainer(CONTAINER))
    world.wait(KILL_AGAIN_S)
    assert expired(world).reason is Reason.LEASE_EXPIRED


def test_a_renewal_counts_from_when_the_ping_was_sent(world: World) -> None:
    """Not from when it arrives: the master was heard of at that earlier time, no later."""
    begin(world)
    world.wait(40.0)
    world.tell(RenewLeases(120.0))
    world.expect(RenewGuard(120.0))
    world.wait(39.0)
    assert world.take(KillContainer) == []
    world.wait(1.1)
    assert expired(world).reason is Reason.LEASE_EXPIRED


def test_a_renewal_never_goes_back_nor_beyond_the_present(world: World) -> None:
    """A restarted or confused agent must neither shorten nor lengthen a lease."""
    begin(world)
    world.tell(RenewLeases(50.0))
    world.wait(10.0)
    world.tell(RenewLeases(5000.0))
    (renewed,) = world.take(RenewGuard)
    assert renewed.renewed_at == world.mono
    world.wait(LEASE_S - 0.1)
    assert world.take(KillContainer) == []
    world.wait(0.2)
    expired(world)


def test_a_lease_that_was_over_is_not_revived(world: World) -> None:
    """A stopped executor finds the renewal and the end of the lease in one pass."""
    begin(world)
    world.mono += LEASE_S + 5
    world.tell(RenewLeases(world.mono))
    world.take(RenewGuard)
    assert expired(world).reason is Reason.LEASE_EXPIRED


def test_the_time_of_a_suspended_host_counts(world: World) -> None:
    """The loop's clock stands still meanwhile; the timer that was asked for does not."""
    begin(world)
    assert [wake.boot for wake in world.take(WakeAt)] == [100.0 + LEASE_S]
    world.boot_ahead_s = 3600.0
    world.step(Tick())
    assert expired(world).reason is Reason.LEASE_EXPIRED


@pytest.mark.parametrize("renewed_at", [None, 100.0])
def test_a_task_without_a_valid_lease_never_starts(world: World, renewed_at: float | None) -> None:
    """A launch that waited in a queue for too long may have a successor already."""
    world.mono += LEASE_S
    world.tell(RunTasks(FRAMEWORK, (launch(lease_s=LEASE_S),), renewed_at))
    (end,) = world.updates()
    assert (end.state, end.reason) == (TaskState.DROPPED, Reason.LEASE_EXPIRED)


def test_a_launch_under_way_ends_as_soon_as_it_has_started(world: World) -> None:
    """Between the order and its answer nobody knows whether there is anything to kill."""
    world.tell(RunTasks(FRAMEWORK, (launch(lease_s=LEASE_S),), 100.0))
    assert len(world.take(Prepare)) == len(world.take(Spawn)) == len(world.take(GuardLease)) == 1
    world.wait(LEASE_S + 1)
    assert world.take(KillContainer) == []
    world.step(TaskStarted(CONTAINER, 500))
    assert expired(world).state is TaskState.GONE


def test_what_the_guard_killed_is_told_as_lost(world: World) -> None:
    """An executor that was stopped meanwhile must not take it for a failure of the task."""
    begin(world)
    world.mono += LEASE_S + 5
    world.step(MainExited(CONTAINER, None, 9))
    world.take(KillContainer)
    world.take(UnguardLease)
    world.expect(Drain(CONTAINER))
    assert world.empty(CONTAINER).reason is Reason.LEASE_EXPIRED


def test_a_task_being_killed_on_request_is_killed_at_once(world: World) -> None:
    """A long grace must not outlast the lease; its end stays one on request."""
    begin(world)
    world.wait(50.0)
    world.tell(KillTasks(FRAMEWORK, (TaskKill(launch().task.task_id, grace_s=600.0),)))
    world.updates()
    world.effects = [e for e in world.effects if not isinstance(e, SignalContainer)]
    world.wait(11.0)
    assert expired(world).state is TaskState.KILLED


def test_an_agent_that_is_silent_ends_only_tasks_with_a_lease(world: World) -> None:
    """Everything else goes on however long the agent is away."""
    begin(world)
    other = launch("t2")
    world.tell(RunTasks(FRAMEWORK, (other,), 100.0))
    world.take(Prepare), world.take(Spawn)
    world.step(TaskStarted(other.container, 501))
    world.updates()
    world.answers = False
    world.wait(LEASE_S + 1)
    assert {kill.container for kill in world.take(KillContainer)} == {CONTAINER}
    world.step(MainExited(CONTAINER, None, 9), ContainerEmptied(CONTAINER, Usage()))
    assert [task.task_id for task in world.machine._lives.reports()] == ["t2"]
    world.effects.clear()
