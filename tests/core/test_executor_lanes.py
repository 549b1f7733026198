"""Lanes in the executor's machine: one task at a time, the next at once, the rest given back.

The tasks here have CPUs of their own, so that none is ordered before its turn; those that are stand
in test_executor_ahead.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesosctl.core.executor_effects import (
    ContainerEmptied,
    Drain,
    GuardLease,
    LaunchFailed,
    MainExited,
    Prepare,
    Remove,
    Spawn,
    TaskStarted,
    UnguardLease,
    WakeAt,
)
from mesosctl.core.executor_updates import FOLLOWED_HELD_S
from mesosctl.core.machine import Started
from mesosctl.limits import LANE_S
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.agent import (
    KillTasks,
    ReturnLanes,
    RunTasks,
    ShutdownExecutor,
    StatusUpdates,
    TaskKill,
)
from tests.core.test_executor import FRAMEWORK, World, launch


@pytest.fixture
def world() -> Iterator[World]:
    """A registered executor; all its effects are looked at."""
    made = World()
    made.step(Started())
    assert made.register().knows_lanes
    yield made
    made.take(WakeAt)
    made.finished()


def hand_on(world: World, *names: str, **fields: object) -> None:
    """Tasks of the lane `t1` come in one message; the first one is begun."""
    fields = {"whole_cores": True, **fields}
    launches = tuple(launch(name, lane="t1", **fields) for name in names)
    world.tell(RunTasks(FRAMEWORK, launches, 100.0))
    world.take(GuardLease)
    assert begun(world) == ["f1/t1"]


def begun(world: World) -> list[str]:
    """Which tasks were begun since this was asked last."""
    prepared = [effect.container for effect in world.take(Prepare)]
    assert prepared == [effect.launch.container for effect in world.take(Spawn)]
    return prepared


def runs_through(world: World, container: str) -> None:
    """The task starts, ends and leaves nothing behind."""
    world.step(TaskStarted(container, 500))
    world.step(MainExited(container, 0))
    world.expect(Drain(container))
    world.step(ContainerEmptied(container, Usage()))
    world.expect(Remove(container))


def told(world: World) -> list[StatusUpdate]:
    """The updates that were sent without any waiting."""
    return [update for message in world.sent(StatusUpdates) for update in message.updates]


def names(updates: list[StatusUpdate]) -> list[tuple[str, str, str]]:
    return [(one.task_id, one.state.value, one.reason.value) for one in updates]


def test_the_next_task_begins_when_the_one_before_has_ended(world: World) -> None:
    """Nobody is asked in between; that is what lanes are for. And never two at once."""
    hand_on(world, "t1", "t2", "t3")
    world.step(TaskStarted("f1/t1", 500))
    world.step(MainExited("f1/t1", 0))
    world.expect(Drain("f1/t1"))
    assert begun(world) == []
    world.step(ContainerEmptied("f1/t1", Usage()))
    world.expect(Remove("f1/t1"))
    assert begun(world) == ["f1/t2"]
    runs_through(world, "f1/t2")
    assert begun(world) == ["f1/t3"]
    runs_through(world, "f1/t3")
    assert [update.task_id for update in told(world)] == ["t1", "t2", "t3"]


def test_ends_are_told_together_but_the_last_one_at_once(world: World) -> None:
    """A message and a commit for each task would cost more than the task; nobody waits for long."""
    hand_on(world, "t1", "t2", "t3")
    runs_through(world, "f1/t1")
    assert told(world) == [] and begun(world) == ["f1/t2"]
    world.wait(FOLLOWED_HELD_S)
    assert [update.task_id for update in told(world)] == ["t1"]
    runs_through(world, "f1/t2")
    assert told(world) == [] and begun(world) == ["f1/t3"]
    runs_through(world, "f1/t3")
    assert [update.task_id for update in told(world)] == ["t2", "t3"]


def test_what_has_not_begun_after_a_second_is_given_back_and_never_begins(world: World) -> None:
    """The framework may start it elsewhere: being told it again must not start it here."""
    hand_on(world, "t1", "t2", "t3")
    world.step(TaskStarted("f1/t1", 500))
    world.wait(LANE_S - 0.01)
    assert names(told(world)) == [("t1", "running", "")]
    world.wait(0.01)
    returned = told(world)
    assert names(returned) == [("t2", "dropped", "Returned"), ("t3", "dropped", "Returned")]
    assert all(update.started_at is None for update in returned)
    world.tell(RunTasks(FRAMEWORK, (launch("t2", lane="t1"),)))
    assert begun(world) == []
    assert world.finish("f1/t1").state is TaskState.FINISHED
    assert begun(world) == []


def test_nothing_begins_when_a_lane_is_too_old_by_the_time_of_its_turn(world: World) -> None:
    """A process that was stopped for a while must not start what it was to give back."""
    hand_on(world, "t1", "t2")
    world.step(TaskStarted("f1/t1", 500))
    world.mono += LANE_S
    world.step(MainExited("f1/t1", 0))
    world.step(ContainerEmptied("f1/t1", Usage()))
    world.expect(Drain("f1/t1"))
    world.expect(Remove("f1/t1"))
    assert begun(world) == []
    ends = [one for one in names(told(world)) if one[1] != "running"]
    assert sorted(ends) == [("t1", "finished", ""), ("t2", "dropped", "Returned")]


def test_a_lane_is_given_back_when_that_is_asked(world: World) -> None:
    """An agent that is drained: what has not begun runs elsewhere at once."""
    hand_on(world, "t1", "t2")
    world.tell(ReturnLanes())
    assert names(told(world)) == [("t2", "dropped", "Returned")]
    runs_through(world, "f1/t1")
    assert names(told(world)) == [("t1", "finished", "")]


def test_a_task_that_is_killed_before_its_turn_is_left_out(world: World) -> None:
    """The lane goes on without it."""
    hand_on(world, "t1", "t2", "t3")
    world.tell(KillTasks(FRAMEWORK, (TaskKill(launch("t2").task.task_id),)))
    assert names(told(world)) == [("t2", "killed", "KillRequested")]
    runs_through(world, "f1/t1")
    assert begun(world) == ["f1/t3"]
    runs_through(world, "f1/t3")
    assert [update.task_id for update in told(world)] == ["t1", "t3"]


def test_a_task_that_cannot_start_is_followed_by_the_next(world: World) -> None:
    """One bad task must not take those behind it along."""
    hand_on(world, "t1", "t2")
    world.step(LaunchFailed("f1/t1", "exec", "no such file", 127))
    world.expect(Drain("f1/t1"))
    world.step(ContainerEmptied("f1/t1", Usage()))
    world.expect(Remove("f1/t1"))
    assert begun(world) == ["f1/t2"]
    runs_through(world, "f1/t2")
    assert names(told(world)) == [("t1", "failed", "LaunchFailed"), ("t2", "finished", "")]


def test_ending_all_begins_nothing(world: World) -> None:
    """The end of the one in front must not be the turn of one that is to end as well."""
    hand_on(world, "t1", "t2", "t3")
    world.tell(ShutdownExecutor(0.0))
    assert begun(world) == []
    assert [one[:2] for one in names(told(world))] == [("t3", "killed"), ("t2", "killed")]
    world.step(LaunchFailed("f1/t1", "spawner", "it ends"))
    world.expect(Drain("f1/t1"))
    world.step(ContainerEmptied("f1/t1", Usage()))
    world.expect(Remove("f1/t1"))
    assert begun(world) == []
    assert [one[:2] for one in names(told(world))] == [("t1", "killed")]


def test_a_lease_that_ran_out_meanwhile_lets_nothing_begin(world: World) -> None:
    """The host slept: what follows in the lane may be running elsewhere by now."""
    hand_on(world, "t1", "t2", lease_s=60.0)
    world.step(TaskStarted("f1/t1", 500))
    world.step(MainExited("f1/t1", 0))
    world.expect(Drain("f1/t1"))
    world.boot_ahead_s += 61.0
    world.step(ContainerEmptied("f1/t1", Usage()))
    world.expect(Remove("f1/t1"))
    assert len(world.take(UnguardLease)) == 2
    assert begun(world) == []
    assert ("t2", "dropped", Reason.LEASE_EXPIRED.value) in names(told(world))


def test_lanes_do_not_wait_for_each_other(world: World) -> None:
    """Each holds resources of its own; a task without a lane is in nobody's way."""
    lanes = {"t1": "t1", "u1": "u1", "t2": "t1", "u2": "u1", "v": ""}
    launches = tuple(launch(name, lane=lane, whole_cores=True) for name, lane in lanes.items())
    world.tell(RunTasks(FRAMEWORK, launches))
    assert begun(world) == ["f1/t1", "f1/u1", "f1/v"]
    runs_through(world, "f1/u1")
    assert begun(world) == ["f1/u2"]
    for container in ("f1/t1", "f1/u2", "f1/v", "f1/t2"):
        runs_through(world, container)
        begun(world)
    world.wait(FOLLOWED_HELD_S)
    assert len(told(world)) == 5


def test_what_comes_when_its_lane_is_over_and_too_old_never_begins(world: World) -> None:
    """It was under way while what came before it ended: its time counts from the first of them."""
    hand_on(world, "t1")
    runs_through(world, "f1/t1")
    world.tell(RunTasks(FRAMEWORK, (launch("t2", lane="t1"),), 100.0))
    assert begun(world) == ["f1/t2"]
    runs_through(world, "f1/t2")
    assert [update.task_id for update in told(world)] == ["t1", "t2"]
    world.wait(LANE_S)
    world.tell(RunTasks(FRAMEWORK, (launch("t3", lane="t1"),), 100.0))
    assert begun(world) == []
    assert names(told(world)) == [("t3", "dropped", "Returned")]
