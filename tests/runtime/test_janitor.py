"""Sandboxes listed and removed on a real disk, against a user who does not want it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Event
from mesosctl.runtime.janitor import Janitor
from mesosctl.runtime.logs import rotate
from mesosctl.runtime.removal import GRAVE, Grave

LIMIT_S = 60.0
IS_ROOT = os.geteuid() == 0


class FakeLoop:
    """Collects what the janitor answers."""

    def __init__(self) -> None:
        self.deeds: dict[type, object] = {}
        self.events: list[Event] = []
        self._came = threading.Event()

    def on_effect(self, kind: type, deed: object) -> None:
        self.deeds[kind] = deed

    def log(self, level: str, text: str) -> None:
        raise AssertionError(f"{level} {text}")

    def post(self, event: Event) -> None:
        self.events.append(event)
        self._came.set()

    def do(self, effect: object) -> Event:
        """Carry an effect out and wait for its one answer."""
        self._came.clear()
        self.deeds[type(effect)](effect)  # type: ignore[operator]
        assert self._came.wait(LIMIT_S), f"no answer to {effect}"
        return self.events.pop()


@pytest.fixture
def sandboxes(tmp_path: Path) -> Path:
    made = tmp_path / "sandboxes"
    made.mkdir()
    return made


@pytest.fixture
def loop(sandboxes: Path, tmp_path: Path) -> Iterator[FakeLoop]:
    made = FakeLoop()
    janitor = Janitor(made, sandboxes, tmp_path / "executors.log")  # type: ignore[arg-type]
    yield made
    janitor.close()


def sandbox(sandboxes: Path, name: str) -> Path:
    made = sandboxes / name
    made.mkdir(parents=True)
    (made / "stdout").write_text(name)
    return made


def test_the_oldest_are_listed_but_for_those_left_out(sandboxes, loop):
    """By the time of their last change, whatever their user made of the other times."""
    for name in ("F1/t1", "F2/t2", "F1/t3", "F1/t4"):
        made = sandbox(sandboxes, name)
        os.utime(made, (1, 1))
        # The kernel's clock for files stands still for some milliseconds.
        time.sleep(0.02)
    (sandboxes / "F3").mkdir()
    found = loop.do(deeds.ListSandboxes(2, ("F2/t2",)))
    assert isinstance(found, deeds.SandboxesListed)
    assert [name for _, name in found.oldest] == ["F1/t1", "F1/t3"]
    assert not found.is_whole and found.empty == ("F3",)
    assert loop.do(deeds.ListSandboxes(9, ("F2/t2",))).is_whole
    loop.deeds[deeds.MarkEnded](deeds.MarkEnded(("F1/t1", "F1/none")))
    assert [name for _, name in loop.do(deeds.ListSandboxes(9, ())).oldest][-1] == "F1/t1"


def test_a_sandbox_is_gone_at_once_and_its_bytes_soon(sandboxes, loop):
    """Deep trees, closed directories, links and pipes are no obstacle."""
    made = sandbox(sandboxes, "F1/t1")
    outside = sandboxes.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (made / "link").symlink_to(outside)
    os.mkfifo(made / "pipe")
    closed = made / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    directory = os.open(made, os.O_RDONLY)
    for _ in range(500):
        # Deeper than a path can name.
        os.mkdir("directory", dir_fd=directory)
        below = os.open("directory", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    sandbox(sandboxes, "F1/t2")
    answer = loop.do(deeds.RemoveSandboxes(("F1/t1", "F1/none"), ("F1", "F9")))
    assert answer == deeds.SandboxesRemoved(1)
    assert sorted(os.listdir(sandboxes)) == [GRAVE, "F1"]
    assert os.listdir(sandboxes / "F1") == ["t2"] and os.listdir(sandboxes / GRAVE) == []
    assert (outside / "precious").read_text() == "precious"


def test_what_an_earlier_run_took_away_is_removed_by_the_next(sandboxes, loop):
    """A crash in the middle of a removal is harmless."""
    sandbox(sandboxes, "F1/t1")
    directory = os.open(sandboxes, os.O_RDONLY)
    Grave(directory).take("F1/t1")
    os.close(directory)
    assert os.listdir(sandboxes / GRAVE) != []
    assert isinstance(loop.do(deeds.MeasureDisk()), deeds.DiskMeasured)
    assert os.listdir(sandboxes / GRAVE) == []


@pytest.mark.skipif(not IS_ROOT, reason="mounting needs root")
def test_what_is_mounted_in_a_sandbox_is_not_entered(sandboxes, loop, tmp_path):
    """A task of root may leave a bind mount behind; what it shows is not the task's."""
    made = sandbox(sandboxes, "F1/t1")
    whole = sandbox(sandboxes, "F1/t2")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (made / "deep" / "mount").mkdir(parents=True)
    points = (made / "deep" / "mount", whole)
    mounted = []
    try:
        for point in points:
            done = subprocess.run(
                ["mount", "--bind", str(precious), str(point)], capture_output=True, check=False
            )
            if done.returncode:
                pytest.skip(f"cannot mount: {done.stderr!r}")
            mounted.append(point)
        answer = loop.do(deeds.RemoveSandboxes(("F1/t1", "F1/t2")))
        assert answer.removed == 1
        assert {name for name, _ in answer.stuck} >= {"F1/t2"}
        assert all("busy" in why for _, why in answer.stuck)
        assert (precious / "file").read_text() == "precious"
    finally:
        # What was taken away has its mount at a place that only the table of mounts tells.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            point = line.split()[1]
            if point.startswith(str(sandboxes)):
                subprocess.run(["umount", point], check=True)
    assert loop.do(deeds.RemoveSandboxes(("F1/t2",))) == deeds.SandboxesRemoved(1)
    assert os.listdir(sandboxes / GRAVE) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root may make a file immutable")
