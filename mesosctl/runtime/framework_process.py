"""The batch framework as a process: its state directory, keys and sockets around the machine.

Rules: the state directory is locked for the life of the process: one queue has one scheduler. It
has a key pair of its own, kept there, by which commands know it. Who may connect is the master's to
say; a key that the master does not vouch for stays outside.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable
from pathlib import Path

from mesosctl.core.batch.keys import KeyAsked, KeyDecided
from mesosctl.core.batch.machine import LINK, BatchMachine
from mesosctl.core.batch.records import CANCELS, JOBS, META, TASKS
from mesosctl.core.batch.summaries import SUMMARIES
from mesosctl.core.machine import Event
from mesosctl.errors import MesosctlError, StorageFailed, UsageError
from mesosctl.limits import FAILOVER_TIMEOUT_S, LOG_KEEP_S, REFUSE_S
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import FrameworkId, is_ident, is_role
from mesosctl.model.records import dataclass
from mesosctl.runtime import collector, notify
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.masters import link_to_master
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyFile, load_key, load_or_make_server_key
from mesosctl.storage.locations import private_dir, state_dir
from mesosctl.storage.lock import DirectoryLock
from mesosctl.storage.store import SqliteStore

STATE_VERSION = 1
# The socket for commands; the link to the master is LINK, and peers are told apart by these names.
DOMAIN = "commands"
_WILDCARDS = ("0.0.0.0", "*", "[::]", "::")  # noqa: S104 - recognised here, not listened on


@dataclass(frozen=True, slots=True)
class FrameworkOptions:
    """What `mesosctl framework` was told. Times in seconds.

    `key` is the key file by which the master knows this framework; empty `master` means the address
    in that file. `work_dir` None: the usual place. Empty `user`: whoever runs the process. Details
    of ended jobs are kept for `log_keep_s`.
    """

    key: Path
    master: str = ""
    name: str = "batch"
    role: str = "*"
    work_dir: Path | None = None
    listen: str = "tcp://127.0.0.1:0"
    advertise: str = ""
    failover_timeout_s: float = FAILOVER_TIMEOUT_S
    filter_s: float = REFUSE_S
    log_keep_s: float = LOG_KEEP_S
    user: str = ""


def run_framework(options: FrameworkOptions) -> int:
    """Run the batch framework until it is stopped; its exit code.

    Raises MesosctlError when it cannot begin: a directory in use, an address taken, a broken file.
    """
    if not is_ident(options.name):
        raise UsageError(f"{options.name[:40]!r} is no name for a framework")
    if not is_role(options.role):
        raise UsageError(f"{options.role[:40]!r} is no role")
    key = load_key(options.key)
    master = options.master or key.master
    if not master:
        raise UsageError("the key file names no master", "say --master ADDRESS")
    work_dir = private_dir(options.work_dir or state_dir("framework"))
    with DirectoryLock.take(work_dir):
        store = SqliteStore.open(work_dir, "framework", STATE_VERSION)
        try:
            return _run(options, key, master, work_dir, store)
        finally:
            store.close()


def _run(
    options: FrameworkOptions, key: KeyFile, master: str, work_dir: Path, store: SqliteStore
) -> int:
    info = FrameworkInfo(
        FrameworkId(""),
        options.name,
        options.user or getpass.getuser(),
        options.role,
        options.failover_timeout_s,
    )
    machine = _load(info, store, master, options)
    own = load_or_make_server_key(work_dir, options.name)
    loop = Loop(machine, role="framework", store=store)
    loop.authority(DOMAIN, lambda asked: _ask(loop, asked))
    loop.on_effect(KeyDecided, lambda decided: loop.resolve(decided.key, decided.allowed, DOMAIN))
    address = _bind(loop, options.listen, own, work_dir / "address")
    told = options.advertise or _reachable(address)
    machine.listen_at(told, own.pair.public)
    link_to_master(loop, LINK, master, key)
    loop.on_refused(lambda link, why: _refused(loop, why))
    loop.log("info", f"commands are served on {told}, the master is {master}")
    loop.on_ready, loop.on_stop = notify.ready, notify.stopping
    return collector.run_calmly(loop)


def _bind(loop: Loop, listen: str, own: KeyFile, remembered: Path) -> str:
    """Listen, where any port will do at the one of the last time: commands that wait come back."""
    if listen.endswith(":0") and remembered.exists():
        before = remembered.read_text(encoding="ascii", errors="replace").strip()
        if before.rpartition(":")[0] == listen.rpartition(":")[0]:
            try:
                return loop.bind(DOMAIN, ServerSpec(before, own.pair, DOMAIN))
            except MesosctlError:
                # Somebody else has it now.
                loop.log("info", f"{before} is taken: listening elsewhere")
    address = loop.bind(DOMAIN, ServerSpec(listen, own.pair, DOMAIN))
    remembered.write_text(address + "\n", encoding="ascii")
    return address


def _load(
    info: FrameworkInfo, store: SqliteStore, master: str, options: FrameworkOptions
) -> BatchMachine:
    tables = {table: store.load(table) for table in (JOBS, CANCELS, TASKS, SUMMARIES, META)}
    try:
        return BatchMachine(
            info,
            tables,
            new_id,
            master=master,
            filter_s=options.filter_s,
            log_keep_s=options.log_keep_s,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        # Nothing is guessed about a queue: jobs that vanish silently would be worse than no start.
        raise StorageFailed(
            f"the queue on disk cannot be read: {type(error).__name__}: {error}",
            "restore the state directory from a backup, or name another by --work-dir",
        ) from error


def _ask(loop: Loop, key: str) -> None:
    """Have the master asked about a key; the verdict comes as KeyDecided."""
    loop.post(KeyAsked(key))


def _refused(loop: Loop, why: str) -> Iterable[Event]:
    loop.log("warning", f"the master does not let this framework in: {why}")
    return ()


def _reachable(address: str) -> str:
    """An address that others can connect to: a wildcard is replaced by this host's name."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return f"tcp://{socket.gethostname()}:{port}" if host in _WILDCARDS else address
