"""Persistent volumes with real processes: whose data are there when, and when they are gone."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
VOLUME = ("volume", "create", "a1", "data1", "disk:512M", "--role", "eng")
SMALL = ("-c", "0.5", "-m", "64M")


def state(env: ClusterEnv) -> list[tuple[str, str]]:
    """Id and state of every volume; nothing while the master does not answer."""
    answer = env.try_json("volume", "list")
    return [(one["id"], one["state"]) for one in answer["volumes"]] if answer else []


def on_volume(env: ClusterEnv, role: str, line: str, *options: str) -> str:
    """What a task of this role prints that finds the volume under `db` in its sandbox."""
    words = ["run", *SMALL, "--role", role, *options, "--volume", "data1:db", "--sandbox"]
    return env.ok(*words, "--", "sh", "-c", line)


def inside(env: ClusterEnv, name: str = "a1") -> Path:
    """The directory of the volume on its agent."""
    return env.base / name / "volumes" / "roles" / "eng" / "data1"


def test_data_are_there_for_the_role_alone_until_they_are_destroyed(env: ClusterEnv) -> None:
    """Across kill -9 of agent and master; refused while in use; empty when it is made again."""
    master = env.master("--no-framework")
    agent = env.agent("cpus:4;mem:2G;disk:4G")
    assert env.run(*VOLUME).returncode == 5
    env.ok("reserve", "a1", "disk:1G", "--role", "eng")
    env.ok(*VOLUME)
    on_volume(env, "eng", "echo one > db/note")
    assert on_volume(env, "eng/web", "cat db/note; echo two >> db/note") == "one\n"
    master.kill_nine()
    agent.kill_nine()
    master.restart()
    agent.restart()
    env.wait_for_agents(1)
    assert on_volume(env, "eng", "cat db/note") == "one\ntwo\n"
    # Another role does not get it.
    words = ["run", *SMALL, "--role", "ops", "--volume", "data1:db", "--", "true"]
    other = env.popen(*words)
    # One task at a time, also of the role itself; what it uses is neither destroyed nor given back.
    user = env.popen(*[w if w != "ops" else "eng" for w in words[:-1]], "sleep", "600")
    until(lambda: bool(env.json("volume", "list")["volumes"][0]["task"]), "the volume is in use")
    for refused in (
        ["volume", "destroy", "a1", "data1", "--role", "eng"],
        ["unreserve", "a1", "disk:1G", "--role", "eng"],
    ):
        done = env.run(*refused)
        assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert other.poll() is None
    for command in (other, user):
        command.terminate()
        command.communicate(timeout=30)
    until(lambda: not env.json("volume", "list")["volumes"][0]["task"], "it is not in use")
    assert inside(env).joinpath("note").exists()
    env.ok("volume", "destroy", "a1", "data1", "--role", "eng")
    assert state(env) == [] and not inside(env).exists()
    agent.kill_nine()
    agent.restart()
    env.wait_for_agents(1)
    assert state(env) == []
    env.ok(*VOLUME)
    assert on_volume(env, "eng", "ls db") == ""
    [row] = env.json("agents")["agents"]
    assert "disk(eng):512;" in row["total"] and "volumes(eng):{data1}" in row["total"], row


def test_lost_data_are_told_and_jobs_that_want_them_wait(env: ClusterEnv) -> None:
    """A batch framework of the role; its array goes through the volume one by one."""
    env.master("--no-framework")
    agent = env.agent("cpus:4;mem:2G;disk:4G")
    words = ["framework", "--role", "eng", "--master", env.address, "--key", str(env.key_path)]
    env.part("framework", *words, "--work-dir", str(env.base / "batch"))
    env.wait_for_framework()
    env.ok("reserve", "a1", "disk:1G", "--role", "eng")
    env.ok(*VOLUME)
    line = 'test ! -e "$MESOS_SANDBOX"/db/busy && touch "$MESOS_SANDBOX"/db/busy'
    line += ' && sleep 0.1 && rm "$MESOS_SANDBOX"/db/busy && echo x >> "$MESOS_SANDBOX"/db/all'
    env.ok("submit", *SMALL, "--volume", "data1:db", "--array", "1-5", "--wait", "--wrap", line)
    assert inside(env).joinpath("all").read_text() == "x\n" * 5
    agent.kill_nine()
    inside(env).rename(env.base / "elsewhere")
    agent.restart()
    until(lambda: state(env) == [("data1", "lost")], "the loss is told")
    assert "what was in it is lost" in agent.text()
    job = env.ok("submit", *SMALL, "--volume", "data1:db", "--wrap", line).strip()
    told = env.ok("explain", job)
    assert "NoVolume" in told and "volume data1 of role eng is lost" in told, told
    agent.kill_nine()
    (env.base / "elsewhere").rename(inside(env))
    agent.restart()
    env.ok("wait", job)
    assert inside(env).joinpath("all").read_text() == "x\n" * 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs tasks of other users")
def test_a_volume_is_the_users_while_a_task_uses_it_and_closed_afterwards(env: ClusterEnv) -> None:
    """A user that another program made, and a file of root's that it cannot read."""
    env.base.chmod(0o711)
    env.master("--no-framework")
    env.agent("cpus:4;mem:2G;disk:4G")
    env.ok("reserve", "a1", "disk:1G", "--role", "eng")
    env.ok(*VOLUME)
    made = ["keygen", "two", "--kind", "operator", "--users", "nobody,root", "--dir", str(env.base)]
    env.ok(*made, "--work-dir", str(env.base / "master"))
    env.variables["MESOSCTL_KEY"] = str(env.base / "two.key")
    until(lambda: env.try_json("agents") is not None, "the key is let in")
    assert on_volume(env, "eng", "id -un; echo 1 > db/mine", "--user", "nobody") == "nobody\n"
    uid = pwd.getpwnam("nobody").pw_uid
    assert (inside(env) / "mine").stat().st_uid == uid
    until(lambda: inside(env).stat().st_uid == 0, "the volume is closed")
    assert inside(env).stat().st_mode & 0o777 == 0o700
    assert on_volume(env, "eng", "echo 2 > db/root; chmod 600 db/root; stat -c %U db/") == "root\n"
    told = on_volume(env, "eng", "stat -c %U db/; cat db/mine db/root || true", "--user", "nobody")
    assert told == "nobody\n1\n"


