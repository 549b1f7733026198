"""Executors of a framework's own as real processes: one that does its work, and hostile ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import ExecutorLaunch, KillTasks, TaskKill
from tests.integration.conftest import ROOT, ClusterEnv, until
from tests.integration.played_agent import FRAMEWORK, MIB, Agent, is_alive, playing, why_no_cgroups

pytestmark = pytest.mark.integration
STRANGE = str(Path(__file__).with_name("strange_executor.py"))
EXAMPLES = ROOT / "examples" / "framework"
PLACES = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")


@pytest.fixture(params=["cgroups", "posix"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    """An executor process of ours that has registered, once under cgroups and once without."""
    if request.param == "cgroups" and (problem := why_no_cgroups()):
        pytest.skip(problem)
    with playing(tmp_path, request.param) as made:
        yield made


def own(agent: Agent, *argv: str, mem: int = 64) -> ExecutorLaunch:
    """The task that is an executor, of some Python program."""
    made = agent.launch("own", sys.executable, *argv, mem=mem, cpus_milli=500, grace_s=0.5)
    return replace(made, task=replace(made.task, is_executor=True))


def of_it(agent: Agent, name: str, *argv: str, data: bytes | None = None) -> ExecutorLaunch:
    """A task for it."""
    made = agent.launch(name, *argv, mem=64, cpus_milli=500, grace_s=0.5)
    return replace(made, task=replace(made.task, executor="own", data=data))


def limit_bytes(agent: Agent) -> int:
    """The memory limit of the executor's container; 0 where no kernel keeps one."""
    for place in PLACES:
        for name in ("memory.limit_in_bytes", "memory.max"):
            for path in Path(place).glob(f"*/{agent.agent_id}/{FRAMEWORK}/own/{name}"):
                return int(path.read_text())
    return 0


def state(agent: Agent, name: str, wanted: TaskState) -> None:
    agent.until(lambda: agent.state(name) is wanted, f"{name} is never {wanted}")


def test_the_example_does_tasks_itself_and_in_containers(agent: Agent) -> None:
    """What is shipped as an example has to work, with limits, exit codes and output of a task."""
    agent.run(
        own(agent, str(EXAMPLES / "executor.py")),
        of_it(agent, "words", data=b"one two two"),
        of_it(agent, "more", data=b"two three"),
        of_it(agent, "run", "sh", "-c", "echo $MESOSCTL_CONTAINER; exit 7"),
        of_it(agent, "long", "sleep", "600"),
    )
    assert agent.end("words").message.startswith("3 words, 2 of them new")
    assert agent.end("more").message.startswith("2 words, 1 of them new")
    run = agent.end("run")
    assert (run.state, run.exit_code) == (TaskState.FAILED, 7)
    assert agent.output("run") == "f1/run\n"
    state(agent, "long", TaskState.RUNNING)
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("own")),)))
    assert agent.end("own").state is TaskState.KILLED
    long = agent.end("long")
    assert (long.state, long.reason) == (TaskState.GONE, Reason.EXECUTOR_TERMINATED)


def test_its_container_has_room_for_its_tasks_and_no_more(agent: Agent) -> None:
    """The task brings the memory that is used for it, and takes it along again."""
    agent.run(own(agent, STRANGE, "hungry", mem=40))
    state(agent, "own", TaskState.RUNNING)
    kept = limit_bytes(agent)
    assert kept in (0, 40 * MIB)
    agent.run(of_it(agent, "t1"))
    assert agent.end("t1").message == f"{48 * MIB} bytes"
    agent.until(lambda: limit_bytes(agent) == kept, "the room is not taken back")
    # Where memory is sampled, that is done several times by now.
    agent.pump(0.7)
    assert agent.state("own") is TaskState.RUNNING


def test_a_kill_that_it_ignores_ends_it(agent: Agent) -> None:
    """Grace is a promise to whoever asked, not to the executor."""
    agent.run(own(agent, STRANGE, "hold"), of_it(agent, "t1"), of_it(agent, "t2"))
    for name in ("t1", "t2"):
        state(agent, name, TaskState.RUNNING)
    assert limit_bytes(agent) in (0, 192 * MIB)
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("t1"), grace_s=0.3),)))
    assert agent.end("t1").state is TaskState.KILLED
    ended = agent.end("own")
    assert (ended.state, ended.reason) == (TaskState.FAILED, Reason.EXECUTOR_TERMINATED)
    assert ended.message == "ended: it did not end task t1 in time"
    t2 = agent.end("t2")
    assert t2.state is TaskState.GONE
    assert t2.message == f"its executor own ended: {ended.message}"


