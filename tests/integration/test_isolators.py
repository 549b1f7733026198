"""What tasks ask for beside CPUs and memory, on real executors and through a whole cluster."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesosctl.isolation.namespaces import may_unshare
from mesosctl.model.ids import TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import ExecutorLaunch, KillTasks, TaskKill
from tests.integration.conftest import ROOT, ClusterEnv
from tests.integration.played_agent import FRAMEWORK, Agent, playing

pytestmark = pytest.mark.integration

SEATS = ROOT / "examples" / "isolator" / "src"
namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not may_unshare(), reason="needs root with CAP_SYS_ADMIN"
)


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An executor with all that this host has, its sandboxes where a private /tmp hides none."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mesosctl-it-") as base:
        Path(base).chmod(0o755)
        with playing(Path(base), "auto") as made:
            yield made


def asking(launch: ExecutorLaunch, more: str = "", **fields: object) -> ExecutorLaunch:
    """The same task with more resources or wishes."""
    resources = launch.task.resources + Resources.parse(more) if more else launch.task.resources
    task = replace(launch.task, resources=resources, **fields)  # type: ignore[arg-type]
    return replace(launch, task=task)


def test_a_task_above_its_disk_limit_is_ended(agent: Agent) -> None:
    """With a reason of its own and both figures; what came too late is noted instead."""
    fill = "dd if=/dev/zero of=big bs=1M count=8 2>/dev/null; sync"
    agent.run(
        asking(agent.launch("big", "sh", "-c", f"{fill}; exec sleep 60"), "disk:2"),
        asking(agent.launch("late", "sh", "-c", fill), "disk:2"),
        asking(agent.launch("small", "sh", "-c", fill), "disk:64"),
    )
    big = agent.end("big")
    assert (big.state, big.reason, big.signal) == (TaskState.FAILED, Reason.DISK_LIMIT, 9)
    assert big.message.startswith("disk limit exceeded: limit 2 MiB, peak ")
    assert big.usage is not None and big.usage.disk_limit_bytes == 2 << 20
    late = agent.end("late")
    if late.reason is not Reason.DISK_LIMIT:
        assert late.exit_code == 0 and "above limit 2 MiB, not enforced in time" in late.message
    small = agent.end("small")
    assert (small.state, small.message) == (TaskState.FINISHED, "")
    assert small.usage is not None and small.usage.disk_peak_bytes >= 8 << 20
    assert small.usage.switches > 0


def test_what_cannot_be_given_refuses_the_task(agent: Agent) -> None:
    """Without its limit it must not run at all, not even for a moment."""
    tries = {
        "gpu": asking(agent.launch("gpu", "touch", "started"), "gpus:1"),
        "core": asking(agent.launch("core", "touch", "started", mem=64), rlimits={"core": (1, 1)}),
        "file": asking(agent.launch("file", "touch", "started"), rlimits={"files": (1, 1)}),
    }
    agent.run(*tries.values())
    for name in tries:
        end = agent.end(name)
        assert (end.state, end.reason) == (TaskState.FAILED, Reason.LIMIT_UNAVAILABLE), name
        assert end.message and "\n" not in end.message
        assert not (agent.base / name / "started").exists()


def test_ports_and_rlimits_arrive(agent: Agent) -> None:
    """The helper becomes the task: its exit code, its variables, its limits."""
    script = 'ulimit -Sn; ulimit -Hn; echo "$MESOS_PORTS $MESOS_PORT1 $MINE"; exit 3'
    launch = agent.launch("t", "sh", "-c", script, env={"MINE": "a b"})
    agent.run(asking(launch, "ports:[31000-31001]", rlimits={"nofile": (50, 60)}))
    assert agent.end("t").exit_code == 3
    assert agent.output("t").splitlines() == ["50", "60", "31000,31001 31001 a b"]


@pytest.mark.root
@namespaces
def test_namespaces_of_another_user(agent: Agent) -> None:
    """The helper has root's rights until they are needed no more; nothing of them is left."""
    script = (
        "id -u; id -G; grep -hE '^(Cap(Prm|Eff|Inh|Amb)|NoNewPrivs)' /proc/self/status; "
        "ls /tmp | wc -l; touch /tmp/mine; ls -d /proc/[0-9]* | wc -l; ls /proc/self/fd | wc -l"
    )
    launch = agent.launch("t", "sh", "-c", script, user="nobody")
    agent.run(asking(launch, private=("tmp", "pids"), rlimits={"nproc": (500, 500)}))
    end = agent.end("t")
    assert end.state is TaskState.FINISHED, (end, agent.output("t", "stderr"))
    entry = pwd.getpwnam("nobody")
    uid, groups, *caps, seen, shown, descriptors = agent.output("t").splitlines()
    assert (uid, groups) == (str(entry.pw_uid), str(entry.pw_gid))
    assert [line.split()[1].strip("0") for line in caps] == ["", "", "", "", "1"]
    # `ls` has its own descriptor for the directory beside the three streams.
    assert seen == "0" and int(shown) <= 5 and descriptors == "4"
    assert (agent.base / "t" / "tmp" / "mine").stat().st_uid == entry.pw_uid
    assert not Path("/tmp/mine").exists()


