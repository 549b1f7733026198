"""What a sandbox occupies: counted as the file system does, whatever the task does meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesosctl.isolation import Limits, Usage, disk
from mesosctl.isolation.disk import DiskUsage, measure

MIB = 1 << 20
FAR = 1 << 40
NOTHING = Usage(0.0, 0.0, 0, None, 0)


def size(path: Path, enough_bytes: int = FAR) -> int:
    """The whole of a walk."""
    walk = measure(str(path), enough_bytes)
    while True:
        try:
            next(walk)
        except StopIteration as done:
            return int(done.value)


def fill(path: Path, count: int) -> None:
    """Write whole blocks."""
    path.write_bytes(b"x" * count)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def test_blocks_are_counted_once_and_links_not_followed(tmp_path: Path) -> None:
    """As du does: two names are one file, a hole is nothing, a link is not where it leads."""
    (outside := tmp_path / "outside").mkdir()
    fill(outside / "huge", 8 * MIB)
    (inside := tmp_path / "inside" / "deep").mkdir(parents=True)
    fill(inside / "file", 2 * MIB)
    os.link(inside / "file", inside / "again")
    (inside / "link").symlink_to(outside)
    with (inside / "hole").open("wb") as file:
        file.truncate(64 * MIB)
    assert 2 * MIB <= size(tmp_path / "inside") < 2 * MIB + 100_000


def test_what_lies_deeper_than_a_path_reaches_is_found(tmp_path: Path) -> None:
    """A task could hide everything below a chain of directories longer than the kernel takes."""
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 200
    for _ in range(60):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    descriptor = os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here)
    os.write(descriptor, b"x" * MIB)
    os.fsync(descriptor)
    before = len(os.listdir("/proc/self/fd"))
    try:
        assert size(tmp_path) >= MIB
        assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"
    finally:
        os.close(descriptor)
        os.close(here)


def test_a_walk_ends_once_there_is_enough(tmp_path: Path) -> None:
    """A task cannot make us count for longer than its limit is worth."""
    for number in range(50):
        (tmp_path / f"d{number}").mkdir()
        fill(tmp_path / f"d{number}" / "file", MIB)
    assert MIB < size(tmp_path, MIB) < 10 * MIB


def test_a_walk_is_done_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of an executor must not wait for a million files."""
    monkeypatch.setattr(disk, "_BUDGET_S", 0.0)
    for number in range(2000):
        (tmp_path / f"f{number}").touch()
    fill(tmp_path / "large", 2 * MIB)
    isolator = DiskUsage()
    isolator.prepare("f/t", Limits(1000, None, 10, disk_bytes=MIB, sandbox=str(tmp_path)))
    rounds = 0
    while not (found := isolator.watch()):
        rounds += 1
        assert rounds < 100
    assert rounds >= 2
    assert (found[0].container, found[0].kind, found[0].limit_bytes) == ("f/t", "disk", MIB)
    assert found[0].peak_bytes >= 2 * MIB


def test_the_last_look_sees_what_no_sample_saw(tmp_path: Path) -> None:
    """A task that ended between two samples above its limit must not be told as within it."""
    isolator = DiskUsage()
    isolator.prepare("f/t", Limits(1000, None, 10, disk_bytes=MIB, sandbox=str(tmp_path)))
    assert isolator.watch() == []
    fill(tmp_path / "large", 3 * MIB)
    used = isolator.usage("f/t", NOTHING)
    assert used.disk_bytes >= 3 * MIB and used.disk_limit_bytes == MIB
    isolator.cleanup("f/t")
    assert isolator.usage("f/t", NOTHING) == NOTHING


def test_tasks_without_a_limit_are_not_measured(tmp_path: Path) -> None:
    """Most tasks have none, and a walk is not free."""
    isolator = DiskUsage()
    isolator.prepare("f/t", Limits(1000, None, 10, sandbox=str(tmp_path)))
    fill(tmp_path / "large", 3 * MIB)
    assert isolator.watch() == [] and isolator.usage("f/t", NOTHING) == NOTHING
