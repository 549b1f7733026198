"""Lanes at the agent: kept with the launch, given back where no executor was told of a task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.records import AgentRecords, MetaRecord, Origin, TaskEntry
from mesosctl.core.agent.recovery import misfit
from mesosctl.core.machine import Started
from mesosctl.limits import LANE_S
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import (
    LaunchTasks,
    RegisterAgent,
    RegisterExecutor,
    ReturnLanes,
    RunTasks,
)
from mesosctl.protocol.messages.base import Message
from tests.core.agent.conftest import F1, Bench, FakeExecutor, framework, task


@pytest.fixture(autouse=True)
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors know lanes, but for those of the one test that is about others."""
    hello = FakeExecutor.hello

    def knows(self: FakeExecutor) -> Message:
        message = hello(self)
        assert isinstance(message, RegisterExecutor)
        return replace(message, knows_lanes=True)

    monkeypatch.setattr(FakeExecutor, "hello", knows)


def launch_lane(bench: Bench, *names: str) -> None:
    """One launch of a lane that is called after its first task."""
    tasks = tuple(replace(task(name), lane=names[0]) for name in names)
    bench.tell(LaunchTasks(framework(F1), tasks))


def handed(executor: FakeExecutor) -> list[str]:
    return [one.task.task_id for message in executor.took(RunTasks) for one in message.launches]


def reasons(bench: Bench) -> list[tuple[str, str, str]]:
    return [(one.task_id, one.state.value, one.reason.value) for one in bench.updates()]


def test_a_lane_is_handed_on_whole_and_in_order(bench: Bench) -> None:
    """The executor needs the next one when the one before ends, and to know what is one lane."""
    executor = bench.up()
    launch_lane(bench, "t1", "t2", "t3")
    launches = [one for message in executor.took(RunTasks) for one in message.launches]
    assert [(one.task.task_id, one.task.lane) for one in launches] == [
        ("t1", "t1"),
        ("t2", "t1"),
        ("t3", "t1"),
    ]


def test_the_master_hears_of_lanes_after_a_restart(bench: Bench) -> None:
    """One that was started anew has to charge the lane once, not task by task."""
    bench.up()
    launch_lane(bench, "t1", "t2")
    bench.restart()
    executor = next(iter(bench.machine.executors.table.values()))
    bench.do(deeds.ExecutorExited(executor.entry.executor_id))
    bench.advance(20)
    (hello,) = bench.took(RegisterAgent)
    assert {report.lane for report in hello.tasks} == {"t1"}


def test_what_no_executor_takes_within_a_second_is_given_back(bench: Bench) -> None:
    """But for the first, which waits for its executor like any other task."""
    bench.cut(bench.up())
    launch_lane(bench, "t1", "t2", "t3")
    bench.advance(LANE_S - 0.01)
    assert reasons(bench) == []
    bench.advance(0.01)
    assert reasons(bench) == [("t2", "dropped", "Returned"), ("t3", "dropped", "Returned")]
    waiting = bench.machine.tasks.frameworks[F1].waiting
    assert list(waiting) == ["F1/t1"]


def test_the_master_gets_back_what_nobody_was_told_of(bench: Bench) -> None:
    """Here at once; the executor is asked for the rest, which it alone knows."""
    executor = bench.up()
    launch_lane(bench, "t1", "t2")
    handed(executor)
    bench.auto_sandbox = False
    launch_lane(bench, "u1", "u2")
    bench.tell(ReturnLanes())
    assert reasons(bench) == [("u1", "dropped", "Returned"), ("u2", "dropped", "Returned")]
    assert executor.took(ReturnLanes) == [ReturnLanes()]
    bench.do(deeds.SandboxMade("F1/u1", "/sandboxes/F1/u1"))
    assert handed(executor) == []