@pytest.mark.root
@namespaces
def test_the_helper_opens_nothing_with_roots_rights(agent: Agent) -> None:
    """Directory and streams are the user's affair, also where the helper starts as root."""
    forbidden = agent.base / "forbidden"
    forbidden.mkdir(mode=0o700)
    out = str(forbidden / "out")
    agent.run(
        asking(agent.launch("out", "true", user="nobody", stdout=out), private=("pids",)),
        asking(agent.launch("cwd", "true", user="nobody", cwd=str(forbidden)), private=("pids",)),
    )
    for name in ("out", "cwd"):
        end = agent.end(name)
        assert (end.state, end.reason) == (TaskState.FAILED, Reason.LAUNCH_FAILED)
        assert "Permission denied" in end.message
    assert list(forbidden.iterdir()) == []


@pytest.mark.root
@namespaces
def test_a_kill_reaches_into_a_pid_namespace(agent: Agent) -> None:
    """Processes that hide in it from everybody are in the container all the same."""
    deaf = "trap '' TERM; setsid sleep 61 & setsid sleep 62 & echo up; while :; do sleep 1; done"
    agent.run(asking(agent.launch("t", "sh", "-c", deaf, grace_s=0.2), private=("pids",)))
    agent.until(lambda: (agent.base / "t" / "stdout").exists() and agent.output("t"), "it is up")
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("t")),)))
    end = agent.end("t")
    assert (end.state, end.signal) == (TaskState.KILLED, 9)


def test_a_plug_in_through_a_whole_cluster(env: ClusterEnv) -> None:
    """Named to the agent, loaded by executor and guard; its resource is offered and handed out."""
    env.master()
    env.variables["PYTHONPATH"] += os.pathsep + str(SEATS)
    name = "mesosctl_seats:Seats"
    env.agent("cpus:2;mem:1G;seats:2", "--isolation", f"auto,{name}")
    env.wait_for_framework()
    (listed,) = env.json("agents")["agents"]
    assert listed["isolation"][-1] == name
    assert "a program may use a seat that it was not given (site/seats)" in listed["not_enforced"]
    script = f'mkdir "{env.files}/$SEATS" && sleep 0.1 && rmdir "{env.files}/$SEATS"'
    size = ["-c", "0.1", "-m", "32M", "--resources", "seats:1"]
    env.ok("submit", "-W", *size, "-a", "0-11", "--", "sh", "-c", script)
    assert list(env.files.iterdir()) == []
    done = env.run(
        "submit", "-W", "-c", "0.1", "-m", "32M", "--resources", "seats:0.5", "--", "true"
    )
    assert done.returncode != 0 and "half a seat is no seat" in done.stderr


def test_wishes_through_a_whole_cluster(env: ClusterEnv) -> None:
    """From the command line of `submit` and of `run` to the task."""
    env.start("cpus:2;mem:1G;disk:100;ports:[31000-31003]")
    script = f'echo "$MESOS_PORTS $(ulimit -n)" >> {env.files}/said'
    words = ["-c", "0.5", "-m", "32M", "--disk", "4M", "--resources", "ports:[31002-31003]"]
    words += ["--ulimit", "nofile=99", "--", "sh", "-c", script]
    env.ok("submit", "-W", "-a", "0-2", *words)
    env.ok("run", *words)
    assert (env.files / "said").read_text() == "31002,31003 99\n" * 4
    fill = "dd if=/dev/zero of=big bs=1M count=8 2>/dev/null; sync; exec sleep 60"
    done = env.run("run", "--sandbox", "-m", "32M", "--disk", "1M", "--", "sh", "-c", fill)
    assert done.returncode == 137 and "disk limit exceeded" in done.stderr