@pytest.mark.slow
def test_what_is_begun_goes_on_after_kill_nine_in_the_middle(env: ClusterEnv) -> None:
    """Of the master while a volume is made, of the agent before it has removed one."""
    master = env.master("--no-framework")
    agent = env.agent("cpus:4;mem:2G;disk:4G")
    env.ok("reserve", "a1", "disk:1G", "--role", "eng")
    os.kill(agent.pid, signal.SIGSTOP)
    command = env.popen(*VOLUME)
    until(lambda: state(env) == [("data1", "making")], "the agent is asked for it")
    master.kill_nine()
    os.kill(agent.pid, signal.SIGCONT)
    master.restart()
    until(lambda: state(env) == [("data1", "ready")], "it is made all the same")
    # The command asks again under the same request, and is told of the one volume.
    assert "is made" in command.communicate(timeout=60)[1]
    inside(env).joinpath("note").write_text("x")
    env.wait_for_agents(1)
    os.kill(agent.pid, signal.SIGSTOP)
    command = env.popen("volume", "destroy", "a1", "data1", "--role", "eng")
    until(lambda: state(env) == [("data1", "removing")], "the agent is told")
    agent.kill_nine()
    assert inside(env).exists()
    agent.restart()
    until(lambda: env.json("volume", "list")["volumes"] == [], "it is removed all the same")
    assert not inside(env).exists()
    assert "it goes on when it is back" in command.communicate(timeout=60)[1]
