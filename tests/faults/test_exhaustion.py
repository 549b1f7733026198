"""Descriptors, processes and threads that run out under real daemons."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import FaultEnv
from tests.faults.errors import cpu_s, injected
from tests.integration.conftest import CGROUPS, Part, parent_of, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
needs_strace = pytest.mark.skipif(
    not shutil.which("strace"), reason="needs strace (apt install strace)"
)
TASK = ("-c", "0.1", "-m", "16M", "--", "true")
CROWD = 60


@contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Leave a process so many more than it has: the limit is a number that none may reach."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def crowd(address: str) -> Iterator[None]:
    """Strangers who connect and say nothing."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    strangers = []
    for _ in range(CROWD):
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.connect_ex((host, int(port)))
        strangers.append(stranger)
    try:
        yield
    finally:
        for stranger in strangers:
            stranger.close()


@pytest.mark.parametrize("role", ["master", "framework"])
def test_a_crowd_that_takes_all_descriptors_is_survived(cluster: FaultEnv, role: str) -> None:
    """It says so, those who are connected stay, and new ones get in when there is room again."""
    part = next(part for part in cluster.parts if part.name == role)
    remembered = cluster.base / "framework" / "address"
    address = cluster.address if role == "master" else remembered.read_text().strip()
    with few_descriptors(part.pid, 6), crowd(address):
        until(lambda: "file descriptors are in use" in part.text(), "it says so")
        before, began = cpu_s(part.pid), time.monotonic()
        until(lambda: time.monotonic() > began + 2, "two seconds have passed")
        share = (cpu_s(part.pid) - before) / (time.monotonic() - began)
        print(f"{role} without descriptors uses {share:.2f} of a processor")
        assert part.process.poll() is None
        assert "does not answer" not in cluster.agents[0].text()
    until(lambda: cluster.run("submit", "-W", *TASK).returncode == 0, "commands work again")
    until(lambda: "there are file descriptors again" in part.text(), "it says so")


def connected(executor: int) -> bool:
    """Whether an executor is connected to its agent, by the kernel's word."""
    words = Path(f"/proc/{executor}/cmdline").read_text().split("\0")
    name = words[words.index("--socket") + 1].removeprefix("ipc://")
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(len(row) > 7 and row[7].endswith(name) and row[5] == "03" for row in sockets)


def test_an_agent_without_descriptors_says_so(cluster: FaultEnv) -> None:
    """A task that cannot begin fails with the reason, and the next one runs."""
    agent = cluster.agents[0]
    # libzmq ends a process that has no descriptor for who connects by a Unix socket (failure.md).
    until(lambda: any(map(connected, cluster.executor_pids())), "the warm executor is connected")
    with few_descriptors(agent.pid, 0):
        until(lambda: "file descriptors are in use" in agent.text(), "it says so")
        cluster.run("submit", "-W", "-a", "0-5", *TASK)
        assert "no user" not in cluster.ok("tasks", "1", "-o", "json")
        assert agent.process.poll() is None or "no file descriptor is left" in agent.text()
    if agent.process.poll() is not None:
        agent.restart()
    cluster.wait_for_agents(1)
    cluster.ok("submit", "-W", *TASK)


def task_cgroups(env: FaultEnv) -> list[str]:
    """The cgroups of tasks that are there."""
    tops = [CGROUPS / env.cgroup_root, *CGROUPS.glob(f"*/{env.cgroup_root}")]
    return [str(path) for top in tops for path in top.glob("*/*/*.*") if path.is_dir()]


@needs_strace
def test_a_fork_that_fails_fails_its_task_alone(cluster: FaultEnv) -> None:
    """With a reason, its resources back, its cgroup gone, and the next task as if nothing were."""
    cluster.ok("submit", "-W", *TASK)
    executors = cluster.executor_pids()
    spawners = [pid for pid in cluster.named("spawner") if parent_of(pid) in executors]
    assert spawners
    for calls in ("vfork,clone", "clone3"):
        before = len(cluster.json("tasks", "all")["tasks"])
        for pid in spawners:
            with injected(pid, calls, "error=EAGAIN"):
                done = cluster.run("submit", "-W", *TASK)
            assert done.returncode in (0, 125), done.stderr
            assert done.returncode == 0 or "cannot start a process" in done.stderr
        listed = cluster.json("tasks", "all")["tasks"][before:]
        print(calls, [(task["state"], task["reason"]) for task in listed])
    until(lambda: not task_cgroups(cluster), "no cgroup of a task is left")
    agent = cluster.json("agents")["agents"][0]
    assert agent["cpus_used"] == 0 and agent["mem_used"] == 0, agent
    cluster.ok("submit", "-W", *TASK)


@needs_strace
def test_a_daemon_without_threads_says_so(cluster: FaultEnv) -> None:
    """One line and an exit code, no abort; with threads it starts."""
    for part in cluster.parts:
        part.stop()
        cannot_start(cluster, part)
    for part in cluster.parts:
        part.restart()
    cluster.wait_for_agents(1)
    cluster.wait_for_framework()
    cluster.ok("submit", "-W", *TASK)


def cannot_start(cluster: FaultEnv, part: Part) -> None:
    """It ends with one line where no thread can be started."""
    words = ["strace", "-f", "-b", "execve", "-qq", "-o", os.devnull, "-e", "trace=clone3,clone"]
    words += ["-e", "inject=clone3,clone:error=EAGAIN", sys.executable, "-m", "mesosctl"]
    done = subprocess.run(
        [*words, *part.words],
        env=cluster.variables,
        cwd=cluster.base,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "no thread can be started" in last and "ulimit -u" in last
