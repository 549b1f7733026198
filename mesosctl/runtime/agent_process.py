"""The agent as a process: its options, directories, store, sockets and the loop around its machine.

Rules: the work directory is locked before anything in it is read. `state` below it is ours alone;
`sandboxes` can be passed through by the users of tasks, but not listed. The data socket has a key
pair of its own, kept with the state; the key file that the operator gave only proves who we are to
the master. A change that would break a promise to running tasks is refused before anything starts.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from dataclasses import replace
from pathlib import Path

from mesosctl import __version__
from mesosctl.core.agent import AgentMachine, AgentOptions, AgentRecords
from mesosctl.core.agent.machine import DATA_PREFIX, EXECUTORS_PREFIX, MASTER
from mesosctl.core.agent.records import FORM, TABLES, Origin
from mesosctl.core.agent.recovery import is_foreign, misfit, other_isolation
from mesosctl.errors import MesosctlError, Refused, UsageError
from mesosctl.isolation import Isolation
from mesosctl.limits import LOG_KEEP_S, LOG_MAX_BYTES
from mesosctl.model.attributes import Attributes
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.digests import sha256_hex
from mesosctl.model.ids import AgentId, is_ident
from mesosctl.model.masters import is_zk, split_masters
from mesosctl.model.records import dataclass
from mesosctl.plugins.isolators import open_isolation
from mesosctl.runtime import collector, notify, probe, volumes
from mesosctl.runtime.agent_deeds import AgentDeeds, Executing, Places
from mesosctl.runtime.endpoints import parse_address
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.logs import Logger
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.masters import link_to_master
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyFile, load_key, load_or_make_server_key
from mesosctl.storage.locations import private_dir, runtime_dir, socket_path, state_dir
from mesosctl.storage.lock import DirectoryLock
from mesosctl.storage.store import SqliteStore

DOMAIN = "agent-data"
# Below the work directory: what the isolators of the agent and of its executors share.
STATE_NAME = "isolators"
VOLUMES_NAME = "volumes"
MASTER_PORT = 5050
_HINT = "give the old options, or end what is left of it with --recover cleanup"
_EVERYWHERE = ("0.0.0.0", "::", "*")  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What `mesosctl agent` was told; empty texts mean the default.

    `master` is tcp://host:port; without it the one in the key file. `recover` is reconnect or
    cleanup. `ends_tasks`: tasks end with the agent, as in `mesosctl local`. `log_keep_s`: how long
    sandboxes are kept, in seconds; `log_max_bytes`: what each stream in one may occupy.
    """

    key: Path | None = None
    master: str = ""
    name: str = ""
    resources: str = ""
    reserve: str = ""
    attributes: str = ""
    isolation: str = "auto"
    listen: str = "tcp://127.0.0.1:0"
    advertise: str = ""
    root_tasks: bool = True
    cgroup_root: str = "mesosctl"
    work_dir: Path | None = None
    recover: str = "reconnect"
    log_keep_s: float = LOG_KEEP_S
    log_max_bytes: int = LOG_MAX_BYTES
    check: bool = False
    ends_tasks: bool = False
    log_level: str = "info"


def run_agent(settings: AgentSettings) -> int:
    """Run an agent until it is stopped; its exit code. Errors are one line on stderr."""
    log = Logger("agent", settings.log_level)
    try:
        if settings.check:
            return _check(settings)
        work_dir = _work_dir(settings)
        with DirectoryLock.take(work_dir / "state"):
            store = SqliteStore.open(work_dir / "state", "agent", FORM)
            try:
                return _run(settings, work_dir, store, log)
            finally:
                store.close()
    except MesosctlError as error:
        log("error", str(error))
        return error.exit_code