def test_hostile_ones_harm_nobody(agent: Agent) -> None:
    """Whatever they send, the framework's other tasks go on and their ends are their own."""
    agent.run(agent.launch("other", "sleep", "600", cpus_milli=100))
    state(agent, "other", TaskState.RUNNING)
    expected = {
        "lie": (TaskState.FINISHED, "]0;title done"),
        "flood": (TaskState.DROPPED, ""),
        "steal": (TaskState.DROPPED, ""),
        "die": (TaskState.GONE, "its executor die ended: exit code 5"),
    }
    for mode in expected:
        made = agent.launch(mode, sys.executable, STRANGE, mode, mem=64, cpus_milli=500)
        agent.run(replace(made, task=replace(made.task, is_executor=True)))
        state(agent, mode, TaskState.RUNNING)
    task = of_it(agent, "t-lie")
    agent.run(replace(task, task=replace(task.task, executor="lie")))
    task = of_it(agent, "t-die")
    agent.run(replace(task, task=replace(task.task, executor="die")))
    assert (agent.end("t-lie").state, agent.end("t-lie").message) == expected["lie"]
    assert (agent.end("t-die").state, agent.end("t-die").message) == expected["die"]
    flood = agent.end("flood")
    assert "20 of its messages were out of place" in flood.message
    agent.until(lambda: "not-permitted" in agent.output("steal"), "it is not turned away")
    assert agent.state("other") is TaskState.RUNNING
    plain = agent.launch("plain", "true")
    agent.run(plain)
    assert agent.end("plain").state is TaskState.FINISHED
    agent.send(
        KillTasks(
            FRAMEWORK, tuple(TaskKill(TaskId(n), grace_s=0.0) for n in ("lie", "steal", "other"))
        )
    )
    for name in ("lie", "steal", "other"):
        assert agent.end(name).state is TaskState.KILLED


def test_a_whole_cluster_runs_the_example(env: ClusterEnv) -> None:
    """Scheduler and executor, an agent that dies meanwhile, and nothing left in the end."""
    env.master("--no-framework")
    part = env.agent("cpus:1;mem:512M")
    flag = env.files / "go"
    lines = ["one two", f"!until [ -e {flag} ]; do sleep 0.05; done; exit 4", "two three"]
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "words.py")],
        env=env.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=env.base,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n".join(lines))
        process.stdin.close()
        counted = [process.stdout.readline() for _ in range(2)]
        assert [line.partition(" to ")[0] for line in counted] == [
            "finished: 2 words, 2 of them new",
            "finished: 2 words, 1 of them new",
        ]
        executor = until(lambda: env.named(str(EXAMPLES / "executor.py")), "there is no executor")
        part.kill_nine()
        part.restart()
        env.wait_for_agents(1)
        assert is_alive(executor[0])
        flag.touch()
        assert process.stdout.readline().startswith("failed: exit code 4")
        assert process.wait(60) == 0
    until(lambda: not is_alive(executor[0]), "the executor outlives its framework")


@pytest.mark.root
def test_the_socket_is_for_its_user_alone(agent: Agent) -> None:
    """Somebody else's task on the same host does not even get as far as being turned away."""
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no Python that every user can start")
    for parent in (agent.base, *agent.base.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    code = (
        "import os, socket, sys, signal\n"
        "os.chdir(sys.argv[1])\n"
        "door = socket.socket(socket.AF_UNIX)\n"
        "door.connect('executor.sock')\n"
        "print(len(door.recv(10)), flush=True)\n"
        "signal.pause()"
    )
    sandbox = str(agent.base / "own")
    made = agent.launch("own", python, "-c", code, sandbox, grace_s=0.1, user="nobody")
    # As the agent makes them.
    (agent.base / "own").chmod(0o700)
    agent.run(replace(made, task=replace(made.task, is_executor=True)))
    agent.until(lambda: (agent.base / "own" / "stdout").exists(), "it does not start")
    agent.until(lambda: agent.output("own") == "10\n", "it does not get in")
    agent.run(agent.launch("thief", python, "-c", code, sandbox, user="daemon"))
    assert agent.end("thief").state is TaskState.FAILED
    assert "PermissionError" in agent.output("thief", "stderr")
    # Nor is a task of somebody else handed to it.
    task = agent.launch("t1", "true")
    agent.run(replace(task, task=replace(task.task, executor="own")))
    assert agent.end("t1").message == "never started: its executor own runs as another user"
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("own"), grace_s=0.0),)))
    assert agent.end("own").state is TaskState.KILLED
