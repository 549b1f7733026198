"""Leases in the batch framework: when another attempt may start, and when not yet."""

from __future__ import annotations

import pytest

from mesosctl.core.batch.machine import LINK
from mesosctl.core.machine import PeerLost
from mesosctl.limits import LEASE_SLACK_S, LEASE_SLACK_SHARE, LOST_ATTEMPTS_MAX
from mesosctl.model.ids import AgentId
from mesosctl.model.jobs import JobSpec, TaskView
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks
from mesosctl.protocol.messages.batch import JobAccepted, KillJobs, ListTasks, SubmitJob, Tasks
from mesosctl.protocol.messages.explain import HowFits
from mesosctl.protocol.messages.framework import (
    AgentChanged,
    Reconcile,
    Revive,
    Subscribe,
    Suppress,
)
from mesosctl.protocol.messages.session import Refusal
from tests.core.batch.conftest import GIB, World

LEASE_S = 100.0
WAIT_S = LEASE_S * (1 + LEASE_SLACK_SHARE) + LEASE_SLACK_S
# The master answers a ping at the latest so long after something is due.
PING_S = 5.1


def job(**fields: object) -> JobSpec:
    return JobSpec("one", ("true",), mem_bytes=GIB // 2, lost_after_s=LEASE_S, **fields)  # type: ignore[arg-type]


def running(world: World, **fields: object) -> None:
    """A task with a lease runs on a1."""
    world.submit(job(**fields))
    (task,) = world.launch()
    assert task.lease_s == LEASE_S
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)


def moved(world: World, state: str) -> None:
    world.master(AgentChanged(AgentId("id-a1"), "a1", state))
    world.forget(Reconcile, KillTasks)


def view(world: World) -> TaskView:
    # Sessions of clients do not last as long as leases.
    (answer,) = world.request(f"c{world.new_id()}", ListTasks(("1",)))
    assert isinstance(answer, Tasks)
    return answer.tasks[0]


def test_another_attempt_starts_after_the_lease_and_its_slack(world: World) -> None:
    """Not at the lease's end: the executor's clock may be slower and the kill takes its time."""
    running(world)
    moved(world, "unreachable")
    assert view(world).again_at == pytest.approx(world.now.wall + WAIT_S)
    world.advance(WAIT_S - 0.1)
    assert (view(world).state, view(world).reason) == ("running", "Unreachable")
    world.advance(PING_S + 0.1)
    world.forget(Revive, KillTasks, Reconcile)
    seen = view(world)
    assert (seen.state, seen.again_at) == ("pending", None) and "LeaseExpired" in seen.message
    assert [task.task_id for task in world.launch(agent="a2")] == ["1.0.2"]
    world.forget(Suppress, KillTasks)


def test_it_waits_for_a_master_that_still_says_so(world: World) -> None:
    """The word that the agent is back may be on its way: only an answer rules that out."""
    running(world)
    moved(world, "unreachable")
    world.advance(WAIT_S - 2)
    world.master_answers = False
    world.advance(6)
    assert view(world).state == "running"
    moved(world, "registered")
    world.status("1.0.1", TaskState.RUNNING, uuid="", reason=Reason.RECONCILED)
    world.pinged, world.master_answers = False, True
    assert (view(world).reason, view(world).again_at) == ("", None)
    world.advance(9)
    assert view(world).state == "running"


def test_a_return_begins_the_countdown_anew(world: World) -> None:
    """In between the agent was renewed."""
    running(world)
    moved(world, "unreachable")
    world.advance(WAIT_S - 1)
    moved(world, "registered")
    moved(world, "unreachable")
    world.advance(WAIT_S - 1)
    assert view(world).state == "running"
    world.advance(PING_S + 1)
    world.forget(Revive, KillTasks, Reconcile)
    assert view(world).state == "pending"


