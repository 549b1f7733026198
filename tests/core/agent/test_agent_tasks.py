"""Launching, updates, acknowledgement and kills at the agent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.agent import AgentOptions
from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Put, Received, Started, Stop
from mesosctl.core.session import ServerSessions
from mesosctl.limits import EXECUTOR_REGISTER_S
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import (
    Ack,
    AgentRegistered,
    KillTasks,
    LaunchTasks,
    RegisterAgent,
    RunTasks,
    ShutdownExecutor,
    ShutdownFramework,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.session import Refusal, Reset
from tests.core.agent.conftest import AGENT, F1, F2, Bench, framework, task


def test_it_registers_keeps_its_id_and_warms_an_executor(bench):
    """The first framework should not wait for a Python to start."""
    bench.do(Started())
    hello = bench.register()
    assert hello.agent.agent_id == "" and hello.agent.name == "host"
    assert bench.tables["meta"]["agent"]["agent_id"] == AGENT
    assert bench.took_deeds(deeds.OpenContainers) == [deeds.OpenContainers(AGENT)]
    assert bench.took_deeds(deeds.SweepContainers) == [deeds.SweepContainers()]
    assert len(bench.took_deeds(deeds.StartExecutor)) == 1
    bench.quiet()


def test_a_task_is_on_disk_before_its_executor_hears_of_it(bench):
    """A crash after the message must not leave a task that nobody remembers."""
    executor = bench.up()
    seen: list[bool] = []
    original = executor.took_message
    executor.took_message = lambda message: (
        seen.append("F1/t1" in bench.tables["tasks"]) if isinstance(message, RunTasks) else None,
        original(message),
    )[1]
    bench.launch("t1")
    (run,) = executor.took(RunTasks)
    assert seen == [True]
    assert run.framework_id == F1
    assert [(one.container, one.sandbox) for one in run.launches] == [("F1/t1", "/sandboxes/F1/t1")]
    assert run.launches[0].env["MESOS_AGENT"] == "host"
    assert bench.took_deeds(deeds.MakeSandbox) == [deeds.MakeSandbox("F1/t1", "me", True)]
    # The warm executor was given away: another is started.
    assert len(bench.took_deeds(deeds.StartExecutor)) == 1
    bench.quiet()


def test_the_same_launch_again_starts_nothing_and_repeats_the_update(bench):
    """The master may pass a launch on twice; a task must run once."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    assert bench.states() == [("t1", "running")]
    executor.took(RunTasks)
    bench.launch("t1")
    assert executor.took(RunTasks) == []
    assert bench.states() == [("t1", "running")]


def test_an_update_is_on_disk_before_it_is_acknowledged_or_passed_on(bench):
    """What the executor forgets on our word has to survive us."""
    executor = bench.up()
    bench.launch("t1")
    update = executor.update("t1", TaskState.RUNNING, send=False)
    effects = bench.machine.handle(
        Received(executor.peer, "", executor.session.send(StatusUpdates((update,)))[0].envelope),
        bench.now,
    )
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds == ["Put", "Send"]
    assert isinstance(effects[0], Put) and effects[0].table == "progress"
    bench.carry_out([*effects, *bench.machine.settle(bench.now)])
    assert executor.unacked == {}
    (message,) = bench.took(StatusUpdates)
    assert [one.state for one in message.updates] == [TaskState.RUNNING]


