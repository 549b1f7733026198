"""From a task's description to the limits of its container."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.executor_effects import Prepare
from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Limits
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, TaskInfo
from mesosctl.protocol.messages.agent import ExecutorLaunch
from mesosctl.runtime.executor_limits import limits_of

TASK = TaskInfo(
    TaskId("t"), "t", AgentId("A"), Resources.parse("cpus:2;mem:64"), Command(("true",))
)


def limits(task: TaskInfo, cpus_milli: int = 2000) -> Limits:
    """What a container of this task gets."""
    return limits_of(Prepare("f/t", cpus_milli, 64, 10, ExecutorLaunch(task, "/s/t", "f/t")))


def test_most_tasks_ask_for_nothing_else() -> None:
    """And are no business of most isolators then."""
    assert limits(TASK) == Limits(2000, 64, 10, sandbox="/s/t")
    assert limits(TASK).requests() == ()


def test_every_wish_arrives() -> None:
    """Each in the unit of its isolator, the names that nobody knows for plug-ins."""
    text = "cpus:2;mem:64;disk:10;gpus:2;ports:[31000-31001];seats:3;seats(ads):1"
    task = replace(
        TASK,
        resources=Resources.parse(text),
        whole_cores=True,
        rlimits={"nofile": (64, -1)},
        private=("tmp", "pids"),
    )
    found = limits(task)
    assert (found.disk_bytes, found.gpus, found.ports) == (10 << 20, 2, ((31000, 31001),))
    assert found.cores == 2 and found.rlimits == {"nofile": (64, None)}
    assert found.others == {"seats": 4000} and found.private == ("tmp", "pids")
    words = ("disk", "gpus", "ports", "cores", "rlimits", "private-tmp", "private-pids")
    assert found.requests() == words


def test_half_a_core_is_no_whole_one() -> None:
    """Nobody can bind a task to half a core."""
    with pytest.raises(LimitUnavailable, match="cpus"):
        limits(replace(TASK, whole_cores=True), 1500)
