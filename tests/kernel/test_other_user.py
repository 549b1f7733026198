"""What a task of another user finds of the agent that runs it: nothing that it could use.

A whole cluster of root's, and tasks of a user with no rights. What each task sees it prints; the
spawner's part of it alone (ids, file capabilities, streams) is in test_spawner_root.py.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.root, pytest.mark.integration]

USER = "nobody"
SECRET = "MESOSCTL_TEST_SECRET"


@pytest.fixture(scope="module")
def shared() -> Iterator[ClusterEnv]:
    """A cluster of root's, whose key may name the user too."""
    env = ClusterEnv()
    try:
        # Sandboxes are below it, and another user has to pass.
        env.base.chmod(0o711)
        env.variables[SECRET] = "known to the daemons alone"
        env.start()
        keys = env.base / "master" / "authorized_keys.toml"
        text = keys.read_text()
        assert 'users = ["root"]' in text
        keys.write_text(text.replace('users = ["root"]', f'users = ["root", "{USER}"]'))
        until(lambda: env.run(*as_user("true")).returncode == 0, "the key may name the user")
        yield env
    finally:
        env.close()


def as_user(script: str) -> list[str]:
    """The words that run a script of the shell as the user."""
    return ["run", "--user", USER, "--", "sh", "-c", script]


def status(env: ClusterEnv) -> dict[str, str]:
    """/proc/self/status of a task."""
    lines = env.ok(*as_user("cat /proc/self/status")).splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


# The parents of a task, as it finds them: first the spawner, then the executor.
PARENTS = "spawner=$PPID; executor=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status)"


def refused(env: ClusterEnv, *attempts: str) -> None:
    """Each of these commands has to fail in a task."""
    lines = [
        f"if ({attempt}) > /dev/null 2>&1; then echo {shlex.quote('got ' + attempt)}; fi"
        for attempt in attempts
    ]
    told = env.ok(*as_user("\n".join([PARENTS, *lines, "echo tried"]))).splitlines()
    assert told == ["tried"]


def daemons(env: ClusterEnv) -> list[str]:
    """The processes around a task, as its script names them."""
    return [str(env.parts[0].pid), str(env.agents[0].pid), "$executor", "$spawner"]


def test_ids_and_groups_are_the_users_alone(shared: ClusterEnv) -> None:
    """Real, effective, saved and of files; and only the groups the user is in."""
    entry = pwd.getpwnam(USER)
    found = status(shared)
    assert found["Uid"].split() == [str(entry.pw_uid)] * 4
    assert found["Gid"].split() == [str(entry.pw_gid)] * 4
    groups = sorted(os.getgrouplist(USER, entry.pw_gid))
    assert sorted(int(word) for word in found["Groups"].split()) == groups


def test_no_capability_is_left_nor_to_be_had(shared: ClusterEnv) -> None:
    """None in any set that counts, and no_new_privs so that no program gives any."""
    found = status(shared)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[name], 16) == 0, name
    assert found["NoNewPrivs"] == "1"


def test_no_signal_is_blocked_or_ignored(shared: ClusterEnv) -> None:
    """What the daemons block or ignore must not change how a task ends."""
    found = status(shared)
    # 32 and 33 belong to the C library.
    ours = ~(1 << 31 | 1 << 32)
    assert int(found["SigBlk"], 16) == 0
    assert int(found["SigIgn"], 16) & ours == 0


def test_no_descriptor_comes_from_the_daemons(shared: ClusterEnv) -> None:
    """The three streams are the task's own files, and there is no fourth."""
    # Neither piped, which would give the shell a pipe for a moment, nor last, which may be executed
    # in the shell's place.
    script = "for one in 0 1 2; do readlink /proc/$$/fd/$one; done; ls /proc/$$/fd; true"
    lines = shared.ok(*as_user(script)).splitlines()
    sandbox = str(shared.base / shared.agents[0].name)
    assert lines[0] == "/dev/null"
    assert [line.startswith(sandbox) for line in lines[1:3]] == [True, True]
    assert lines[3:] == ["0", "1", "2"]


