"""The SQLite store: what was acknowledged stays, and nothing strange is opened."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.errors import Refused, StorageFailed
from mesosctl.storage.store import FILE_NAME, SqliteStore

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Put:
    table: str
    key: str
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    table: str
    key: str


def fresh(directory: Path) -> SqliteStore:
    return SqliteStore.open(directory / "state", "master", 1)


def test_what_was_applied_is_there_after_opening_again(tmp_path: Path) -> None:
    """The one thing a store is for."""
    store = fresh(tmp_path)
    value = {"name": "x", "bytes": b"\xff", "list": [1, -(2**62), None, 1.5], "text": "\udcff"}
    store.apply([Put("jobs", "b", value), Put("jobs", "a", {}), Put("tasks", "b", {"n": 1})])
    store.apply([Delete("tasks", "b"), Delete("tasks", "never there"), Put("jobs", "c", {})])
    store.close()
    again = fresh(tmp_path)
    assert again.load("jobs") == {"a": {}, "b": value, "c": {}}
    assert list(again.load("jobs")) == ["a", "b", "c"]
    assert again.load("tasks") == {}
    assert again.load("unheard_of") == {}
    again.close()


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.none() | st.integers(0, 99))
)


@given(batches=st.lists(OPERATIONS, max_size=6))
def test_any_sequence_of_batches_ends_as_in_a_dict(
    batches: list[list[tuple[str, str, int | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Grouping by table must not change what the last word on a key is."""
    directory = tmp_path_factory.mktemp("store")
    expected: dict[str, dict[str, dict[str, Any]]] = {"p": {}, "q": {}}
    store = fresh(directory)
    for batch in batches:
        operations: list[Put | Delete] = []
        for table, key, number in batch:
            if number is None:
                operations.append(Delete(table, key))
                expected[table].pop(key, None)
            else:
                operations.append(Put(table, key, {"n": number}))
                expected[table][key] = {"n": number}
        store.apply(operations)
    found = {table: store.load(table) for table in expected}
    store.close()
    shutil.rmtree(directory)
    assert found == expected


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """Half of a pass on disk would be a state that never was; after it nothing is accepted."""
    store = fresh(tmp_path)
    with pytest.raises(StorageFailed, match=FILE_NAME):
        store.apply([Put("jobs", "a", {}), Put("no table; really", "b", {})])
    for attempt in (lambda: store.apply([]), lambda: store.load("jobs")):
        with pytest.raises(StorageFailed, match="failed before"):
            attempt()
    store.close()
    again = fresh(tmp_path)
    assert again.load("jobs") == {}
    again.close()


def test_a_disk_that_is_full_is_final(tmp_path: Path) -> None:
    """Fail-stop: whatever fits afterwards is not taken either."""
    store = fresh(tmp_path)
    store.apply([Put("jobs", "kept", {})])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed, match="full"):
        store.apply([Put("jobs", "big", {"text": "x" * 100_000})])
    with pytest.raises(StorageFailed):
        store.apply([Put("jobs", "small", {})])
    store.close()
    again = fresh(tmp_path)
    assert list(again.load("jobs")) == ["kept"]
    again.close()


def test_a_value_that_cannot_be_kept_is_a_failure(tmp_path: Path) -> None:
    """A set is no plain value; nothing of its batch may be kept."""
    store = fresh(tmp_path)
    with pytest.raises(StorageFailed):
        store.apply([Put("jobs", "a", {}), Put("jobs", "b", {"set": {1}})])
    store.close()


CHILD = """
import sys
from pathlib import Path
from mesosctl.core.machine import Delete, Put
from mesosctl.storage.store import SqliteStore

store = SqliteStore.open(Path(sys.argv[1]), "master", 1)
number = int(sys.argv[2])
while True:
    number += 1
    store.apply([Put("jobs", f"{number:08}.{part}", {"n": number}) for part in range(3)]
                + ([Delete("jobs", f"{number - 5:08}.0")] if number % 7 == 0 else []))
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Killed amid commits, again and again: what was told is there, batches are whole."""
    acknowledged = 0
    for round_number in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "state"), str(acknowledged)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        for _ in range(10 + 13 * round_number):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")
        child.stdout.close()
        child.wait()
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
        store = fresh(tmp_path)
        kept = store.load("jobs")
        store.close()
        newest = max(value["n"] for value in kept.values())
        # At most the batch that was under way is more than what was told.
        assert acknowledged <= newest <= acknowledged + 1
        for number in range(1, newest + 1):
            parts = [part for part in range(3) if f"{number:08}.{part}" in kept]
            deleted = (number + 5) % 7 == 0 and number + 5 <= newest
            assert parts == ([1, 2] if deleted else [0, 1, 2]), number
        acknowledged = newest


