"""Why an executor ended a task: on request, or to empty its agent; who asked first counts."""

from __future__ import annotations

import pytest

from mesosctl.core.executor_effects import (
    ContainerEmptied,
    Drain,
    KillContainer,
    LaunchFailed,
    Remove,
    SignalContainer,
)
from mesosctl.core.executor_starts import STARTS_MAX
from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, TaskState, Usage
from mesosctl.protocol.messages.agent import KillTasks, ShutdownExecutor, TaskKill
from tests.core import test_executor
from tests.core.test_executor import AGENT, FRAMEWORK, World, kill, launch

world = test_executor.world


def drain(name: str = "t1", grace_s: float | None = None) -> KillTasks:
    asked = TaskKill(TaskId(name), AGENT, grace_s, reason=Reason.DRAINED, text="kernel")
    return KillTasks(FRAMEWORK, (asked,))


def test_a_task_that_is_drained_says_so_at_its_end(world: World) -> None:
    """Its framework has to tell it from one that somebody wanted to end."""
    world.start(launch())
    world.tell(drain())
    world.expect(SignalContainer("f1/t1", 15))
    [killing] = world.updates()
    assert (killing.state, killing.reason) == (TaskState.KILLING, Reason.DRAINED)
    final = world.finish("f1/t1", 0)
    assert (final.state, final.reason, final.exit_code) == (TaskState.KILLED, Reason.DRAINED, 0)
    assert final.message == "ended because its agent is drained: kernel"


@pytest.mark.parametrize("first", [Reason.KILL_REQUESTED, Reason.DRAINED])
def test_who_asked_first_is_the_reason(world: World, first: Reason) -> None:
    """A second request changes when it ends, not why."""
    world.start(launch(grace_s=30.0))
    both = [kill(grace_s=9.0), drain(grace_s=9.0)]
    world.tell(*(both if first is Reason.KILL_REQUESTED else reversed(both)))
    world.expect(SignalContainer("f1/t1", 15))
    assert [update.reason for update in world.updates()] == [first]
    assert world.finish("f1/t1", None, 15).reason is first


def test_what_was_never_started_is_dropped_by_a_drain(world: World) -> None:
    """Dropped is the proof that also a task that may start only once can have another place."""
    names = [f"t{index}" for index in range(STARTS_MAX + 1)]
    world.order(*[launch(name) for name in names])
    world.tell(drain(f"t{STARTS_MAX}"))
    (final,) = world.updates()
    assert (final.state, final.reason) == (TaskState.DROPPED, Reason.DRAINED)
    assert final.started_at is None


def test_a_launch_that_fails_while_its_agent_is_drained_is_dropped(world: World) -> None:
    """Nothing of it ran, and whether it would have is found out elsewhere."""
    world.order(launch())
    world.tell(drain())
    world.step(LaunchFailed("f1/t1", "exec", "no such file", 127))
    world.expect(Drain("f1/t1"))
    world.step(ContainerEmptied("f1/t1", Usage()))
    (final,) = world.updates()
    assert (final.state, final.reason) == (TaskState.DROPPED, Reason.DRAINED)
    world.expect(Remove("f1/t1"))


def test_a_signal_of_a_user_is_no_drain(world: World) -> None:
    """The task died of what its user sent, before anybody drained anything."""
    world.start(launch())
    world.tell(kill(signum=10))
    world.expect(SignalContainer("f1/t1", 10))
    final = world.finish("f1/t1", None, 10)
    assert (final.state, final.reason) == (TaskState.KILLED, Reason.KILL_REQUESTED)


def test_an_agent_that_was_declared_gone_ends_all_at_once(world: World) -> None:
    """The tasks may run elsewhere already: no grace, and the reason says why."""
    world.start(launch())
    world.tell(ShutdownExecutor(0.0, Reason.AGENT_GONE))
    world.expect(KillContainer("f1/t1"))
    assert [update.reason for update in world.updates()] == [Reason.AGENT_GONE]
    final = world.finish("f1/t1", None, 9)
    assert (final.state, final.reason) == (TaskState.KILLED, Reason.AGENT_GONE)


@pytest.mark.parametrize(("code", "signum"), [(0, None), (7, None), (None, 6)])
def test_an_end_above_the_limit_is_its_own_with_a_note(
    world: World, code: int | None, signum: int | None
) -> None:
    """Without a kernel that keeps it, what happens between two samples is found out too late."""
    world.start(launch())
    used = Usage(mem_peak_bytes=80 << 20, mem_limit_bytes=64 << 20)
    final = world.finish("f1/t1", code, signum, usage=used)
    assert (final.exit_code, final.signal) == (code, signum)
    assert final.reason is not Reason.MEMORY_LIMIT
    assert final.message.endswith("peak 80 MiB above limit 64 MiB, not enforced in time")


def test_a_few_pages_above_the_limit_are_not_worth_a_note(world: World) -> None:
    """A kernel that keeps the limit charges some pages before it does."""
    world.start(launch())
    used = Usage(mem_peak_bytes=(64 << 20) + 65536, mem_limit_bytes=64 << 20)
    assert world.finish("f1/t1", 0, usage=used).message == ""
