"""The helper: what it sets up holds in the task, which then is the task and nobody else."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.isolation.base import AGENT_ENV
from mesosctl.isolation.namespaces import may_unshare
from mesosctl.runtime.helper_orders import through_helper
from mesosctl.runtime.spawner_orders import SpawnOrder
from mesosctl.runtime.task_helper import PREFIX

NOBODY = pwd.getpwnam("nobody")
namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not may_unshare(), reason="needs root with CAP_SYS_ADMIN"
)


@pytest.fixture
def sandbox() -> Iterator[Path]:
    """A sandbox outside of /tmp, which a private /tmp would hide."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mesosctl-helper-") as base:
        Path(base).chmod(0o755)
        (Path(base) / "tmp").mkdir(mode=0o700)
        yield Path(base)


def helped(
    sandbox: Path,
    helper: dict[str, object],
    argv: list[str],
    *,
    nobody: bool = False,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command through the helper, as the spawner would start it."""
    if nobody:
        os.chown(sandbox / "tmp", NOBODY.pw_uid, NOBODY.pw_gid)
    order = SpawnOrder(
        "f/t",
        tuple(argv),
        {"PATH": "/usr/bin:/bin", "LANG": "C", **(env or {})},
        str(sandbox),
        uid=NOBODY.pw_uid if nobody else None,
        gid=NOBODY.pw_gid,
        groups=(NOBODY.pw_gid,),
    )
    made = through_helper(order, helper, str(sandbox))
    return subprocess.run(
        made.argv,
        env=dict(made.env),
        cwd=sandbox,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


def test_rlimits_hold_from_the_first_instruction(sandbox: Path) -> None:
    """Soft and hard, so that the task cannot take them back."""
    done = helped(
        sandbox,
        {"rlimits": {"nofile": [64, 128], "fsize": [1 << 20, 1 << 20]}},
        ["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -f; ulimit -n 256 || echo refused"],
    )
    assert done.stdout.split() == ["64", "128", "2048", "refused"] or os.geteuid() == 0
    assert done.stdout.split()[:3] in (["64", "128", "2048"], ["64", "128", "1024"])


def test_the_environment_is_the_tasks(sandbox: Path) -> None:
    """Under its own names again, and nothing of the helper's; until then nothing heeds it."""
    order = SpawnOrder("f/t", ("true",), {"LD_PRELOAD": "x", AGENT_ENV: "a"}, "/", uid=1, gid=1)
    made = through_helper(order, {}, str(sandbox))
    assert set(made.env) == {PREFIX + "LD_PRELOAD", PREFIX + AGENT_ENV, AGENT_ENV}
    done = helped(sandbox, {"rlimits": {"nofile": [64, 64]}}, ["env"], env={"A": "1 2"})
    assert sorted(done.stdout.split("\n")) == ["", "A=1 2", "LANG=C", "PATH=/usr/bin:/bin"]


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["no-such-command"], 127, "command not found"),
        (["/dev/null"], 126, "cannot execute /dev/null"),
        (["sh", "-c", "exit 9"], 9, ""),
        (["sh", "-c", "kill -SEGV $$"], -signal.SIGSEGV, ""),
    ],
)
def test_it_ends_as_the_task_does(sandbox: Path, argv: list[str], code: int, text: str) -> None:
    """With a shell's codes where there is nothing to execute."""
    done = helped(sandbox, {"rlimits": {"nofile": [64, 64]}}, argv)
    assert done.returncode == code and text in done.stderr


