"""The spawner as root: other users, capabilities, and real version 1 cgroups."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesosctl.runtime import rawcalls
from mesosctl.runtime.spawner_children import become_subreaper
from mesosctl.runtime.spawner_link import (
    Exited,
    Report,
    Spawned,
    SpawnerDied,
    SpawnerLink,
    SpawnFailed,
    SpawnOrder,
)

pytestmark = [pytest.mark.integration, pytest.mark.root]

LIMIT_S = 60.0
NOBODY = 65534
USER: dict[str, Any] = {"uid": NOBODY, "gid": NOBODY, "groups": (NOBODY, 12345)}
CAP_NET_RAW = 13


class Harness:
    """A link, every report so far, and waits with a generous limit."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.link = SpawnerLink()
        self.link.start()
        self.count = 0

    def order(self, *argv: str, **fields: Any) -> str:
        self.count += 1
        fields = {"env": {"PATH": "/usr/bin:/bin"}, "cwd": "/", **fields}
        self.link.spawn(SpawnOrder(id=f"t{self.count}", argv=argv, **fields))
        return f"t{self.count}"

    def wait(self, done: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if result := done():
                return result
            if self.link.alive:
                write = [self.link] if self.link.wants_write else []
                select.select([self.link], write, [], 0.05)
                self.reports += self.link.read()
        raise AssertionError(f"no {what} in {LIMIT_S} s: {self.reports}")

    def result(self, kind: type[Any], name: str) -> Any:
        def found() -> Any:
            mine = [r for r in self.reports if getattr(r, "id", None) == name]
            wrong = [r for r in mine if isinstance(r, SpawnFailed) and kind is not SpawnFailed]
            assert wrong == []
            return next((r for r in mine if isinstance(r, kind)), None)

        return self.wait(found, f"{kind.__name__} of {name}")

    def code(self, name: str) -> int:
        return os.waitstatus_to_exitcode(self.result(Exited, name).status)


@pytest.fixture
def harness() -> Iterator[Harness]:
    """A harness whose process takes orphans in; both are undone afterwards."""
    become_subreaper()
    harness = Harness()
    yield harness
    harness.reports += harness.link.stop() + harness.link.reap_orphans()
    ended = {report.pid for report in harness.reports if isinstance(report, Exited)}
    for report in harness.reports:
        if isinstance(report, Spawned) and report.pid not in ended:
            os.kill(report.pid, signal.SIGKILL)
            os.waitpid(report.pid, 0)
    harness.link.reap_orphans()
    rawcalls.prctl(rawcalls.PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def sandbox() -> Iterator[Path]:
    """A directory of the user's, in one that it may pass through.

    Not below pytest's own: each start of pytest closes that to others, under a running test.
    """
    with tempfile.TemporaryDirectory(prefix="mesosctl-spawner-") as name:
        os.chmod(name, 0o711)
        sandbox = Path(name, "sandbox")
        sandbox.mkdir()
        os.chown(sandbox, NOBODY, NOBODY)
        yield sandbox


@pytest.fixture
def cgroups() -> Iterator[tuple[list[Path], tuple[str, ...], tuple[str, ...]]]:
    """Two version 1 cgroups of a task, with the files to join and to come home by."""
    mounts = [Path("/sys/fs/cgroup", name) for name in ("cpu", "memory")]
    if not all((mount / "tasks").exists() for mount in mounts):
        pytest.skip("needs the cpu and memory hierarchies of cgroup version 1")
    parents = [mount / f"mesosctl-spawner-{os.getpid()}-test" for mount in mounts]
    tasks = [parent / "job.1" for parent in parents]
    for directory in tasks:
        directory.mkdir(parents=True)
    yield (
        tasks,
        tuple(str(directory / "tasks") for directory in tasks),
        tuple(str(mount / "tasks") for mount in mounts),
    )
    for directory in (*tasks, *parents):
        end = time.monotonic() + LIMIT_S
        while directory.exists() and time.monotonic() < end:
            try:
                directory.rmdir()
            except OSError:
                # The kernel empties a cgroup a moment after its last process was reaped.
                select.select([], [], [], 0.01)


def status_of(harness: Harness, out: Path, program: str = "/bin/cat", **who: Any) -> dict[str, str]:
    """Return /proc/self/status as a task of the given user sees it."""
    name = harness.order(program, "/proc/self/status", stdout=str(out), **who)
    assert harness.code(name) == 0
    lines = (line.split(":", 1) for line in out.read_text().splitlines())
    return {key: " ".join(value.split()) for key, value in lines}


def who_are_the_threads(pid: int) -> list[dict[str, str]]:
    """Return the status of every thread of a process."""
    found = []
    for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
        lines = (line.split(":", 1) for line in (thread / "status").read_text().splitlines())
        found.append({key: " ".join(value.split()) for key, value in lines})
    return found


def test_task_is_the_user_and_nothing_more(harness: Harness, sandbox: Path) -> None:
    """All four ids of both kinds, groups and capabilities: any one left over is root's power."""
    status = status_of(harness, sandbox / "out", **USER)
    assert status["Uid"] == status["Gid"] == " ".join([str(NOBODY)] * 4)
    assert sorted(status["Groups"].split()) == ["12345", str(NOBODY)]
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert (sandbox / "out").stat().st_uid == NOBODY


def test_spawner_is_root_again_in_every_thread(harness: Harness, sandbox: Path) -> None:
    """A thread that kept a user's ids would start the next user's task with them."""
    for _ in range(3):
        status_of(harness, sandbox / "out", **USER)
    assert harness.result(SpawnFailed, harness.order("no-such", **USER)).exit_code == 127
    for thread in who_are_the_threads(harness.link.pid):
        assert thread["Uid"] == thread["Gid"] == "0 0 0 0"
        assert thread["Groups"].split() == [str(group) for group in sorted(os.getgroups())]


def test_own_tasks_of_root_keep_their_capabilities(harness: Harness, sandbox: Path) -> None:
    """What stays root is root: only other users are bounded, also when launches alternate."""
    mine = status_of(harness, sandbox.parent / "mine")
    own = who_are_the_threads(os.getpid())[0]
    for _ in range(2):
        assert int(status_of(harness, sandbox / "out", **USER)["CapEff"], 16) == 0
        again = status_of(harness, sandbox.parent / "mine", uid=0, gid=0, groups=(7,))
        assert (again["Uid"], again["Groups"]) == ("0 0 0 0", "7")
        assert again["CapEff"] == mine["CapEff"] == own["CapBnd"]


def test_file_capabilities_do_not_reach_a_task(harness: Harness, sandbox: Path) -> None:
    """no_new_privs alone does not stop them, because root's permitted set is still there."""
    program = sandbox.parent / "cat"
    shutil.copy("/bin/cat", program)
    program.chmod(0o755)

    def give(capability: int) -> None:
        # struct vfs_cap_data, revision 2, effective: linux/capability.h.
        data = struct.pack("<5I", 0x02000001, 1 << capability, 0, 0, 0)
        try:
            os.setxattr(program, "security.capability", data)
        except OSError as error:
            pytest.skip(f"this file system keeps no file capabilities: {error.strerror}")

    give(CAP_NET_RAW)
    status = status_of(harness, sandbox / "out", str(program), **USER)
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
    give(rawcalls.CAP_SETUID)
    failure = harness.result(SpawnFailed, harness.order(str(program), "/dev/null", **USER))
    assert (failure.stage, failure.errno, failure.exit_code) == ("exec", errno.EPERM, 126)


def test_streams_and_directory_are_the_users(harness: Harness, sandbox: Path) -> None:
    """Opened as root, an output path would let anyone write anywhere."""
    private = sandbox.parent / "private"
    private.mkdir(mode=0o700)
    target = private / "out"
    failure = harness.result(SpawnFailed, harness.order("/bin/true", stdout=str(target), **USER))
    assert (failure.stage, failure.errno, failure.exit_code) == ("stdout", errno.EACCES, None)
    assert not target.exists()
    secret = harness.order("/bin/cat", stdin="/etc/shadow", **USER)
    assert harness.result(SpawnFailed, secret).stage == "stdin"
    inside = harness.order("/bin/true", cwd=str(private), **USER)
    assert harness.result(SpawnFailed, inside).stage == "cwd"
    program = private / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    hidden = harness.order("program", **USER, env={"PATH": str(private)})
    assert harness.result(SpawnFailed, hidden).exit_code == 127


def test_ids_that_mean_no_change_are_refused(harness: Harness) -> None:
    """The kernel takes the highest id for 'leave it': the task would be root."""
    for bad in ({"uid": 2**32 - 1, "gid": 1}, {"uid": 1, "gid": 2**32 - 1}, {"uid": -1, "gid": 1}):
        failure = harness.result(SpawnFailed, harness.order("/bin/true", **bad))
        assert (failure.stage, failure.exit_code) == ("user", None)
    bad_groups = harness.order("/bin/true", uid=1, gid=1, groups=(2**32 - 1,))
    assert harness.result(SpawnFailed, bad_groups).stage == "user"
    assert harness.code(harness.order("/bin/true", **USER)) == 0


@pytest.mark.cgroup
def test_task_is_born_in_its_cgroups_and_the_spawner_is_not(
    harness: Harness, sandbox: Path, cgroups: tuple[list[Path], tuple[str, ...], tuple[str, ...]]
) -> None:
    """No moment of a task is outside its limits, and no task's limits hold the spawner."""
    tasks, join, home = cgroups
    told = {"join": join, "home": home, "by": "thread", **USER}
    out = sandbox / "out"
    name = harness.order("/bin/cat", "/proc/self/cgroup", stdout=str(out), **told)
    assert harness.code(name) == 0
    paths = dict(line.split(":", 2)[1:] for line in out.read_text().splitlines())
    for directory in tasks:
        assert directory.as_posix().endswith(paths[directory.parts[4]])
        assert paths[directory.parts[4]] != "/"
        assert (directory / "tasks").read_text() == ""
    root = harness.order("/bin/true", join=join, home=home, by="thread")
    assert harness.code(root) == 0
    assert all((directory / "tasks").read_text() == "" for directory in tasks)
    assert harness.link.alive


@pytest.mark.cgroup
def test_failed_join_starts_nothing(
    harness: Harness, cgroups: tuple[list[Path], tuple[str, ...], tuple[str, ...]]
) -> None:
    """A task without its limits must not run; the spawner comes home from those it entered."""
    tasks, join, home = cgroups
    told = {"join": (join[0], "/sys/fs/cgroup/cpu/none/such/tasks"), "home": home, "by": "thread"}
    failure = harness.result(SpawnFailed, harness.order("/bin/true", **told))
    assert (failure.stage, failure.errno) == ("join", errno.ENOENT)
    assert (tasks[0] / "tasks").read_text() == ""


@pytest.mark.cgroup
def test_no_way_home_ends_the_spawner(
    harness: Harness, cgroups: tuple[list[Path], tuple[str, ...], tuple[str, ...]]
) -> None:
    """It must not serve others from inside a task's limits; what it started is still known."""
    _, join, _ = cgroups
    told = {"join": join, "home": ("/sys/fs/cgroup/cpu/none/such/tasks",), "by": "thread"}
    name = harness.order("/bin/sh", "-c", "exit 5", **told)
    died = harness.wait(
        lambda: next((r for r in harness.reports if isinstance(r, SpawnerDied)), None), "death"
    )
    assert (died.in_flight, os.waitstatus_to_exitcode(died.status)) == (name, 70)
    assert died.in_flight_pid is not None

    def ended() -> bool:
        harness.reports += harness.link.reap_orphans()
        return any(isinstance(r, Exited) for r in harness.reports)

    harness.wait(ended, "end of the task")
    exited = next(r for r in harness.reports if isinstance(r, Exited))
    assert (exited.id, exited.pid) == (name, died.in_flight_pid)
    assert os.waitstatus_to_exitcode(exited.status) == 5


@pytest.mark.cgroup
def test_killed_amid_launches_the_cgroup_tells_what_began(
    harness: Harness, cgroups: tuple[list[Path], tuple[str, ...], tuple[str, ...]]
) -> None:
    """After a kill at any moment each order has run once with its code known, or not at all."""
    _, join, home = cgroups
    told = {"join": join, "home": home, "by": "thread", **USER}
    names = [harness.order("/bin/sh", "-c", f"exit {n % 100}", **told) for n in range(120)]
    for target in range(7, 77, 7):

        def enough(target: int = target) -> bool:
            return sum(isinstance(r, Spawned) for r in harness.reports) >= target

        harness.wait(enough, "starts")
        os.kill(harness.link.pid, signal.SIGKILL)
        harness.reports += harness.link.stop()
        harness.link.start()
    deaths = [r for r in harness.reports if isinstance(r, SpawnerDied)]
    never = {d.in_flight for d in deaths if d.in_flight_pid is None}
    expected = [name for name in names if name not in never]

    def ends(name: str) -> list[int]:
        mine = [r for r in harness.reports if isinstance(r, Exited) and r.id == name]
        return [os.waitstatus_to_exitcode(r.status) for r in mine]

    def all_ended() -> bool:
        harness.reports += harness.link.reap_orphans()
        return all(ends(name) for name in expected)

    harness.wait(all_ended, "ends of all orders")
    assert len(deaths) == 10
    assert {name: ends(name) for name in names} == {
        name: [] if name in never else [names.index(name) % 100] for name in names
    }
    assert not [r for r in harness.reports if isinstance(r, Exited) and r.id is None]
