"""Agents that operators take out of use, as the batch framework sees them."""

from __future__ import annotations

import pytest

from mesosctl.limits import LOST_ATTEMPTS_MAX
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks
from mesosctl.protocol.messages.batch import Changed, Jobs, ListJobs, Watch
from mesosctl.protocol.messages.framework import AgentChanged, Reconcile, Revive, Suppress
from mesosctl.protocol.messages.maintenance import (
    AgentsWithheld,
    AnswerInverseOffers,
    InverseOffer,
    InverseOffers,
    RescindInverseOffers,
    WithheldAgent,
)
from tests.core.batch.conftest import GIB, World
from tests.core.batch.test_batch_machine import ONE, kill, task_of

ONCE = JobSpec("once", ("true",), user="alice", once=True, mem_bytes=GIB // 2)


def running(world: World, spec: JobSpec = ONE) -> None:
    """One task of one job, running as 1.0.1 on a1."""
    world.submit(spec)
    assert [task.task_id for task in world.launch()] == ["1.0.1"]
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)


def withhold(world: World, agent: str, mode: str, reason: str = "") -> None:
    held = WithheldAgent(AgentId(f"id-{agent}"), agent, mode, reason)
    world.master(AgentsWithheld((held,)))


def test_a_drained_task_is_run_again_and_nothing_is_counted(world: World) -> None:
    """A host may be emptied more often than a task may be lost."""
    running(world)
    for attempt in range(1, LOST_ATTEMPTS_MAX + 3):
        world.status(f"1.0.{attempt}", TaskState.KILLED, reason=Reason.DRAINED, message="ended: x")
        view = task_of(world, "1")
        assert (view.state, view.attempt) == ("pending", attempt)
        assert view.message == f"attempt {attempt} was ended: x"
        world.launch(agent="a2")
        world.forget(Suppress)
    assert task_of(world, "1").state == "staging"
    assert world.machine.queue.jobs[1].tasks[0].losses == 0


def test_a_drained_task_that_may_start_only_once_is_killed(world: World) -> None:
    """It had started: the truth is that it was ended, and that it will not be started again."""
    running(world, ONCE)
    world.status("1.0.1", TaskState.KILLED, reason=Reason.DRAINED, signal=15, message="ended: x")
    view = task_of(world, "1")
    assert (view.state, view.reason, view.exit_code) == ("killed", "Drained", 143)
    assert view.message == "ended: x; it may start only once"


def test_one_that_never_started_is_placed_again_at_once(world: World) -> None:
    """Also with --once, and without the pause that drops elsewhere earn."""
    world.submit(ONCE)
    world.launch()
    world.forget(Suppress)
    for attempt in (1, 2, 3):
        world.status(f"1.0.{attempt}", TaskState.DROPPED, reason=Reason.DRAINED)
        world.launch(agent="a2")
        world.forget(Suppress)
    assert task_of(world, "1").attempt == 4


def test_a_kill_before_the_drain_stays_a_kill(world: World) -> None:
    """Whoever wanted the task to end does not want it to run again."""
    running(world)
    kill(world, "1")
    world.take(KillTasks)
    world.status("1.0.1", TaskState.KILLED, reason=Reason.DRAINED, signal=15)
    assert task_of(world, "1").state == "killed"


@pytest.mark.parametrize(
    ("spec", "state"), [(ONE, "pending"), (ONCE, "lost")], ids=["ordinary", "once"]
)
@pytest.mark.parametrize("end", [TaskState.GONE, TaskState.KILLED])
def test_a_task_on_an_agent_that_is_gone(
    world: World, spec: JobSpec, state: str, end: TaskState
) -> None:
    """Whether the operator's word or the agent's own is the proof: it was lost, and that counts."""
    running(world, spec)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "gone"))
    world.take(Reconcile)
    uuid = "" if end is TaskState.GONE else "u99"
    world.status("1.0.1", end, reason=Reason.AGENT_GONE, uuid=uuid)
    world.forget(Revive)
    assert task_of(world, "1").state == state
    assert world.machine.queue.jobs[1].tasks[0].losses == 1


def test_a_kill_of_an_unreachable_task_is_carried_out_by_gone(world: World) -> None:
    """It waited for an agent that will not come."""
    running(world)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "unreachable"))
    kill(world, "1")
    world.take(KillTasks)
    world.status("1.0.1", TaskState.GONE, reason=Reason.AGENT_GONE, uuid="")
    assert task_of(world, "1").state == "killed"


