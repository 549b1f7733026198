"""Shares of frameworks with endless demand, as the master accounts them at each task's end."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mesosctl.protocol.messages.query import Frameworks, FrameworkView, ListFrameworks
from mesosctl.runtime.client import Client, Hub
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
ENDS_S = 100.0
MILLI = 1000
TASK = "cpus:1;mem:64"

FRAMEWORK = """
import json
import sys
from mesosctl.api import Command, Demand, Driver, Resources, Scheduler, TaskId, TaskInfo, TaskState

name, role, master, key, size, seconds = sys.argv[1:]
TASK = Resources.parse(size)


class Greedy(Scheduler):
    # Takes whatever it is offered for tasks of one size, for ever.
    count = 0
    ended = frozenset({TaskState.FINISHED, TaskState.FAILED, TaskState.GONE, TaskState.DROPPED})

    def offers(self, driver, offers):
        for offer in offers:
            fit = offer.resources.count_fitting(TASK)
            tasks = [self.task(offer.agent_id) for _ in range(fit)]
            if tasks:
                driver.accept([offer], tasks, refuse_s=0.5)
            else:
                driver.decline([offer], refuse_s=0.5)

    def task(self, agent_id):
        self.count += 1
        task_id = f"{name}-{self.count}"
        return TaskInfo(TaskId(task_id), name, agent_id, TASK, Command(("sleep", seconds)))

    def status(self, driver, update):
        if update.state in self.ended:
            number = int(update.task_id.rpartition("-")[2])
            print(json.dumps([name, number, update.state]), flush=True)

    def interrupted(self, driver, signum):
        driver.teardown()


