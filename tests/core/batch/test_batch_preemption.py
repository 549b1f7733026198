"""Preemption as the batch framework has it: what it states, and what becomes of tasks that end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mesosctl.limits import LOST_ATTEMPTS_MAX, WAITING_COUNT_MAX, WAITING_MAX
from mesosctl.model.cluster import Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.ids import FrameworkId
from mesosctl.model.jobs import JobSpec
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, Revocable, TaskState
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks
from mesosctl.protocol.messages.batch import SubmitJob
from mesosctl.protocol.messages.framework import Revive, StateWaiting, Subscribed, Suppress
from mesosctl.protocol.messages.session import Refusal
from tests.core.batch.conftest import GIB, World
from tests.core.batch.test_batch_machine import ONE, kill, task_of

SMALL = JobSpec("small", ("true",), user="alice", cpus_milli=1000, mem_bytes=GIB // 2)
NEED = Resources.parse("cpus:1;mem:512")


@pytest.fixture
def pressing(worlds: Callable[..., World]) -> World:
    """A framework whose master preempts."""
    world = worlds()
    world.start()
    world.master(Subscribed(FrameworkId("F1"), 5.0, "test", preempts=True))
    return world


def stated(world: World) -> tuple[Waiting, ...]:
    """What it said last that waits, which it must have said."""
    found = [m for m in world.mail["master"] if isinstance(m, StateWaiting)]
    world.forget(StateWaiting)
    return found[-1].waiting


def test_it_states_what_is_served_first(pressing: World) -> None:
    """Job by job in the queue's order, each with its own priority and places."""
    pressing.submit(replace(SMALL, indices=((0, 99, 1),), is_array=True))
    pressing.submit(replace(SMALL, priority=9, constraint="ssd"))
    assert stated(pressing) == (
        Waiting(NEED, 1, 9, Where("ssd")),
        Waiting(NEED, WAITING_COUNT_MAX, 0, None),
    )
    for _ in range(WAITING_MAX):
        pressing.submit(SMALL)
    assert len(stated(pressing)) == WAITING_MAX


def test_it_states_it_anew_after_each_launch_and_each_registration(pressing: World) -> None:
    """The master believes nothing of it any more by then; and nothing else is worth a message."""
    pressing.submit(replace(SMALL, indices=((0, 99, 1),), is_array=True))
    before = stated(pressing)
    pressing.advance(3.0)
    assert not [m for m in pressing.mail["master"] if isinstance(m, StateWaiting)]
    pressing.launch(cpus=1)
    assert stated(pressing) == before
    pressing.master(Subscribed(FrameworkId("F1"), 5.0, "test", preempts=True))
    assert stated(pressing) == before
    kill(pressing, "1")
    pressing.mail["master"] = [m for m in pressing.mail["master"] if isinstance(m, StateWaiting)]
    assert stated(pressing) == ()


def test_tasks_that_keep_apart_are_stated_one_by_one(pressing: World) -> None:
    """The second one may not be where room is made for the first."""
    spec = replace(SMALL, indices=((0, 3, 1),), is_array=True, spread=True)
    pressing.submit(spec)
    assert stated(pressing) == (Waiting(NEED, 1, 0, None),)
    pressing.launch()
    assert stated(pressing) == (Waiting(NEED, 1, 0, Where("", ("id-a1",))),)
    pressing.forget(Revive)


def test_a_master_that_does_not_preempt_is_told_nothing(world: World) -> None:
    """It may not know the message."""
    world.submit(SMALL)
    assert not [m for m in world.mail["master"] if isinstance(m, StateWaiting)]


def test_what_may_be_revoked_is_launched_so(world: World) -> None:
    """With its priority and its grace; a job that was not submitted so stays firm."""
    world.submit(replace(SMALL, preemptible=True, priority=3, grace_s=4.0))
    [soft] = world.launch()
    world.forget(Suppress)
    world.submit(SMALL)
    [firm] = world.launch()
    world.forget(Suppress)
    assert (soft.revocable, firm.revocable) == (Revocable(3, 4.0), None)


def test_a_preempted_task_runs_again_and_nothing_is_counted(world: World) -> None:
    """It may give way more often than it may be lost; why, is told."""
    world.submit(replace(ONE, preemptible=True))
    for attempt in range(1, LOST_ATTEMPTS_MAX + 3):
        world.launch()
        world.forget(Suppress)
        wire = f"1.0.{attempt}"
        world.status(wire, TaskState.RUNNING)
        why = {"reason": Reason.PREEMPTED, "message": "ending because it is preempted: for x"}
        world.status(wire, TaskState.KILLING, **why)
        view = task_of(world, "1")
        assert (view.state, view.reason, view.message) == ("running", "Killing", why["message"])
        world.status(wire, TaskState.KILLED, reason=Reason.PREEMPTED, message="preempted: for x")
        view = task_of(world, "1")
        assert (view.state, view.message) == ("pending", f"attempt {attempt} was preempted: for x")
    task = world.machine.queue.jobs[1].tasks[0]
    assert task.losses == 0
    assert {change.reason for change in task.history} == {"Preempted"}


def test_one_that_was_killed_meanwhile_stays_killed(world: World) -> None:
    """Its user wanted its end."""
    world.submit(replace(ONE, preemptible=True))
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    kill(world, "1")
    world.forget(KillTasks, Suppress, Acknowledge)
    world.status("1.0.1", TaskState.KILLED, reason=Reason.PREEMPTED, signal=15)
    assert task_of(world, "1").state == "killed"


def test_once_and_preemptible_is_refused(world: World) -> None:
    """What may start only once could not run again."""
    both = replace(ONE, once=True, preemptible=True)
    [answer] = world.request("c1", SubmitJob("r1", both))
    assert isinstance(answer, Refusal)
    assert "once or preemptible" in answer.message
