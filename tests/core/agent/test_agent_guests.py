"""Executors of frameworks, as the agent sees them: who is told of their tasks, and their ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.model.tasks import TaskInfo, TaskState
from mesosctl.protocol.messages.agent import LaunchTasks, RunTasks
from tests.core.agent.conftest import Bench, FakeExecutor, framework, task


def own_and_its_task() -> tuple[TaskInfo, ...]:
    """An executor, a task for it, and one for nobody in particular."""
    return (
        replace(task("own"), is_executor=True),
        replace(task("t1"), executor="own", data=b"x" * 10),
        task("t2"),
    )


def test_a_task_is_gone_after_the_executor_that_it_was_inside(bench: Bench) -> None:
    """Its own container is empty from the start: that proves nothing while the other is not."""
    executor = bench.up()
    bench.tell(LaunchTasks(framework(), own_and_its_task()))
    handed = [one.task for run in executor.took(RunTasks) for one in run.launches]
    assert [one.executor for one in handed] == ["", "own", ""]
    for name in ("own", "t1"):
        executor.update(name, TaskState.RUNNING)
    bench.states()
    bench.cut(executor)
    bench.do(deeds.ExecutorExited(executor.executor_id, "signal 9 (KILL)"))
    bench.took_deeds(deeds.KillContainers)
    bench.do(deeds.ContainersGone(("F1/t1", "F1/t2")))
    bench.do(deeds.ContainersBusy(("F1/own",)))
    assert bench.states() == [("t2", "gone")]
    bench.advance(0.02)
    (again,) = bench.took_deeds(deeds.KillContainers)
    assert set(again.containers) == {"F1/own", "F1/t1"}
    bench.do(deeds.ContainersGone(("F1/t1", "F1/own")))
    assert sorted(bench.states()) == [("own", "gone"), ("t1", "gone")]


def test_an_older_process_is_not_told_what_it_would_misunderstand(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would start a task for an executor as if it were an ordinary one."""
    monkeypatch.setattr(FakeExecutor, "knows_executors", False)
    executor = bench.up()
    bench.tell(LaunchTasks(framework(), own_and_its_task()))
    (run,) = executor.took(RunTasks)
    assert [launch.task.task_id for launch in run.launches] == ["t2"]
    updates = {one.task_id: one for one in bench.updates()}
    assert {name: one.state for name, one in updates.items()} == {
        "own": TaskState.DROPPED,
        "t1": TaskState.DROPPED,
    }
    assert "earlier mesosctl" in updates["t1"].message
