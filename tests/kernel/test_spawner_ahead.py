"""Orders that follow another one, with real processes and version 1 cgroups."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesosctl.runtime.spawner_link import Exited, Recalled, Spawned, SpawnerDied
from tests.kernel.test_spawner_root import LIMIT_S, Harness, harness

__all__ = ["harness"]
pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.cgroup]

Told = Callable[[str], dict[str, Any]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What to put into an order so that it has a container of its own, named as it will be."""
    mounts = [Path("/sys/fs/cgroup", name) for name in ("cpu", "memory")]
    if not all((mount / "tasks").exists() for mount in mounts):
        pytest.skip("needs the cpu and memory hierarchies of cgroup version 1")
    parents = [mount / f"mesosctl-ahead-{os.getpid()}-test" for mount in mounts]
    made: list[Path] = []

    def make(name: str) -> dict[str, Any]:
        tasks = [parent / name for parent in parents]
        for directory in tasks:
            directory.mkdir(parents=True)
        made.extend(tasks)
        join = tuple(str(directory / "tasks") for directory in tasks)
        return {"join": join, "home": tuple(str(m / "tasks") for m in mounts), "by": "thread"}

    yield make
    for directory in (*made, *parents):
        end = time.monotonic() + LIMIT_S
        while directory.exists() and time.monotonic() < end:
            try:
                directory.rmdir()
            except OSError:
                # The kernel empties a cgroup a moment after its last process was reaped.
                select.select([], [], [], 0.01)


def shell(harness: Harness, told: Told, script: str, **fields: Any) -> str:
    """Order a script in a container of its own."""
    return harness.order("/bin/sh", "-c", script, **told(f"t{harness.count + 1}"), **fields)


def flushed(harness: Harness) -> None:
    """Everything that the spawner had to say before now is here."""
    assert harness.code(harness.order("/bin/true")) == 0


def kinds_of(harness: Harness, name: str) -> list[type]:
    return [type(report) for report in harness.reports if getattr(report, "id", "") == name]


def test_what_follows_begins_without_another_word(
    harness: Harness, told: Told, tmp_path: Path
) -> None:
    """Nothing is said between the two; the second finds what the first has done."""
    file = tmp_path / "file"
    first = shell(harness, told, f"read line < {tmp_path}/go; echo one >> {file}")
    os.mkfifo(tmp_path / "go")
    second = shell(harness, told, f"echo two >> {file}", after=first)
    third = shell(harness, told, f"echo three >> {file}", after=second)
    harness.result(Spawned, first)
    flushed(harness)
    assert kinds_of(harness, second) == kinds_of(harness, third) == []
    assert harness.link.queued == (second, third)
    (tmp_path / "go").write_text("\n")
    assert harness.code(third) == 0
    assert file.read_text().split() == ["one", "two", "three"]
    about = [one for one in harness.reports if isinstance(one, Spawned | Exited)]
    names = [one.id for one in about if one.id in (first, second, third)]
    assert names == [first, first, second, second, third, third]


def test_what_is_left_behind_holds_up_what_follows(harness: Harness, told: Told) -> None:
    """Two tasks would be in one allocation else; who clears up says when the next may begin."""
    first = shell(harness, told, "setsid sleep 600 & exit 3")
    second = shell(harness, told, "exit 4", after=first)
    assert harness.code(first) == 3
    flushed(harness)
    assert kinds_of(harness, second) == []
    join = Path(f"/sys/fs/cgroup/cpu/mesosctl-ahead-{os.getpid()}-test/{first}/tasks")
    (left,) = map(int, join.read_text().split())
    os.kill(left, signal.SIGKILL)
    harness.link.begin(second)
    assert harness.code(second) == 4


def test_a_cgroup_that_a_task_made_holds_up_what_follows(harness: Harness, told: Told) -> None:
    """Something may be inside that the list of the container itself does not show."""
    top = f"/sys/fs/cgroup/cpu/mesosctl-ahead-{os.getpid()}-test"
    first = shell(harness, told, f"mkdir {top}/t1/inner")
    second = shell(harness, told, "exit 4", after=first)
    assert harness.code(first) == 0
    flushed(harness)
    assert kinds_of(harness, second) == []
    os.rmdir(f"{top}/t1/inner")
    harness.link.begin(second)
    assert harness.code(second) == 4


def test_what_is_recalled_in_time_never_begins(harness: Harness, told: Told) -> None:
    """And what comes behind it waits to be told, since its turn is nobody's to see."""
    first = shell(harness, told, "exec sleep 600")
    second = shell(harness, told, "exit 4", after=first)
    third = shell(harness, told, "exit 5", after=second)
    pid = harness.result(Spawned, first).pid
    harness.reports += harness.link.recall(second)
    harness.result(Recalled, second)
    os.kill(pid, signal.SIGKILL)
    assert harness.code(first) == -signal.SIGKILL
    flushed(harness)
    assert kinds_of(harness, second) == [Recalled]
    assert kinds_of(harness, third) == []
    harness.link.begin(third)
    assert harness.code(third) == 5


