"""How the file of a store is made, judged and brought up to date before anything in it is believed.

    about      one row: role, layout, commits, digest
    t_<table>  key, value, crc: a record, and the checksum over the table's name, its key and value

Rules: `commits` counts transactions; `digest` is the sum over all records of `weight(crc)`, so a
record that is missing, doubled or of another time shows as much as one that was changed. Both have
to agree with the records, and be at least what the mark beside the file claims. What does not is
refused with the name of the file and never repaired: nobody knows what else is wrong.
"""

from __future__ import annotations

import os
import re
import sqlite3
import zlib
from pathlib import Path
from urllib.parse import quote

from mesosctl.errors import Refused
from mesosctl.storage.mark import ANY, Claim, Mark, read_mark
from mesosctl.storage.mark import FILE_NAME as MARK_NAME

# "mesc": tells our files from other SQLite databases.
APPLICATION_ID = 0x6D657363
# What the store itself puts around the values. 0: without checksums and counts; brought up to date.
LAYOUT = 1
# user_version holds both forms, so that whatever knows only the values' form refuses the file.
LAYOUT_STEP = 1000
_DIGEST_RANGE = 2**63
# What SQLite keeps beside its file; without the file they are the remains of a lost one.
_REMAINS = ("-wal", "-journal")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,40}")


def table_sql(table: str) -> str:
    """The name of a table in SQL. Raises ValueError for what is none."""
    if not _TABLE.fullmatch(table):
        raise ValueError(f"not a table name: {table[:40]!r}")
    return f"t_{table}"


def creation_sql(table: str) -> str:
    """What makes the table if need be. One tree, so that no second one can contradict it."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table_sql(table)}"
        " (key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
    )


def crc_of(table: str, key: str, value: bytes) -> int:
    """The checksum of a record; the table and key are in it, so that it fits no other place."""
    prefix = f"{table}\0{key}\0".encode("utf-8", "surrogateescape")
    return zlib.crc32(value, zlib.crc32(prefix))


def weight(crc: int) -> int:
    """What a record adds to the digest: it counts, even if its checksum is 0."""
    return crc + 2**32


def added(digest: int, more: int, less: int = 0) -> int:
    """The digest after records of these weights came and went."""
    return (digest + more - less) % _DIGEST_RANGE


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.0)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


# --- making ---------------------------------------------------------------------------------------


def create(path: Path, role: str, version: int) -> None:
    """Make the file complete beside its place first: half a store would be a damaged one.

    Raises Refused, also when there are remains of a file that was there before.
    """
    mark_path = path.with_name(MARK_NAME)
    for remains in _REMAINS:
        if os.path.lexists(f"{path}{remains}"):
            raise damaged(path, f"it is missing, but {path.name}{remains} is there")
    if os.path.lexists(mark_path) and read_mark(mark_path) not in (None, Claim()):
        raise damaged(path, f"it is missing, but {mark_path.name} is there")
    scratch = path.with_name(f"{path.name}.new")
    try:
        for stale in (scratch, *(Path(f"{scratch}{remains}") for remains in (*_REMAINS, "-shm"))):
            stale.unlink(missing_ok=True)
        os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = connect(scratch)
        try:
            # Only possible before the first table is made (SqliteStore gives back what is free).
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            if _pragma(connection, "journal_mode = WAL") != "wal":
                raise Refused(
                    f"{path}: this file system cannot hold a write-ahead log", "use a local disk"
                )
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _describe(connection, role, version, Claim())
            connection.execute("COMMIT")
        finally:
            # Closing folds the write-ahead log into the file.
            connection.close()
        # Before the file: one without its mark would be taken for damaged.
        Mark.open(mark_path, Claim()).close()
        scratch.rename(path)
        sync_directory(path.parent)
    except (sqlite3.Error, OSError) as error:
        raise Refused(f"{path}: cannot be made: {error}", "check the disk and its space") from None


def _describe(connection: sqlite3.Connection, role: str, version: int, claim: Claim) -> None:
    connection.execute(f"PRAGMA user_version = {LAYOUT * LAYOUT_STEP + int(version)}")
    connection.execute(
        "CREATE TABLE about (role TEXT NOT NULL, commits INTEGER NOT NULL, digest INTEGER NOT NULL)"
    )
    connection.execute("INSERT INTO about VALUES (?, ?, ?)", (role, claim.commits, claim.digest))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- judging --------------------------------------------------------------------------------------


def open_verified(path: Path, role: str, version: int) -> tuple[sqlite3.Connection, Claim]:
    """A connection to the file and what it holds, after everything in it was found right.

    A file of an earlier layout is brought up to date. Raises Refused, sqlite3.Error.
    """
    # Whatever is refused stays as it is: a connection that may write would fold the write-ahead log
    # into the file, even into one of another program, and remove it.
    reader = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True, timeout=2.0)
    try:
        layout = _judge_form(reader, path, role, version)
        held = _judge_records(reader, path) if layout == LAYOUT else None
    finally:
        reader.close()
    connection = connect(path)
    try:
        return connection, held or _upgrade(connection, path, role, version)
    except BaseException:
        connection.close()
        raise


def _judge_form(reader: sqlite3.Connection, path: Path, role: str, version: int) -> int:
    """The layout of a file of this role whose pages are in order."""
    layout = _judge_kind(reader, path, version)
    check = _pragma(reader, "quick_check")
    if check != "ok":
        raise damaged(path, " ".join(str(check).split()))
    if _pragma(reader, "journal_mode") != "wal":
        raise damaged(path, "it has no write-ahead log")
    owners = reader.execute("SELECT role FROM about").fetchall()
    if owners != [(role,)]:
        raise Refused(
            f"{path} is the state of a {owners[0][0] if owners else 'nobody'}, not of a {role}",
            "name the right state directory",
        )
    return layout


def _judge_records(reader: sqlite3.Connection, path: Path) -> Claim:
    """What the file holds, if that is what was acknowledged."""
    commits, digest = reader.execute("SELECT commits, digest FROM about").fetchone()
    held = Claim(commits, digest)
    if _sum_up(reader, path) != digest:
        raise damaged(path, "its records are not those of its last commit")
    claim = read_mark(path.with_name(MARK_NAME))
    if claim is not None and held.commits < claim.commits:
        raise damaged(
            path,
            f"it holds {held.commits} commits, {claim.commits} were acknowledged:"
            f" {path.name}-wal was cut or changed, or an older file was put here",
        )
    if claim is not None and held.commits == claim.commits and held != claim:
        raise damaged(path, f"its records are not those that {MARK_NAME} names")
    return held


def _judge_kind(connection: sqlite3.Connection, path: Path, version: int) -> int:
    """The layout of the file, if it is one of ours that can be read."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise Refused(
            f"{path} is a database of another program", "name a state directory of its own"
        )
    found = _pragma(connection, "user_version")
    number = found if isinstance(found, int) and found >= 0 else 0
    layout, form = divmod(number, LAYOUT_STEP)
    if layout > LAYOUT or form != version:
        newer = layout > LAYOUT or form > version
        raise Refused(
            f"{path} has form {form}{f' in layout {layout}' if layout > LAYOUT else ''}, written by"
            f" {'a newer' if newer else 'an older'} mesosctl; this one reads form {version}",
            "start the mesosctl that wrote it, or name another state directory",
        )
    return layout


