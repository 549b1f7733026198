"""Damaged state: what was acknowledged is there, or the start is refused; never a traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from mesosctl.errors import Refused
from mesosctl.protocol.codec import pack
from mesosctl.storage.mark import ANY, Claim, read_mark
from mesosctl.storage.opening import APPLICATION_ID
from mesosctl.storage.store import SqliteStore
from tests.storage.damage import MAIN, MARK, WAL, Tables, after, build, copy, put, spoil

SEED = 20
DAMAGES = 1000
FLIPS = 1500


def opened(directory: Path) -> Tables | str:
    """The records in a directory, or the line with which it was refused."""
    refusals = []
    try:
        store = SqliteStore.open(directory, "framework", 1)
    except Refused as error:
        refusals.append(error)
    for refusal in refusals:
        line = str(refusal)
        assert str(directory / "state.") in line, line
        assert "\n" not in line and refusal.hint, line
        return line
    found = {table: store.load(table) for table in ("jobs", "tasks")}
    store.close()
    return found


@pytest.mark.parametrize(
    "step",
    [61, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
    ids=["some", "every"],
)
def test_the_log_cut_after_the_last_sync_loses_nothing(tmp_path: Path, step: int) -> None:
    """A power cut leaves any part of what was being written: that much must never be refused."""
    live = tmp_path / "live"
    store = SqliteStore.open(live, "framework", 1)
    for number in range(4):
        store.apply(put(number))
    synced = copy(live, tmp_path / "synced")
    store.apply(put(4))
    log = (live / WAL).read_bytes()
    store.close()
    begin = (synced / WAL).stat().st_size
    assert len(log) > begin + 8000
    for cut in {*range(begin, len(log), step), len(log) - 1, len(log)}:
        there = copy(synced, tmp_path / "there")
        (there / WAL).write_bytes(log[:cut])
        assert opened(there) == after(5 if cut == len(log) else 4), cut
        shutil.rmtree(there)


def test_the_log_cut_before_the_last_sync_is_refused(tmp_path: Path) -> None:
    """It would look like a log that ends earlier, were it not for the mark."""
    state = build(tmp_path, "framework", 1, killed=True)
    log = (state.directory / WAL).read_bytes()
    for cut in range(0, len(log), 997):
        there = copy(state.directory, tmp_path / "there")
        (there / WAL).write_bytes(log[:cut])
        line = opened(there)
        assert isinstance(line, str) and "60 were acknowledged" in line, cut
        # Whatever could still be saved from it by hand has to be there.
        assert (there / WAL).read_bytes() == log[:cut]
        shutil.rmtree(there)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_damage_is_refused_or_harmless(tmp_path: Path, killed: bool) -> None:
    """Whatever happened to the files: never a traceback, never a part of what there was."""
    state = build(tmp_path, "framework", 1, killed=killed)
    print(f"seed {SEED}")
    counts = {"refused": 0, "harmless": 0}
    for number in range(DAMAGES // 2):
        there = tmp_path / "there"
        case = spoil(state, there, SEED + killed, number)
        found = opened(there)
        if isinstance(found, str):
            counts["refused"] += 1
        else:
            assert found == state.acknowledged, case
            counts["harmless"] += 1
        shutil.rmtree(there)
    print(counts)
    assert min(counts.values()) > 10


@pytest.mark.parametrize("name", [MAIN, WAL, MARK])
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    """Disks do that. One that changes a record, or hides one, has to show."""
    state = build(tmp_path, "framework", 1, killed=name == WAL)
    whole = (state.directory / name).read_bytes()
    chance = random.Random(SEED)
    bits = [chance.randrange(len(whole) * 8) for _ in range(FLIPS // 3)]
    refused = 0
    for bit in bits:
        there = copy(state.directory, tmp_path / "there")
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        (there / name).write_bytes(spoiled)
        found = opened(there)
        refused += isinstance(found, str)
        assert isinstance(found, str) or found == state.acknowledged, bit
        shutil.rmtree(there)
    print(f"{name}: {refused} of {len(bits)} flipped bits refused")
    assert refused > len(bits) // 4


def test_whoever_wants_it_as_it_is_gets_it(tmp_path: Path) -> None:
    """After a disaster half a queue may be worth more than none; its owner says so in words."""
    state = build(tmp_path, "framework", 1, killed=True)
    (state.directory / WAL).unlink()
    assert isinstance(opened(state.directory), str)
    (state.directory / MARK).write_text(f"{ANY}\n")
    assert opened(state.directory) == after(40)
    assert opened(state.directory) == after(40)
    assert read_mark(state.directory / MARK) not in (None, Claim())


def test_a_removed_database_is_no_empty_one(tmp_path: Path) -> None:
    """After a clean stop nothing else is left of it but the mark."""
    state = build(tmp_path, "framework", 1, killed=False)
    (state.directory / MAIN).unlink()
    line = opened(state.directory)
    assert isinstance(line, str) and "missing" in line
    assert not (state.directory / MAIN).exists()


def old_layout(directory: Path) -> Path:
    """A state as it was written before records had checksums."""
    directory.mkdir(mode=0o700)
    database = sqlite3.connect(directory / MAIN, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute("PRAGMA user_version = 1")
    database.execute("CREATE TABLE about (role TEXT NOT NULL)")
    database.execute("INSERT INTO about VALUES ('framework')")
    for table, rows in after(30).items():
        database.execute(f"CREATE TABLE t_{table} (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        packed = [(key, pack(value)) for key, value in rows.items()]
        database.executemany(f"INSERT INTO t_{table} VALUES (?, ?)", packed)
    database.close()
    (directory / MAIN).chmod(0o600)
    return directory


def test_a_state_of_the_first_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    """An upgrade keeps the queue; once done, damage to it shows as to any other."""
    directory = old_layout(tmp_path / "old")
    assert opened(directory) == after(30)
    assert opened(directory) == after(30)
    database = sqlite3.connect(directory / MAIN)
    database.execute("UPDATE t_jobs SET value = x'80' WHERE key = '00003'")
    database.commit()
    database.close()
    line = opened(directory)
    assert isinstance(line, str) and "'00003'" in line


def test_killed_amid_its_upgrade_a_state_is_upgraded_later(tmp_path: Path) -> None:
    """The mark is there before the file is new, and claims nothing."""
    upgraded = old_layout(tmp_path / "done")
    opened(upgraded)
    directory = old_layout(tmp_path / "old")
    shutil.copyfile(upgraded / MARK, directory / MARK)
    assert opened(directory) == after(30)


@pytest.mark.parametrize("change", ["DELETE", "UPDATE"])
def test_a_record_that_vanishes_shows(tmp_path: Path, change: str) -> None:
    """No checksum of a record can tell of a record that is not there, or is an older one."""
    state = build(tmp_path, "framework", 1, killed=False)
    database = sqlite3.connect(state.directory / MAIN)
    if change == "DELETE":
        database.execute("DELETE FROM t_jobs WHERE key = '00007'")
    else:
        earlier = copy(state.earlier, tmp_path / "before")
        database.execute("ATTACH ? AS earlier", (str(earlier / MAIN),))
        database.execute(
            "INSERT OR REPLACE INTO t_tasks SELECT * FROM earlier.t_tasks WHERE key = '3.0'"
        )
    database.commit()
    database.close()
    line = opened(state.directory)
    assert isinstance(line, str) and "last commit" in line
