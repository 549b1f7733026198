"""A master as a process: its state directory, keys and sockets around the machine.

Rules: the state directory is locked for the life of the process and its epoch is one higher than
that of the start before. Nothing listens beyond loopback unless the operator says so. The first
start makes a key for whoever started it, and `local.json` tells that user's commands where it is.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path

from mesosctl import __version__
from mesosctl.allocation.base import Allocator
from mesosctl.core.machine import Event
from mesosctl.core.master import KeysChanged, MasterMachine, RoleSettings
from mesosctl.core.master.registry import AGENTS, ROLES
from mesosctl.errors import MesosctlError
from mesosctl.limits import AGENT_TIMEOUT_S, ALLOCATION_INTERVAL_S, OFFER_TIMEOUT_S
from mesosctl.model.cluster import Principal
from mesosctl.model.masters import ZkPlace
from mesosctl.model.records import dataclass
from mesosctl.plugins.allocators import make_allocator
from mesosctl.runtime import collector, notify
from mesosctl.runtime.child import FrameworkChild
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.logs import Logger
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.seats import Seats, check_place
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.runtime.zk_election import Seat
from mesosctl.runtime.zk_store import ZkStore
from mesosctl.storage.keys import (
    AuthorizedKeys,
    KeyFile,
    append_authorized,
    load_key,
    load_or_make_server_key,
    make_keypair,
    save_key,
)
from mesosctl.storage.locations import keys_dir, private_dir, runtime_dir, state_dir
from mesosctl.storage.lock import DirectoryLock
from mesosctl.storage.store import SqliteStore

STATE_VERSION = 1
DOMAIN = "master"
BATCH = "batch"
KEYS_LOOK_S = 1.0
CHILD_STOP_S = 3.0
AUTHORIZED = "authorized_keys.toml"


@dataclass(frozen=True, slots=True)
class MasterOptions:
    """What `mesosctl master` was told. Times in seconds; `work_dir` None: the usual place.

    `zk`: where in ZooKeeper leadership and registry are; then no batch framework is started.
    """

    listen: str = "tcp://127.0.0.1:5050"
    advertise: str = ""
    work_dir: Path | None = None
    cluster: str = "default"
    allocator: str = "drf"
    allocation_interval_s: float = ALLOCATION_INTERVAL_S
    offer_timeout_s: float = OFFER_TIMEOUT_S
    agent_timeout_s: float = AGENT_TIMEOUT_S
    with_framework: bool = True
    announce: bool = True
    zk: ZkPlace | None = None
    log_keep_s: float | None = None
    roles: Mapping[str, RoleSettings] = field(default_factory=dict)
    preemption: bool = False


def run_master(options: MasterOptions) -> int:
    """Run a master until it is stopped; its exit code.

    Raises MesosctlError when it cannot begin: a directory in use, an address taken, a broken file.
    """
    allocator = make_allocator(options.allocator)
    work_dir = private_dir(options.work_dir or state_dir("master"))
    with DirectoryLock.take(work_dir):
        if options.zk is not None:
            return _run_among_several(options, options.zk, work_dir)
        store = SqliteStore.open(work_dir, "master", STATE_VERSION)
        try:
            return _run(options, allocator, work_dir, store)
        finally:
            store.close()


def _run_among_several(options: MasterOptions, place: ZkPlace, work_dir: Path) -> int:
    """Stand by and lead in turns, until told to stop; see seats.py."""
    check_place(place, work_dir, options.listen, options.advertise)
    own = load_or_make_server_key(work_dir, options.cluster)
    directory = keys_dir() if options.work_dir is None else work_dir
    key_path = directory / f"{options.cluster}.key"
    if key_path.exists() or not (work_dir / AUTHORIZED).exists():
        # A key made on a later master's first start would be unknown to those before it.
        _first_key(options, work_dir, own, str(place))
    options = replace(options, with_framework=False)

    def lead(seat: Seat, listen: str) -> int:
        now = replace(options, listen=listen, announce=False)
        return _run(now, make_allocator(options.allocator), work_dir, seat.store, seat)

    def authorise(loop: Loop) -> None:
        _let_known_keys_in(loop, AuthorizedKeys(work_dir / AUTHORIZED))

    log = Logger("master")
    told = f", key file {key_path}" if key_path.exists() else ""
    log("info", f"cluster {options.cluster} at {place}{told}")
    log("info", "no batch framework is started with --zk: run mesosctl framework on one host")
    announces = options.announce and key_path.exists()
    announcement = _announce(str(place), key_path) if announces else None
    # A master that stands by is ready: it answers with who leads.
    notify.ready()
    try:
        return Seats(place, own, options.cluster, options.listen, authorise).run(lead)
    finally:
        notify.stopping()
        if announcement is not None:
            announcement.unlink(missing_ok=True)


def _run(
    options: MasterOptions,
    allocator: Allocator,
    work_dir: Path,
    store: SqliteStore | ZkStore,
    seat: Seat | None = None,
) -> int:
    known = store.load("meta").get("cluster", {})
    keys = AuthorizedKeys(work_dir / AUTHORIZED)
    own = load_or_make_server_key(work_dir, options.cluster)
    machine = MasterMachine(
        cluster=seat.cluster if seat else str(known.get("cluster") or new_id()),
        epoch=seat.epoch if seat else int(known.get("epoch", 0)) + 1,
        cluster_name=options.cluster,
        version=__version__,
        allocator=allocator,
        allocator_name=options.allocator,
        new_id=new_id,
        principals=keys.principals,
        role_options=options.roles,
        tables={table: store.load(table) for table in (AGENTS, ROLES)},
        offer_timeout_s=options.offer_timeout_s,
        agent_timeout_s=options.agent_timeout_s,
        allocation_interval_s=options.allocation_interval_s,
        child=BATCH if options.with_framework else "",
        preemption=options.preemption,
    )
    gate = seat.fence.check if seat else lambda: None
    loop = Loop(machine, role="master", store=store, gate=gate)
    _let_known_keys_in(loop, keys)
    address = loop.bind(DOMAIN, ServerSpec(options.listen, own.pair, DOMAIN))
    master = options.advertise or address
    if seat is not None:
        return _lead(loop, seat, master, own)
    key_path = _first_key(options, work_dir, own, master)
    keys.refresh()
    machine.state.principals = keys.principals
    announcement = _announce(master, key_path) if options.announce else None
    loop.log("info", f"cluster {options.cluster} listens on {address}, key file {key_path}")
    loop.log("info", f"allocation module {options.allocator}")
    if options.announce and announcement is None:
        loop.log("info", "another master of this user is announced: name this one by --master")
    child = _child(options, work_dir, loop, master, key_path) if options.with_framework else None
    notify.claim()
    loop.on_ready, loop.on_stop = notify.ready, notify.stopping
    try:
        if child is not None:
            child.start()
        return collector.run_calmly(loop)
    finally:
        if announcement is not None:
            announcement.unlink(missing_ok=True)
        if child is not None:
            child.leave(CHILD_STOP_S)


def _child(
    options: MasterOptions, work_dir: Path, loop: Loop, master: str, key_path: Path
) -> FrameworkChild:
    directory = state_dir("framework") if options.work_dir is None else work_dir / "framework"
    arguments = ["--master", master, "--key", str(key_path), "--work-dir", str(directory)]
    if options.log_keep_s is not None:
        arguments += ["--log-keep", f"{options.log_keep_s:.3f}s"]
    return FrameworkChild(loop, directory, arguments, loop.log)


def _lead(loop: Loop, seat: Seat, address: str, own: KeyFile) -> int:
    """Run the loop of an elected master until it is told to stop, or deposed."""
    seat.on_deposed(lambda: loop.call(tuple))
    loop.log("info", f"leads cluster {seat.cluster} from {address}, in epoch {seat.epoch}")
    try:
        seat.announce(address, own.pair.public)
    except MesosctlError as error:
        seat.fence.lose(str(error))
    return collector.run_calmly(loop)


def _let_known_keys_in(loop: Loop, keys: AuthorizedKeys) -> None:
    loop.authority(DOMAIN, lambda key: _is_known(loop, keys, key))
    loop.every(KEYS_LOOK_S, lambda: _keys_changed(loop, keys))


def _is_known(loop: Loop, keys: AuthorizedKeys, key: str) -> bool:
    """Whether a key is on the list; one that is not may have been put there a moment ago."""
    if keys.get(key) is None:
        for event in _keys_changed(loop, keys):
            loop.post(event)
    return keys.get(key) is not None


def _keys_changed(loop: Loop, keys: AuthorizedKeys) -> Iterable[Event]:
    change = keys.refresh()
    if change.problem:
        loop.log("error", f"the list of keys stays as it was: {change.problem}")
    for principal in change.removed:
        loop.log("info", f"key {principal.name} is revoked")
        loop.drop_key(principal.key)
    for principal in change.added:
        loop.log("info", f"key {principal.name} is on the list")
    return [KeysChanged(keys.principals)] if change.added or change.removed else []


def _first_key(options: MasterOptions, work_dir: Path, own: KeyFile, master: str) -> Path:
    """The key of the user who started this cluster, made on its first start."""
    directory = keys_dir() if options.work_dir is None else work_dir
    path = private_dir(directory) / f"{options.cluster}.key"
    authorized = work_dir / AUTHORIZED
    if path.exists():
        held = load_key(path)
        if held.server_key == own.pair.public:
            if held.master != master:
                path.unlink()
                save_key(path, KeyFile(held.name, held.kind, held.pair, held.server_key, master))
            return path
        # A key of an older cluster of this name, whose state is gone: it opens nothing any more.
        path.rename(path.with_suffix(".key.old"))
    user = getpass.getuser()
    pair = make_keypair()
    name = f"{user}-{pair.public[:4].encode().hex()}" if authorized.exists() else user
    append_authorized(authorized, Principal(name, pair.public, ("operator",), (user,)))
    save_key(path, KeyFile(name, "operator", pair, own.pair.public, master))
    return path


def _announce(master: str, key_path: Path) -> Path | None:
    """Write local.json for the commands of this user; None when another live master has it."""
    path = runtime_dir() / "local.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if int(told["pid"]) != os.getpid() and _is_alive(int(told["pid"])):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        # Nobody told anything that could still hold.
        pass
    text = json.dumps({"master": master, "key": str(key_path), "pid": os.getpid()})
    # Of our own: another master may start at the same moment.
    scratch = path.with_suffix(f".{os.getpid()}.new")
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
