"""The master's registry in ZooKeeper: the same tables of plain values, one node a record.

    /registry/<table>/<key>     the packed value

Rules:
- Every write is a transaction that also checks the version of /epoch. Whoever leads next raises it
  before it reads, so a write of a master that was deposed fails, and none can come after the read.
- A pass is one transaction. Only one too large for a request of ZooKeeper's is split, in order; if
  the leader dies in between, its successor finds a beginning of it, of which nothing was promised.
- Any failure is final, as with a disk: the master that owns the store stops leading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote, unquote

from mesosctl.errors import MesosctlError, PeerError, StorageFailed
from mesosctl.protocol.codec import pack, unpack
from mesosctl.runtime.zookeeper import Transaction, ZkSession
from mesosctl.storage.store import Operation

REGISTRY = "/registry"
EPOCH = "/epoch"
# ZooKeeper refuses requests of 1 MiB; paths and headers come on top of the values.
TRANSACTION_BYTES_MAX = 600 * 1024
VALUE_BYTES_MAX = 900 * 1024
_STEP_BYTES = 100
_NO_KEY = "%"
_DELETED = object()


class Guard(Protocol):
    """What knows for how long we may still believe to lead."""

    def begin(self) -> float:
        """The present moment, for `confirm`; raises when we lead no longer."""
        ...

    def confirm(self, begun: float) -> None:
        """A majority has agreed to something that was begun then."""
        ...

    def left_s(self) -> float:
        """How long one may wait for the next confirmation."""
        ...


class ZkStore:
    """The registry as the leader of `epoch_version` (of the node /epoch) found it, and writes it.

    Raises ZkAway, ZkExpired, ZkConflict, or StorageFailed for values that cannot be read.
    """

    def __init__(self, session: ZkSession, epoch_version: int, guard: Guard) -> None:
        self._session = session
        self._epoch_version = epoch_version
        self._guard = guard
        self._failed = ""
        self._loaded: dict[str, dict[str, dict[str, Any]]] = {}
        # Which nodes are there: ZooKeeper knows to make and to change, but not to do either.
        self._known: dict[str, set[str]] = {}
        for table in session.children(REGISTRY):
            self._loaded[table] = self._read(table)
            self._known[table] = set(self._loaded[table])

    def _read(self, table: str) -> dict[str, dict[str, Any]]:
        names = self._session.children(f"{REGISTRY}/{table}")
        values = self._session.get_many([f"{REGISTRY}/{table}/{name}" for name in names])
        found = {}
        for name, value in zip(names, values, strict=True):
            try:
                found[_key(name)] = unpack(value)
            except PeerError as error:
                raise StorageFailed(
                    f"{self._session.place}{REGISTRY}/{table}/{name} is damaged: {error}",
                    "restore it, or remove that node",
                ) from None
        return dict(sorted(found.items()))

    def load(self, table: str) -> dict[str, dict[str, Any]]:
        """Everything in `table` as it was when we began to lead, ordered by key."""
        self._check_usable()
        return dict(self._loaded.get(table, {}))

    def apply(self, operations: Sequence[Operation]) -> None:
        """Make all operations durable, later ones winning over earlier ones.

        Raises StorageFailed, and after that for good.
        """
        self._check_usable()
        try:
            self._apply(operations)
        except (MesosctlError, ValueError, TypeError, OverflowError) as error:
            self._failed = str(error) or type(error).__name__
            raise StorageFailed(f"the registry in ZooKeeper was not written: {error}") from None

    def _apply(self, operations: Sequence[Operation]) -> None:
        last: dict[tuple[str, str], Any] = {}
        for operation in operations:
            value = getattr(operation, "value", _DELETED)
            packed = value if value is _DELETED else pack(value)
            last.pop((operation.table, operation.key), None)
            last[operation.table, operation.key] = packed
        fresh = dict.fromkeys(table for table, _ in last if table not in self._known)
        steps: list[tuple[int, Callable[[Transaction], object]]] = []
        for table in fresh:
            if "/" in table or not table:
                raise ValueError(f"not a table name: {table[:40]!r}")
            steps.append((_STEP_BYTES, _creates(f"{REGISTRY}/{table}", b"")))
        for (table, key), packed in last.items():
            step = self._step(table, key, packed)
            if step is not None:
                steps.append(step)
        for group in _in_pieces(steps, TRANSACTION_BYTES_MAX):
            transaction = Transaction().check(EPOCH, self._epoch_version)
            for add in group:
                add(transaction)
            begun = self._guard.begin()
            self._session.commit(transaction, self._guard.left_s())
            self._guard.confirm(begun)
        for (table, key), packed in last.items():
            known = self._known.setdefault(table, set())
            (known.discard if packed is _DELETED else known.add)(key)

    def _step(
        self, table: str, key: str, packed: Any
    ) -> tuple[int, Callable[[Transaction], object]] | None:
        path = f"{REGISTRY}/{table}/{_name(key)}"
        is_there = key in self._known.get(table, ())
        if packed is _DELETED:
            return (_STEP_BYTES + len(path), _deletes(path)) if is_there else None
        if len(packed) > VALUE_BYTES_MAX:
            raise ValueError(f"{table} {key[:40]}: {len(packed)} bytes are too many for a node")
        size = _STEP_BYTES + len(path) + len(packed)
        return size, (_sets if is_there else _creates)(path, packed)

    @property
    def is_failed(self) -> bool:
        """Whether a write has failed, or the store is closed."""
        return bool(self._failed)

    def _check_usable(self) -> None:
        if self._failed:
            raise StorageFailed(f"the registry failed before: {self._failed}", "start anew")

    def close(self) -> None:
        """Take no more writes. The session belongs to whoever made it."""
        self._failed = self._failed or "it is closed"


def _creates(path: str, value: bytes) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.create(path, value)


def _sets(path: str, value: bytes) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.set(path, value)


def _deletes(path: str) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.delete(path)


def _name(key: str) -> str:
    """The name of a key's node: `.`, `..` and empty names mean something else, slashes divide."""
    return quote(key, safe="", errors="surrogateescape").replace(".", "%2E") or _NO_KEY


def _key(name: str) -> str:
    return "" if name == _NO_KEY else unquote(name, errors="surrogateescape")


def _in_pieces(
    steps: Sequence[tuple[int, Callable[[Transaction], object]]], bytes_max: int
) -> list[list[Callable[[Transaction], object]]]:
    """Steps, each with its size, in groups of at most `bytes_max`; one that is larger is alone."""
    groups: list[list[Callable[[Transaction], object]]] = []
    room = 0
    for size, step in steps:
        if not groups or size > room:
            groups.append([])
            room = bytes_max
        groups[-1].append(step)
        room -= size
    return groups
