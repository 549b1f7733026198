"""Recovery of the agent, case by case, after the list of Mesos' own tests of recovery.

What these cases are called there stands in each name; those that have a test of their own in
test_agent_executors.py are not repeated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.agent import AgentOptions, AgentRecords
from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.records import Origin
from mesosctl.core.agent.recovery import is_foreign, misfit, other_isolation
from mesosctl.core.machine import Stop
from mesosctl.limits import EXECUTOR_RECONNECT_S
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import (
    KillTasks,
    RegisterAgent,
    RunTasks,
    ShutdownExecutor,
    TaskKill,
)
from tests.core.agent.conftest import AGENT, F1, F2, Bench, FakeExecutor


@pytest.fixture
def bench() -> Bench:
    return Bench()


def comes_back(bench: Bench, executor: FakeExecutor) -> None:
    """The restarted agent watches its executors; this one registers, no other is there."""
    for watched in bench.took_deeds(deeds.WatchExecutor):
        if watched.executor_id != executor.executor_id:
            bench.do(deeds.ExecutorExited(watched.executor_id, "it is not there"))
    executor.session.lose(bench.now)
    executor.messages.clear()
    executor.connect()


def test_recover_unregistered_executor(bench: Bench) -> None:
    """The agent dies before the executor that it started has ever registered."""
    bench.do(deeds.ContainersFound(()))
    executor = bench.up()
    bench.cut(executor)
    bench.launch("t1")
    bench.restart()
    comes_back(bench, executor)
    bench.register()
    fresh = bench.start_executor()
    orders = executor.took(RunTasks) + fresh.took(RunTasks)
    assert [launch.task.task_id for order in orders for launch in order.launches] == ["t1"]


def test_recover_terminated_executor_after_the_last_update(bench: Bench) -> None:
    """The task's end is on disk and the executor has gone: nothing is killed, the end is told."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    executor.update("t1", TaskState.FINISHED)
    bench.updates()
    bench.restart()
    for watched in bench.took_deeds(deeds.WatchExecutor):
        bench.do(deeds.ExecutorExited(watched.executor_id, "it is not there"))
    bench.register()
    assert bench.states() == [("t1", "finished")]


def test_recover_completed_executor(bench: Bench) -> None:
    """Everything was acknowledged before: nothing is left to be recovered."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.FINISHED)
    bench.acknowledge(*bench.updates())
    executor.goodbye()
    bench.restart()
    for watched in bench.took_deeds(deeds.WatchExecutor):
        bench.do(deeds.ExecutorExited(watched.executor_id, "it is not there"))
    hello = bench.register()
    assert hello.tasks == () and bench.states() == []


def test_kill_queued_task_during_executor_registration(bench: Bench) -> None:
    """A kill that comes before the task was handed over must not let it start."""
    bench.do(deeds.ContainersFound(()))
    executor = bench.up()
    bench.cut(executor)
    bench.launch("t1")
    bench.tell(KillTasks(F1, (TaskKill(TaskId("t1")),)))
    executor.connect()
    assert executor.took(RunTasks) == []
    assert bench.states() == [("t1", "killed")]


def test_reboot_with_executor_pid_reused(bench: Bench) -> None:
    """After a reboot a stranger has the executor's pid: it is not even looked at."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    bench.restart(boot_id="boot-2")
    assert bench.took_deeds(deeds.WatchExecutor) == bench.took_deeds(deeds.KillExecutor) == []
    bench.register()
    assert bench.states() == [("t1", "gone")]


def test_executor_pid_reused_without_a_reboot(bench: Bench) -> None:
    """The process that has the pid began at another time: it is gone, and nobody is killed."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    bench.restart()
    watched = bench.took_deeds(deeds.WatchExecutor)
    assert all(one.start_ticks > 0 for one in watched)
    for one in watched:
        bench.do(deeds.ExecutorExited(one.executor_id, "it is another process"))
    bench.advance(EXECUTOR_RECONNECT_S + 1)
    assert bench.took_deeds(deeds.KillExecutor) == []
    (killing,) = bench.took_deeds(deeds.KillContainers)
    bench.do(deeds.ContainersGone(killing.containers))
    bench.register()
    assert bench.states() == [("t1", "gone")]


def test_two_restarts_in_the_middle_of_recovery(bench: Bench) -> None:
    """Recovering twice is the same as once, wherever the first attempt was cut off."""
    executor = bench.up()
    bench.launch("t1", "t2")
    executor.update("t1", TaskState.RUNNING)
    executor.update("t2", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    before = {name: dict(bench.tables[name]) for name in ("meta", "tasks", "progress")}
    bench.restart()
    bench.restart()
    # Only its lives are counted.
    before["meta"]["agent"] = {**before["meta"]["agent"], "life": 3}
    assert {name: bench.tables[name] for name in before} == before
    comes_back(bench, executor)
    hello = bench.register()
    assert hello.life == 3
    assert [task.state for task in hello.tasks] == [TaskState.RUNNING] * 2


def test_master_failover_during_recovery(bench: Bench) -> None:
    """The new master hears the same as the old one would have."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    bench.restart()
    bench.master.epoch = 4
    comes_back(bench, executor)
    assert [task.task_id for task in bench.register().tasks] == ["t1"]


