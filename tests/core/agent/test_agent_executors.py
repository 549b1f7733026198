"""Executors at the agent: one a framework, their ends, and restarts of the agent and its host."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mesosctl.core.agent import AgentOptions, AgentRecords
from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Received, Signalled, Started, Stop, Tick
from mesosctl.errors import StorageFailed
from mesosctl.limits import EXECUTOR_RECONNECT_S, ORPHANS_LOOK_S
from mesosctl.model.ids import ExecutorId, TaskId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import (
    KillTasks,
    RegisterAgent,
    RunTasks,
    ShutdownExecutor,
    TaskKill,
)
from tests.core.agent.conftest import AGENT, F1, F2, Bench, FakeExecutor, task


def test_each_framework_has_an_executor_of_its_own(bench: Bench) -> None:
    """Tasks of two frameworks must not share a process."""
    one = bench.up()
    bench.launch("t1")
    two = bench.start_executor()
    bench.launch("t2", of=F2)
    bench.launch("t3")
    assert [launch.task.task_id for run in one.took(RunTasks) for launch in run.launches] == [
        "t1",
        "t3",
    ]
    assert [launch.task.task_id for run in two.took(RunTasks) for launch in run.launches] == ["t2"]
    assert len(bench.took_deeds(deeds.StartExecutor)) == 1


def test_large_tasks_travel_in_several_messages(bench: Bench) -> None:
    """A frame has a bound; a batch of scripts must not exceed it."""
    bench.do(Started())
    bench.register()
    bench.launch("t1", "t2", "t3", script=b"x" * 1_500_000)
    executor = bench.start_executor()
    runs = executor.took(RunTasks)
    assert [[one.task.task_id for one in run.launches] for run in runs] == [["t1"], ["t2"], ["t3"]]


def test_a_dead_executor_takes_its_tasks_along_once_they_are_dead(bench: Bench) -> None:
    """GONE is a proof that nothing runs any more: it comes after the container is empty."""
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.cut(executor)
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9 (KILL)"))
    assert bench.took_deeds(deeds.KillContainers) == [deeds.KillContainers(("F1/t1", "F1/t2"))]
    assert bench.states() == []
    bench.do(deeds.ContainersBusy(("F1/t1",)))
    bench.do(deeds.ContainersGone(("F1/t2",)))
    assert bench.states() == [("t2", "gone")]
    bench.advance(0.02)
    assert bench.took_deeds(deeds.KillContainers) == [deeds.KillContainers(("F1/t1",))]
    bench.do(deeds.ContainersGone(("F1/t1",)))
    (update,) = bench.updates()
    assert (update.state, update.reason) == (TaskState.GONE, Reason.EXECUTOR_TERMINATED)
    assert "signal 9" in update.message
    assert executor.executor_id not in bench.tables["executors"]


def test_the_last_words_of_a_dead_executor_count(bench: Bench) -> None:
    """Its end may be seen before the update that it had sent: that is no lost task."""
    executor = bench.up()
    bench.launch("t1")
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9 (KILL)"))
    executor.update("t1", TaskState.FINISHED)
    bench.cut(executor)
    assert bench.states() == [("t1", "finished")]
    assert bench.took_deeds(deeds.KillContainers) == []


def test_the_last_words_of_a_buried_executor_count(bench: Bench) -> None:
    """Its introduction to an agent that was away may come after its end: with an end that it knew.

    Acknowledged and not kept, the task would be run again although it had finished.
    """
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    executor.update("t1", TaskState.FINISHED, send=False)
    bench.cut(executor)
    bench.do(deeds.ExecutorExited(executor.executor_id, "it is not there"))
    executor.connect()
    assert [update["state"] for update in bench.tables["progress"]["F1/t1"]["updates"]][-1] == (
        "finished"
    )
    assert executor.unacked == {}
    assert bench.states() == [("t1", "finished")]
    bench.do(deeds.ContainersGone(("F1/t1", "F1/t2")))
    assert bench.states() == [("t2", "gone")]


def test_a_task_never_handed_over_gets_another_executor(bench: Bench) -> None:
    """Its executor died before the sandbox was made: it certainly never started."""
    executor = bench.up()
    bench.launch("t0")
    executor.update("t0", TaskState.FINISHED)
    bench.auto_sandbox = False
    bench.launch("t1")
    assert bench.tables["tasks"]["F1/t1"]["executor_id"] == executor.executor_id
    bench.cut(executor)
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9 (KILL)"))
    assert "executor_id" not in bench.tables["tasks"]["F1/t1"]
    other = bench.start_executor()
    bench.do(deeds.SandboxMade("F1/t1", "/sandboxes/F1/t1"))
    (run,) = other.took(RunTasks)
    assert [one.task.task_id for one in run.launches] == ["t1"]
    assert bench.states() == [("t0", "finished")]


def test_a_goodbye_hands_unstarted_tasks_to_another(bench: Bench) -> None:
    """An idle executor may end just while a task is on its way to it."""
    executor = bench.up()
    bench.launch("t1")
    other = bench.start_executor()
    executor.goodbye()
    bench.do(deeds.ExecutorExited(executor.executor_id, "exit code 0"))
    (run,) = other.took(RunTasks)
    assert [one.task.task_id for one in run.launches] == ["t1"]
    assert bench.states() == []


def test_a_silent_executor_is_not_a_dead_one(bench: Bench) -> None:
    """Its process lives and so do its tasks, however long it says nothing."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.cut(executor)
    bench.master.timeout_s = 1e9
    bench.advance(300.0)
    assert bench.took_deeds(deeds.KillContainers) == []
    assert all(state == ("t1", "running") for state in bench.states())