def test_several_steps_travel_in_order_and_a_later_ack_covers_the_earlier(bench):
    """A framework that acknowledges the end has seen the rest."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    last = executor.update("t1", TaskState.FINISHED)
    assert bench.states() == [("t1", "running"), ("t1", "finished")]
    bench.acknowledge(last)
    assert bench.tables["tasks"] == bench.tables["progress"] == {}
    assert len(bench.machine.tasks) == 0
    # The executor is still the framework's.
    assert list(bench.tables["frameworks"]) == [F1]


def test_an_end_is_told_to_a_new_master_even_if_its_acknowledgement_is_quicker(bench):
    """Both in one pass: the master kept the task it was told of at registration for ever."""
    executor = bench.up()
    bench.launch("t1")
    last = executor.update("t1", TaskState.FINISHED)
    bench.states()
    tasks = bench.machine.tasks
    tasks.repeat()
    bench.carry_out(tasks.acknowledge(Ack(F1, last.task_id, AGENT, last.uuid)))
    assert len(tasks) == 0
    assert [one.state for message in tasks.outgoing(bench.now) for one in message.updates] == [
        TaskState.FINISHED
    ]
    assert tasks.outgoing(bench.now) == []


def test_unacknowledged_updates_are_resent_less_and_less_often(bench):
    """A lost update must arrive, and a framework that is away must not be flooded."""
    executor = bench.up()
    bench.launch("t1")
    executor.took(RunTasks)
    update = executor.update("t1", TaskState.RUNNING)
    assert bench.states() == [("t1", "running")]
    sent = []
    for second in range(1, 31):
        bench.do(Received(executor.peer, "", executor.session.send(StatusUpdates(()))[0].envelope))
        bench.advance(1.0)
        bench.master._sessions["agent"].heard = bench.time_s
        sent += [second for _ in bench.states()]
    assert sent == [2, 6, 14, 30]
    bench.acknowledge(update)
    bench.advance(100.0)
    assert bench.states() == []


def test_after_a_lost_session_everything_is_told_again_at_once(bench):
    """A new master knows nothing of what the old one was told."""
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    executor.update("t2", TaskState.FINISHED)
    bench.states()
    bench.cut_master()
    bench.advance(1.0)
    hello = bench.register()
    assert hello.agent.agent_id == AGENT
    assert [(one.task_id, one.state) for one in hello.tasks] == [
        ("t1", TaskState.RUNNING),
        ("t2", TaskState.FINISHED),
    ]
    assert [one.framework_id for one in hello.frameworks] == [F1]
    assert bench.states() == [("t1", "running"), ("t2", "finished")]


def test_repeated_and_late_updates_change_nothing_and_are_acknowledged(bench):
    """A terminal state is never left, and an executor must be able to forget."""
    executor = bench.up()
    bench.launch("t1")
    running = executor.update("t1", TaskState.RUNNING)
    executor.say(StatusUpdates((running,)))
    executor.update("t1", TaskState.FINISHED)
    late = executor.update("t1", TaskState.FAILED)
    assert bench.states() == [("t1", "running"), ("t1", "finished")]
    assert late.uuid not in executor.unacked


def test_an_executor_speaks_only_for_its_framework(bench):
    """An executor gone wrong must not end the tasks of another framework."""
    one = bench.up()
    bench.launch("t1")
    two = bench.start_executor()
    bench.launch("t2", of=F2)
    assert two.framework_id == F2
    two.framework_id = F1
    two.update("t1", TaskState.FINISHED)
    assert bench.states() == []
    assert one.tasks == {"t1": TaskState.STAGING}


def test_a_kill_before_the_executor_is_there_ends_the_task_at_once(bench):
    """What was never started needs nobody to end it."""
    bench.do(Started())
    bench.register()
    bench.launch("t1")
    bench.tell(KillTasks(F1, (TaskKill(task("t1").task_id),)))
    (update,) = bench.updates()
    assert (update.state, update.reason) == (TaskState.KILLED, Reason.KILL_REQUESTED)
    bench.took_deeds(deeds.MakeSandbox)
    bench.took_deeds(deeds.OpenContainers)
    bench.took_deeds(deeds.SweepContainers)
    executor = bench.start_executor()
    assert executor.took(RunTasks) == []


def test_kills_and_signals_go_to_the_executor(bench):
    """The executor counts the grace, not the agent."""
    executor = bench.up()
    bench.launch("t1")
    bench.tell(KillTasks(F1, (TaskKill(task("t1").task_id, signum=10),)))
    bench.tell(KillTasks(F1, (TaskKill(task("t1").task_id, grace_s=2.0),)))
    bench.tell(KillTasks(F1, (TaskKill(task("other").task_id),)))
    told = [kill for message in executor.took(KillTasks) for kill in message.kills]
    assert told == [TaskKill(task("t1").task_id, signum=10), TaskKill(task("t1").task_id, "", 2.0)]
    assert bench.states() == []


def test_a_kill_while_the_executor_is_away_waits_for_it(bench):
    """A kill must not get lost because it came at the wrong moment."""
    executor = bench.up()
    bench.launch("t1")
    bench.cut(executor)
    bench.tell(KillTasks(F1, (TaskKill(task("t1").task_id),)))
    executor.took(KillTasks)
    executor.connect()
    (message,) = executor.took(KillTasks)
    assert [kill.task_id for kill in message.kills] == ["t1"]


def test_root_is_refused_where_it_is_not_wanted():
    """--no-root-tasks holds whatever the master says."""
    bench = Bench(AgentOptions(root_tasks=False))
    bench.up()
    bench.launch("t1", user="root")
    (update,) = bench.updates()
    assert (update.state, update.reason) == (TaskState.ERROR, Reason.NOT_PERMITTED)
    bench.acknowledge(update)
    assert bench.tables["tasks"] == bench.tables["frameworks"] == {}
    bench.quiet()


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("failed", TaskState.FAILED, Reason.LAUNCH_FAILED),
        ("permission", TaskState.FAILED, Reason.NOT_PERMITTED),
        ("root", TaskState.ERROR, Reason.NOT_PERMITTED),
        ("used", TaskState.ERROR, Reason.TASK_INVALID),
    ],
)
def test_a_task_without_a_sandbox_ends(bench, kind, state, reason):
    """A launch that cannot be is told, each cause in its own words."""
    executor = bench.up()
    bench.auto_sandbox = False
    bench.launch("t1")
    bench.do(deeds.SandboxFailed("F1/t1", kind, "why"))
    (update,) = bench.updates()
    assert (update.state, update.reason, update.message) == (state, reason, "why")
    assert executor.took(RunTasks) == []


def test_a_task_does_not_wait_for_an_executor_for_ever(bench):
    """A host that cannot start executors must give its tasks back."""
    bench.do(Started())
    bench.register()
    bench.launch("t1")
    bench.master.timeout_s = 1e6
    bench.advance(EXECUTOR_REGISTER_S + 1)
    update = bench.updates()[0]
    assert (update.state, update.reason) == (TaskState.DROPPED, Reason.LAUNCH_FAILED)
    # Its own, and the warm one beside.
    assert len(bench.took_deeds(deeds.KillExecutor)) == 2


def test_a_removed_framework_leaves_nothing_behind(bench):
    """Nobody acknowledges for it: its tasks are forgotten when they have ended."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.auto_sandbox = False
    bench.launch("t2")
    bench.tell(ShutdownFramework(F1))
    assert bench.states() == [("t2", "killed")]
    assert len(executor.took(ShutdownExecutor)) == 1
    executor.update("t1", TaskState.KILLED)
    assert bench.states() == [("t1", "killed")]
    executor.goodbye()
    bench.do(deeds.ExecutorExited(executor.executor_id, "exit code 0"))
    assert bench.tables["tasks"] == bench.tables["frameworks"] == bench.tables["progress"] == {}


