"""Disks that say no, or take long: a daemon stops with one line, or waits; nothing told is lost."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

from tests.faults.conftest import FaultEnv
from tests.faults.errors import fill, injected
from tests.integration.conftest import Part, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace (apt install strace)"),
]
ROLES = ("master", "framework", "agent")
FAULTS = (
    ("fdatasync,fsync", "error=EIO"),
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
)
TASK = ("-c", "0.1", "-m", "16M", "--", "true")


def part_of(env: FaultEnv, role: str) -> Part:
    """The daemon of this role."""
    name = env.agents[0].name if role == "agent" else role
    return next(part for part in env.parts if part.name == name)


def make_it_write(env: FaultEnv, role: str) -> str:
    """Something that this daemon has to keep; the id of the job that was acknowledged, if any."""
    if role == "master":
        name = f"late{len(env.agents)}"
        words = ["agent", "--master", env.address, "--name", name, "--resources", "cpus:1;mem:64M"]
        words += ["--work-dir", str(env.base / name), "--cgroup-root", env.cgroup_root]
        env.agents.append(env.part(name, *words))
        return ""
    done = env.run("submit", "--parsable", "--request-timeout", "3s", *TASK)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout.strip()


def stopped(part: Part, since: int) -> None:
    """It ended by itself, with the documented code and one line that says why."""
    assert part.process.wait(30) == 1, part.text()
    lines = part.text()[since:].splitlines()
    errors = [line for line in lines if " error " in line]
    assert len(errors) == 1 and "Traceback" not in part.text(), lines
    assert "did not keep what it was given" in errors[0] and "check the disk" in errors[0]


def all_well(env: FaultEnv, role: str, job: str) -> None:
    """After a start on a disk that works again: what was acknowledged ends, and so does more."""
    part_of(env, role).restart()
    env.wait_for_agents(len(env.agents))
    env.wait_for_framework()
    for known in filter(None, [job, env.ok("submit", "--parsable", *TASK).strip()]):
        env.ok("wait", known)


@pytest.mark.parametrize("role", ROLES)
def test_a_disk_that_fails_stops_its_daemon(cluster: FaultEnv, role: str) -> None:
    """What a disk refused once is not known to be there: nobody goes on without a memory."""
    part = part_of(cluster, role)
    for calls, fault in FAULTS:
        since = len(part.text())
        with injected(part.pid, calls, fault):
            job = make_it_write(cluster, role)
            assert not (job and role == "framework"), "acknowledged what was not kept"
            stopped(part, since)
        all_well(cluster, role, job)


@pytest.mark.root
@pytest.mark.parametrize("role", ROLES)
def test_a_full_disk_stops_its_daemon(env: FaultEnv, role: str) -> None:
    """The real thing, on a file system of one megabyte; with space again all goes on."""
    place = env.base / {"agent": "a1/state"}.get(role, role)
    env.small_disk(place, "size=1m,mode=700")
    env.start()
    part = part_of(env, role)
    known = env.ok("submit", "-W", "--parsable", *TASK).strip()
    since = len(part.text())
    filler = fill(place)
    job = make_it_write(env, role)
    stopped(part, since)
    filler.unlink()
    all_well(env, role, job)
    assert env.tasks(known)[0]["state"] == "ok"


@pytest.mark.root
def test_a_full_sandbox_disk_fails_tasks_not_the_agent(env: FaultEnv) -> None:
    """A task that fills it gets its own error; one that cannot begin says why, with a code."""
    place = env.small_disk(env.base / "a1" / "sandboxes", "size=256k,nr_inodes=30,mode=711")
    env.start()
    size = ("-c", "0.1", "-m", "16M")
    done = env.run("submit", "-W", *size, "--wrap", "head -c 1000000 /dev/zero")
    assert done.returncode == 1, done.stderr
    done = env.run("submit", "-W", *size, "-a", "0-9", "--", "true")
    assert done.returncode == 125 and "No space left" in done.stderr
    for path in place.glob("*/*"):
        shutil.rmtree(path)
    env.ok("submit", "-W", *TASK)
    assert env.agents[0].process.poll() is None


def slow(env: FaultEnv, role: str, delay_s: float) -> str:
    """Have every sync of a daemon take so long while a job runs; what it logged."""
    part = part_of(env, role)
    since = len(part.text())
    with injected(part.pid, "fdatasync,fsync", f"delay_enter={int(delay_s * 1e6)}"):
        job = env.ok("submit", "--parsable", "--request-timeout", "50s", *TASK).strip()
        deadline = time.monotonic() + 100
        while (states := [task["state"] for task in env.tasks(job)]) != ["ok"]:
            assert time.monotonic() < deadline, states
            listed = json.loads(env.ok("agents", "-o", "json"))["agents"]
            assert [agent["state"] for agent in listed] == ["registered"]
            assert all(task["reason"] != "Unreachable" for task in env.tasks(job))
    return part.text()[since:]


@pytest.mark.parametrize("role", ["framework", "agent"])
def test_a_slow_disk_is_waited_for(cluster: FaultEnv, role: str) -> None:
    """Slow is not dead: nobody is given up, and the log says what everybody waits for."""
    assert "for one commit" not in slow(cluster, role, 0.3)
    assert "the disk took 1." in slow(cluster, role, 1.2)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["framework", "agent"])
def test_a_very_slow_disk_is_waited_for(cluster: FaultEnv, role: str) -> None:
    """Five seconds a sync are a heartbeat; three of them in a row are silence."""
    assert "the disk took 5." in slow(cluster, role, 5.0)


@pytest.mark.parametrize("pause_s", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_pause_longer_than_the_timeout_loses_nothing(env: FaultEnv, pause_s: int) -> None:
    """A stopped process wakes into a world that has gone on without it."""
    env.start("cpus:4;mem:2G", "--agent-timeout", "2s")
    for role in ROLES:
        part = part_of(env, role)
        flag = env.files / f"{role}-woke"
        line = f"until [ -e {flag} ]; do sleep 0.05; done"
        job = env.popen("submit", "-W", "--parsable", "-a", "0-3", *TASK[:-2], "--wrap", line)
        until(lambda: "running" in env.run("tasks", "all").stdout, "it runs")
        part.process.send_signal(signal.SIGSTOP)
        if role == "agent":
            until(lambda: "Unreachable" in env.run("tasks", "all").stdout, "it is missed")
        else:
            stopped_at = time.monotonic()
            until(lambda: time.monotonic() > stopped_at + pause_s, "the pause is over")  # noqa: B023
        part.process.send_signal(signal.SIGCONT)
        flag.touch()
        done = env.tasks(env.finish(job).strip())
        assert [(task["state"], task["attempt"]) for task in done] == [("ok", 1)] * 4
