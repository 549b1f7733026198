"""What a hostile task can do to the other tasks of its framework on the same host: nothing.

The one thing the kernel grants is that a user's processes may signal that user's other processes;
so the neighbours here belong to other users, as they do where a framework serves several.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import KillTasks, TaskKill
from tests.integration.played_agent import (
    FRAMEWORK,
    Agent,
    playing,
    spawner_of,
    why_no_cgroups,
)

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

BATCH = 16
ATTACKER, NEIGHBOURS = "nobody", ("daemon", "games")
# Every process that it may signal, and then every thread that there is, one by one. It speaks of
# itself by a file before it begins, and again after each round.
ATTACK = """
echo > up
while :; do
    kill -9 -1
    for thread in /proc/[0-9]*/task/[0-9]*; do
        [ "${thread##*/}" = $$ ] || kill -9 ${thread##*/}
    done
    echo >> up
done 2> /dev/null
"""


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An executor under cgroups whose sandboxes every user may reach."""
    if problem := why_no_cgroups():
        pytest.skip(problem)
    known = [entry.pw_name for entry in pwd.getpwall()]
    if absent := [name for name in (ATTACKER, *NEIGHBOURS) if name not in known]:
        pytest.skip(f"there is no user {', '.join(absent)}")
    # Not below pytest's own directory: each start of pytest closes that to others.
    with tempfile.TemporaryDirectory(prefix="mesosctl-hostile-") as name:
        os.chmod(name, 0o711)
        with playing(Path(name), "cgroups") as made:
            yield made


def rounds(agent: Agent) -> int:
    """How often the attacker has gone through all of them."""
    return (agent.base / "attacker" / "up").read_text().count("\n") - 1


def attack(agent: Agent) -> None:
    """Start the attacker."""
    agent.run(agent.launch("attacker", "sh", "-c", ATTACK, user=ATTACKER, cpus_milli=1500))
    agent.until((agent.base / "attacker" / "up").exists, "the attacker does not come up")


def end_attack(agent: Agent) -> None:
    """It has lived to this moment, and is killed like any other."""
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("attacker"), grace_s=0.0),)))
    assert agent.end("attacker").state is TaskState.KILLED


@pytest.mark.parametrize("count", [64, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_task_that_signals_everybody_harms_nobody_else(agent: Agent, count: int) -> None:
    """Neither those that run, nor those that are being started, nor the executor."""
    wait = "while [ ! -e go ]; do sleep 0.1; done; exit 7"
    agent.run(*(agent.launch(f"long-{user}", "sh", "-c", wait, user=user) for user in NEIGHBOURS))
    agent.until(lambda: all(agent.state(f"long-{user}") for user in NEIGHBOURS), "no neighbours")
    attack(agent)
    executor = agent.process.pid
    wrong = []
    for first in range(0, count, BATCH):
        names = [f"short-{number}" for number in range(first, first + BATCH)]
        agent.run(
            *(
                agent.launch(name, "sh", "-c", f"exit {index}", user=NEIGHBOURS[index % 2])
                for index, name in enumerate(names)
            )
        )
        for index, name in enumerate(names):
            end = agent.end(name)
            if end.exit_code != index:
                wrong.append(f"{name}: {end.reason} {end.exit_code} {end.signal} {end.message}")
    agent.until(lambda: rounds(agent) >= 3, "the attacker does not get through")
    print(f"\n{count} tasks beside {rounds(agent)} rounds of kill -9: {len(wrong)} harmed")
    assert wrong == [] and agent.process.poll() is None and executor == agent.process.pid
    for user in NEIGHBOURS:
        (agent.base / f"long-{user}" / "go").touch()
        assert agent.end(f"long-{user}").exit_code == 7
    end_attack(agent)


@pytest.mark.parametrize("count", [32, pytest.param(200, marks=pytest.mark.slow)])
def test_an_attacker_meets_launches_of_its_own_user(agent: Agent, count: int) -> None:
    """It may kill the launcher under its own ids; what waits behind that starts all the same."""
    attack(agent)
    first_spawner = spawner_of(agent)
    wrong, own = [], []
    for first in range(0, count, BATCH):
        users = [ATTACKER if number % 4 == 0 else NEIGHBOURS[number % 2] for number in range(BATCH)]
        launches = [
            agent.launch(f"mixed-{first + number}", "sh", "-c", "exit 3", user=user)
            for number, user in enumerate(users)
        ]
        agent.run(*launches)
        for user, launch in zip(users, launches, strict=True):
            end = agent.end(launch.task.task_id)
            if user == ATTACKER:
                # Its own user's tasks are what the kernel lets it kill: told as what happened.
                own.append(end)
            elif end.exit_code != 3:
                wrong.append(f"{launch.task.task_id}: {end.reason} {end.message}")
    print(f"\n{len(own)} of the attacker's own user: {[str(end.reason) for end in own]}")
    print(f"the spawner was killed: {spawner_of(agent) != first_spawner}")
    assert wrong == []
    told = (Reason.SIGNALED, Reason.EXITED, Reason.LAUNCH_FAILED)
    assert all(end.reason in told and "memory" not in end.message for end in own)
    end_attack(agent)


@pytest.mark.parametrize("count", [32, pytest.param(200, marks=pytest.mark.slow)])
def test_tasks_at_their_memory_limit_at_once_harm_no_other(agent: Agent, count: int) -> None:
    """Out of memory as soon as they are born, where the launcher stands beside them."""
    wrong = []
    for first in range(0, count, BATCH):
        launches = []
        for number in range(first, first + BATCH):
            if number % 2:
                # Too little for any program to get far; it may end before it is one.
                launch = agent.launch(f"m-{number}", "tail", "/dev/zero", mem=4, user=ATTACKER)
            else:
                launch = agent.launch(f"m-{number}", "sh", "-c", "exit 5", user=NEIGHBOURS[0])
            launches.append(launch)
        agent.run(*launches)
        for index, launch in enumerate(launches):
            end = agent.end(launch.task.task_id)
            right = end.reason is Reason.MEMORY_LIMIT if index % 2 else end.exit_code == 5
            if not right:
                wrong.append(f"{launch.task.task_id}: {end.reason} {end.exit_code} {end.message}")
    print(f"\n{count} tasks, every other at its memory limit at once: {len(wrong)} wrong")
    assert wrong == []
