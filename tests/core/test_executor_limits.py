"""Limits beside memory: the reason they end a task with, and the note when it was too late."""

from __future__ import annotations

import pytest

from mesosctl.core.executor_effects import KillContainer, LimitExceeded
from mesosctl.core.machine import Started
from mesosctl.model.tasks import Reason, TaskState, Usage
from tests.core.test_executor import MIB, World, launch


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        ("disk", Reason.DISK_LIMIT, "disk limit exceeded: limit 64 MiB, peak 90 MiB"),
        ("seats", Reason.LIMIT_EXCEEDED, "seats limit exceeded: limit 67108864, peak 83886080"),
    ],
)
def test_what_exceeded_a_limit_is_told_with_its_reason(
    kind: str, reason: Reason, text: str
) -> None:
    """Disk is one of ours; a plug-in's own kind is told in its own word."""
    world = World(sample_interval_s=0.5)
    world.step(Started())
    world.register()
    world.start(launch())
    world.step(LimitExceeded("f1/t1", kind, 80 * MIB, 64 * MIB))
    world.take(KillContainer)
    final = world.finish("f1/t1", None, 9, usage=Usage(disk_peak_bytes=90 * MIB))
    assert (final.state, final.reason, final.message) == (TaskState.FAILED, reason, text)


def test_a_disk_limit_that_came_too_late_is_noted() -> None:
    """A task that ended by itself keeps its own end; what it did is not passed over."""
    world = World(sample_interval_s=0.5)
    world.step(Started())
    world.register()
    world.start(launch())
    usage = Usage(disk_peak_bytes=90 * MIB, disk_limit_bytes=64 * MIB)
    final = world.finish("f1/t1", 0, usage=usage)
    assert final.state is TaskState.FINISHED and final.exit_code == 0
    assert final.message == "disk: peak 90 MiB above limit 64 MiB, not enforced in time"
    assert final.usage == usage
