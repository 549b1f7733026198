"""Hosts taken out of use, with real processes: drained under jobs, declared dead, back again.

As in the tests of kill -9, each task holds a lock on a file of its own while it lives and notes its
starts and ends there, so that two attempts at once show whatever the cluster itself says.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

from tests.integration.conftest import ClusterEnv, Part, is_alive, parent_of, until
from tests.integration.test_kill_nine import SCRIPT, read, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
LONG_S = 600.0


def two_agents(env: ClusterEnv) -> tuple[Part, Part]:
    """A cluster with two agents, each of which has room for all tasks of these tests."""
    env.start("cpus:2;mem:1G")
    env.agent("cpus:2;mem:1G", name="a2")
    return env.agents[0], env.agents[1]


def submit(env: ClusterEnv, seconds: float, *more: str) -> str:
    """Queue a job of the noting script; its id."""
    script = env.base / "task.sh"
    script.write_text(SCRIPT)
    words = ["submit", "--parsable", "-c", "1", "-m", "32M", *more]
    return env.ok(*words, str(script), str(env.files), str(seconds)).strip()


def state_of(env: ClusterEnv, name: str) -> dict[str, Any]:
    """An agent as `mesosctl agents --all` lists it."""
    listed = env.json("agents", "--all")["agents"]
    return next(agent for agent in listed if agent["name"] == name)


def runs_on(env: ClusterEnv, job: str, name: str, attempt: int = 1) -> dict[str, Any] | None:
    """The job's only task, once it runs there as this attempt."""
    [task] = env.tasks(job)
    there = task["state"] == "running" and task["agent"] == name and task["attempt"] == attempt
    return task if there else None


def on_first(env: ClusterEnv, seconds: float = LONG_S, *more: str) -> str:
    """A job of one task that runs on a1, because a2 is out of use while it is placed."""
    env.ok("deactivate", "a2")
    job = submit(env, seconds, "-a", "0", *more)
    until(lambda: runs_on(env, job, "a1"), "the task runs on a1")
    until(lambda: 0 in read(env.files), "it has noted its start")
    env.ok("undrain", "a2")
    return job


def wait_for_drain(env: ClusterEnv, command: subprocess.Popen[str]) -> str:
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    return out + err


def test_a_job_moves_to_another_agent_at_the_deadline(env: ClusterEnv) -> None:
    """It is told beforehand, ended with its grace, and run again; nothing of it is counted."""
    two_agents(env)
    job = on_first(env)
    drain = env.popen("drain", "a1", "--deadline", "5s", "--reason", "kernel", "--wait")
    task = until(
        lambda: next((t for t in env.tasks(job) if t["reason"] == "Draining"), None),
        "the task shows that its agent is drained",
    )
    assert task["ends_by"] is not None and "run again elsewhere" in task["message"]
    assert "on agents that are drained" in env.ok("status", job)
    assert "a1: drained" in wait_for_drain(env, drain)
    until(lambda: runs_on(env, job, "a2", 2), "it runs on a2")
    until(lambda: len(read(env.files)[0].starts) == 2, "it has noted its second start")
    assert (state_of(env, "a1")["state"], state_of(env, "a1")["reason"]) == ("drained", "kernel")
    env.ok("undrain", "a1")
    assert state_of(env, "a1")["state"] == "registered"
    env.ok("kill", job)
    assert running(read(env.files)) == [0]


@pytest.mark.parametrize(
    "victims", [("master", "framework"), pytest.param(("agent",), marks=pytest.mark.slow)]
)
def test_a_drain_survives_a_kill_in_its_middle(env: ClusterEnv, victims: tuple[str, ...]) -> None:
    """The deadline comes whoever was killed meanwhile, and the job moves all the same."""
    first, _ = two_agents(env)
    job = on_first(env)
    env.ok("drain", "a1", "--deadline", "6s")
    for victim in victims:
        kill_and_restart(env, victim, first)
    until(lambda: state_of_or_none(env, "a1") == "drained", "a1 is drained", limit_s=120)
    until(lambda: runs_on(env, job, "a2", 2), "the task runs on a2")
    assert state_of(env, "a1")["mode"] == "draining"
    env.ok("kill", job)