def test_a_new_session_begins_the_countdown_anew(world: World) -> None:
    """Whether the agent was back while we heard nothing, nobody tells: a new master even less."""
    running(world)
    moved(world, "unreachable")
    world.advance(WAIT_S - 1)
    world.run(PeerLost(LINK))
    world.advance(1)
    world.take(Subscribe)
    from mesosctl.model.ids import FrameworkId
    from mesosctl.protocol.messages.framework import Subscribed

    world.master(Subscribed(FrameworkId("F1"), 5.0, "test"))
    assert view(world).again_at is None
    world.status("1.0.1", TaskState.UNREACHABLE, uuid="", reason=Reason.AGENT_UNREACHABLE)
    assert view(world).again_at == pytest.approx(world.now.wall + WAIT_S)
    world.advance(WAIT_S - 1)
    world.forget(Reconcile)
    assert view(world).state == "running"


def test_a_restarted_framework_counts_anew(world: World) -> None:
    """The countdown is not kept: a framework that was away heard nothing meanwhile."""
    running(world)
    moved(world, "unreachable")
    world.advance(WAIT_S - 1)
    again = world.restarted()
    again.start()
    again.forget(Reconcile, KillTasks)
    again.status("1.0.1", TaskState.UNREACHABLE, uuid="", reason=Reason.AGENT_UNREACHABLE)
    again.advance(WAIT_S - 1)
    again.forget(Reconcile)
    (answer,) = again.request("c1", ListTasks(("1",)))
    assert isinstance(answer, Tasks) and answer.tasks[0].state == "running"


def test_the_old_attempt_is_ended_when_its_agent_returns_and_counts_for_nothing(
    world: World,
) -> None:
    """Its executor should have ended it; should it not have, nobody else must keep it."""
    running(world)
    moved(world, "unreachable")
    world.advance(WAIT_S + PING_S)
    world.forget(Revive, KillTasks, Reconcile)
    world.launch(agent="a2")
    world.forget(Suppress, KillTasks)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "registered"))
    assert [kill.task_id for kill in world.take(KillTasks).kills] == ["1.0.1"]
    world.status("1.0.1", TaskState.FINISHED)
    assert view(world).state == "staging"
    world.advance(20)
    world.forget(Reconcile)


def test_once_ends_lost(world: World) -> None:
    """It had started and its end is unknown: never a second start."""
    running(world, once=True)
    moved(world, "unreachable")
    world.advance(WAIT_S + PING_S)
    world.forget(KillTasks, Reconcile)
    seen = view(world)
    assert (seen.state, seen.reason, seen.exit_code) == ("lost", "LeaseExpired", 125)


def test_a_task_to_be_killed_ends_killed(world: World) -> None:
    """Its owner waits for nothing but the proof that it runs no more."""
    running(world)
    world.request("c1", KillJobs(("1",)))
    moved(world, "unreachable")
    world.advance(WAIT_S + PING_S)
    world.forget(KillTasks, Reconcile)
    assert view(world).state == "killed"


@pytest.mark.parametrize("fields", [{}, {"restartable": True}])
def test_a_task_that_keeps_losing_its_agent_is_lost(world: World, fields: dict[str, bool]) -> None:
    """It may be the task that takes its agents down: five more attempts are enough."""
    world.submit(job(**fields))
    for attempt in range(1, LOST_ATTEMPTS_MAX + 2):
        world.forget(Suppress, Revive, KillTasks, Reconcile, HowFits)
        assert [task.task_id for task in world.launch()] == [f"1.0.{attempt}"]
        world.forget(Suppress)
        world.status(f"1.0.{attempt}", TaskState.RUNNING)
        moved(world, "unreachable")
        world.advance(WAIT_S + PING_S)
    world.forget(Suppress, Revive, KillTasks, Reconcile, HowFits)
    assert view(world).state == "lost"


def test_a_lease_that_is_too_short_is_refused(world: World) -> None:
    """It would end healthy tasks at every hiccup."""
    short = JobSpec("one", ("true",), mem_bytes=GIB // 2, lost_after_s=5.0)
    (answer,) = world.request("c1", SubmitJob("r", short))
    assert isinstance(answer, Refusal) and "lost-after" in answer.message
    fine = JobSpec("one", ("true",), mem_bytes=GIB // 2, lost_after_s=30.0)
    (answer,) = world.request("c1", SubmitJob("r2", fine))
    assert isinstance(answer, JobAccepted)
    world.forget(Revive)
