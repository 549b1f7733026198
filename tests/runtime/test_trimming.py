"""Streams held at their limit while somebody writes them, and read with what is missing."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.core.agent.effects import ReadFile
from mesosctl.runtime import streams, trimming

LIMIT = 256 * 1024
LINE = b"%07d\n"


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    made = tmp_path / "sandboxes" / "F1" / "t1"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def directory(sandbox: Path) -> Iterator[int]:
    descriptor = os.open(sandbox, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def told_nothing(text: str) -> None:
    raise AssertionError(text)


def write(sandbox: Path, first: int, count: int) -> None:
    with (sandbox / "stdout").open("ab") as file:
        file.write(b"".join(LINE % number for number in range(first, first + count)))


def occupied(path: Path) -> int:
    return path.stat().st_blocks * 512


def read_all(sandbox: Path, **more: int) -> tuple[bytes, int]:
    """Everything that is left of the stream, and how much is told to be missing."""
    parent = os.open(sandbox.parent.parent, os.O_RDONLY | os.O_DIRECTORY)
    data, dropped, offset = b"", 0, 0
    try:
        while True:
            effect = ReadFile("t", "F1/t1", "stdout", offset, 48 * 1024, **more)
            found = streams.read_file(parent, effect)
            assert found.problem == ""
            data += found.data
            dropped += found.dropped
            offset = found.offset + len(found.data)
            more = {}
            if found.at_end:
                return data, dropped
    finally:
        os.close(parent)


def holds_holes(directory: int) -> None:
    """Skip where the temporary directory cannot do what is tested."""
    descriptor = os.open("probe", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, b"x" * 65536)
        trimming.punch(descriptor, 0, 32768)
    except OSError as error:
        pytest.skip(f"no holes can be punched here: {error}")
    finally:
        os.close(descriptor)
        os.unlink("probe", dir_fd=directory)


def test_the_oldest_goes_the_beginning_and_the_newest_stay(sandbox, directory):
    """Offsets stay what they were, and a reader is told how much is missing."""
    holds_holes(directory)
    write(sandbox, 0, 20_000)
    assert not trimming.trim(directory, "stdout", 10 * LIMIT, told_nothing)
    write(sandbox, 20_000, 80_000)
    assert trimming.trim(directory, "stdout", LIMIT, told_nothing)
    path = sandbox / "stdout"
    assert path.stat().st_size == 800_000
    assert LIMIT // 2 < occupied(path) <= LIMIT
    write(sandbox, 100_000, 10)
    data, dropped = read_all(sandbox)
    assert data.startswith(LINE % 0) and data.endswith(LINE % 100_009)
    assert len(data) + dropped == 800_080 and b"\0" not in data
    # Once more: the hole only grows.
    write(sandbox, 100_010, 30_000)
    assert trimming.trim(directory, "stdout", LIMIT, told_nothing)
    assert occupied(path) <= LIMIT
    assert not trimming.trim(directory, "stdout", LIMIT, told_nothing)


def test_the_last_lines_are_found_across_the_hole(sandbox, directory):
    """What was given back holds no lines, whatever it reads as."""
    holds_holes(directory)
    write(sandbox, 0, 100_000)
    trimming.trim(directory, "stdout", LIMIT, told_nothing)
    data, dropped = read_all(sandbox, tail_lines=3)
    assert (data, dropped) == (b"".join(LINE % number for number in (99_997, 99_998, 99_999)), 0)
    data, _ = read_all(sandbox, tail_lines=1_000_000)
    assert data.startswith(LINE % 0) and data.endswith(LINE % 99_999)


def test_nothing_but_a_stream_of_the_sandboxs_owner_is_touched(sandbox, directory, tmp_path):
    """A link, a second name or a pipe in its place leaves all others as they are."""
    other = tmp_path / "other"
    other.write_bytes(b"x" * (2 * LIMIT))
    before = occupied(other)
    (sandbox / "link").symlink_to(other)
    os.link(other, sandbox / "name")
    os.mkfifo(sandbox / "pipe")
    for name in ("link", "name", "pipe", "none"):
        trimming.trim(directory, name, LIMIT, told_nothing)
    assert other.read_bytes() == b"x" * (2 * LIMIT) and occupied(other) == before
    if os.geteuid() == 0:
        write(sandbox, 0, 100_000)
        os.chown(sandbox / "stdout", 65534, 65534)
        trimming.trim(directory, "stdout", LIMIT, told_nothing)
        assert (sandbox / "stdout").read_bytes().count(b"\0") == 0


def test_a_file_system_without_holes_is_told_of_and_served(sandbox, directory, monkeypatch):
    """The limit is kept in another way, never silently not at all."""

    def cannot(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(trimming, "punch", cannot)
    write(sandbox, 0, 100_000)
    told: list[str] = []
    assert trimming.trim(directory, "stdout", LIMIT, told.append)
    assert len(told) == 1 and "cannot give back" in told[0]
    assert occupied(sandbox / "stdout") <= LIMIT
    data, dropped = read_all(sandbox)
    assert data.startswith(LINE % 0) and data.endswith(LINE % 99_999)
    assert len(data) + dropped == 800_000 and b"\0" not in data


def test_a_reader_never_sees_what_is_being_given_back(sandbox, directory):
    """Another process punches while the agent reads: no zeros, every line in its order."""
    holds_holes(directory)
    done = threading.Event()

    def grow() -> None:
        for first in range(0, 400_000, 4_000):
            write(sandbox, first, 4_000)
            trimming.trim(directory, "stdout", LIMIT, told_nothing)
        done.set()

    write(sandbox, 0, 0)
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while not done.is_set():
            data, _ = read_all(sandbox)
            assert b"\0" not in data
    finally:
        writer.join()
    data, dropped = read_all(sandbox)
    assert len(data) + dropped == 3_200_000