def _check(settings: AgentSettings) -> int:
    """Print what the agent would be, and start nothing."""
    info = _describe(settings, settings.work_dir or state_dir("agent"))
    isolation = _probe_isolation(settings, AgentId(""))
    lines = [
        f"name: {info.name}",
        f"resources: {info.total}",
        f"attributes: {Attributes.from_wire(info.attributes)}",
        f"isolation: {','.join(isolation.names)}",
        *(f"not used: {reason}" for reason in isolation.fell_back),
        *(f"not enforced: {sentence}" for sentence in isolation.not_enforced),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _work_dir(settings: AgentSettings) -> Path:
    """The work directory with what is in it; of root's agent, users can reach their sandboxes."""
    work_dir = (settings.work_dir or state_dir("agent")).absolute()
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        found = work_dir.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise Refused(
                f"{work_dir} is not ours alone to write", "name another --work-dir, or chmod it"
            )
        passable = 0o711 if os.geteuid() == 0 else 0o700
        work_dir.chmod(passable)
        private_dir(work_dir / "state")
        (work_dir / "sandboxes").mkdir(exist_ok=True)
        (work_dir / "sandboxes").chmod(passable)
    except OSError as error:
        raise Refused(
            f"{work_dir}: {error.strerror}", "name another directory with --work-dir"
        ) from None
    return work_dir


def _closed_parent(work_dir: Path) -> Path | None:
    """The directory that keeps other users from their sandboxes; None where nothing does."""
    if os.geteuid() != 0:
        return None
    closed = (parent for parent in work_dir.parents if not parent.stat().st_mode & 0o001)
    return next(closed, None)


def _describe(settings: AgentSettings, work_dir: Path) -> AgentInfo:
    """The agent as it presents itself, but for its addresses. Raises UsageError."""
    name = settings.name or probe.host_name()
    if not is_ident(name):
        raise UsageError(f"--name {name[:40]!r} is no name", "use only [A-Za-z0-9._-]")
    total = probe.total_resources(settings.resources, settings.reserve, probe.look(work_dir))
    attributes = Attributes.parse(settings.attributes) if settings.attributes else Attributes()
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return AgentInfo(
        # Ours to choose, so that an answer to the first registration that is lost does not leave
        # two ids behind; the one on record is preferred.
        AgentId("A" + new_id()[-10:]),
        name,
        total,
        attributes.to_wire(),
        boot_id=probe.boot_id(),
        user=user,
        version=__version__,
    )


def _probe_isolation(settings: AgentSettings, agent_id: AgentId) -> Isolation:
    """What the isolation is going to be. Before we have an id it is tried under a passing one.

    That one is of the work directory: if we are killed here, the next start removes what is left.
    """
    work_dir = (settings.work_dir or state_dir("agent")).absolute()
    digest = sha256_hex(os.fsencode(work_dir))[:10]
    name = agent_id or f"probe-{digest}"
    isolation = open_isolation(
        settings.isolation,
        root=settings.cgroup_root,
        agent_id=name,
        state_dir=str(work_dir / STATE_NAME),
    )
    isolation.close_root(remove=not agent_id)
    return isolation


def _open(settings: AgentSettings, names: str, work_dir: Path, agent_id: AgentId) -> Isolation:
    shared = str(work_dir / STATE_NAME)
    return open_isolation(names, root=settings.cgroup_root, agent_id=agent_id, state_dir=shared)


def _key_file(settings: AgentSettings) -> KeyFile:
    if settings.key is None:
        raise Refused("an agent needs a key", "make one on the master's host: mesosctl keygen")
    key = load_key(settings.key)
    if not key.server_key:
        raise Refused(f"{settings.key} names no server key", "use the file that keygen wrote")
    return key


def _master_address(settings: AgentSettings, key: KeyFile) -> str:
    masters = settings.master or key.master
    if not masters:
        raise UsageError("no master is named", "use --master tcp://HOST:PORT")
    if is_zk(masters):
        return masters
    found = (parse_address(one, default_port=MASTER_PORT) for one in split_masters(masters))
    return ",".join(
        f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}" for host, port in found
    )


def _records(store: SqliteStore, work_dir: Path) -> AgentRecords:
    """What an earlier run left, and what of its volumes is not there any more."""
    records = AgentRecords.load({table: store.load(table) for table in TABLES})
    return replace(records, lost=volumes.missing(work_dir / VOLUMES_NAME, records.volumes))