def tables_of(connection: sqlite3.Connection) -> list[str]:
    """The tables of records, in order."""
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 't_*' ORDER BY name"
    )
    return [str(name).removeprefix("t_") for (name,) in rows]


def _sum_up(connection: sqlite3.Connection, path: Path) -> int:
    """The digest of all records, each of which is compared with its checksum."""
    digest = 0
    for table in tables_of(connection):
        sums = 0
        query = f"SELECT key, value, crc FROM {table_sql(table)}"  # noqa: S608 - a checked name
        for key, value, crc in connection.execute(query):
            if type(key) is not str or type(value) is not bytes or crc_of(table, key, value) != crc:
                raise damaged(path, f"record {key!r:.80} of {table} is not what was written")
            sums += weight(crc)
        digest = added(digest, sums)
    return digest


def _upgrade(connection: sqlite3.Connection, path: Path, role: str, version: int) -> Claim:
    """Give the records of a file without them checksums, in one transaction; what it holds then."""
    # First, and claiming nothing: the file must never be new without a mark.
    Mark.open(path.with_name(MARK_NAME), Claim()).close()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TABLE about")
    digest = 0
    for table in tables_of(connection):
        name = table_sql(table)
        connection.execute(f"ALTER TABLE {name} RENAME TO old")
        connection.execute(creation_sql(table))
        rows = connection.execute("SELECT key, value FROM old").fetchall()
        summed = [(key, value, crc_of(table, key, value)) for key, value in rows]
        connection.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", summed)  # noqa: S608 - a checked name
        connection.execute("DROP TABLE old")
        digest = added(digest, sum(weight(crc) for _, _, crc in summed))
    claim = Claim(0, digest)
    _describe(connection, role, version, claim)
    connection.execute("COMMIT")
    return claim


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return row[0] if row else None


def damaged(path: Path, why: str) -> Refused:
    """What is said about a file that is not as it was left."""
    return Refused(
        f"{path} is damaged: {why}",
        "restore the directory from a backup, or move it away to begin with nothing;"
        f" docs/failure.md says when to write {ANY} into {MARK_NAME}",
    )


def fold(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the file, durably. Raises sqlite3.Error.

    The process before may have ended because the disk failed while it synced. What it wrote then is
    seen here all the same, out of the memory of the kernel, and a power cut would take it back. So
    it is written once more before anything that is told rests on it.
    """
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("its write-ahead log is in use")