@pytest.mark.parametrize("mode", ["deactivated", "draining"])
def test_pending_says_that_the_only_agent_is_out_of_use(world: World, mode: str) -> None:
    """Nobody should have to guess why an idle cluster does nothing."""
    running(world)
    withhold(world, "a1", mode, "kernel")
    world.submit(ONE)
    world.forget(Revive)
    world.advance(2)
    view = task_of(world, "2")
    assert view.reason == "Draining"
    assert view.message == f"agent a1 is {mode} (kernel), and no other fits"
    withhold(world, "a1", "")
    assert task_of(world, "2").reason == "Resources"


def test_another_agent_that_fits_is_what_a_task_waits_for(world: World) -> None:
    """A drained host is no reason while there is another that is merely busy."""
    running(world)
    world.submit(ONE)
    world.forget(Revive)
    world.launch(cpus=1, mem_mib=512, agent="a2")
    world.forget(Suppress)
    withhold(world, "a1", "draining")
    world.submit(ONE)
    world.forget(Revive)
    world.advance(2)
    assert task_of(world, "3").reason == "Resources"


def test_a_framework_that_was_restarted_knows_no_sizes(world: World) -> None:
    """An agent that it never saw an offer of may be the one that is large enough."""
    again = world.restarted()
    again.start()
    withhold(again, "a1", "draining")
    again.submit(ONE)
    again.forget(Revive)
    again.advance(2)
    assert task_of(again, "1").reason == "Draining"


def test_what_holds_is_told_anew_after_each_subscription(world: World) -> None:
    """What was decided while the framework was away must not linger."""
    from mesosctl.core.batch.machine import LINK
    from mesosctl.core.machine import PeerLost
    from mesosctl.protocol.messages.framework import Subscribe, Subscribed

    withhold(world, "a1", "draining")
    world.run(PeerLost(LINK))
    world.advance(1)
    world.take(Subscribe)
    world.master(Subscribed(FrameworkId("F1"), 5.0, "test"))
    assert world.machine.agents.withheld == {}


# --- inverse offers -------------------------------------------------------------------------------
def ask_back(world: World, deadline_s: float | None = 600.0) -> InverseOffer:
    """The master asks for a1 back; the framework accepts."""
    at = None if deadline_s is None else world.now.wall + deadline_s
    offer = InverseOffer(OfferId("I1"), AgentId("id-a1"), "a1", deadline_s, at, "kernel")
    world.master(InverseOffers((offer,)))
    assert world.take(AnswerInverseOffers) == AnswerInverseOffers((offer.inverse_offer_id,))
    return offer


@pytest.mark.parametrize(
    ("spec", "then"),
    [(ONE, "and run again elsewhere"), (ONCE, "and may start only once")],
    ids=["ordinary", "once"],
)
def test_a_running_task_is_told_when_it_will_be_ended(
    world: World, spec: JobSpec, then: str
) -> None:
    """Beforehand, so that whoever looks can decide whether to wait."""
    running(world, spec)
    offer = ask_back(world)
    view = task_of(world, "1")
    assert (view.state, view.reason, view.ends_by) == ("running", "Draining", offer.deadline)
    assert view.message == f"agent a1 is drained (kernel): the task is ended at the deadline {then}"
    (answer,) = world.request("c1", ListJobs(("1",)))
    assert isinstance(answer, Jobs)
    assert (answer.jobs[0].draining, answer.jobs[0].ends_by) == (1, offer.deadline)
    world.master(RescindInverseOffers((offer.inverse_offer_id,)))
    view = task_of(world, "1")
    assert (view.reason, view.ends_by) == ("", None)


def test_without_a_deadline_it_may_finish(world: World) -> None:
    """Nothing is said of an end that will not come."""
    running(world)
    ask_back(world, None)
    view = task_of(world, "1")
    assert (view.reason, view.ends_by) == ("Draining", None)
    assert view.message == "agent a1 is drained (kernel): the task may finish"


def test_a_kill_or_silence_says_more_than_a_drain(world: World) -> None:
    """What happens to the task now comes before what may happen later."""
    running(world)
    ask_back(world)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "unreachable"))
    assert task_of(world, "1").reason == "Unreachable"
    kill(world, "1")
    world.take(KillTasks)
    assert task_of(world, "1").reason == "Killing"


def test_watchers_hear_of_a_drain(world: World) -> None:
    """`status -w` shows it without being asked again."""
    running(world)
    world.request("c1", Watch(("1",), tasks=True))
    world.advance(1)
    world.answers("c1")
    ask_back(world)
    told = [one for one in world.answers("c1") if isinstance(one, Changed)]
    assert [task.reason for one in told for task in one.tasks] == ["Draining"]