def test_nothing_of_the_agents_environment_is_passed_on(shared: ClusterEnv) -> None:
    """Not in the task's own environment, nor to be read in that of a daemon."""
    assert SECRET not in shared.ok(*as_user("env; cat /proc/self/environ | tr '\\0' '\\n'"))
    names = ("environ", "mem", "maps", "fd/0")
    for pid in daemons(shared):
        refused(shared, *(f"head -c 1 /proc/{pid}/{name}" for name in names), f"ls /proc/{pid}/fd")


def test_keys_and_records_cannot_be_read(shared: ClusterEnv) -> None:
    """Of the cluster, the master, the framework and the agent: no file but its own sandbox."""
    parts = [shared.base / "master", shared.base / shared.agents[0].name]
    files = [path for part in parts for path in part.rglob("*") if path.is_file()]
    private = [path for path in files if "sandboxes" not in path.parts]
    names = [path.name for path in private]
    assert any(name.endswith(".key") for name in names)
    assert any(name.endswith((".db", ".sqlite", ".mark")) for name in names), names
    quoted = [shlex.quote(str(path)) for path in private]
    refused(shared, *(f"head -c 1 {path}" for path in quoted))
    refused(shared, *(f"test -w {path}" for path in quoted))
    refused(shared, *(f"ls {shlex.quote(str(part))}" for part in parts))


def test_other_sandboxes_and_sockets_are_closed(shared: ClusterEnv) -> None:
    """A task of root's has output of its own, and the agent's socket takes no stranger."""
    shared.ok("run", "--", "sh", "-c", "echo private > $MESOS_SANDBOX/only-roots")
    made = list((shared.base / shared.agents[0].name).rglob("only-roots"))
    assert len(made) == 1
    sandbox = made[0].parent
    refused(shared, f"cat {sandbox}/only-roots", f"ls {sandbox}", f"ls {sandbox.parent}")
    sockets = shared.sockets()
    assert sockets
    refused(shared, *(f"test -w {path}" for path in sockets))


def test_the_daemons_cannot_be_signalled_or_traced(shared: ClusterEnv) -> None:
    """Agent, executor and spawner go on, and so does what they run."""
    threads = "for one in /proc/{pid}/task/*; do kill -s KILL ${{one##*/}} && exit 0; done; exit 1"
    for pid in daemons(shared):
        assert shared.ok(*as_user(f"{PARENTS}; ls -d /proc/{pid}/task/*")).strip()
        signals = [f"kill -s {name} {pid}" for name in ("KILL", "STOP", "0")]
        refused(shared, *signals, f"readlink /proc/{pid}/exe", threads.format(pid=pid))
    assert shared.agents[0].process.poll() is None


@pytest.mark.cgroup
def test_its_own_limits_are_out_of_reach(shared: ClusterEnv) -> None:
    """It can neither raise its limits, nor leave its cgroups, nor make any of its own."""
    text = shared.ok(*as_user("cat /proc/self/cgroup"))
    held = re.findall(rf"^\d+:([^:]*):(/{shared.cgroup_root}/\S+)$", text, re.MULTILINE)
    assert held, text
    attempts = []
    for controllers, _ in held:
        top = Path("/sys/fs/cgroup", controllers) if controllers else Path("/sys/fs/cgroup")
        own = f"{top}$(sed -n 's/^[0-9]*:{controllers}://p' /proc/self/cgroup)"
        attempts.append(f"mkdir {own}/inner")
        for name in ("tasks", "cgroup.procs"):
            attempts += [f"echo $$ > {top}/{name}", f"echo $$ > {own}/../{name}"]
        for name in (
            *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"),
            *("memory.swap.max", "cpu.cfs_quota_us", "cpu.max", "cpu.shares", "pids.max"),
            *("memory.oom_control", "cgroup.subtree_control", "notify_on_release"),
        ):
            attempts.append(f"echo 1000000 > {own}/{name}")
    refused(shared, *attempts)