def test_what_cannot_be_set_up_is_not_started(sandbox: Path) -> None:
    """A task without its limit would be worse than none."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[0]
    above = [hard + 1, hard] if hard > 0 else [2, 1]
    done = helped(sandbox, {"rlimits": {"stack": above}}, ["touch", "started"])
    assert done.returncode == 125 and "rlimit stack" in done.stderr
    assert not (sandbox / "started").exists()


@namespaces
def test_a_private_tmp_is_seen_by_nobody_else(sandbox: Path) -> None:
    """What the task writes to /tmp is in its sandbox, and the host's files are not there."""
    with tempfile.NamedTemporaryFile(dir="/tmp", prefix="mesosctl-host-") as host:
        script = f"ls {host.name} /var/tmp; echo mine > /tmp/mesosctl-mine; id -u"
        done = helped(
            sandbox, {"private-tmp": ["/tmp", "/var/tmp"]}, ["sh", "-c", script], nobody=True
        )
        assert "No such file" in done.stderr and done.stdout.split()[-1] == str(NOBODY.pw_uid)
        assert Path(host.name).exists()
    assert (sandbox / "tmp" / "mesosctl-mine").read_text() == "mine\n"
    assert not Path("/tmp/mesosctl-mine").exists()


@namespaces
def test_a_tmp_that_is_a_link_is_refused(sandbox: Path) -> None:
    """Its user could have put a link to somebody else's directory there."""
    (sandbox / "tmp").rmdir()
    (sandbox / "tmp").symlink_to("/etc")
    done = helped(sandbox, {"private-tmp": ["/tmp"]}, ["touch", "started"])
    assert done.returncode == 125 and "tmp" in done.stderr
    (sandbox / "tmp").unlink()
    (sandbox / "tmp").mkdir()
    os.chown(sandbox / "tmp", NOBODY.pw_uid, -1)
    done = helped(sandbox, {"private-tmp": ["/tmp"]}, ["touch", "started"])
    assert done.returncode == 125 and "not the task's own" in done.stderr


@namespaces
def test_a_pid_namespace_shows_the_task_alone(sandbox: Path) -> None:
    """Two processes are in it at the start, and its end takes along what was left behind."""
    mark = f"{os.getpid()}.77"
    script = (
        f"ls -d /proc/[0-9]* | wc -l; sleep {mark} & echo $$; id -u; grep NoNewPrivs /proc/1/status"
    )
    done = helped(sandbox, {"private-pids": True}, ["sh", "-c", script], nobody=True)
    shown, own, uid, *_ = done.stdout.split()
    assert int(shown) <= 4 and int(own) == 2 and uid == str(NOBODY.pw_uid), done
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in commands if mark.encode() in line]


@namespaces
@pytest.mark.parametrize(("line", "code"), [("exit 9", 9), ("kill -TERM $$", -signal.SIGTERM)])
def test_ends_pass_through_the_namespace(sandbox: Path, line: str, code: int) -> None:
    """Two processes stand between the task and whoever waits for it."""
    done = helped(sandbox, {"private-pids": True}, ["sh", "-c", line])
    assert done.returncode == code


@namespaces
def test_a_task_that_kills_all_ends_nobody_else(sandbox: Path) -> None:
    """Inside it can reach its own processes, and init only when init lets it."""
    script = "sleep 60 & kill -9 -1; echo alive; kill -9 1; exit 4"
    done = helped(sandbox, {"private-pids": True}, ["sh", "-c", script], nobody=True)
    assert done.returncode == 4 and "alive" in done.stdout


@namespaces
def test_a_killed_helper_takes_the_namespace_along(sandbox: Path) -> None:
    """A kill of the container may reach the outer process first."""
    order = SpawnOrder("f/t", ("sh", "-c", "echo up; exec sleep 60"), {"PATH": "/bin"}, "/")
    made = through_helper(order, {"private-pids": True}, str(sandbox))
    process = subprocess.Popen(made.argv, env=dict(made.env), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"up\n"
        process.kill()
        gone = threading.Timer(30, process.stdout.close)
        gone.start()
        assert process.stdout.read() == b"", "the task outlived its helper"
        gone.cancel()


def test_settings_are_all_that_stands_in_the_command_line(sandbox: Path) -> None:
    """Command lines are public, environments are not."""
    order = SpawnOrder("f/t", ("true",), {"SECRET": "x1y2"}, "/", uid=1, gid=1)
    made = through_helper(order, {"rlimits": {}}, str(sandbox))
    assert "x1y2" not in " ".join(made.argv) and made.as_helper
    assert json.loads(made.argv[made.argv.index("--") - 1])["uid"] == 1
    assert made.argv[0] == sys.executable
