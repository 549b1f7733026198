"""The disk of a simulated process: tables of records, what of them is synced, and when it says no.

Rules: what was written is seen by the next life of the process, synced or not; a power cut takes
what was not synced. A disk that is full or broken refuses whole transactions, as SQLite does; what
was under way when a broken one failed may be there afterwards or not. A kernel takes what a sync
failed on for clean. So it can be read, and neither it nor what is written behind it is made safe by
any later sync, until the process starts anew and has it written once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from mesosctl.core.machine import Delete, Effect, Put
from mesosctl.protocol.codec import pack, unpack

Row = dict[str, Any]
# Judges look at the same few records again and again.
_ROWS_KEPT = 1_024


class DiskFailed(Exception):
    """A transaction could not be made durable."""


@lru_cache(_ROWS_KEPT)
def _decoded(raw: bytes) -> Row:
    row: Row = unpack(raw)
    return row


class Disk:
    """See the module. `problem`: why it refuses; empty while it works."""

    def __init__(self) -> None:
        self.problem = ""
        self._tables: dict[str, dict[str, bytes]] = {}
        # What stood there before, of everything that was not synced, oldest first.
        self._unsynced: list[tuple[str, str, bytes | None]] = []
        self._sync_failed = False

    def rows(self, table: str) -> dict[str, bytes]:
        """The raw records of a table."""
        return self._tables.get(table, {})

    def row(self, table: str, key: str) -> Row | None:
        """One record, to be looked at only; None when it is not there."""
        raw = self.rows(table).get(key)
        return None if raw is None else _decoded(raw)

    def tables(self) -> dict[str, dict[str, Row]]:
        """Everything, decoded."""
        return {
            table: {key: unpack(value) for key, value in rows.items()}
            for table, rows in self._tables.items()
        }

    def write(self, kept: Iterable[Effect]) -> None:
        """Write one transaction, which is not synced yet. Raises DiskFailed."""
        if self.problem:
            raise DiskFailed(self.problem)
        for effect in kept:
            if isinstance(effect, Put):
                self._set(effect.table, effect.key, pack(effect.value))
            elif isinstance(effect, Delete):
                self._set(effect.table, effect.key, None)

    def _set(self, table: str, key: str, value: bytes | None) -> None:
        rows = self._tables.setdefault(table, {})
        self._unsynced.append((table, key, rows.get(key)))
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value

    def clear(self) -> None:
        """Everything is removed, durably."""
        self._tables.clear()
        self.open()

    def open(self) -> None:
        """What a new life finds is made safe before it is believed, as storage/store.py does."""
        self._sync_failed = False
        self.sync()

    def sync(self) -> None:
        """Make everything written so far safe from a power cut, unless a sync had failed."""
        if not self._sync_failed:
            self._unsynced.clear()

    def fail_sync(self) -> None:
        """A sync fails: what was written is there until a power cut."""
        self._sync_failed = True

    def cut_power(self) -> None:
        """Forget what was not synced."""
        self._sync_failed = False
        while self._unsynced:
            table, key, before = self._unsynced.pop()
            if before is None:
                self._tables[table].pop(key, None)
            else:
                self._tables[table][key] = before