def test_an_immutable_sandbox_is_told_and_left(sandboxes, loop):
    """It does not stop the sweep, and goes when it can."""
    made = sandbox(sandboxes, "F1/t1")
    sandbox(sandboxes, "F1/t2")
    if (
        not shutil.which("chattr")
        or subprocess.run(["chattr", "+i", made], capture_output=True, check=False).returncode
    ):
        pytest.skip("chattr +i does not work on this file system")
    try:
        answer = loop.do(deeds.RemoveSandboxes(("F1/t1", "F1/t2")))
        assert answer == deeds.SandboxesRemoved(1, (("F1/t1", "Operation not permitted"),))
    finally:
        subprocess.run(["chattr", "-i", made], check=True)
    assert loop.do(deeds.RemoveSandboxes(("F1/t1",))) == deeds.SandboxesRemoved(1)


# A user who renames links and directories over each other for as long as he can.
_HOSTILE = """
import os, sys
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print("ready", flush=True)
n = 0
while True:
    n += 1
    for deed in (
        lambda: os.mkdir("a"),
        lambda: os.symlink(sys.argv[2], "b"),
        lambda: os.rename("b", f"c{n % 7}"),
        lambda: os.rename("a", f"c{(n + 3) % 7}"),
        lambda: os.link("stdout", f"l{n % 5}"),
        lambda: os.unlink(f"c{n % 7}"),
    ):
        try:
            deed()
        except FileNotFoundError:
            if not os.path.exists("."):
                pass
        except OSError:
            pass
"""


def test_a_user_who_races_against_the_removal_gains_nothing(sandboxes, loop, tmp_path):
    """Nothing outside is touched, and the sandbox is gone in the end."""
    made = sandbox(sandboxes, "F1/t1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    if IS_ROOT:
        os.chown(made, 65534, 65534)
    words = [sys.executable, "-c", _HOSTILE, str(made), str(outside)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as hostile:
        assert hostile.stdout is not None and hostile.stdout.readline() == b"ready\n"
        until = time.monotonic() + LIMIT_S
        answer = loop.do(deeds.RemoveSandboxes(("F1/t1",)))
        assert answer.removed == 1
        while os.listdir(sandboxes / GRAVE) and IS_ROOT:
            assert time.monotonic() < until, f"it stays: {answer}"
            answer = loop.do(deeds.RemoveSandboxes(()))
        assert (outside / "precious").read_text() == "precious"
        hostile.kill()
    loop.do(deeds.RemoveSandboxes(()))
    assert os.listdir(sandboxes / GRAVE) == []


def test_a_log_that_living_processes_append_to_is_rotated(tmp_path):
    """They go on writing, and one older file is kept, with the newest of the old text."""
    path = tmp_path / "executors.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100 + b"end")
        assert not rotate(path, 200)
        assert rotate(path, 50)
        writer.write(b"next")
    assert path.read_bytes() == b"next"
    assert (tmp_path / "executors.log.1").read_bytes() == b"x" * 47 + b"end"
    assert not rotate(tmp_path / "none", 50)
