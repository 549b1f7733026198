"""A session with ZooKeeper: the only module that knows kazoo, which is imported when it is needed.

Rules:
- Every call has a time limit and ends in a result or in one of the three errors below; nothing
  waits for ever for a connection that may come back.
- kazoo's threads call us (`on_lost`, watches) and must not be held up: what they call only sets a
  flag or posts to a loop.
- A session that was lost is never mended: whoever held it closes it and begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mesosctl.errors import MesosctlError, Refused, Unreachable
from mesosctl.limits import ZK_SESSION_S
from mesosctl.model.masters import ZkPlace

if TYPE_CHECKING:
    import logging

    from kazoo.client import KazooClient

# Reads under way at the same time; each is an answer of up to a record's size.
_PIPELINE = 500
_RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0}


class ZkAway(Unreachable):
    """ZooKeeper does not answer, or not in time; whether a write was made is not known."""


class ZkConflict(MesosctlError):
    """A condition of a transaction does not hold: nothing of it was done."""


class ZkExpired(MesosctlError):
    """ZooKeeper has ended our session, and removed what was ephemeral in it."""


class Transaction:
    """Changes that are made together or not at all; see ZkSession.commit."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []

    def check(self, path: str, version: int) -> Transaction:
        """The node has to be there in this version."""
        self.steps.append(("check", path, version))
        return self

    def create(self, path: str, value: bytes = b"", *, ephemeral: bool = False) -> Transaction:
        """Make a node, which must not be there; `ephemeral`: it goes with our session."""
        self.steps.append(("create", path, value, None, ephemeral))
        return self

    def set(self, path: str, value: bytes, version: int = -1) -> Transaction:
        """Change a node that is there, in this version unless that is -1."""
        self.steps.append(("set_data", path, value, version))
        return self

    def delete(self, path: str) -> Transaction:
        """Remove a node that is there."""
        self.steps.append(("delete", path))
        return self


