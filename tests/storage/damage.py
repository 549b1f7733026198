"""Ways in which a state directory is found damaged, drawn from a seed.

A `Case` is the story of one damage. `build` makes directories as a killed and as a stopped daemon
leave them, with what was acknowledged; `spoil` applies a case to a copy.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesosctl.core.machine import Put
from mesosctl.storage.mark import FILE_NAME as MARK
from mesosctl.storage.store import FILE_NAME as MAIN
from mesosctl.storage.store import SqliteStore

WAL = f"{MAIN}-wal"
FILES = (MAIN, WAL, MARK)
Tables = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class State:
    """A directory, what was acknowledged in it, and copies of it from earlier."""

    directory: Path
    acknowledged: Tables
    earlier: Path


@dataclass(frozen=True, slots=True)
class Case:
    """One damage, in words."""

    number: int
    text: str


def put(number: int) -> list[Put]:
    """The operations of one batch: a job, and a task that is written again and again."""
    return [
        Put("jobs", f"{number:05}", {"name": f"job {number}", "argv": ["x" * 600]}),
        Put("tasks", f"{number % 7}.0", {"state": "running", "attempt": number}),
    ]


def after(batches: int) -> Tables:
    """What so many batches leave."""
    tables: Tables = {"jobs": {}, "tasks": {}}
    for number in range(batches):
        for operation in put(number):
            tables[operation.table][operation.key] = dict(operation.value)
    return tables


def copy(source: Path, target: Path) -> Path:
    """The files of a state directory, without what is only of this boot."""
    target.mkdir(mode=0o700, parents=True)
    for name in FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return target


def build(place: Path, role: str, version: int, *, killed: bool, batches: int = 60) -> State:
    """A state of so many batches: two thirds in the file, the rest in its log if it was killed."""
    live = place / "live"
    store = SqliteStore.open(live, role, version)
    for number in range(batches):
        if number == batches // 2:
            copy(live, place / "earlier")
        if number == batches * 2 // 3:
            store.close()
            store = SqliteStore.open(live, role, version)
        store.apply(put(number))
    if killed:
        copy(live, place / "kept")
    store.close()
    if not killed:
        copy(live, place / "kept")
    shutil.rmtree(live)
    return State(place / "kept", after(batches), place / "earlier")


def _foreign(path: Path) -> None:
    scratch = path.with_name("foreign")
    database = sqlite3.connect(scratch)
    database.execute("CREATE TABLE t_jobs (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
    database.execute("INSERT INTO t_jobs VALUES ('1', x'80')")
    database.commit()
    database.close()
    scratch.replace(path)


def _newer(path: Path) -> None:
    with path.open("r+b") as file:
        # Where SQLite keeps user_version.
        file.seek(60)
        file.write((77_001).to_bytes(4, "big"))


def _directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null")


WHOLE: dict[str, Callable[[Path], object]] = {
    "is another program's database": _foreign,
    "is of a newer form": _newer,
    "is empty": lambda path: path.write_bytes(b""),
    "is a directory": _directory,
    "is a link to nothing": _link,
    "is text": lambda path: path.write_text("this is not what you look for\n" * 50),
    "is removed": lambda path: path.unlink(missing_ok=True),
    "is noise": lambda path: path.write_bytes(random.Random(1).randbytes(50_000)),
}


def spoil(state: State, target: Path, seed: int, number: int) -> Case:
    """Copy `state` to `target` and damage it as case `number` of `seed` says."""
    chance = random.Random(f"{seed}/{number}")
    copy(state.directory, target)
    there = [name for name in (MAIN, WAL) if (target / name).exists()]
    names = chance.choice([[MAIN], [WAL], [MAIN, WAL], [MAIN], [WAL], [MARK], list(FILES)])
    names = [name for name in names if name in (*there, MARK)] or [MAIN]
    kind = chance.choice(["cut", "zeros", "zeros", "noise", "whole", "earlier"])
    if kind == "whole":
        what = chance.choice(list(WHOLE))
        if what == "is removed":
            # A directory with nothing in it is a new one.
            names = names[:1]
        for name in names:
            WHOLE[what](target / name)
        return Case(number, f"{' and '.join(names)} {what}")
    if kind == "earlier":
        # The mark is of the present: an old backup was put over a part of it.
        names = [name for name in names if name != MARK] or [MAIN]
        for name in names:
            shutil.copyfile(state.earlier / name, target / name)
        return Case(number, f"{' and '.join(names)} of an earlier time")
    told = []
    for name in names:
        size = (target / name).stat().st_size
        at = chance.randrange(size)
        if kind == "cut":
            os.truncate(target / name, at)
            told.append(f"{name} cut at {at} of {size}")
            continue
        length = min(chance.choice([1, 16, 512, 4096, 4120, 20_000]), size - at)
        with (target / name).open("r+b") as file:
            file.seek(at)
            file.write(bytes(length) if kind == "zeros" else chance.randbytes(length))
        told.append(f"{name} has {length} bytes of {kind} at {at} of {size}")
    return Case(number, ", ".join(told))