def state_of_or_none(env: ClusterEnv, name: str) -> str:
    answer = env.try_json("agents")
    listed = answer["agents"] if answer else []
    return next((str(one["state"]) for one in listed if one["name"] == name), "")


def kill_and_restart(env: ClusterEnv, victim: str, agent: Part) -> None:
    """kill -9 of a process, started again where nobody else sees to it."""
    if victim == "framework":
        os.kill(env.framework_pid(), signal.SIGKILL)
        return
    part = env.parts[0] if victim == "master" else agent
    part.kill_nine()
    part.restart()


def test_a_drain_without_a_deadline_lets_tasks_finish(env: ClusterEnv) -> None:
    """And `--wait` ends when they have."""
    two_agents(env)
    job = on_first(env, 3.0)
    drain = env.popen("drain", "a1", "--wait")
    assert "a1: drained" in wait_for_drain(env, drain)
    [task] = env.tasks(job)
    assert (task["state"], task["attempt"], task["exit_code"]) == ("ok", 1, 0)


def test_gone_frees_the_tasks_of_a_host_that_is_dead(env: ClusterEnv) -> None:
    """All of it is killed as by a power cut; the operator's word moves the job."""
    first, _ = two_agents(env)
    job = on_first(env)
    executor = env.busy_executor()
    first.kill_nine()
    end_host(env, executor)
    until(lambda: state_of(env, "a1")["state"] == "unreachable", "the master misses a1")
    assert env.run("gone", "a1").returncode == 2
    env.ok("gone", "a1", "-y", "--reason", "burnt")
    until(lambda: runs_on(env, job, "a2", 2), "the task runs on a2")
    assert state_of(env, "a1")["state"] == "gone"
    env.ok("kill", job)
    comes_back_as_new(env, first)


def test_a_gone_agent_that_returns_ends_its_tasks(env: ClusterEnv) -> None:
    """The operator was wrong, the host lives: its task ends as soon as the master can say so."""
    first, _ = two_agents(env)
    job = on_first(env, LONG_S, "--once")
    first.kill_nine()
    until(lambda: state_of(env, "a1")["state"] == "unreachable", "the master misses a1")
    spawner = env.busy_spawner()
    env.ok("gone", "a1", "-y")
    until(lambda: env.tasks(job)[0]["state"] == "lost", "the task is lost")
    assert env.tasks(job)[0]["reason"] == "AgentGone"
    assert is_alive(spawner)
    first.restart()
    assert first.process.wait(60) == 5
    assert "--recover cleanup" in first.text().splitlines()[-1]
    until(lambda: not is_alive(spawner), "what it ran is gone")
    assert running(read(env.files)) == [0]
    comes_back_as_new(env, first)


def end_host(env: ClusterEnv, executor: int) -> None:
    """Kill an executor and all below it at once."""
    found = env.processes()
    doomed = [executor]
    for pid in doomed:
        doomed += [child for child in found if child not in doomed and parent_of(child) == pid]
    for pid in reversed(doomed):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def comes_back_as_new(env: ClusterEnv, part: Part) -> None:
    """Refused with its old state, the host joins after a clean-up, under another id."""
    gone = state_of(env, "a1")["id"]
    if part.process.poll() is None or part.process.returncode != 5:
        part.restart()
        assert part.process.wait(60) == 5
    cleaner = Part(env, f"{part.name}-after-gone", [*part.words, "--recover", "cleanup"])
    assert cleaner.process.wait(60) == 0, cleaner.text()
    part.restart()

    def is_back() -> bool:
        listed = env.json("agents")["agents"]
        return any(
            one["name"] == "a1" and one["state"] == "registered" and one["id"] != gone
            for one in listed
        )

    until(is_back, "it is back as a new agent")