def test_tasks_for_others_or_without_an_id_are_not_taken(bench):
    """A master gone wrong must not make us run what is not ours."""
    bench.up()
    stranger = replace(task("t1"), agent_id="A2")
    nameless = replace(task("t1"), task_id="")
    bench.tell(LaunchTasks(framework(), (stranger, nameless)))
    assert bench.tables["tasks"] == bench.tables["frameworks"] == {}
    bench.quiet()


def test_a_refused_registration_ends_the_agent_with_one_line(bench):
    """Trying for ever with the wrong key helps nobody."""
    bench.do(Started())
    bench.took(RegisterAgent)
    bench.tell(Refusal(1, "not-permitted", "this key may not act as an agent", "use another"))
    (stop,) = bench.took_deeds(Stop)
    assert stop.exit_code == 5
    assert stop.text == ("the master refuses: this key may not act as an agent; use another")


def test_another_cluster_ends_the_agent_with_one_line(bench):
    """Tasks of one cluster must not be reported to another."""
    bench.up()
    envelope = Envelope("elsewhere", 9, bench.machine.session._id, 1, Reset("wrong-cluster"))
    bench.do(Received("master", "", envelope))
    (stop,) = bench.took_deeds(Stop)
    assert stop.exit_code == 5 and "another cluster" in stop.text


def test_a_deposed_master_is_not_obeyed_even_after_a_restart(bench):
    """The highest epoch is on disk: the agent obeys nobody below it."""
    bench.up()
    assert bench.tables["meta"]["agent"]["epoch"] == 3
    bench.master = ServerSessions("cluster", 2)
    bench.restart()
    assert bench.took(RegisterAgent) == []
    bench.tell(AgentRegistered(AGENT, 5.0))
    assert not bench.machine.session.confirmed


def test_acknowledgements_of_strangers_are_ignored(bench):
    """An ack for what we never said changes nothing."""
    executor = bench.up()
    bench.launch("t1")
    update = executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.acknowledge(replace(update, uuid="other"), replace(update, task_id="t9"))
    assert len(bench.tables["progress"]["F1/t1"]["updates"]) == 1
