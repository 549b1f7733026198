"""Durable tables of plain values in SQLite: one directory, one role, one writer.

Rules:
- A transaction is on disk (WAL, synchronous=FULL) when `apply` returns; a group of operations is
  kept as a whole or not at all.
- Any failure is final: nothing more is accepted, and the process that owns the store stops. What a
  disk said no to once is not known to be there, whatever it says the second time.
- An unreadable, foreign, newer or damaged directory is refused with the name of the file. It never
  counts as an empty store: that would mean "there are no jobs".
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from mesosctl.errors import PeerError, Refused, StorageFailed
from mesosctl.protocol.codec import pack, unpack
from mesosctl.storage.locations import private_dir

FILE_NAME = "state.db"
# "mesc": tells our files from other SQLite databases.
APPLICATION_ID = 0x6D657363
# What SQLite keeps beside its file; without the file they are the remains of a lost one.
_REMAINS = ("-wal", "-journal")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,40}")
_DELETED = object()


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

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._failed = ""
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        self._tables = {str(name).removeprefix("t_"): None for (name,) in rows}

    @classmethod
    def open(cls, directory: Path, role: str, version: int) -> Self:
        """Open or make the store of `role` in `directory` (made private if need be).

        `version` is that of the values' form, and has to be the one on disk. Raises Refused.
        """
        private_dir(directory)
        path = directory / FILE_NAME
        if not os.path.lexists(path):
            _create(path, role, version)
        if not path.is_file() or path.stat().st_size == 0:
            raise _damaged(path, "it is empty or no file")
        try:
            connection = _connect(path)
            try:
                _verify(connection, path, role, version)
                return cls(connection, path)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _damaged(path, str(error)) from None

    def load(self, table: str) -> dict[str, dict[str, Any]]:
        """Everything in `table`, ordered by key; empty for a table never written.

        Raises StorageFailed when it cannot be read.
        """
        self._check_usable()
        if table not in self._tables:
            return {}
        try:
            rows = self._connection.execute(f"SELECT key, value FROM {_quoted(table)} ORDER BY key")  # noqa: S608 - a checked name
            return {key: unpack(value) for key, value in rows}
        except (sqlite3.Error, PeerError) as error:
            raise self._fail(f"reading {table}: {error}") from None

    def apply(self, operations: Sequence[Operation]) -> None:
        """Make all operations durable, later ones winning over earlier ones, or none of them.

        An operation with a `value` puts, one without deletes. Raises StorageFailed, and after that
        for good.
        """
        self._check_usable()
        tables: dict[str, dict[str, Any]] = {}
        try:
            for operation in operations:
                value = getattr(operation, "value", _DELETED)
                packed = value if value is _DELETED else pack(value)
                tables.setdefault(operation.table, {})[operation.key] = packed
            self._connection.execute("BEGIN IMMEDIATE")
            for table, values in tables.items():
                self._write(table, values)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as error:
            failure = self._fail(f"{type(error).__name__}: {error}")
        else:
            for table in tables:
                self._tables.setdefault(table)
            return
        raise failure

    def _write(self, table: str, values: dict[str, Any]) -> None:
        name = _quoted(table)
        run = self._connection
        if table not in self._tables:
            run.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, value BLOB NOT NULL)"
            )
        put = [(key, value) for key, value in values.items() if value is not _DELETED]
        if put:
            run.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", put)  # noqa: S608 - a checked name
        if len(put) < len(values):
            gone = [(key,) for key, value in values.items() if value is _DELETED]
            run.executemany(f"DELETE FROM {name} WHERE key = ?", gone)  # noqa: S608 - a checked name

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
            return


# --- opening --------------------------------------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.0)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _create(path: Path, role: str, version: int) -> None:
    """Make the file complete beside its place first: half a store would be a damaged one."""
    for remains in _REMAINS:
        if os.path.lexists(f"{path}{remains}"):
            raise _damaged(path, f"it is missing, but {path.name}{remains} is there")
    scratch = path.with_name(f"{path.name}.new")
    try:
        for stale in (scratch, *(Path(f"{scratch}{remains}") for remains in (*_REMAINS, "-shm"))):
            stale.unlink(missing_ok=True)
        os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = _connect(scratch)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {int(version)}")
            connection.execute("CREATE TABLE about (role TEXT NOT NULL)")
            connection.execute("INSERT INTO about VALUES (?)", (role,))
            connection.execute("COMMIT")
        finally:
            # Closing folds the write-ahead log into the file.
            connection.close()
        scratch.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (sqlite3.Error, OSError) as error:
        raise Refused(f"{path}: cannot be made: {error}", "check the disk and its space") from None


def _verify(connection: sqlite3.Connection, path: Path, role: str, version: int) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise Refused(
            f"{path} is a database of another program", "name a state directory of its own"
        )
    found = _pragma(connection, "user_version")
    if found != version:
        newer = isinstance(found, int) and found > version
        raise Refused(
            f"{path} has form {found}, written by {'a newer' if newer else 'an older'} mesosctl;"
            f" this one reads form {version}",
            "start the mesosctl that wrote it, or name another state directory",
        )
    owner = connection.execute("SELECT role FROM about").fetchone()
    if owner != (role,):
        raise Refused(
            f"{path} is the state of a {owner[0] if owner else 'nobody'}, not of a {role}",
            "name the right state directory",
        )
    check = _pragma(connection, "quick_check")
    if check != "ok":
        raise _damaged(path, str(check).splitlines()[0])
    if _pragma(connection, "journal_mode = WAL") != "wal":
        raise Refused(f"{path}: this file system cannot hold a write-ahead log", "use a local disk")


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return row[0] if row else None


def _damaged(path: Path, why: str) -> Refused:
    return Refused(
        f"{path} is damaged: {why}",
        "restore it from a backup, or move the directory away to begin with nothing",
    )


def _quoted(table: str) -> str:
    if not _TABLE.fullmatch(table):
        raise ValueError(f"not a table name: {table[:40]!r}")
    return f"t_{table}"
