"""Lanes in the batch framework: for which jobs, how long, what becomes of what comes back."""

from __future__ import annotations

import pytest

from mesosctl.core.batch.lanes import Lane, Lanes, length
from mesosctl.core.batch.records import new_job
from mesosctl.core.batch.views import task_view
from mesosctl.limits import LANE_SHARE_S, LANE_TASKS_MAX, LANE_WORK_S
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import Reason, TaskInfo, TaskState
from mesosctl.protocol.messages.agent import StatusUpdates
from tests.core.batch.conftest import GIB, World

QUICK_S = 0.01


def array(count: int, **fields: object) -> JobSpec:
    indices = ((0, count - 1, 1),)
    argv = fields.pop("argv", ("true",))
    return JobSpec("j", argv, mem_bytes=GIB // 4, indices=indices, is_array=True, **fields)  # type: ignore[arg-type]


def ends(world: World, tasks: list[TaskInfo], after_s: float) -> None:
    """All of these end so much later."""
    world.advance(after_s)
    updates = tuple(world.update(task.task_id, TaskState.FINISHED) for task in tasks)
    world.master(StatusUpdates(updates))
    world.mail.clear()


def warmed_up(world: World, count: int, rounds: int = 8, **fields: object) -> None:
    """A job of which so many slots full have ended quickly."""
    world.submit(array(count, **fields))
    for _ in range(rounds):
        tasks = world.launch(cpus=1)
        ends(world, tasks, QUICK_S * len(tasks))


def test_the_first_tasks_of_a_job_are_alone(world: World) -> None:
    """Nobody knows yet how long they take."""
    world.submit(array(100))
    tasks = world.launch(cpus=4)
    assert [task.lane for task in tasks] == ["", "", "", ""]
    world.mail.clear()


def test_short_tasks_go_into_lanes_named_after_the_first(world: World) -> None:
    """As many as fill the time that a lane is meant for; what they hold is counted once."""
    warmed_up(world, 1000)
    tasks = world.launch(cpus=1)
    assert len(tasks) == pytest.approx(LANE_WORK_S / QUICK_S, abs=3)
    assert {task.lane for task in tasks} == {tasks[0].task_id}
    (held,) = world.machine.queue.held.values()
    assert (held.cpus_milli, held.tasks) == (1000, 1)
    again = world.restarted()
    assert again.machine.queue.held == world.machine.queue.held
    again.machine.check()
    world.mail.clear()


def test_long_tasks_are_never_put_behind_each_other(world: World) -> None:
    """They would wait for nothing while other slots are free."""
    world.submit(array(100))
    for _ in range(5):
        tasks = world.launch(cpus=4)
        assert {task.lane for task in tasks} == {""}
        ends(world, tasks, 2.0)


def test_once_means_no_lanes(world: World) -> None:
    """What an executor that dies was told of counts as started, so it must not be told of much."""
    warmed_up(world, 100, once=True)
    assert {task.lane for task in world.launch(cpus=4)} == {""}
    world.mail.clear()


def test_what_is_given_back_is_started_first_and_at_once(world: World) -> None:
    """However often that happens: it is not an attempt that was in vain, and nothing backs off."""
    warmed_up(world, 1000)
    tasks = world.launch(cpus=1)
    for _ in range(3):
        back = tasks[1:] if len(tasks) > 1 else tasks
        world.advance(1.0)
        world.master(
            StatusUpdates(
                tuple(
                    world.update(one.task_id, TaskState.DROPPED, reason=Reason.RETURNED)
                    for one in back
                )
            )
        )
        world.mail.clear()
        position = back[0].task_id.split(".")[1]
        tasks = world.launch(cpus=1)
        assert tasks[0].task_id.split(".")[1] == position
        job = world.machine.queue.jobs[1]
        assert (job.delayed, job.tasks[int(position)].losses) == (0, 0)
    world.mail.clear()


def test_a_lane_that_was_too_long_makes_the_next_ones_shorter(world: World) -> None:
    """The first was long after all: those behind it lost a second, once."""
    warmed_up(world, 1000)
    tasks = world.launch(cpus=1)
    world.advance(1.0)
    back = [world.update(t.task_id, TaskState.DROPPED, reason=Reason.RETURNED) for t in tasks[1:]]
    world.master(StatusUpdates(tuple(back)))
    world.mail.clear()
    assert len(world.launch(cpus=1)) == 1
    world.mail.clear()


def test_the_last_tasks_are_shared_by_all_slots(world: World) -> None:
    """All slots end together: none of them runs for long what others could have begun."""
    warmed_up(world, 300)
    left = world.machine.queue.jobs[1].room()
    tasks = world.launch(cpus=4)
    lanes = [task.lane or task.task_id for task in tasks]
    longest = max(lanes.count(lane) for lane in lanes)
    assert 10 < longest <= -(-left // 8)
    world.mail.clear()


def test_the_very_last_tasks_are_not_worth_a_lane_each(world: World) -> None:
    """What a lane costs on its way would be more than the slots win by ending together."""
    warmed_up(world, 82)
    left = world.machine.queue.jobs[1].room()
    tasks = world.launch(cpus=4)
    lanes = [task.lane or task.task_id for task in tasks]
    assert lanes.count(lanes[0]) > left / 8
    assert lanes.count(lanes[0]) == pytest.approx(LANE_SHARE_S / QUICK_S, abs=1)
    world.mail.clear()


def test_a_task_that_waits_in_a_lane_says_so(world: World) -> None:
    """Whoever looks at it has to see what it waits for."""
    warmed_up(world, 1000)
    tasks = world.launch(cpus=1)
    world.mail.clear()
    job = world.machine.queue.jobs[1]
    first, second = (int(task.task_id.split(".")[1]) for task in tasks[:2])
    assert task_view(job, first, world.machine.outlook).reason == ""
    view = task_view(job, second, world.machine.outlook)
    assert (view.reason, view.message) == (
        "Lane",
        "runs on agent a1 after those before it in its lane",
    )


def test_the_pace_rises_fast_and_falls_slowly() -> None:
    """Lanes that are too long cost a second, lanes that are too short next to nothing."""
    lanes, job = Lanes(), new_job(1, array(100_000), "a", "r", 0.0)
    assert length(job, 100_000, 1) == 1
    lanes.note(job, 0.1, 10)
    assert length(job, 100_000, 1) == 10
    lanes.note(job, 1.0, 1)
    assert length(job, 100_000, 1) == 1
    for _ in range(30):
        lanes.note(job, 0.1, 100)
    assert length(job, 100_000, 1) == LANE_TASKS_MAX
    assert length(job, 1_000, 5) == LANE_TASKS_MAX
    lanes.note(job, 0.2, 1)
    assert length(job, 10, 5) == 1
    lane = Lane(open=1, begun=1.0)
    lanes.measure(job, lane, 1, 3.0)
    known = job.pace_s
    lanes.measure(job, lane, 1, 9.0)
    assert job.pace_s == known and lane.begun is None


def test_the_next_job_of_a_command_begins_where_the_last_one_was(world: World) -> None:
    """A hundred small jobs have to be as quick as a large one; another command knows nothing."""
    warmed_up(world, 1000)
    world.submit(array(50), "again")
    world.submit(array(50, argv=("false",)), "other")
    again, other = world.machine.queue.jobs[2], world.machine.queue.jobs[3]
    assert length(again, 50, 1) == 25
    assert length(other, 50, 1) == 1
    world.mail.clear()
