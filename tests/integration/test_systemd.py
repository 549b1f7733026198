"""The systemd units: that systemd takes them, and that an agent outlives a restart under them.

systemd itself is not needed for the latter: what it does to the agent by these units (one signal
to the main process alone, a socket to say READY=1 to) is done here in its place.
"""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import ClusterEnv, Part, is_alive, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
UNITS = sorted((Path(__file__).resolve().parents[2] / "systemd").glob("*.service"))


def service(name: str) -> configparser.SectionProxy:
    """The section [Service] of a unit."""
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(next(path for path in UNITS if name in path.name))
    return parser["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path) -> None:
    """A misspelt option would only be a warning in some log."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if path.name in line]
    assert not told and done.returncode == 0, done.stderr


def test_the_units_keep_tasks_out_of_it() -> None:
    """These lines are what the promise about tasks stands on."""
    assert len(UNITS) == 3
    agent = service("agent")
    assert (agent["KillMode"], agent["Delegate"], agent["OOMPolicy"]) == (
        "process",
        "yes",
        "continue",
    )
    for name in ("master", "agent", "framework"):
        assert service(name)["Type"] == "notify"
        assert service(name)["Restart"] == "on-failure"
        assert f"mesosctl {name}" in service(name)["ExecStart"]


@contextmanager
def supervisor(env: ClusterEnv) -> Iterator[socket.socket]:
    """Where daemons of this cluster say that they are ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = str(env.base / "notify")
        receiver.bind(path)
        receiver.settimeout(30)
        env.variables["NOTIFY_SOCKET"] = path
        try:
            yield receiver
        finally:
            del env.variables["NOTIFY_SOCKET"]


def restart(agent: Part, receiver: socket.socket) -> None:
    """What `systemctl restart` does by the agent's unit."""
    os.kill(agent.pid, signal.SIGTERM)
    assert receiver.recv(100) == b"STOPPING=1"
    assert agent.process.wait(30) == 0
    agent.restart()
    assert receiver.recv(100) == b"READY=1"


def running(env: ClusterEnv) -> int:
    """How many tasks of the first job run."""
    listed = env.try_json("tasks", "1")
    return sum(task["state"] == "running" for task in listed["tasks"]) if listed else 0


def test_a_restarted_agent_loses_no_task(env: ClusterEnv) -> None:
    """Twice, as an upgrade that had to be taken back would do it."""
    with supervisor(env) as receiver:
        env.master("--no-framework")
        assert receiver.recv(100) == b"READY=1"
        part = env.part("framework", "framework", "--work-dir", str(env.base / "queue"))
        assert receiver.recv(100) == b"READY=1"
        agent = env.agent("cpus:4;mem:1G")
        assert receiver.recv(100) == b"READY=1"
        env.wait_for_framework()
        go = env.files / "go"
        line = f"while [ ! -e {go} ]; do sleep 0.1; done; exit $MESOS_ARRAY_INDEX"
        job = env.popen("submit", "-W", "-c", "0.5", "-m", "32M", "-a", "0-7", "--wrap", line)
        until(lambda: running(env) == 8, "all run")
        executors = env.executor_pids()
        restart(agent, receiver)
        restart(agent, receiver)
        assert set(executors) & set(env.executor_pids())
        # Some end while nobody is there to hear of it.
        os.kill(agent.pid, signal.SIGTERM)
        assert receiver.recv(100) == b"STOPPING=1"
        agent.process.wait(30)
        go.touch()
        agent.restart()
        assert receiver.recv(100) == b"READY=1"
        job.communicate(timeout=60)
        assert job.returncode == 7
        told = [(task["exit_code"], task["attempt"]) for task in env.tasks("1")]
        assert told == [(number, 1) for number in range(8)]
        assert part.process.poll() is None and all(is_alive(one.pid) for one in env.parts)
