"""Reading sandboxes: what is there, and what a task may have put in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.core.agent.effects import FileRead, ReadFile
from mesosctl.runtime import beneath, streams

WAYS = pytest.mark.parametrize("by_parts", [False, True], ids=["openat2", "by parts"])


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """One sandbox below the directory of all."""
    made = tmp_path / "sandboxes" / "F1" / "t1"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def directory(sandbox: Path) -> Iterator[int]:
    """The open directory of all sandboxes."""
    descriptor = os.open(sandbox.parent.parent, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def read(directory: int, name: str = "stdout", **more: int) -> FileRead:
    fields = {"offset": 0, "bytes_max": 100} | more
    return streams.read_file(directory, ReadFile("token", "F1/t1", name, **fields))


def test_bytes_come_with_their_place_and_whether_there_are_more(sandbox, directory):
    """The machine decides by them whether to look again."""
    (sandbox / "stdout").write_bytes(b"0123456789")
    assert read(directory, bytes_max=4) == FileRead("token", 0, b"0123", False)
    assert read(directory, offset=4) == FileRead("token", 4, b"456789", True)
    assert read(directory, offset=99) == FileRead("token", 99, b"", True)


def test_a_missing_file_and_a_missing_sandbox_are_told_apart(sandbox, directory):
    """One may still come, the other is gone."""
    found = read(directory)
    assert found.missing and not found.gone
    sandbox.rmdir()
    gone = read(directory)
    assert gone.missing and gone.gone and gone.problem == ""


def test_links_pipes_directories_and_second_names_are_not_read(sandbox, directory, tmp_path):
    """The sandbox is its user's; what we can read is not."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (sandbox / "link").symlink_to(secret)
    os.link(secret, sandbox / "name")
    os.mkfifo(sandbox / "pipe")
    (sandbox / "directory").mkdir()
    for name in ("link", "name", "pipe", "directory"):
        found = read(directory, name)
        assert found.data == b"" and found.problem.startswith(f"{name}: it is "), name
        assert not found.missing


@WAYS
def test_no_way_leads_out_of_the_sandboxes(sandbox, directory, tmp_path, by_parts):
    """Neither dots nor a linked parent, whichever way files are opened."""
    (tmp_path / "secret").write_text("secret")
    (sandbox.parent / "t2").symlink_to(tmp_path)
    ways = (
        "../secret",
        "F1/../../secret",
        "F1/t2/secret",
        "/etc/passwd",
        ".",
        "",
        "F1//t1",
        "F1/.",
    )
    for path in ways:
        with pytest.raises(OSError, match=r"."):
            os.close(beneath.open_beneath(directory, path, by_parts=by_parts))


@WAYS
def test_both_ways_open_what_is_there(sandbox, directory, by_parts):
    """Old kernels and containers that forbid openat2 read logs, too."""
    (sandbox / "stdout").write_text("here")
    descriptor = beneath.open_beneath(directory, "F1/t1/stdout", by_parts=by_parts)
    assert os.read(descriptor, 10) == b"here"
    os.close(descriptor)


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 5, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"x" * 200_000 + b"\nlast\n", 1, b"last\n"),
        (b"first\n" + b"y" * 200_000 + b"\n", 2, b"first\n" + b"y" * 200_000 + b"\n"),
    ],
    ids=["two", "no-end", "more-than-there", "none", "empty", "blank", "long-before", "long-last"],
)
def test_the_last_lines(sandbox, directory, text, lines, expected):
    """As tail -n counts them, over the bounds of blocks."""
    (sandbox / "stdout").write_bytes(text)
    assert read(directory, bytes_max=10**6, tail_lines=lines).data == expected