def test_an_executor_that_does_not_know_lanes_gets_the_first_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run them all at once on the resources of one."""
    monkeypatch.undo()
    executor = bench.up()
    launch_lane(bench, "t1", "t2")
    assert handed(executor) == ["t1"]
    assert reasons(bench) == [("t2", "dropped", "Returned")]
    bench.tell(ReturnLanes())
    assert executor.took(ReturnLanes) == []


def test_a_task_does_not_follow_one_that_may_still_be_alive(bench: Bench) -> None:
    """Its executor is gone, its container is not yet: both together would use too much."""
    executor = bench.up()
    bench.auto_sandbox = False
    launch_lane(bench, "t1", "t2")
    bench.do(deeds.SandboxMade("F1/t1", "/sandboxes/F1/t1"))
    assert handed(executor) == ["t1"]
    bench.cut(executor)
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9"))
    assert reasons(bench) == [("t2", "dropped", Reason.RETURNED.value)]
    [kill] = bench.took_deeds(deeds.KillContainers)
    assert kill.containers == ("F1/t1",)


def test_after_a_restart_what_nobody_was_told_of_is_given_back(bench: Bench) -> None:
    """Nobody knows any more whether the one before it in its lane has ended."""
    bench.do(Started())
    bench.register()
    bench.auto_sandbox = False
    launch_lane(bench, "t1", "t2")
    bench.restart()
    bench.register()
    assert reasons(bench) == [("t1", "dropped", "Returned"), ("t2", "dropped", "Returned")]


def test_what_a_lost_session_took_along_is_given_back(bench: Bench) -> None:
    """Told again after the executor is back, it would begin long after its lane's time."""
    executor = bench.up()
    launch_lane(bench, "t1", "t2")
    assert handed(executor) == ["t1", "t2"]
    executor.tasks.clear()
    executor.connect()
    assert handed(executor) == []
    assert reasons(bench) == [("t1", "dropped", "Returned"), ("t2", "dropped", "Returned")]


def test_a_lane_counts_once_when_an_agent_is_made_smaller() -> None:
    """Its tasks hold the resources of one; a smaller agent that has those may go on."""
    bench = Bench()
    info = replace(bench.info, agent_id=task("t").agent_id, total=Resources.scalars(cpus=1))
    entries = tuple(TaskEntry(F1, replace(task(f"t{n}"), lane="t0"), n) for n in range(3))
    meta = MetaRecord(info.agent_id, info.boot_id, total=info.total)
    assert misfit(AgentRecords(meta, tasks=entries), info, Origin()) == ""
    alone = tuple(replace(one, info=replace(one.info, lane="")) for one in entries)
    assert "its tasks hold cpus:3" in misfit(AgentRecords(meta, tasks=alone), info, Origin())


def test_an_update_of_a_lane_is_as_any_other(bench: Bench) -> None:
    """Each task of a lane has a status and a record of its own."""
    executor = bench.up()
    launch_lane(bench, "t1", "t2")
    executor.update("t1", TaskState.FINISHED)
    executor.update("t2", TaskState.FAILED)
    updates = bench.updates()
    assert [(one.task_id, one.state.value) for one in updates] == [
        ("t1", "finished"),
        ("t2", "failed"),
    ]
    bench.acknowledge(*updates)
    assert bench.tables["tasks"] == {} and bench.tables["progress"] == {}


@pytest.mark.parametrize("knows", [True, False])
def test_what_tasks_share_is_written_out_for_an_executor_of_an_earlier_time(
    bench: Bench, knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would start them without the variables that tell them apart."""
    monkeypatch.setattr(FakeExecutor, "knows_shared", knows)
    executor = bench.up()
    common = replace(task("t").command, env={"A": "a", "I": "-"})
    tasks = tuple(
        replace(task(name), command=common, env={"I": name}, lane="t1") for name in ("t1", "t2")
    )
    bench.tell(LaunchTasks(framework(F1), tasks))
    messages = executor.took(RunTasks)
    told = [one.task for message in messages for one in message.launches]
    assert {message.shared for message in messages} == {knows}
    assert [{**one.command.env, **one.env} for one in told] == [
        {"A": "a", "I": "t1"},
        {"A": "a", "I": "t2"},
    ]
    assert [bool(one.env) for one in told] == [knows, knows]