class ZkSession:
    """One session at `place`; every path is below the place's own."""

    def __init__(self, place: ZkPlace, timeout_s: float = ZK_SESSION_S) -> None:
        self.place = place
        self.timeout_s = timeout_s
        self._on_lost: Callable[[], None] = lambda: None
        self._on_return: Callable[[], None] = lambda: None
        self._kazoo = _kazoo()
        self._client: KazooClient = self._kazoo.client.KazooClient(
            ",".join(place.hosts),
            timeout=timeout_s,
            connection_retry=dict(_RETRY),
            command_retry={"max_tries": 0},
            logger=_silent(),
        )

    def start(self, limit_s: float) -> None:
        """Connect, and make the path of the place. Raises ZkAway, and is closed then."""
        live = self._client.start_async()
        live.wait(limit_s)
        try:
            if not self._client.connected:
                raise self._away()
            self._client.add_listener(self._state_changed)
            self.ensure("")
        except BaseException:
            self.close()
            raise

    def on_lost(self, call: Callable[[], None]) -> None:
        """Call this, from a thread of kazoo's, once the session is over for good."""
        self._on_lost = call

    def on_return(self, call: Callable[[], None]) -> None:
        """Call this, from a thread of kazoo's, when there is a connection again.

        What changed meanwhile, no watch has told: kazoo does not set them anew at another server.
        """
        self._on_return = call

    def _state_changed(self, state: str) -> None:
        states = self._kazoo.protocol.states.KazooState
        if state == states.LOST:
            self._on_lost()
        elif state == states.CONNECTED:
            self._on_return()

    def close(self) -> None:
        """End the session: what was ephemeral is gone at once. Idempotent, and never raises."""
        if self._client.connected:
            self._stop()
        else:
            # It takes its time to find out that there is nobody to say goodbye to.
            threading.Thread(target=self._stop, name="zk-close", daemon=True).start()

    def _stop(self) -> None:
        try:
            self._client.stop()
            self._client.close()
        except Exception:
            return

    # --- reading ----------------------------------------------------------------------------------

    def get(
        self, path: str, watch: Callable[[object], None] | None = None
    ) -> tuple[bytes, int] | None:
        """Value and version of a node, None when it is missing; `watch` is called on a change."""
        try:
            value, stat = self._wait(self._client.get_async(self._path(path), watch))
        except self._kazoo.exceptions.NoNodeError:
            if watch is None:
                return None
            stat = self._wait(self._client.exists_async(self._path(path), watch))
            # It has come between the two questions: it is read by whoever the watch wakes.
            if stat is not None:
                watch(None)
            return None
        return bytes(value), int(stat.version)

    def children(self, path: str, watch: Callable[[object], None] | None = None) -> list[str]:
        """The names of a node's children, sorted; none when it is missing."""
        try:
            return sorted(self._wait(self._client.get_children_async(self._path(path), watch)))
        except self._kazoo.exceptions.NoNodeError:
            return []

    def get_many(self, paths: Sequence[str]) -> list[bytes]:
        """The values of nodes that are there, many at a time. Raises ZkConflict for a missing."""
        values: list[bytes] = []
        for start in range(0, len(paths), _PIPELINE):
            some = paths[start : start + _PIPELINE]
            asked = [self._client.get_async(self._path(path)) for path in some]
            try:
                values.extend(bytes(self._wait(answer)[0]) for answer in asked)
            except self._kazoo.exceptions.NoNodeError as error:
                raise ZkConflict(f"a node vanished while it was read: {error}") from None
        return values

    # --- writing ----------------------------------------------------------------------------------

    def ensure(self, path: str) -> None:
        """Have a node there, with all above it."""
        self._wait(self._client.ensure_path_async(self._path(path)))

    def create_sequential(self, path: str, value: bytes) -> str:
        """Make an ephemeral node whose name is `path` and the next number; the name it got."""
        made = self._client.create_async(
            self._path(path), value, ephemeral=True, sequence=True, makepath=True
        )
        return str(self._wait(made)).rpartition("/")[2]

    def commit(self, transaction: Transaction, limit_s: float) -> None:
        """Make all its changes, agreed on by a majority of the servers.

        Raises ZkConflict when none was made, ZkAway when it is not known whether they were, and
        ZkExpired.
        """
        request = self._client.transaction()
        for name, path, *arguments in transaction.steps:
            getattr(request, name)(self._path(path), *arguments)
        results = self._wait(request.commit_async(), limit_s)
        bad = [result for result in results if isinstance(result, Exception)]
        exceptions = self._kazoo.exceptions
        passed_over = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
        for result in bad:
            if not isinstance(result, passed_over):
                raise ZkConflict(f"{type(result).__name__} in a transaction")
        if bad:
            raise ZkConflict("a transaction was rolled back")

    # --- waiting ----------------------------------------------------------------------------------

    def _path(self, path: str) -> str:
        return f"{self.place.path}{path}"

    def _wait(self, answer: Any, limit_s: float | None = None) -> Any:
        exceptions = self._kazoo.exceptions
        try:
            return answer.get(timeout=self.timeout_s if limit_s is None else limit_s)
        except (exceptions.SessionExpiredError, exceptions.SessionMovedError) as error:
            raise ZkExpired(f"ZooKeeper ended the session: {type(error).__name__}") from None
        except (
            exceptions.ConnectionLoss,
            exceptions.ConnectionClosedError,
            exceptions.OperationTimeoutError,
            self._kazoo.handlers.threading.KazooTimeoutError,
        ):
            raise self._away() from None
        except exceptions.NoNodeError:
            raise
        except exceptions.ZookeeperError as error:
            raise ZkConflict(f"ZooKeeper says {type(error).__name__}: {error}") from None

    def _away(self) -> ZkAway:
        return ZkAway(
            f"ZooKeeper at {','.join(self.place.hosts)} does not answer",
            "is it running? does a majority of its servers?",
        )


def require_kazoo() -> None:
    """Raise Refused, saying how to install it, where kazoo is missing."""
    _kazoo()


def _kazoo() -> Any:
    try:
        import kazoo.client
        import kazoo.exceptions
        import kazoo.handlers.threading
        import kazoo.protocol.states
    except ImportError:
        raise Refused(
            "zk:// needs the library kazoo, which is not installed", "pip install 'mesosctl[zk]'"
        ) from None
    return kazoo


def _silent() -> logging.Logger:
    """kazoo tells of every dropped connection; what matters of that we say ourselves."""
    # Late, as kazoo itself: a master on its own has no use for it.
    import logging

    logger = logging.getLogger("mesosctl.kazoo")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
