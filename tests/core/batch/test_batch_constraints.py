"""Jobs that are only to run on some agents: where they are placed, what the master is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesosctl.limits import WHERES_MAX
from mesosctl.model.cluster import Offer
from mesosctl.model.constraints import Where
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.batch import SubmitJob
from mesosctl.protocol.messages.framework import Accept, Decline, Offers, Revive, Suppress
from mesosctl.protocol.messages.session import Refusal

JOB = JobSpec("sim", ("sim",), mem_bytes=512 << 20, user="alice")


def on(rack: str, **more: Any) -> JobSpec:
    """A job that runs in this rack."""
    return replace(JOB, constraint=f"rack=={rack}", **more)


def offer(world: Any, agent: str, rack: str, cpus: float = 4) -> Offer:
    """An offer of an agent in a rack."""
    made: Offer = replace(world.offer(cpus, 4096, agent), attributes={"rack": rack})
    return made


def submit(world: Any, spec: JobSpec) -> Revive:
    """Submit, and what the master is told of it."""
    world.request("c1", SubmitJob(f"r{world.new_id()}", spec))
    told: Revive = world.take(Revive)
    return told


def test_a_task_goes_where_its_constraint_holds(world: Any) -> None:
    """Agents that do not fit are declined, should they be offered all the same."""
    told = submit(world, on("r1"))
    assert told.where == (Where("rack==r1"),)
    world.master(Offers((offer(world, "a2", "r2"), offer(world, "a1", "r1"))))
    accept = world.take(Accept) if isinstance(world.mail["master"][0], Accept) else None
    declined = world.take(Decline)
    accept = accept or world.take(Accept)
    assert [task.agent_id for task in accept.tasks] == ["id-a1"]
    assert len(declined.offer_ids) == 1
    world.take(Suppress)


def test_the_master_is_told_what_any_of_the_jobs_could_use(world: Any) -> None:
    """The union of what waits; one job that takes every agent lifts it."""
    submit(world, on("r1"))
    assert submit(world, on("r2")).where == (Where("rack==r1"), Where("rack==r2"))
    assert submit(world, JOB).where == ()
    world.master(Offers((offer(world, "a1", "r1", cpus=2),)))
    # The job of r1 and the one for everywhere are placed: what is left wants r2 alone.
    assert len(world.take(Accept).tasks) == 2
    assert world.take(Revive).where == (Where("rack==r2"),)


def test_more_places_than_can_be_told_are_all_places(world: Any) -> None:
    """A framework with very many kinds of jobs is offered everything, and declines."""
    for number in range(WHERES_MAX + 1):
        world.request("c1", SubmitJob(f"r{world.new_id()}", on(f"r{number}")))
    told = [message for message in world.mail["master"] if isinstance(message, Revive)]
    world.mail["master"].clear()
    assert len(told[-2].where) == WHERES_MAX
    assert told[-1].where == ()


def test_a_restart_tells_it_again(world: Any, worlds: Any) -> None:
    """The constraint is on disk with the job; the subscription already carries it."""
    submit(world, on("r1"))
    again = world.restarted()
    assert again.start().where == (Where("rack==r1"),)


def test_a_spread_job_has_one_task_on_an_agent(world: Any) -> None:
    """However much is offered there, and however short its tasks are; others follow elsewhere."""
    spread = replace(JOB, indices=((0, 2, 1),), is_array=True, spread=True)
    assert submit(world, spread).where == ()
    world.master(Offers((offer(world, "a1", "r1"), offer(world, "a2", "r1"))))
    first, second = world.take(Accept), world.take(Accept)
    assert [len(first.tasks), len(second.tasks)] == [1, 1]
    told = world.take(Revive)
    assert [sorted(where.not_on) for where in told.where] == [["id-a1", "id-a2"]]
    world.master(Offers((offer(world, "a1", "r1"),)))
    assert world.take(Decline)
    # The first one ends: its agent may have the third.
    world.status("1.0.1", TaskState.FINISHED)
    world.master(Offers((offer(world, "a1", "r1"),)))
    assert [task.task_id for task in world.take(Accept).tasks] == ["1.2.1"]
    world.forget(Revive, Suppress)


def test_what_is_no_constraint_is_refused(world: Any) -> None:
    """The command line has looked at it, and is not trusted."""
    spec = replace(JOB, constraint="rack=r1")
    (answer,) = world.request("c1", SubmitJob("r1", spec))
    assert isinstance(answer, Refusal) and answer.code == "invalid"
    assert "character 5" in answer.message