def test_multiple_frameworks(bench: Bench) -> None:
    """Each framework's executor is taken back with its own tasks, and no other's."""
    first = bench.up()
    bench.launch("t1")
    second = bench.start_executor()
    bench.launch("t2", of=F2)
    first.update("t1", TaskState.RUNNING)
    second.update("t2", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    bench.restart()
    for executor in (first, second):
        executor.session.lose(bench.now)
        executor.messages.clear()
        executor.connect()
    for watched in bench.took_deeds(deeds.WatchExecutor):
        if watched.executor_id not in (first.executor_id, second.executor_id):
            bench.do(deeds.ExecutorExited(watched.executor_id, "it is not there"))
    hello = bench.register()
    assert {(task.framework_id, task.task_id) for task in hello.tasks} == {(F1, "t1"), (F2, "t2")}
    assert first.took(KillTasks) == second.took(KillTasks) == []


# --- another configuration ------------------------------------------------------------------------
def info(**fields: Any) -> AgentInfo:
    given = {"total": Resources.scalars(cpus=4, mem=4096), "boot_id": "boot-1"} | fields
    return AgentInfo(AgentId(""), given.pop("name", "host"), given.pop("total"), **given)


def records_with_task(bench: Bench, **fields: Any) -> AgentRecords:
    """What a run leaves behind in which a task of one CPU runs."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    records = AgentRecords.load(bench.tables)
    origin = Origin("key-1", "mesosctl")
    return replace(records, meta=replace(records.meta, origin=origin, **fields))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"total": Resources.scalars(cpus=8, mem=8192)}, ""),
        ({"total": Resources.scalars(cpus=1, mem=64)}, ""),
        ({"total": Resources.scalars(cpus=0.5, mem=4096)}, "its tasks hold cpus:1"),
        ({"name": "other"}, ""),
        ({"attributes": {}}, "attribute rack was r1, is gone"),
        ({"attributes": {"rack": "r2"}}, "attribute rack was r1, is now r2"),
        ({"attributes": {"rack": "r1", "ssd": "true"}}, ""),
        ({"total": Resources.scalars(cpus=0.5), "boot_id": "boot-2"}, ""),
    ],
    ids=["same", "grown", "in-use", "smaller", "renamed", "gone", "changed", "new", "rebooted"],
)
def test_reconfiguration_with_a_running_task(
    bench: Bench, change: dict[str, Any], words: str
) -> None:
    """It may grow, and shrink to what is in use: the tasks that run must go on fitting in."""
    records = records_with_task(bench, attributes={"rack": "r1"})
    found = misfit(records, info(**({"attributes": {"rack": "r1"}} | change)), _origin())
    assert words in found and bool(found) == bool(words)


def _origin(server_key: str = "key-1", cgroup_root: str = "mesosctl") -> Origin:
    return Origin(server_key, cgroup_root)


def test_a_foreign_configuration(bench: Bench) -> None:
    """What is of another cluster, or cannot be found again, is refused before it is touched."""
    records = records_with_task(bench, isolation=("posix/cpu", "posix/mem"))
    assert "another key" in misfit(records, info(), _origin("key-2"))
    assert is_foreign(records, _origin("key-2")) and not is_foreign(records, _origin(""))
    assert "--cgroup-root was mesosctl" in misfit(records, info(), _origin(cgroup_root="x"))
    assert other_isolation(records, info(), ("cgroups/cpu",)) == "posix/cpu,posix/mem"
    assert other_isolation(records, info(), ("posix/cpu", "posix/mem")) == ""
    assert other_isolation(records, info(boot_id="boot-2"), ("cgroups/cpu",)) == ""


def test_ended_tasks_hold_nothing(bench: Bench) -> None:
    """An end that nobody has acknowledged yet is no reason to refuse smaller resources."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.FINISHED)
    records = AgentRecords.load(bench.tables)
    assert records.tasks
    assert misfit(records, info(total=Resources.scalars(cpus=0.5)), Origin()) == ""


@pytest.mark.parametrize("anew", [False, True])
def test_cleanup_needs_no_master(bench: Bench, anew: bool) -> None:
    """Ends of tasks are kept for the master they belong to; for another there is nothing."""
    executor = bench.up()
    bench.launch("t1")
    executor.update("t1", TaskState.RUNNING)
    bench.acknowledge(*bench.updates())
    bench.restart(AgentOptions(cleanup=True, anew=anew))
    comes_back(bench, executor)
    assert len(executor.took(ShutdownExecutor)) == 1
    executor.update("t1", TaskState.KILLED)
    executor.goodbye()
    bench.do(deeds.ContainersFound(()))
    assert bench.took(RegisterAgent) == []
    (stop,) = bench.took_deeds(Stop)
    assert stop.exit_code == 0
    assert bool(bench.tables["meta"]) is not anew and bool(bench.tables["tasks"]) is not anew
    if not anew:
        bench.restart()
        assert [task.state for task in bench.register().tasks] == [TaskState.KILLED]
        (end,) = bench.updates()
        assert (end.agent_id, end.reason) == (AGENT, Reason.NONE)
