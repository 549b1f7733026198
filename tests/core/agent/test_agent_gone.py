"""An agent that was declared gone: it ends what it runs, stops, and is cleaned up to join anew."""

from __future__ import annotations

from mesosctl.core.agent import AgentOptions
from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Stop
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import RegisterAgent, ShutdownExecutor
from mesosctl.protocol.messages.session import Bye, Refusal
from tests.core.agent.conftest import AGENT, Bench

GONE = Refusal(1, "gone", "agent host was declared gone", "start it with --recover cleanup")


def test_an_agent_that_was_declared_gone_ends_its_tasks_then_itself(bench: Bench) -> None:
    """Others may run in their place: no grace. It says what became of them, and stops with 5."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.tell(GONE)
    [shutdown] = executor.took(ShutdownExecutor)
    assert (shutdown.grace_s, shutdown.reason) == (0.0, Reason.AGENT_GONE)
    assert bench.took_deeds(Stop) == []
    executor.update("t1", TaskState.KILLED)
    assert bench.states() == [("t1", "killed")]
    executor.goodbye()
    [killed] = bench.took_deeds(deeds.KillExecutor)
    bench.do(deeds.ExecutorExited(killed.executor_id))
    bench.do(deeds.ContainersFound(()))
    [stop] = bench.took_deeds(Stop)
    assert stop.exit_code == 5
    assert stop.text == (
        "the master refuses: agent host was declared gone; start it with --recover cleanup"
    )


def test_a_gone_agent_that_returns_says_goodbye_and_ends_what_it_has(bench: Bench) -> None:
    """The master does not listen to it any more, and nothing may survive that."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.restart()
    executor.connect()
    bench.took(RegisterAgent)
    bench.tell(GONE)
    assert [message.reason for message in executor.took(ShutdownExecutor)] == [Reason.AGENT_GONE]
    assert len(bench.took(Bye)) == 1
    assert bench.tables["meta"]["agent"]["gone"] is True
    bench.advance(60)
    assert bench.took(RegisterAgent) == []


def test_cleaning_up_after_gone_makes_a_new_agent(bench: Bench) -> None:
    """Under the old id it would be refused for ever, and nobody takes its last updates."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.restart()
    executor.connect()
    bench.tell(GONE)
    executor.update("t1", TaskState.KILLED)
    bench.restart(AgentOptions(cleanup=True))
    executor.connect()
    executor.goodbye()
    bench.do(deeds.ContainersFound(()))
    assert [stop.exit_code for stop in bench.took_deeds(Stop)] == [0]
    assert bench.tables == {name: {} for name in bench.tables}
    bench.restart()
    assert bench.took(RegisterAgent)[0].agent.agent_id == ""


def test_a_clean_up_of_an_agent_in_good_standing_keeps_who_it_is(bench: Bench) -> None:
    """The ends of its tasks are still to be told."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.restart(AgentOptions(cleanup=True))
    executor.connect()
    executor.update("t1", TaskState.KILLED)
    executor.goodbye()
    bench.do(deeds.ContainersFound(()))
    assert bench.took_deeds(Stop)
    assert bench.tables["meta"]["agent"]["agent_id"] == AGENT
    assert list(bench.tables["tasks"]) == ["F1/t1"]
