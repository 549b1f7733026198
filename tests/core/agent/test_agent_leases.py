"""What the agent does for leases: it passes on when the master was last known to hear it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Received
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import AgentRegistered, LaunchTasks, RenewLeases, RunTasks
from tests.core.agent.conftest import AGENT, Bench, framework, task

LEASE_S = 40.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def launch(bench: Bench, task_id: str = "t1") -> None:
    bench.tell(LaunchTasks(framework(), (replace(task(task_id), lease_s=LEASE_S),)))


def test_answered_pings_are_passed_on_by_the_time_they_were_sent(bench: Bench) -> None:
    """The executor counts from there: the master has heard the agent then, no later is certain."""
    executor = bench.up()
    began = bench.time_s
    launch(bench)
    (order,) = executor.took(RunTasks)
    assert order.renewed_at == began
    bench.advance(11.0)
    assert [one.renewed_at for one in executor.took(RenewLeases)] == [began + 5.0, began + 10.0]


def test_leases_are_renewed_as_often_in_a_large_cluster(bench: Bench) -> None:
    """The master asks for rare heartbeats there, which a short lease would not outlast."""
    executor = bench.up()
    bench.tell(AgentRegistered(AGENT, 6.0, 1_500))
    began = bench.time_s
    launch(bench)
    (order,) = executor.took(RunTasks)
    assert order.renewed_at == began
    bench.advance(11.5)
    renewed = [one.renewed_at for one in executor.took(RenewLeases)]
    assert renewed == [began + 6.0, began + 11.0]


def test_without_leases_nothing_is_passed_on(bench: Bench) -> None:
    """A message every five seconds to every executor would be paid for by everybody."""
    executor = bench.up()
    bench.launch("t1")
    bench.advance(20.0)
    assert executor.took(RenewLeases) == []


def test_a_silent_master_renews_nothing(bench: Bench) -> None:
    """A ping alone proves nothing."""
    executor = bench.up()
    launch(bench)
    bench.master.drop("agent")
    executor.took(RenewLeases)
    bench.carry_back = lambda answers: None  # type: ignore[method-assign]
    bench.advance(14.0)
    assert executor.took(RenewLeases) == []


def test_a_task_whose_lease_ran_out_in_our_hands_is_dropped(bench: Bench) -> None:
    """Its framework may have started another attempt, whatever was renewed since."""
    bench.do(deeds.ContainersFound(()))
    executor = bench.up()
    bench.cut(executor)
    launch(bench)
    bench.updates()
    bench.cut_master()
    bench.time_s += LEASE_S + 1
    bench.advance(5.0)
    bench.register()
    executor.connect()
    ends = [one for one in bench.updates() if one.is_terminal]
    assert [(one.state, one.reason) for one in ends] == [(TaskState.DROPPED, Reason.LEASE_EXPIRED)]
    assert executor.took(RunTasks) == []


def test_a_restarted_agent_hands_on_no_task_with_a_lease(bench: Bench) -> None:
    """It cannot know for how long it was away; what no executor has is given back."""
    executor = bench.up()
    bench.cut(executor)
    launch(bench)
    bench.restart()
    bench.advance(30.0)
    bench.register()
    ends = [one for one in bench.updates() if one.is_terminal]
    assert [one.state for one in ends] == [TaskState.DROPPED]


def test_an_executor_that_is_back_is_told_again(bench: Bench) -> None:
    """What was renewed while it was away it has not heard."""
    executor = bench.up()
    began = bench.time_s
    launch(bench)
    executor.update("t1", TaskState.RUNNING)
    bench.cut(executor)
    bench.advance(6.0)
    assert executor.took(RenewLeases) == []
    executor.connect()
    assert [one.renewed_at for one in executor.took(RenewLeases)] == [began + 5.0]


def test_what_an_executor_said_to_an_earlier_life_ends_no_task_with_a_lease(bench: Bench) -> None:
    """A list from before the task would have it told to have never started, while it runs."""
    executor = bench.up()
    late = executor.hello()
    executor.connect()
    launch(bench)
    assert len(executor.took(RunTasks)) == 1
    bench.restart()
    bench.do(deeds.ContainersFound(()))
    bench.do(Received("x:late", "", Envelope("", 0, "late", 1, late)))
    executor.connect()
    bench.advance(15.0)
    bench.register()
    assert bench.states() == []
    assert executor.took(RunTasks) == []
