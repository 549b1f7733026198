"""The lock of a directory: one holder, named to the second one, dropped by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesosctl.errors import Refused
from mesosctl.storage.lock import DirectoryLock, holder

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, time
from pathlib import Path
from mesosctl.storage.lock import DirectoryLock
lock = DirectoryLock.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    """Two masters on one state would be two truths; the first is killed, its lock is gone."""
    directory = tmp_path / "state"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert holder(directory) == child.pid
    with pytest.raises(Refused, match=f"in use by process {child.pid}"):
        DirectoryLock.take(directory)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert holder(directory) is None
    with DirectoryLock.take(directory):
        assert holder(directory) == os.getpid()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    """Also in the same process, and also when the old text in it was longer."""
    lock = DirectoryLock.take(tmp_path / "state")
    lock.release()
    lock.release()
    path = tmp_path / "state" / "lock"
    path.write_text("99999999999999\n")
    with DirectoryLock.take(tmp_path / "state"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_lock_without_a_number_is_still_a_lock(tmp_path: Path) -> None:
    """The holder may be between the two steps of taking it."""
    with DirectoryLock.take(tmp_path / "state"):
        (tmp_path / "state" / "lock").write_text("")
        assert holder(tmp_path / "state") == 0
        with pytest.raises(Refused, match="another process"):
            DirectoryLock.take(tmp_path / "state")


def test_nobody_holds_what_does_not_exist(tmp_path: Path) -> None:
    """Asking makes nothing."""
    assert holder(tmp_path / "nothing") is None
    assert not (tmp_path / "nothing").exists()


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    """Nobody makes us write into a file of his choice."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(Refused, match="cannot be opened"):
        DirectoryLock.take(tmp_path / "state")
    assert not (tmp_path / "victim").exists()