def _content(tmp_path: Path) -> Path:
    store = fresh(tmp_path)
    store.apply([Put("jobs", f"{number:04}", {"text": "x" * 200}) for number in range(500)])
    store.close()
    return tmp_path / "state" / FILE_NAME


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is no database\n" * 100),
    "header": lambda path: _overwrite(path, 0, bytes(16)),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "pages overwritten": lambda path: _overwrite(path, 8192, b"\x5a" * 16_384),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_refused(tmp_path: Path, damage: Any) -> None:
    """Never "there are no jobs": the file and the way out are named."""
    path = _content(tmp_path)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(Refused, match="is damaged") as caught:
        fresh(tmp_path)
    assert str(path) in str(caught.value) and "backup" in caught.value.hint
    assert path.read_bytes() == before


def test_a_store_that_lost_its_file_is_refused(tmp_path: Path) -> None:
    """A log without its database means that somebody removed half of it."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    (directory / f"{FILE_NAME}-wal").write_bytes(b"remains")
    with pytest.raises(Refused, match="missing"):
        fresh(tmp_path)
    assert not (directory / FILE_NAME).exists()


def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """It is not ours to move."""
    (tmp_path / "state" / FILE_NAME).mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    with pytest.raises(Refused, match="no file"):
        fresh(tmp_path)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """It must not be written into, and it must not look empty."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    with sqlite3.connect(directory / FILE_NAME) as foreign:
        foreign.execute("CREATE TABLE jobs (id INTEGER)")
    foreign.close()
    with pytest.raises(Refused, match="another program"):
        fresh(tmp_path)


@pytest.mark.parametrize(("version", "word"), [(2, "an older"), (0, "a newer")])
def test_another_version_is_refused(tmp_path: Path, version: int, word: str) -> None:
    """A downgrade must not read what it cannot understand; both versions are named."""
    fresh(tmp_path).close()
    with pytest.raises(Refused, match=word):
        SqliteStore.open(tmp_path / "state", "master", version)


def test_the_state_of_another_role_is_refused(tmp_path: Path) -> None:
    """An agent pointed at the master's directory must not begin there."""
    fresh(tmp_path).close()
    with pytest.raises(Refused, match="of a master, not of a agent"):
        SqliteStore.open(tmp_path / "state", "agent", 1)


def test_a_half_made_store_is_made_again(tmp_path: Path) -> None:
    """Killed during its very first start, a daemon must be able to start again."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    (directory / f"{FILE_NAME}.new").write_bytes(b"half")
    (directory / f"{FILE_NAME}.new-wal").write_bytes(b"half")
    store = fresh(tmp_path)
    assert store.load("jobs") == {}
    store.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """Jobs carry environments, and those carry secrets."""
    store = fresh(tmp_path)
    store.apply([Put("jobs", "a", {})])
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    store.close()


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    """WAL with synchronous=FULL: anything less loses acknowledged commits in a power cut."""
    store = fresh(tmp_path)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_file_that_was_large_becomes_small_again(tmp_path: Path) -> None:
    """A million tasks that are forgotten must not hold their disk for ever."""
    store = SqliteStore.open(tmp_path / "s", "test", 1)
    for part in range(6):
        store.apply([Put("t", f"{part}.{n}", {"text": "x" * 2000}) for n in range(2000)])
    store.apply([Put("kept", "k", {"n": 1})])
    for part in range(6):
        store.apply([Delete("t", f"{part}.{n}") for n in range(2000)])
    for number in range(100):
        store.apply([Put("kept", "n", {"n": number})])
    store.close()
    # A thousand pages may stay free.
    assert (tmp_path / "s" / "state.db").stat().st_size < 6_000_000
    again = SqliteStore.open(tmp_path / "s", "test", 1)
    assert again.load("kept") == {"k": {"n": 1}, "n": {"n": 99}} and again.load("t") == {}
    again.close()


def test_what_is_found_at_the_opening_is_synced_before_it_is_believed(tmp_path: Path) -> None:
    """A sync that failed leaves in memory what a power cut takes: telling of it would be a lie."""
    store = fresh(tmp_path)
    store.apply([Put("jobs", "1", {"n": 1})])
    log = Path(f"{store.path}-wal")
    assert log.stat().st_size > 0
    # As if killed: no closing, which would fold the log into the file by itself.
    copy = tmp_path / "copy"
    shutil.copytree(store.path.parent, copy)
    again = SqliteStore.open(copy, "master", 1)
    assert Path(f"{again.path}-wal").stat().st_size == 0
    assert again.load("jobs") == {"1": {"n": 1}}
    again.close()
    store.close()