def test_executors_that_keep_dying_are_started_less_and_less_often(bench: Bench) -> None:
    """A broken installation must not become a fork bomb."""
    bench.do(Started())
    bench.register()
    bench.master.timeout_s = 1e9
    starts: list[float] = []
    for _ in range(2000):
        for wanted in bench.took_deeds(deeds.StartExecutor):
            starts.append(bench.time_s)
            bench.do(deeds.ExecutorExited(wanted.executor_id, "exit code 1"))
        if bench.time_s > 200:
            break
        bench.advance(0.5)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    # The first one at once; this test itself looks only twice a second.
    assert gaps[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_an_executor_nobody_knows_is_told_to_go(bench: Bench) -> None:
    """It may be left from a start that was never written down."""
    bench.up()
    stranger = FakeExecutor(bench, ExecutorId("X9"), 77)
    stranger.connect()
    assert stranger.took(ShutdownExecutor) == [ShutdownExecutor(0.0)]


def test_another_process_cannot_be_an_executor(bench: Bench) -> None:
    """The id alone proves nothing."""
    executor = bench.up()
    liar = FakeExecutor(bench, executor.executor_id, executor.pid + 1)
    liar.connect()
    bench.launch("t1")
    assert len(executor.took(RunTasks)) == 1 and liar.took(RunTasks) == []


# --- restarts of the agent ------------------------------------------------------------------------
def came_back(bench: Bench, executor: FakeExecutor) -> None:
    """The restarted agent looks for the executor, and that comes back to it."""
    watched = [one.executor_id for one in bench.took_deeds(deeds.WatchExecutor)]
    assert executor.executor_id in watched
    for executor_id in watched:
        if executor_id != executor.executor_id:
            bench.do(deeds.ExecutorExited(executor_id, "it is not there"))
    executor.session.lose(bench.now)
    executor.messages.clear()
    executor.connect()


def test_a_restarted_agent_takes_running_tasks_back(bench: Bench) -> None:
    """Tasks outlive their agent, and what they did meanwhile is told."""
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    executor.update("t2", TaskState.RUNNING)
    executor.session.lose(bench.now)
    executor.update("t2", TaskState.FINISHED, send=False)
    bench.restart()
    # Nothing is told to the master before it is known.
    assert bench.took(RegisterAgent) == []
    came_back(bench, executor)
    hello = bench.register()
    assert [(one.task_id, one.state) for one in hello.tasks] == [
        ("t1", TaskState.RUNNING),
        ("t2", TaskState.FINISHED),
    ]
    assert bench.states() == [("t1", "running"), ("t2", "running"), ("t2", "finished")]
    assert executor.unacked == {} and executor.took(RunTasks) == []
    assert bench.took_deeds(deeds.SweepContainers) == [deeds.SweepContainers(("F1",))]


def test_a_task_that_never_reached_its_executor_is_sent_again(bench: Bench) -> None:
    """Recorded, perhaps sent, and unknown to a living executor: it never started."""
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    del executor.tasks["t2"]
    bench.restart()
    came_back(bench, executor)
    (run,) = executor.took(RunTasks)
    assert [one.task.task_id for one in run.launches] == ["t2"]
    # Its sandbox may be there already.
    assert deeds.MakeSandbox("F1/t2", "me", False) in bench.took_deeds(deeds.MakeSandbox)


def test_a_task_recorded_and_sent_to_nobody_is_started_after_a_restart(bench: Bench) -> None:
    """The agent died between its record and the start: nothing is lost, nothing runs twice."""
    bench.do(Started())
    bench.register()
    bench.auto_sandbox = False
    bench.launch("t1")
    bench.auto_sandbox = True
    bench.restart()
    bench.took_deeds(deeds.WatchExecutor)
    hello = bench.register()
    assert [(one.task_id, one.state) for one in hello.tasks] == [("t1", TaskState.STAGING)]
    executor = bench.start_executor()
    (run,) = executor.took(RunTasks)
    assert [one.task.task_id for one in run.launches] == ["t1"]


def test_an_executor_that_died_with_the_agent_takes_its_tasks_along(bench: Bench) -> None:
    """Both were killed: what may have started is ended, then reported."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.restart()
    for wanted in bench.took_deeds(deeds.WatchExecutor):
        bench.do(deeds.ExecutorExited(wanted.executor_id, "it is not there"))
    assert bench.took_deeds(deeds.KillContainers) == [deeds.KillContainers(("F1/t1",))]
    hello = bench.register()
    assert [one.state for one in hello.tasks] == [TaskState.RUNNING]
    assert bench.states() == [("t1", "running")]
    bench.do(deeds.ContainersGone(("F1/t1",)))
    assert bench.states() == [("t1", "gone")]
    assert executor.executor_id not in bench.tables["executors"]


def test_an_executor_that_does_not_come_back_in_time_is_given_up(bench: Bench) -> None:
    """A hung executor must not keep its agent away from the master for ever."""
    executor = bench.up()
    bench.launch("t1")
    bench.restart()
    assert {one.executor_id for one in bench.took_deeds(deeds.WatchExecutor)} >= {
        executor.executor_id
    }
    bench.advance(EXECUTOR_RECONNECT_S - 0.1)
    assert bench.took(RegisterAgent) == []
    bench.advance(0.2)
    assert executor.executor_id in [one.executor_id for one in bench.took_deeds(deeds.KillExecutor)]
    assert len(bench.took(RegisterAgent)) == 1
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9 (KILL)"))
    bench.do(deeds.ContainersGone(("F1/t1",)))
    assert bench.machine.tasks.get("F1/t1").state is TaskState.GONE


def test_a_kill_from_before_the_return_reaches_the_executor(bench: Bench) -> None:
    """Registered, but one executor lost its session again: the kill waits."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.restart()
    came_back(bench, executor)
    bench.register()
    bench.cut(executor)
    bench.tell(KillTasks(F1, (TaskKill(task("t1").task_id),)))
    executor.connect()
    assert [kill.task_id for one in executor.took(KillTasks) for kill in one.kills] == ["t1"]


def test_after_a_reboot_nothing_runs(bench: Bench) -> None:
    """The boot id proves it, without looking for anything."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.auto_sandbox = False
    # Given to nobody yet: another framework whose executor is still starting.
    bench.launch("t2", of=F2)
    bench.restart(boot_id="boot-2")
    assert bench.took_deeds(deeds.WatchExecutor) == []
    hello = bench.register()
    assert hello.agent.agent_id == AGENT
    updates = [one for one in bench.updates() if one.is_terminal]
    assert [(one.task_id, one.state, one.reason) for one in updates] == [
        ("t1", TaskState.GONE, Reason.AGENT_REBOOTED),
        ("t2", TaskState.DROPPED, Reason.AGENT_REBOOTED),
    ]
    assert bench.tables["meta"]["agent"]["boot_id"] == "boot-2"
    assert all("pid" not in row for row in bench.tables["executors"].values())


def test_an_unacknowledged_end_survives_any_number_of_restarts(bench: Bench) -> None:
    """The framework hears of it whenever it comes; recovery of a recovery is the same."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.FINISHED)
    before = dict(bench.tables["progress"])
    for _ in range(3):
        bench.restart()
        assert bench.tables["progress"] == before
    for wanted in bench.took_deeds(deeds.WatchExecutor):
        bench.do(deeds.ExecutorExited(wanted.executor_id, "it is not there"))
    bench.register()
    (update,) = bench.updates()
    assert (update.task_id, update.state) == ("t1", TaskState.FINISHED)
    bench.acknowledge(update)
    assert bench.tables["tasks"] == bench.tables["progress"] == bench.tables["frameworks"] == {}


def test_a_removed_framework_stays_removed_over_a_restart(bench: Bench) -> None:
    """Its executor was away when the framework was removed, and the agent died then."""
    from mesosctl.protocol.messages.agent import ShutdownFramework

    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.cut(executor)
    bench.tell(ShutdownFramework(F1))
    bench.restart()
    came_back(bench, executor)
    assert len(executor.took(ShutdownExecutor)) == 1
    bench.register()
    bench.states()
    executor.update("t1", TaskState.KILLED)
    assert bench.states() == [("t1", "killed")]
    assert bench.tables["tasks"] == {}


def test_containers_without_a_task_are_ended_after_recovery(bench: Bench) -> None:
    """Whatever was left behind below our root is nobody's, and uses what we offer."""
    executor = bench.up()
    bench.launch("t1")
    bench.do(deeds.ContainersFound(("F1/t1", "F1/stray", "F9/old")))
    assert bench.took_deeds(deeds.KillContainers) == [deeds.KillContainers(("F1/stray", "F9/old"))]
    bench.do(deeds.ContainersGone(("F1/stray", "F9/old")))
    bench.advance(1.0)
    assert bench.took_deeds(deeds.KillContainers) == []
    assert executor.tasks == {"t1": TaskState.STAGING}


# --- ending ---------------------------------------------------------------------------------------
def test_a_stopped_agent_leaves_its_tasks_alone_and_says_so(bench: Bench) -> None:
    """An update of the agent must not cost anybody's work."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.states()
    bench.do(Signalled(15))
    (stop,) = bench.took_deeds(Stop)
    assert stop.exit_code == 0 and "1 tasks go on" in stop.text
    assert executor.took(ShutdownExecutor) == []


@pytest.mark.parametrize("how", ["cleanup", "signal"])
def test_it_can_end_everything(how: str) -> None:
    """--recover cleanup and `mesosctl local` leave no process behind."""
    options = AgentOptions(cleanup=how == "cleanup", ends_tasks=how == "signal")
    bench = Bench(AgentOptions(ends_tasks=how == "signal"))
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.auto_sandbox = False
    bench.launch("t2")
    warm = bench.start_executor()
    if how == "cleanup":
        bench.auto_sandbox = True
        bench.restart(options)
        came_back(bench, executor)
        bench.do(deeds.ContainersFound(("F1/t1",)))
    else:
        bench.do(Signalled(15))
        assert len(warm.took(ShutdownExecutor)) == 1
        warm.goodbye()
        bench.do(deeds.ContainersFound(()))
    assert len(executor.took(ShutdownExecutor)) == 1
    assert bench.took_deeds(Stop) == []
    executor.update("t1", TaskState.KILLED)
    executor.goodbye()
    (stop,) = bench.took_deeds(Stop)
    assert stop.exit_code == 0
    assert bench.tables["executors"] == {}
    assert bench.tables["progress"]["F1/t1"]["state"] == "killed"
    assert bench.tables["progress"]["F1/t2"]["state"] == "dropped"
    bench.machine.check()


# --- records --------------------------------------------------------------------------------------
def test_records_that_cannot_be_understood_stop_the_agent() -> None:
    """They must never mean that there is no task."""
    with pytest.raises(StorageFailed, match="cannot be understood"):
        AgentRecords.load({"tasks": {"F1/t1": {"framework_id": 7}}})


def test_routine_sweeps_spare_what_a_living_executor_may_own(bench: Bench) -> None:
    """What it is just removing is not killed under its hands, what nobody owns is."""
    bench.up()
    bench.launch("t1")
    bench.do(deeds.ContainersFound(("F1/t1", "F1/left", "F9/old"), is_routine=True))
    assert bench.took_deeds(deeds.RemoveContainers) == [deeds.RemoveContainers(("F1/left",))]
    assert bench.took_deeds(deeds.KillContainers) == [deeds.KillContainers(("F9/old",))]


def test_orphans_are_looked_for_again_and_again(bench: Bench) -> None:
    """A container whose removal failed must not stay until the next restart."""
    bench.up()
    bench.cut_master()
    bench.time_s += ORPHANS_LOOK_S
    bench.do(Tick())
    (sweep,) = bench.took_deeds(deeds.SweepContainers)
    assert sweep.is_routine


def test_an_executors_introduction_that_was_overtaken_changes_nothing(bench: Bench) -> None:
    """Its list is older than what was told since: a task that runs must not be taken back."""
    executor = bench.up()
    late = executor.hello()
    executor.connect()
    bench.launch("t1")
    assert len(executor.took(RunTasks)) == 1
    bench.do(Received("x:late", "", Envelope("", 0, "late", 1, late)))
    assert executor.took(RunTasks) == []
    bench.tell(KillTasks(F1, (TaskKill(TaskId("t1"), reason=Reason.DRAINED),)))
    assert len(executor.took(KillTasks)) == 1
    assert bench.states() == []