def test_a_recall_after_the_turn_is_not_answered(harness: Harness, told: Told) -> None:
    """What has begun ends like any other."""
    first = shell(harness, told, "exit 3")
    second = shell(harness, told, "exit 4", after=first)
    assert harness.code(second) == 4
    harness.reports += harness.link.recall(second)
    harness.link.begin(second)
    flushed(harness)
    assert kinds_of(harness, second) == [Spawned, Exited]


def test_a_recall_that_dies_with_the_spawner_is_answered(harness: Harness, told: Told) -> None:
    """Whoever recalls waits for the answer, and would wait for ever."""
    first = shell(harness, told, "exec sleep 600")
    second = shell(harness, told, "exit 4", after=first)
    pid = harness.result(Spawned, first).pid
    flushed(harness)
    os.kill(harness.link.pid, signal.SIGSTOP)
    harness.reports += harness.link.recall(second)
    assert kinds_of(harness, second) == []
    harness.reports += harness.link.stop()
    assert kinds_of(harness, second) == [Recalled]
    harness.link.start()
    os.kill(pid, signal.SIGKILL)
    flushed(harness)
    assert kinds_of(harness, second) == [Recalled]


def test_nothing_begins_by_itself_once_it_is_due(harness: Harness, told: Told) -> None:
    """Its lane is over by then, and others may be about to start it elsewhere."""
    first = shell(harness, told, "exit 3")
    second = shell(harness, told, "exit 4", after=first, due=time.monotonic())
    assert harness.code(first) == 3
    flushed(harness)
    assert kinds_of(harness, second) == []
    harness.link.begin(second)
    assert harness.code(second) == 4


def test_a_held_order_outlives_its_spawner(harness: Harness, told: Told) -> None:
    """The next spawner does not know whom it follows, so we say when it is to begin."""
    first = shell(harness, told, "exec sleep 600")
    second = shell(harness, told, "exit 4", after=first)
    third = shell(harness, told, "exit 5", after=second)
    pid = harness.result(Spawned, first).pid
    os.kill(harness.link.pid, signal.SIGKILL)
    harness.reports += harness.link.stop()
    died = next(one for one in harness.reports if isinstance(one, SpawnerDied))
    assert died.in_flight is None
    harness.link.start()
    flushed(harness)
    os.kill(pid, signal.SIGKILL)

    def reaped() -> bool:
        harness.reports += harness.link.reap_orphans()
        return Exited in kinds_of(harness, first)

    harness.wait(reaped, "end of the first")
    assert kinds_of(harness, second) == []
    harness.link.begin(second)
    assert harness.code(second) == 4
    harness.link.begin(third)
    assert harness.code(third) == 5


def test_chains_go_on_over_spawners_that_are_killed(
    harness: Harness, told: Told, tmp_path: Path
) -> None:
    """At any moment: each task runs once and in its order, whoever begins it."""
    chance = random.Random(7)
    chains: list[list[str]] = [[], []]
    for _ in range(40):
        for number, chain in enumerate(chains):
            line = f"echo {harness.count + 1} >> {tmp_path}/{number}"
            chain.append(shell(harness, told, line, after=chain[-1] if chain else ""))
    deaths = 0

    def step() -> bool:
        nonlocal deaths
        harness.reports += harness.link.reap_orphans()
        ended = {one.id for one in harness.reports if isinstance(one, Exited)}
        begun = {one.id for one in harness.reports if isinstance(one, Spawned)}
        died = [one for one in harness.reports if isinstance(one, SpawnerDied)]
        begun |= {one.in_flight for one in died if one.in_flight_pid}
        for one in died[deaths:]:
            if one.in_flight and not one.in_flight_pid:
                number = next(n for n, chain in enumerate(chains) if one.in_flight in chain)
                again(one.in_flight, number)
        deaths = len(died)
        for chain in chains:
            for before, after in itertools.pairwise(chain):
                if before in ended and after not in begun:
                    harness.link.begin(after)
        return all(name in ended for chain in chains for name in chain)

    def again(name: str, number: int) -> None:
        count, harness.count = harness.count, int(name[1:]) - 1
        path = Path(f"/sys/fs/cgroup/cpu/mesosctl-ahead-{os.getpid()}-test/{name}/tasks")
        fields: dict[str, Any] = {
            "join": (str(path), str(path).replace("/cpu/", "/memory/")),
            "home": ("/sys/fs/cgroup/cpu/tasks", "/sys/fs/cgroup/memory/tasks"),
            "by": "thread",
        }
        harness.order("/bin/sh", "-c", f"echo {name[1:]} >> {tmp_path}/{number}", **fields)
        harness.count = count

    end = time.monotonic() + LIMIT_S
    while not step() and time.monotonic() < end:
        select.select([harness.link], [], [], 0.01)
        harness.reports += harness.link.read()
        if deaths < 12 and chance.random() < 0.2:
            os.kill(harness.link.pid, signal.SIGKILL)
            harness.reports += harness.link.stop()
        if not harness.link.alive:
            harness.link.start()
    assert deaths == 12
    for number, chain in enumerate(chains):
        assert [f"t{line}" for line in (tmp_path / str(number)).read_text().split()] == chain