def _run(settings: AgentSettings, work_dir: Path, store: SqliteStore, log: Logger) -> int:
    key = _key_file(settings)
    master = _master_address(settings, key)
    records = _records(store, work_dir)
    info = _describe(settings, work_dir)
    origin = Origin("" if is_zk(master) else key.server_key, settings.cgroup_root)
    cleanup = settings.recover == "cleanup"
    problem = "" if cleanup else misfit(records, info, origin)
    if problem:
        raise Refused(problem, _HINT)
    if cleanup and records.meta.isolation:
        # What is to be ended is found by what it was started under, whatever is asked for now.
        old = records.meta.origin.cgroup_root or settings.cgroup_root
        names = ",".join(records.meta.isolation)
        settings = replace(settings, isolation=names, cgroup_root=old)
    isolation = _probe_isolation(settings, records.meta.agent_id)
    other = "" if cleanup else other_isolation(records, info, isolation.names)
    if other:
        now = ",".join(isolation.names)
        raise Refused(f"tasks of an earlier run are isolated by {other}, not {now}", _HINT)
    names = ",".join(isolation.names)
    log("info", f"isolation: {names}")
    for sentence in (*isolation.fell_back, *isolation.not_enforced):
        log("warning", f"isolation: {sentence}")
    closed = _closed_parent(work_dir)
    if closed is not None:
        text = f"tasks of other users cannot reach their sandboxes: {closed} is closed to them"
        log("warning", f"{text}; name another --work-dir")
    info = replace(info, isolation=isolation.names, not_enforced=isolation.not_enforced)
    machine = AgentMachine(
        info,
        records,
        new_id,
        AgentOptions(
            settings.root_tasks,
            cleanup,
            settings.ends_tasks,
            settings.log_keep_s,
            settings.log_max_bytes,
            origin,
            cleanup and is_foreign(records, origin),
        ),
    )
    loop = Loop(machine, role="agent", store=store, log=log)
    try:
        _connect(settings, work_dir, loop, machine, key, master)
        executing = Executing(
            names,
            settings.cgroup_root,
            work_dir / STATE_NAME,
            lambda agent_id: _open(settings, names, work_dir, agent_id),
            settings.root_tasks,
        )
        deeds = AgentDeeds(loop, _places(work_dir), executing)
    except BaseException:
        loop.close()
        raise
    loop.authority(DOMAIN, deeds.may_connect)
    loop.on_ready, loop.on_stop = notify.ready, notify.stopping
    try:
        return collector.run_calmly(loop)
    finally:
        deeds.close(remove=machine.is_closing and not machine.executors)
        # Executors that live on find the socket of the next run under the same name.
        _socket(work_dir).unlink(missing_ok=True)


def _places(work_dir: Path) -> Places:
    log, volumes_dir = work_dir / "executors.log", work_dir / VOLUMES_NAME
    return Places(work_dir / "sandboxes", log, _socket(work_dir), volumes_dir)


def _socket(work_dir: Path) -> Path:
    return socket_path(runtime_dir(), "agent", str(work_dir.resolve()))


def _connect(
    settings: AgentSettings,
    work_dir: Path,
    loop: Loop,
    machine: AgentMachine,
    key: KeyFile,
    master: str,
) -> None:
    """Bind both sockets, aim the link, and tell the machine where its data is read."""
    loop.bind(EXECUTORS_PREFIX.rstrip(":"), ServerSpec(f"ipc://{_socket(work_dir)}"))
    own = load_or_make_server_key(work_dir / "state", machine.info.name).pair
    bound = loop.bind(DATA_PREFIX.rstrip(":"), ServerSpec(settings.listen, own, DOMAIN))
    address = _advertised(settings.advertise, bound)
    machine.info = replace(machine.info, address=address, public_key=own.public)
    link_to_master(loop, MASTER, master, key)
    loop.log("info", f"data at {address}; connecting to {master}")


def _advertised(advertise: str, bound: str) -> str:
    """The address that others are told: as given, with the port that was bound where none is."""
    host, port = parse_address(bound)
    if advertise:
        host, port = parse_address(advertise, default_port=port)
    elif host in _EVERYWHERE:
        host = socket.getfqdn()
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
