"""Tasks of a lane that are ordered before their turn: begun, told to begin, or recalled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from mesosctl.core.executor_effects import (
    Begin,
    ContainerEmptied,
    Drain,
    LaunchFailed,
    LaunchRecalled,
    MainExited,
    Prepare,
    Recall,
    Remove,
    SignalContainer,
    Spawn,
    TaskStarted,
)
from mesosctl.core.executor_lanes import AHEAD_MAX
from mesosctl.core.machine import Started
from mesosctl.errors import InvariantBroken
from mesosctl.limits import LANE_S
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import StatusUpdate, Usage
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
    made.register()
    yield made
    made.finished()


def hand_on(world: World, *names: str) -> list[tuple[str, str]]:
    """Tasks of the lane `t1` come in one message; what is ordered, and after what."""
    world.tell(RunTasks(FRAMEWORK, tuple(launch(name, lane="t1") for name in names)))
    return ordered(world)


def ordered(world: World) -> list[tuple[str, str]]:
    """Which starts were ordered since this was asked last, and after whom."""
    prepared = [effect.container for effect in world.take(Prepare)]
    spawns = world.take(Spawn)
    assert prepared == [effect.launch.container for effect in spawns]
    assert all((effect.due is None) is (effect.after == "") for effect in spawns)
    return [(effect.launch.task.task_id, effect.after) for effect in spawns]


def empties(world: World, container: str) -> None:
    """What is drained is found empty."""
    world.expect(Drain(container))
    world.step(ContainerEmptied(container, Usage()))
    world.expect(Remove(container))


def told(world: World) -> list[tuple[str, str, str]]:
    """The updates that were sent without any waiting."""
    updates: list[StatusUpdate] = []
    for message in world.sent(StatusUpdates):
        updates += message.updates
    return [(one.task_id, one.state.value, one.reason.value) for one in updates]


def test_a_few_of_a_lane_are_ordered_ahead_and_begin_without_a_word(world: World) -> None:
    """A slot must not wait between two short tasks until we get a processor."""
    last = AHEAD_MAX + 3
    names = [f"t{number}" for number in range(1, last + 1)]
    follows = [(after, f"f1/{before}") for before, after in pairwise(names)]
    assert hand_on(world, *names) == [("t1", ""), *follows[:AHEAD_MAX]]
    world.step(TaskStarted("f1/t1", 500))
    # The spawner has seen that the first is over, before our own look at its container.
    world.step(MainExited("f1/t1", 0), TaskStarted("f1/t2", 501))
    assert ordered(world) == []
    empties(world, "f1/t1")
    assert ordered(world) == [follows[AHEAD_MAX]]
    for before, after in pairwise(names[1:]):
        world.step(MainExited(f"f1/{before}", 0), TaskStarted(f"f1/{after}", 502))
        empties(world, f"f1/{before}")
    assert ordered(world) == [follows[AHEAD_MAX + 1]]
    world.step(MainExited(f"f1/t{last}", 0))
    empties(world, f"f1/t{last}")
    assert told(world) == [(name, "finished", "") for name in names]


def test_what_the_spawner_does_not_dare_to_begin_is_told_to(world: World) -> None:
    """The task before has left something behind, and only when that is gone its turn is over."""
    hand_on(world, "t1", "t2")
    world.step(TaskStarted("f1/t1", 500))
    world.step(MainExited("f1/t1", 0))
    assert world.take(Begin) == []
    empties(world, "f1/t1")
    world.expect(Begin("f1/t2"))
    world.step(TaskStarted("f1/t2", 501))
    world.step(MainExited("f1/t2", 0))
    empties(world, "f1/t2")
    assert [one[0] for one in told(world)] == ["t1", "t2"]


def test_what_was_ordered_ahead_is_given_back_with_its_lane(world: World) -> None:
    """After a second it is recalled, the last one first, and said to be returned when it is."""
    hand_on(world, "t1", "t2", "t3")
    world.step(TaskStarted("f1/t1", 500))
    world.wait(LANE_S)
    world.expect(Recall("f1/t3"), Recall("f1/t2"))
    assert [one[:2] for one in told(world)] == [("t1", "running")]
    assert world.machine.deadline() is None or world.machine.deadline() > world.mono
    for name in ("t3", "t2"):
        world.step(LaunchRecalled(f"f1/{name}"))
        empties(world, f"f1/{name}")
    assert told(world) == [("t3", "dropped", "Returned"), ("t2", "dropped", "Returned")]
    world.step(MainExited("f1/t1", 0))
    empties(world, "f1/t1")
    assert told(world) == [("t1", "finished", "")]


def test_a_recall_that_comes_too_late_changes_nothing(world: World) -> None:
    """What has begun runs; that it was given back would be a lie, and would make it run twice."""
    hand_on(world, "t1", "t2")
    world.step(TaskStarted("f1/t1", 500))
    world.tell(ReturnLanes())
    world.expect(Recall("f1/t2"))
    world.step(MainExited("f1/t1", 0), TaskStarted("f1/t2", 501))
    empties(world, "f1/t1")
    world.step(MainExited("f1/t2", 0))
    empties(world, "f1/t2")
    assert told(world) == [("t1", "finished", ""), ("t2", "finished", "")]
    assert world.take(Begin) == []


def test_a_turn_that_comes_during_a_recall_begins_nothing(world: World) -> None:
    """The recall decides; and the lane goes on behind it."""
    hand_on(world, "t1", "t2", "t3")
    world.step(TaskStarted("f1/t1", 500))
    world.tell(KillTasks(FRAMEWORK, (TaskKill(launch("t2").task.task_id),)))
    world.expect(Recall("f1/t2"))
    world.step(MainExited("f1/t1", 0))
    empties(world, "f1/t1")
    assert world.take(Begin) == []
    world.step(LaunchRecalled("f1/t2"))
    empties(world, "f1/t2")
    world.expect(Begin("f1/t3"))
    world.step(TaskStarted("f1/t3", 502), MainExited("f1/t3", 0))
    empties(world, "f1/t3")
    assert [one[:2] for one in told(world)] == [
        ("t1", "finished"),
        ("t2", "killed"),
        ("t3", "finished"),
    ]


def test_one_killed_too_late_to_be_recalled_is_ended_like_any_other(world: World) -> None:
    """The kill is not lost because the start was quicker."""
    hand_on(world, "t1", "t2")
    world.step(TaskStarted("f1/t1", 500))
    world.tell(KillTasks(FRAMEWORK, (TaskKill(launch("t2").task.task_id, grace_s=5.0),)))
    world.expect(Recall("f1/t2"))
    world.step(MainExited("f1/t1", 0), TaskStarted("f1/t2", 501))
    world.expect(SignalContainer("f1/t2", 15))
    empties(world, "f1/t1")
    world.step(MainExited("f1/t2", None, 15))
    empties(world, "f1/t2")
    assert told(world)[-1] == ("t2", "killed", "KillRequested")


def test_one_that_cannot_start_holds_nobody_up(world: World) -> None:
    """What was to follow it is told to begin when its turn comes."""
    hand_on(world, "t1", "t2", "t3")
    world.step(LaunchFailed("f1/t2", "limit", "no memory"))
    empties(world, "f1/t2")
    world.step(TaskStarted("f1/t1", 500))
    world.step(MainExited("f1/t1", 0))
    empties(world, "f1/t1")
    world.expect(Begin("f1/t3"))
    world.step(TaskStarted("f1/t3", 502), MainExited("f1/t3", 0))
    empties(world, "f1/t3")
    assert [one[:2] for one in told(world)] == [
        ("t2", "failed"),
        ("t1", "finished"),
        ("t3", "finished"),
    ]


def test_ending_all_recalls_those_behind_before_those_in_front_end(world: World) -> None:
    """The end of the one in front must not be the turn of one that is to end as well."""
    hand_on(world, "t1", "t2", "t3")
    world.step(TaskStarted("f1/t1", 500))
    world.tell(ShutdownExecutor(5.0))
    world.expect(Recall("f1/t3"), Recall("f1/t2"), SignalContainer("f1/t1", 15))
    world.step(LaunchRecalled("f1/t3"), LaunchRecalled("f1/t2"), MainExited("f1/t1", None, 15))
    world.expect(Drain("f1/t3"), Drain("f1/t2"), Drain("f1/t1"))
    for name in ("t3", "t2", "t1"):
        world.step(ContainerEmptied(f"f1/{name}", Usage()))
        world.expect(Remove(f"f1/{name}"))
    assert {one[:2] for one in told(world)} >= {(f"t{n}", "killed") for n in (1, 2, 3)}


@pytest.mark.parametrize(
    "fields",
    [
        {"lease_s": 60.0},
        {"whole_cores": True},
        {"resources": Resources.parse("cpus:1;mem:16;gpus:1")},
    ],
)
def test_what_needs_more_than_limits_waits_for_its_turn(fields: dict[str, object]) -> None:
    """A lease may run out meanwhile, and what only one can hold is still the one's before."""
    world = World()
    world.step(Started())
    world.register()
    launches = tuple(launch(name, lane="t1", **fields) for name in ("t1", "t2"))
    world.tell(RunTasks(FRAMEWORK, launches, 100.0))
    assert ordered(world) == [("t1", "")]


def test_nobody_comes_back_who_was_not_recalled(world: World) -> None:
    """A shell that gave back what it was to begin would lose a task."""
    hand_on(world, "t1", "t2")
    with pytest.raises(InvariantBroken, match="not recalled"):
        world.step(LaunchRecalled("f1/t2"))
    world.effects.clear()
