"""Executors of frameworks at the master: tasks like others, but for what could not be kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesosctl.model.resources import Resources
from tests.core.master.test_master_lanes import accept, launched, refusals, used

SIZE = "cpus:1;mem:64"


def test_an_executor_and_its_tasks_are_charged_each(cluster: Any) -> None:
    """It holds what it was launched with for as long as it lives, whatever it has to do."""
    agent = cluster.agent("a1", Resources.parse("cpus:4;mem:1024"))
    one = cluster.framework("one")
    own = replace(cluster.task(agent, "own", SIZE), is_executor=True)
    # What is done inside an executor needs no command.
    task = replace(cluster.task(agent, "t1", SIZE), executor="own", data=b"words")
    command = replace(task.command, argv=())
    accept(one, [own, replace(task, command=command)])
    assert launched(agent) == ["own", "t1"]
    assert used(cluster) == "cpus:2;mem:128"


def test_what_cannot_be_kept_is_refused(cluster: Any) -> None:
    """A promise that would need a sure hand on a single task inside a stranger's process."""
    agent = cluster.agent("a1", Resources.parse("cpus:8;mem:1024"))
    one = cluster.framework("one")
    made = cluster.task(agent, "t1", SIZE)
    accept(
        one,
        [
            replace(made, is_executor=True, executor="other"),
            replace(made, executor="own", lane="t1"),
            replace(made, executor="own", lease_s=100.0),
            replace(made, executor="../own"),
            replace(made, is_executor=True, whole_cores=True),
        ],
    )
    assert launched(agent) == []
    said = [text for _, text in refusals(one)]
    assert said == [
        "TaskInvalid: an executor cannot be handed to another",
        "TaskInvalid: an executor and its tasks have neither lane nor lease",
        "TaskInvalid: an executor and its tasks have neither lane nor lease",
        "TaskInvalid: its executor has no proper id",
        "TaskInvalid: an executor has a share of the CPUs, which grows with its tasks",
    ]
