"""What a task waited for before: seen now and then, kept for a while, its attempts' for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mesosctl.core.batch.history import Waits, note
from mesosctl.core.batch.records import Task, new_job, task_of, task_record
from mesosctl.core.machine import PeerLost
from mesosctl.limits import HISTORY_JOBS_MAX, HISTORY_LOOK_S, HISTORY_MAX
from mesosctl.model.explanations import Change
from mesosctl.model.fit import Fit
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.explain import ExplainTasks, Fits, HowFits
from mesosctl.protocol.messages.framework import Revive, Suppress
from tests.core.batch.test_batch_explaining import DRAINING, IN_USE, JOB


def history(world: Any, selector: str = "1") -> tuple[Change, ...]:
    """The history that a command is told which has just come."""
    peer = f"c{len(world.mail) + 100}"
    world.client(peer)
    (answer,) = world.request(peer, ExplainTasks((selector,)))
    (found,) = answer.explanations
    return found.history


def words(world: Any) -> list[str]:
    """The reasons of that."""
    return [change.reason for change in history(world)]


def test_a_reason_is_noted_while_nobody_asks(world: Any) -> None:
    """Whoever asks in the morning wants to know what was in the way at night."""
    world.submit(JOB)
    world.advance(HISTORY_LOOK_S - 1)
    world.quiet()
    for fit in (Fit(4, (IN_USE,)), Fit(4, (IN_USE,)), Fit(4, (DRAINING,)), Fit(0)):
        world.advance(1.0)
        world.master(Fits(1, world.take(HowFits).request, (fit,)))
        world.advance(HISTORY_LOOK_S - 1)
    world.fits = Fit(0)
    told = history(world)
    assert [change.reason for change in told] == ["Resources", "Draining", "NoAgents"]
    first, second, third = (change.at for change in told)
    assert (second - first, third - second) == (2 * HISTORY_LOOK_S, HISTORY_LOOK_S)
    assert told[1].text.startswith("1 agent (a4) is draining")


def test_nobody_is_asked_when_nothing_waits(world: Any) -> None:
    """A quiet cluster stays quiet."""
    world.submit(JOB)
    world.launch()
    world.take(Suppress)
    world.advance(3 * HISTORY_LOOK_S)
    assert not world.mail["master"]


def test_a_master_that_is_away_is_a_reason(world: Any) -> None:
    """It is known without asking."""
    world.submit(JOB)
    world.master_answers = False
    world.run(PeerLost("master"))
    world.advance(HISTORY_LOOK_S + 5)
    world.mail["master"].clear()
    machine = world.machine
    (change,) = machine.outlook.waits.of(machine.queue.jobs[1], None)
    assert change.reason == "NoFramework"


def test_what_befell_attempts_survives_a_restart(world: Any, worlds: Callable[..., Any]) -> None:
    """It is on disk with the task, what was waited for is not."""
    world.submit(JOB)
    world.launch()
    world.take(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.status("1.0.1", TaskState.GONE, reason=Reason.EXECUTOR_TERMINATED, message="it died")
    world.forget(Revive)
    world.fits = Fit(4, (IN_USE,))
    assert words(world) == ["ExecutorTerminated", "Resources"]
    again = world.restarted()
    again.start()
    again.forget(Revive)
    again.fits = Fit(4, (DRAINING,))
    told = history(again)
    assert [change.reason for change in told] == ["ExecutorTerminated", "Draining"]
    assert told[0].text == "attempt 1 was lost: ExecutorTerminated: it died"


def test_what_is_kept_is_bounded() -> None:
    """Neither a task that is lost again and again nor many jobs may fill the memory."""
    task = Task(0)
    for number in range(20):
        note(task, float(number), "Lost", "x" * 10_000)
    assert [change.at for change in task.history] == [float(at) for at in range(10, 20)]
    assert task_of(0, task_record(task)).history == task.history
    assert len(task.history[0].text) == 200
    waits = Waits()
    for number in range(HISTORY_JOBS_MAX + 5):
        waits.observe(number, 1.0, "Resources", "")
    waits.observe(5, 2.0, "Share", "")
    waits.observe(5, 3.0, "Share", "other figures")
    waits.observe(HISTORY_JOBS_MAX + 9, 4.0, "Quota", "")
    assert len(waits) == HISTORY_JOBS_MAX
    job = new_job(5, JOB, "alice", "r", 0.0)
    assert waits.of(job, None) == (Change(1.0, "Resources"), Change(2.0, "Share"))
    assert waits.of(replace(job, number=6), None) == ()
    assert len(waits.of(job, task)) == HISTORY_MAX