demand = Demand(TASK, 1000)
driver = Driver(Greedy(), name=name, master=master, key=key, role=role, demand=demand)
sys.exit(driver.run())
"""


class Contest:
    """Greedy frameworks, the ends of their tasks in the order in which they tell them."""

    def __init__(self, env: ClusterEnv, hub: Hub) -> None:
        self.env = env
        key = env.key
        self._client: Client = hub.connect(key.master, key.pair, key.server_key)
        self._selector = selectors.DefaultSelector()
        self._rest: dict[int, bytes] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def enter(self, name: str, role: str, size: str, seconds: float) -> None:
        """Start a framework."""
        words = [name, role, self.env.address, str(self.env.key_path), size, str(seconds)]
        process = subprocess.Popen(
            [sys.executable, "-c", FRAMEWORK, *words],
            env=self.env.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.env.commands.append(process)
        self.processes[name] = process
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def leave(self, name: str) -> None:
        """End a framework and its tasks."""
        process = self.processes.pop(name)
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        process.terminate()
        assert process.wait(20) == 0

    def ends(self) -> Iterator[tuple[str, int]]:
        """The framework and number of each task that has ended, as it is told."""
        limit = time.monotonic() + ENDS_S
        while time.monotonic() < limit:
            for ready, _ in self._selector.select(1.0):
                read = os.read(ready.fd, 65536)
                assert read, "a framework ended"
                *lines, self._rest[ready.fd] = (self._rest.get(ready.fd, b"") + read).split(b"\n")
                for line in lines:
                    name, number, state = json.loads(line)
                    assert state == "finished", line
                    yield name, number
        raise AssertionError(f"too few tasks ended in {ENDS_S:g} s")

    def views(self) -> dict[str, FrameworkView]:
        """What the master accounts to each framework now."""
        answer = self._client.request(ListFrameworks())
        assert isinstance(answer, Frameworks)
        return {view.framework.name: view for view in answer.frameworks}

    def cpus(self) -> dict[str, int]:
        """Thousandths of a CPU that each framework holds or is being offered."""
        views = self.views()
        return {
            name: view.used.scalar("cpus") + view.offered.scalar("cpus")
            for name, view in views.items()
        }

    def shared_out(self, cpus: int) -> dict[str, int]:
        """The same at a moment when all of so many CPUs are held or offered.

        Between two passes of the master there is no other; a question that reaches it in one pass
        with the end of a task is answered before what became free is offered.
        """
        held: dict[str, int] = {}

        def all_is_given() -> bool:
            held.update(self.cpus())
            return sum(held.values()) == cpus * MILLI

        until(all_is_given, "everything is held or offered", 10, 0.002)
        return held

    def start_pair(self, roles: tuple[str, str], slots: int, seconds: float) -> None:
        """The first one grabs everything; the second joins; return when that grab has ended."""
        self.enter("one", roles[0], TASK, seconds)
        until(lambda: self.cpus().get("one") == slots * MILLI, "a grab", look_s=0.005)
        self.enter("two", roles[1], TASK, seconds)
        ended: dict[int, None] = {}
        last = 0
        for name, number in self.ends():
            if name == "one":
                ended[number] = None
            if not last and "two" in self.views():
                # What runs at this moment was launched while the first one was alone.
                last = max(ended) + slots
            if last and all(number in ended for number in range(1, last + 1)):
                return


def differences(contest: Contest, cpus: int, weights: tuple[int, int], ends: int) -> list[float]:
    """Difference of share over weight, in tasks of one CPU, at each of so many ends."""
    found = []
    for _ in contest.ends():
        held = contest.shared_out(cpus)
        one, two = held["one"] / weights[0], held["two"] / weights[1]
        found.append((one - two) / MILLI)
        if len(found) == ends:
            return found
    raise AssertionError("unreachable: ends() raises first")


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [(100, 0.4), pytest.param(200, 1.0, marks=pytest.mark.slow)],
)
def test_two_endless_frameworks_get_equal_shares(
    env: ClusterEnv, ends: int, seconds: float
) -> None:
    """Dominant-resource fairness: never further apart than one task, whenever one looks."""
    env.master("--no-framework")
    env.agent("cpus:8;mem:2G")
    with Hub() as hub:
        contest = Contest(env, hub)
        contest.start_pair(("*", "*"), 8, seconds)
        apart = differences(contest, 8, (1, 1), ends)
        assert max(map(abs, apart)) <= 1.0, apart
        for name in ("one", "two"):
            contest.leave(name)


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [(100, 0.4), pytest.param(200, 1.0, marks=pytest.mark.slow)],
)
def test_weights_divide_shares(env: ClusterEnv, ends: int, seconds: float) -> None:
    """A role of weight 2 holds twice as much: share over weight differs by one task at the most."""
    env.master("--no-framework", "--weights", "big=2,small=1")
    env.agent("cpus:9;mem:2G")
    with Hub() as hub:
        contest = Contest(env, hub)
        contest.start_pair(("big", "small"), 9, seconds)
        apart = differences(contest, 9, (2, 1), ends)
        assert max(map(abs, apart)) <= 1.0, apart
        for name in ("one", "two"):
            contest.leave(name)


def test_the_lower_priority_gets_what_the_higher_one_leaves(env: ClusterEnv) -> None:
    """Under `priority` the lower role lives on what the higher one cannot use or does not want."""
    env.master("--no-framework", "--allocator", "priority", "--priorities", "urgent=10,later=1")
    env.agent("cpus:4;mem:2G")
    with Hub() as hub:
        contest = Contest(env, hub)
        # Two of the higher one fit, and one CPU is left over for the lower one.
        contest.enter("high", "urgent", "cpus:1.5;mem:64", 0.3)
        until(lambda: contest.cpus().get("high") == 3000 or None, "the higher one holds its two")
        contest.enter("low", "later", "cpus:1;mem:64", 0.3)
        until(lambda: contest.cpus().get("low"), "the lower one gets the rest")
        told = {"high": 0, "low": 0}
        for name, _ in contest.ends():
            told[name] += 1
            # The fourth CPU is put before the higher one now and then, which declines it.
            assert contest.shared_out(4)["low"] <= 1000
            if sum(told.values()) == 60:
                break
        assert min(told.values()) > 10, told
        contest.leave("high")
        until(lambda: contest.views()["low"].tasks == 4, "the lower one gets all")
        contest.leave("low")
