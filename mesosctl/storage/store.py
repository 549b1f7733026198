"""Durable tables of plain values in SQLite: one directory, one role, one writer.

Rules:
- A transaction is on disk (WAL, synchronous=FULL) when `apply` returns; a group of operations is
  kept as a whole or not at all.
- Any failure is final: nothing more is accepted, and the process that owns the store stops. What a
  disk said no to once is not known to be there, whatever it says the second time.
- An unreadable, foreign, newer or damaged directory is refused with the name of the file. It never
  counts as an empty store: that would mean "there are no jobs".
- Every record carries a checksum, every commit its number and the digest of all records; the mark
  beside the file says which commit was acknowledged last (storage/opening.py, storage/mark.py).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from mesosctl.errors import PeerError, StorageFailed
from mesosctl.protocol.codec import pack, unpack
from mesosctl.storage import opening
from mesosctl.storage.locations import private_dir
from mesosctl.storage.mark import FILE_NAME as MARK_NAME
from mesosctl.storage.mark import Claim, Mark

FILE_NAME = "state.db"
# SQLite takes so many parameters in one statement, whatever it was built with.
_KEYS_AT_ONCE = 500
# How many transactions pass between two looks at what is free in the file; how many pages of 4 KiB
# are given back with one transaction; and how many may be free, besides a quarter of the file.
SHRINK_LOOK_EVERY = 50
SHRINK_PAGES = 500
FREE_PAGES_MIN = 1_000


class Operation(Protocol):
    """A Put or a Delete: a Put has also a `value`, a plain map."""

    @property
    def table(self) -> str:
        """The name of a table, made when it is first used."""

    @property
    def key(self) -> str:
        """The key within the table."""


class SqliteStore:
    """An open store; made by `open`. Not for use by several threads."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, claim: Claim, mark: Mark
    ) -> None:
        self.path = path
        self._connection = connection
        self._claim = claim
        self._mark = mark
        self._failed = ""
        self._applied = 0
        self._shrinks = False
        self._tables = dict.fromkeys(opening.tables_of(connection))

    @classmethod
    def open(cls, directory: Path, role: str, version: int) -> Self:
        """Open or make the store of `role` in `directory` (made private if need be).

        `version` is that of the values' form, and has to be the one on disk. Raises Refused.
        """
        private_dir(directory)
        path = directory / FILE_NAME
        if not os.path.lexists(path):
            opening.create(path, role, version)
        if not path.is_file() or path.stat().st_size == 0:
            raise opening.damaged(path, "it is empty or no file")
        try:
            connection, claim = opening.open_verified(path, role, version)
            try:
                opening.fold(connection)
                mark = Mark.open(path.with_name(MARK_NAME), claim)
                return cls(connection, path, claim, mark)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            raise opening.damaged(path, str(error)) from None

    def load(self, table: str) -> dict[str, dict[str, Any]]:
        """Everything in `table`, ordered by key; empty for a table never written.

        Raises StorageFailed when it cannot be read.
        """
        self._check_usable()
        if table not in self._tables:
            return {}
        try:
            query = f"SELECT key, value FROM {opening.table_sql(table)} ORDER BY key"  # noqa: S608 - a checked name
            return {key: unpack(value) for key, value in self._connection.execute(query)}
        except (sqlite3.Error, PeerError) as error:
            raise self._fail(f"reading {table}: {error}") from None

    def apply(self, operations: Sequence[Operation]) -> None:
        """Make all operations durable, later ones winning over earlier ones, or none of them.

        An operation with a `value` puts, one without deletes. Raises StorageFailed, and after that
        for good.
        """
        self._check_usable()
        tables: dict[str, dict[str, bytes | None]] = {}
        try:
            for operation in operations:
                value = getattr(operation, "value", None)
                packed = None if value is None else pack(value)
                tables.setdefault(operation.table, {})[operation.key] = packed
            self._connection.execute("BEGIN IMMEDIATE")
            digest = self._claim.digest
            for table, values in tables.items():
                digest = self._write(table, values, digest)
            claim = Claim(self._claim.commits + 1, digest)
            about = (claim.commits, claim.digest)
            self._connection.execute("UPDATE about SET commits = ?, digest = ?", about)
            self._connection.execute("COMMIT")
            self._claim = claim
            self._mark.tell(claim)
            self._shrink()
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as error:
            failure = self._fail(f"{type(error).__name__}: {error}")
        except StorageFailed as error:
            self._failed = error.message
            raise
        else:
            for table in tables:
                self._tables.setdefault(table)
            return
        raise failure

    def _write(self, table: str, values: dict[str, bytes | None], digest: int) -> int:
        """Write the values of one table, None for a record that goes; the digest after that."""
        name = opening.table_sql(table)
        run = self._connection
        before = 0
        if table in self._tables:
            before = self._weigh(name, list(values))
        else:
            run.execute(opening.creation_sql(table))
        put = [
            (key, value, opening.crc_of(table, key, value))
            for key, value in values.items()
            if value is not None
        ]
        if put:
            run.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?, ?)", put)  # noqa: S608 - a checked name
        if len(put) < len(values):
            gone = [(key,) for key, value in values.items() if value is None]
            run.executemany(f"DELETE FROM {name} WHERE key = ?", gone)  # noqa: S608 - a checked name
        return opening.added(digest, sum(opening.weight(crc) for _, _, crc in put), before)

    def _weigh(self, name: str, keys: list[str]) -> int:
        """What the records of these keys count for in the digest."""
        total = 0
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[at : at + _KEYS_AT_ONCE]
            query = f"SELECT crc FROM {name} WHERE key IN ({','.join('?' * len(some))})"  # noqa: S608 - a checked name
            total += sum(opening.weight(crc) for (crc,) in self._connection.execute(query, some))
        return total

    def _shrink(self) -> None:
        """Give back some of the free pages if there are many: a file must not stay at its peak."""
        self._applied += 1
        if not self._shrinks and self._applied % SHRINK_LOOK_EVERY:
            return
        free, pages = self._number("freelist_count"), self._number("page_count")
        self._shrinks = free > max(FREE_PAGES_MIN, pages // 4)
        if self._shrinks:
            # As a script, which steps it to its end: `execute` would give back a single page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _check_usable(self) -> None:
        if self._failed:
            raise StorageFailed(f"{self.path} failed before: {self._failed}", "start anew")

    def _fail(self, why: str) -> StorageFailed:
        self._failed = why
        return StorageFailed(
            f"{self.path} did not keep what it was given: {why}",
            "check the disk and its free space",
        )

    def close(self) -> None:
        """Close the store. Everything applied is on disk already."""
        self._failed = self._failed or "it is closed"
        try:
            self._connection.close()
        except sqlite3.Error:
            # The next start recovers from the write-ahead log.
            pass
        self._mark.close()
