"""The executor as a real process, with real tasks; the test plays its agent over ipc."""

from __future__ import annotations

import functools
import getpass
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import (
    KillTasks,
    ShutdownExecutor,
    TaskKill,
)
from mesosctl.protocol.messages.streams import StdinTaken, WriteStdin
from tests.integration.played_agent import (
    FRAMEWORK,
    MIB,
    PATIENCE_S,
    Agent,
    is_alive,
    playing,
    spawner_of,
    why_no_cgroups,
)

pytestmark = pytest.mark.integration


@pytest.fixture(params=["cgroups", "posix"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    """An executor process that has registered, once under cgroups and once without."""
    if request.param == "cgroups" and (problem := why_no_cgroups()):
        pytest.skip(problem)
    with playing(tmp_path, request.param) as made:
        yield made


def test_exit_codes_and_signals(agent: Agent) -> None:
    """What a shell script ends with is what its owner is told, with when it began and its cost."""
    agent.run(
        agent.launch("zero", "true"),
        agent.launch("seven", "sh", "-c", "echo out; echo err >&2; exit 7"),
        agent.launch("segv", "sh", "-c", "kill -SEGV $$"),
        agent.launch("none", "no-such-command-here"),
        agent.launch("dir", "/etc"),
    )
    zero = agent.end("zero")
    assert (zero.state, zero.exit_code) == (TaskState.FINISHED, 0)
    assert zero.started_at is not None and zero.started_at <= zero.at
    assert zero.usage is not None and zero.usage.cpu_user_s + zero.usage.cpu_system_s < 1
    seven = agent.end("seven")
    assert (seven.state, seven.reason, seven.exit_code) == (TaskState.FAILED, Reason.EXITED, 7)
    assert (agent.output("seven"), agent.output("seven", "stderr")) == ("out\n", "err\n")
    segv = agent.end("segv")
    assert (segv.state, segv.reason, segv.signal) == (TaskState.FAILED, Reason.SIGNALED, 11)
    none = agent.end("none")
    assert (none.reason, none.exit_code) == (Reason.LAUNCH_FAILED, 127)
    assert "PATH=" in none.message and none.started_at is None
    assert agent.end("dir").exit_code == 126


def test_the_environment_is_exactly_what_was_asked_for(agent: Agent) -> None:
    """Nothing of the executor's own environment may leak into a task."""
    agent.run(agent.launch("env", "env", env={"MINE": "1", "HOME": "/elsewhere"}))
    agent.end("env")
    lines = dict(line.split("=", 1) for line in agent.output("env").splitlines())
    sandbox = str(agent.base / "env")
    assert {key: lines[key] for key in ("MINE", "HOME", "MESOS_SANDBOX", "TMPDIR")} == {
        "MINE": "1",
        "HOME": "/elsewhere",
        "MESOS_SANDBOX": sandbox,
        "TMPDIR": f"{sandbox}/tmp",
    }
    known = {"PATH", "USER", "LOGNAME", "SHELL", "MESOS_TASK"}
    known |= {"MESOSCTL_CONTAINER", "MESOSCTL_AGENT_ID"}
    assert set(lines) - {"MINE", "HOME", "MESOS_SANDBOX", "TMPDIR"} == known
    assert lines["MESOSCTL_CONTAINER"] == "f1/env"
    assert (agent.base / "env" / "tmp").is_dir()


def test_a_script_runs_with_its_arguments(agent: Agent) -> None:
    """The captured text runs, and a name chosen by a user leads nowhere else."""
    text = b'#!/bin/sh\necho "$0 $*"; pwd\n'
    agent.run(
        agent.launch("s1", "a", "b c", script=text, script_name="job.sh"),
        agent.launch("s2", script=text, script_name="../../evil"),
    )
    assert agent.end("s1").state is TaskState.FINISHED
    sandbox = agent.base / "s1"
    assert agent.output("s1") == f"{sandbox}/job.sh a b c\n{sandbox}\n"
    assert agent.end("s2").state is TaskState.FINISHED
    assert agent.output("s2").startswith(f"{agent.base}/s2/script")


@pytest.mark.root
def test_another_user_is_really_that_user(agent: Agent) -> None:
    """A task of nobody must have nobody's ids, files and home, and its script be his."""
    for parent in (agent.base, *agent.base.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    agent.run(agent.launch("who", script=b"id -un; id -u > own; echo $HOME\n", user="nobody"))
    assert agent.end("who").state is TaskState.FINISHED, agent.end("who").message
    entry = pwd.getpwnam("nobody")
    assert agent.output("who") == f"nobody\n{entry.pw_dir}\n"
    assert (agent.base / "who" / "own").stat().st_uid == entry.pw_uid
    assert (agent.base / "who" / "script").stat().st_uid == entry.pw_uid


def test_an_unknown_user_is_said(agent: Agent) -> None:
    """It must never run as somebody else instead."""
    agent.run(agent.launch("who", "true", user="no-such-user"))
    end = agent.end("who")
    assert (end.state, end.reason) == (TaskState.FAILED, Reason.LAUNCH_FAILED)
    assert "no user 'no-such-user'" in end.message
    assert getpass.getuser() not in end.message


def test_a_memory_limit_is_told_with_its_figures(agent: Agent) -> None:
    """Whoever is out of memory wants to know how much there was."""
    hog = "x = bytearray(400 * 2**20)\nimport time\ntime.sleep(30.0 / 1.0)"
    agent.run(agent.launch("hog", sys.executable, "-c", hog, mem=64))
    end = agent.end("hog")
    assert (end.state, end.reason, end.signal) == (TaskState.FAILED, Reason.MEMORY_LIMIT, 9)
    assert end.message.startswith("memory limit exceeded: limit 64 MiB, peak ")
    assert end.usage is not None and end.usage.mem_peak_bytes >= 60 * MIB


def test_a_time_limit_ends_everything(agent: Agent) -> None:
    """It counts from the start and spares nobody."""
    agent.run(agent.launch("slow", "sh", "-c", "sleep 60 & sleep 60", time_limit_s=0.3))
    end = agent.end("slow")
    assert (end.state, end.reason) == (TaskState.FAILED, Reason.TIME_LIMIT)
    assert end.started_at is not None and end.at - end.started_at >= 0.3


def test_what_ignores_term_is_killed_with_all_it_started(agent: Agent) -> None:
    """A daemon that forked twice into a session of its own is part of the task all the same."""
    script = b"""trap '' TERM
( setsid sh -c 'trap "" TERM; echo $$ > daemon; while :; do sleep 0.1; done' & )
while [ ! -s daemon ]; do sleep 0.02; done
touch up
while :; do sleep 0.1; done
"""
    agent.run(agent.launch("deaf", script=script, grace_s=0.4))
    agent.until((agent.base / "deaf" / "up").exists, "the task does not come up")
    agent.send(KillTasks(FRAMEWORK, (TaskKill(TaskId("deaf")),)))
    agent.until(lambda: agent.state("deaf") is TaskState.KILLING, "no word of the kill")
    asked = agent.updates["deaf"].at
    end = agent.end("deaf")
    assert (end.state, end.signal) == (TaskState.KILLED, 9)
    assert end.at - asked >= 0.4
    pid = int((agent.base / "deaf" / "daemon").read_text())
    assert not is_alive(pid)


def test_nothing_lives_when_the_end_is_told(agent: Agent) -> None:
    """A task that leaves a child behind must not go on charging its agent."""
    script = b"sleep 61 &\necho $! > left\nexit 3\n"
    agent.run(agent.launch("left", script=script))
    end = agent.end("left")
    pid = int((agent.base / "left" / "left").read_text())
    assert end.exit_code == 3
    assert not is_alive(pid)


def test_stdin_flows_with_back_pressure(agent: Agent) -> None:
    """All of it arrives, in order, however slowly the task reads."""
    data = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    script = b"sleep 0.2; wc -l; echo done\n"
    agent.run(agent.launch("count", script=script, stdin="stream"))
    chunk, window = 40_000, 200_000
    sent = 0
    while sent < len(data):
        seen = agent.taken.get("count")
        taken = 0 if seen is None else seen.offset
        assert taken <= sent
        if sent - taken >= window:
            agent.pump(0.02)
            continue
        part = data[sent : sent + chunk]
        sent += len(part)
        agent.send(WriteStdin(FRAMEWORK, TaskId("count"), sent - len(part), part))
        agent.pump(0)
    agent.send(WriteStdin(FRAMEWORK, TaskId("count"), sent, b"", eof=True))
    assert agent.end("count").state is TaskState.FINISHED
    assert agent.output("count").split() == ["100000", "done"]
    assert agent.taken["count"] == StdinTaken(FRAMEWORK, TaskId("count"), len(data), True)


def have_ended(agent: Agent, enough: int) -> bool:
    """Whether so many tasks have ended."""
    return sum(update.is_terminal for update in agent.updates.values()) >= enough


def test_the_death_of_the_spawner_costs_no_task(agent: Agent) -> None:
    """Each of fifty tasks ends with its own code and was started once, whatever dies between."""
    record = agent.base / "record"
    launches = [
        agent.launch(f"t{index}", "sh", "-c", f"echo {index} >> {record}; exit {index}")
        for index in range(50)
    ]
    agent.run(agent.launch("long", "sh", "-c", "sleep 1.5; exit 77"), *launches[:10])
    for first in range(10, 50, 10):
        enough = first - 5
        agent.until(functools.partial(have_ended, agent, enough), "tasks do not end")
        os.kill(spawner_of(agent), signal.SIGKILL)
        agent.run(*launches[first : first + 10])
    for index in range(50):
        end = agent.end(f"t{index}")
        assert (end.exit_code, end.signal) == (index, None), end
    assert agent.end("long").exit_code == 77
    started = sorted(int(line) for line in record.read_text().split())
    assert started == list(range(50))


def test_a_new_agent_hears_what_the_old_one_did_not_acknowledge(agent: Agent) -> None:
    """Tasks outlive their agent, and no end is lost with it."""
    agent.run(agent.launch("first", "true"))
    agent.end("first")
    agent.pump(0.05)
    agent.acknowledges = False
    agent.run(
        agent.launch("second", "sh", "-c", "exit 2"),
        agent.launch("third", "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; exit 3"),
    )
    agent.end("second")
    agent.until(lambda: agent.state("third") is TaskState.RUNNING, "third does not start")
    agent.die()
    (agent.base / "third" / "go").touch()
    agent.updates.clear()
    agent.hellos.clear()
    agent.bind()
    agent.acknowledges = True
    agent.until(lambda: agent.hellos, "does not come back")
    told = {str(update.task_id): update for update in agent.hellos[0].updates}
    assert "first" not in told
    assert told["second"].exit_code == 2
    assert agent.hellos[0].framework_id == FRAMEWORK
    assert agent.end("third").exit_code == 3


def test_the_same_launch_twice_is_one(agent: Agent) -> None:
    """An agent that restarted may order again what runs already."""
    launch = agent.launch("once", "sh", "-c", "echo x >> count; sleep 0.2")
    agent.run(launch)
    agent.until(lambda: agent.state("once") is TaskState.RUNNING, "does not start")
    agent.run(launch)
    agent.end("once")
    agent.pump(0.1)
    assert (agent.base / "once" / "count").read_text() == "x\n"
    assert sum(update.is_terminal for update in agent.history) == 1


def test_a_shutdown_ends_tasks_and_then_the_process(agent: Agent) -> None:
    """It says how each task ended before it goes."""
    agent.run(agent.launch("t", "sleep", "60"))
    agent.until(lambda: agent.state("t") is TaskState.RUNNING, "does not start")
    agent.send(ShutdownExecutor(5.0))
    end = agent.end("t")
    assert (end.state, end.signal) == (TaskState.KILLED, 15)
    agent.until(lambda: agent.said_bye, "does not say goodbye")
    assert agent.process.wait(PATIENCE_S) == 0
