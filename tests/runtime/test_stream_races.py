"""A task that swaps its output for something else, again and again, while it is read and cut.

What could be gained: bytes of a file that only the agent may read, a hole punched into it, a
device or a pipe that is read from, a directory removed elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesosctl.core.agent.effects import ReadFile
from mesosctl.runtime import streams, trimming
from mesosctl.runtime.removal import GRAVE, Grave

IS_ROOT = os.geteuid() == 0
USER = 65534
OWN, FOREIGN = b"o", b"F"
LIMIT_BYTES = 64 * 1024
# Each swap is one rename over `stdout`, so a reader finds one thing or the other, never nothing
# but after a directory. It says how many it has made in its own directory.
SWAPPER = """
import os, sys
sandbox, secret, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(sandbox)
def own(name):
    with open(name, "wb") as file: file.write(b"o" * 200_000)
    if user: os.chown(name, user, user)
def device(name):
    try: os.mknod(name, 0o020666, os.makedev(1, 5))
    except PermissionError: os.symlink("/dev/zero", name)
makers = [own, lambda n: os.symlink(secret, n), own, lambda n: os.link(secret, n), own,
          os.mkfifo, os.mkdir, device, lambda n: os.symlink("../../../secret", n)]
number = 0
while os.path.exists("/proc/self") and os.getppid() > 1:
    name = f"next{number % 3}"
    try:
        makers[number % len(makers)](name)
        if os.path.isdir("stdout") and not os.path.islink("stdout"): os.rmdir("stdout")
        if os.path.isdir(name) and not os.path.islink(name):
            os.rename("stdout", "old")
            os.unlink("old")
        os.rename(name, "stdout")
    except FileNotFoundError:
        # The sandbox is on its way out, and we are in it.
        print("gone", flush=True)
        sys.stdin.read()
        break
    except OSError as error:
        if os.path.lexists(name): os.unlink(name)
    number += 1
    if number % 100 == 0: print(number, flush=True)
"""


@pytest.mark.parametrize("swaps", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_task_gains_nothing_by_swapping_its_output(tmp_path: Path, swaps: int) -> None:
    """Read, cut and removed in a race with every kind of thing: no foreign byte, none changed."""
    sandbox = tmp_path / "sandboxes" / "F1" / "t1"
    sandbox.mkdir(parents=True)
    if IS_ROOT:
        os.chown(sandbox, USER, USER)
    secret = tmp_path / "secret"
    secret.write_bytes(FOREIGN * 400_000)
    (sandbox / "stdout").write_bytes(OWN)
    before = secret.stat()
    words = [sys.executable, "-I", "-S", "-c", SWAPPER, str(sandbox), str(secret)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    found = {"own": 0, "refused": 0, "missing": 0, "cut": 0}
    all_sandboxes = os.open(tmp_path / "sandboxes", os.O_RDONLY | os.O_DIRECTORY)
    directory = os.open(sandbox, os.O_RDONLY | os.O_DIRECTORY)
    with subprocess.Popen([*words, str(USER if IS_ROOT else 0)], **pipes) as swapper:  # type: ignore[call-overload]
        os.set_blocking(swapper.stdout.fileno(), False)
        made = 0
        while made < swaps:
            for line in swapper.stdout.readlines():
                made = int(line)
            assert swapper.poll() is None
            race(all_sandboxes, directory, found)
        grave = Grave(all_sandboxes)
        grave.take("F1/t1")
        for _ in range(20):
            grave.empty()
        swapper.kill()
    grave.empty()
    grave.close()
    os.close(all_sandboxes)
    os.close(directory)
    after = secret.stat()
    print(f"\n{made} swaps: {found}")
    assert secret.read_bytes() == FOREIGN * 400_000
    assert (after.st_size, after.st_blocks, after.st_uid, after.st_mode) == (
        *(before.st_size, before.st_blocks, before.st_uid, before.st_mode),
    )
    assert os.listdir(tmp_path / "sandboxes" / GRAVE) == [] and not sandbox.exists()
    assert min(found["own"], found["refused"]) > 0


def race(all_sandboxes: int, directory: int, found: dict[str, int]) -> None:
    """One look of each kind at what is there in this moment."""
    answer = streams.read_file(all_sandboxes, ReadFile("t", "F1/t1", "stdout", 0, 1000))
    # What was cut reads as nothing, and is never told as bytes of a task's.
    assert answer.data.strip(OWN) == b"", answer.data[:40]
    kind = "missing" if answer.missing else "refused" if answer.problem else "own"
    found[kind] += 1
    tail = streams.read_file(all_sandboxes, ReadFile("t", "F1/t1", "stdout", 0, 1000, tail_lines=3))
    assert tail.data.strip(OWN) == b"", tail.data[:40]
    told: list[str] = []
    found["cut"] += trimming.trim(directory, "stdout", LIMIT_BYTES, told.append)


@pytest.mark.skipif(not IS_ROOT, reason="needs files of two users")
def test_a_file_of_somebody_else_is_not_read(tmp_path: Path) -> None:
    """A second name may be made of another's file, whose owner then removes the first."""
    sandbox = tmp_path / "F1" / "t1"
    sandbox.mkdir(parents=True)
    os.chown(sandbox, USER, USER)
    (sandbox / "stdout").write_bytes(FOREIGN)
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer = streams.read_file(top, ReadFile("t", "F1/t1", "stdout", 0, 1000))
        assert (answer.data, answer.problem) == (b"", "stdout: it belongs to another user")
        os.chown(sandbox / "stdout", USER, USER)
        answer = streams.read_file(top, ReadFile("t", "F1/t1", "stdout", 0, 1000))
        assert (answer.data, answer.problem) == (FOREIGN, "")
    finally:
        os.close(top)
