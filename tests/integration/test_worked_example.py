"""The classic example of two-level scheduling, with two frameworks written on mesosctl.api.

An agent has <4 CPU, 4 GB>. Framework 1 is offered all of it and launches <2 CPU, 1 GB> and
<1 CPU, 2 GB>. The remaining <1 CPU, 1 GB> is offered to framework 2. When the tasks end, their
resources are offered again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mesosctl.model.resources import EMPTY, Resources
from tests.integration.conftest import ClusterEnv, until

pytestmark = pytest.mark.integration

FRAMEWORK = """
import json
import sys
from mesosctl.api import Command, Driver, Resources, Scheduler, TaskId, TaskInfo, TaskState

name, master, key, gate, *sizes = sys.argv[1:]


def say(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


class Example(Scheduler):
    # Launches its tasks on the first offer and keeps every later one.
    def __init__(self):
        self.sizes = [Resources.parse(size) for size in sizes]

    def registered(self, driver, framework_id):
        say("registered", framework=framework_id)

    def offers(self, driver, offers):
        for offer in offers:
            say("offer", resources=str(offer.resources), agent=offer.agent_name)
            if not self.sizes:
                continue
            script = f"until [ -e {gate} ]; do sleep 0.05; done"
            tasks = [
                TaskInfo(TaskId(f"{name}-{n}"), f"{name}-{n}", offer.agent_id, size,
                         Command(("sh", "-c", script)))
                for n, size in enumerate(self.sizes)
            ]
            self.sizes = []
            driver.accept([offer], tasks, refuse_s=3600)

    def status(self, driver, update):
        say("status", task=update.task_id, state=update.state, text=update.message)

    def rescinded(self, driver, offer_ids):
        say("rescinded")

    def failed(self, driver, code, message):
        say("failed", message=message)

    def interrupted(self, driver, signum):
        driver.teardown()


driver = Driver(Example(), name=name, master=master, key=key)
driver.every(0.05, lambda: say("tick"))
sys.exit(driver.run())
"""


class Framework:
    """One framework process and what it has said."""

    def __init__(self, env: ClusterEnv, name: str, *sizes: str) -> None:
        self.log = env.base / f"{name}.said"
        words = [name, env.address, str(env.key_path), str(env.files / "gate"), *sizes]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", FRAMEWORK, *words],
                env=env.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        env.commands.append(self.process)

    def said(self, what: str) -> list[dict[str, Any]]:
        """Everything of this kind, in order."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["what"] == what]

    def offered(self) -> list[Resources]:
        """What it was offered, in order."""
        return [Resources.parse(line["resources"]) for line in self.said("offer")]

    def states(self, state: str) -> list[str]:
        """Its tasks that were in this state."""
        return [line["task"] for line in self.said("status") if line["state"] == state]

    def until(self, predicate: Callable[[], Any], what: str) -> None:
        """Wait for something that this framework should see."""

        def look() -> Any:
            assert self.process.poll() is None, f"the framework ended: {self.log.read_text()}"
            return predicate()

        until(look, f"{what}; it said: {self.log.read_text()}")

    def end(self) -> int:
        """Tear it down; its exit code."""
        self.process.terminate()
        return self.process.wait(20)


def total(offers: list[Resources]) -> Resources:
    """The sum of offers of one agent."""
    found = EMPTY
    for offer in offers:
        found = found + offer
    return found


def test_what_one_framework_leaves_is_offered_to_the_other(env: ClusterEnv) -> None:
    """Two-level scheduling in one picture: the master offers, the frameworks choose."""
    env.master("--no-framework")
    env.agent("cpus:4;mem:4096;disk:0;ports:[]")
    first = Framework(env, "one", "cpus:2;mem:1024", "cpus:1;mem:2048")
    first.until(first.offered, "the first offer")
    assert first.offered() == [Resources.parse("cpus:4;mem:4096")]
    first.until(lambda: len(first.states("running")) == 2, "both tasks run")

    second = Framework(env, "two")
    second.until(second.offered, "the rest")
    assert second.offered() == [Resources.parse("cpus:1;mem:1024")]
    (agent,) = env.json("agents")["agents"]
    assert agent["tasks"] == 2

    (env.files / "gate").touch()
    first.until(lambda: len(first.states("finished")) == 2, "both tasks end")
    freed = Resources.parse("cpus:3;mem:3072")
    first.until(
        lambda: total(first.offered()[1:] + second.offered()[1:]) == freed, "what they held is back"
    )
    first.until(lambda: len(first.said("tick")) >= 3, "its own clock ticks")
    assert first.end() == 0 and second.end() == 0
    until(lambda: not env.json("frameworks")["frameworks"], "both frameworks are gone")


def test_a_framework_that_is_torn_down_takes_its_tasks_along(env: ClusterEnv) -> None:
    """Nothing runs in the name of a framework that is no more."""
    env.master("--no-framework")
    env.agent("cpus:4;mem:4096;disk:0;ports:[]")
    first = Framework(env, "one", "cpus:1;mem:64")
    first.until(lambda: first.states("running"), "the task runs")
    assert first.end() == 0
    until(lambda: env.json("agents")["agents"][0]["tasks"] == 0, "its task is gone")
    until(lambda: not env.cgroups(), "its container is gone")
