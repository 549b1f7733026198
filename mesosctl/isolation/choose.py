"""Turns `--isolation` into an Isolation: which isolators, on which kernel interface, or why not.

Rules: what was named is used or refused, never replaced; only `auto` falls back, and says why.
One isolator per resource. Unknown names may be plug-ins, which the caller passes in: names with a
point or a colon, as MODULE:CLASS, are never ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mesosctl.errors import LimitUnavailable, UsageError
from mesosctl.isolation import cgroupfs, v1, v2
from mesosctl.isolation.base import Isolator, Place
from mesosctl.isolation.compose import Holder, Isolation
from mesosctl.isolation.controllers import Cgroups
from mesosctl.isolation.cpusets import Cpusets
from mesosctl.isolation.detect import NEEDS, Detection, detect
from mesosctl.isolation.disk import DiskUsage
from mesosctl.isolation.gpus import Gpus
from mesosctl.isolation.namespaces import PrivatePids, PrivateTmp
from mesosctl.isolation.ports import NetworkPorts
from mesosctl.isolation.posix import PosixCpu, PosixHolder, PosixMem
from mesosctl.isolation.processes import ProcessTable
from mesosctl.isolation.rlimits import Rlimits
from mesosctl.isolation.tree import Tree
from mesosctl.isolation.v2.enabling import Enabler

ROOT = "mesosctl"
AUTO = "auto"
ALIASES = {
    "cgroups": ("cgroups/cpu", "cgroups/mem", "cgroups/pids"),
    "posix": ("posix/cpu", "posix/mem"),
}
# Those that stand beside whatever holds containers, in the order in which they are prepared.
BESIDE: dict[str, Callable[[], Isolator]] = {
    "cgroups/cpuset": Cpusets,
    "disk/du": DiskUsage,
    "network/ports": NetworkPorts,
    "posix/rlimits": Rlimits,
    "namespaces/tmp": PrivateTmp,
    "namespaces/pid": PrivatePids,
    "gpu/devices": Gpus,
}
# Whose absence is no news: most hosts have none.
_RARE = ("gpu/devices",)
_BUILT_IN = (*ALIASES["cgroups"], *ALIASES["posix"], *BESIDE)
KNOWN = (AUTO, *ALIASES, *_BUILT_IN)
_HINT = "name posix/cpu,posix/mem as --isolation to run without the kernel's limits"


def open_isolation(
    spec: str,
    *,
    root: str = ROOT,
    agent_id: str,
    state_dir: str = "",
    proc: str = "/proc",
    mountinfo: str | None = None,
    own_cgroup: str | None = None,
    plugins: Mapping[str, Callable[[], Isolator]] | None = None,
) -> Isolation:
    """Open the isolation of one agent; creates `<root>/<agent id>` where cgroups are used.

    `spec` is "auto" or a comma list of isolators (`cgroups` and `posix` stand for all of theirs);
    plug-ins may follow "auto". `state_dir` as in Place.
    `mountinfo` and `own_cgroup` are texts that replace those of this process below `proc`.
    Raises UsageError for a spec that cannot be meant and LimitUnavailable for one that this host
    cannot give.
    """
    plugins = plugins or {}
    names = parse_spec(spec, plugins)
    more = names[1:] if names[0] == AUTO else ()
    host = _look(proc, mountinfo, own_cgroup)
    table = ProcessTable(agent_id, proc=proc)
    place = Place(agent_id, root, state_dir, host)
    if names[0] != AUTO:
        return _open(names, place, host, table, plugins, ())
    reasons = list(dict.fromkeys(host.missing.values()))
    more = (*_usable(place, reasons), *more)
    wanted = [name for name in NEEDS if name not in host.missing]
    if wanted:
        try:
            return _open((*_fill(wanted), *more), place, host, table, plugins, reasons)
        except LimitUnavailable as error:
            reasons.append(error.message)
    return _open((*ALIASES["posix"], *more), place, host, table, plugins, reasons)


def parse_spec(spec: str, plugins: Mapping[str, object]) -> tuple[str, ...]:
    """The isolators of a comma list, in its order; "auto" stays as it is. Raises UsageError."""
    names: list[str] = []
    for word in spec.split(","):
        name = word.strip()
        if name == AUTO and not names:
            names.append(AUTO)
            continue
        if names[:1] == [AUTO] and name not in plugins:
            raise UsageError(
                f"auto chooses by itself, without {name!r}", "only plug-ins follow auto"
            )
        for one in ALIASES.get(name, (name,)):
            if one not in _BUILT_IN and one not in plugins:
                known = ", ".join(sorted((*_BUILT_IN, *plugins)))
                raise UsageError(f"unknown isolator {one!r}", f"auto, or a comma list of: {known}")
            if one in names:
                raise UsageError(f"isolator {one} is named twice", "name it once")
            names.append(one)
    for resource in ("cpu", "mem"):
        if f"cgroups/{resource}" in names and f"posix/{resource}" in names:
            raise UsageError(
                f"both cgroups/{resource} and posix/{resource} are named", "choose one of them"
            )
    return tuple(names)


def _usable(place: Place, reasons: list[str]) -> list[str]:
    """What can stand beside the holder here; the reasons for the others are added to `reasons`."""
    names: list[str] = []
    for name, kind in BESIDE.items():
        try:
            kind().open(place)
            names.append(name)
        except LimitUnavailable as error:
            if name not in _RARE:
                reasons.append(error.message)
    return names


def _fill(wanted: Sequence[str]) -> tuple[str, ...]:
    """What cgroups cannot do here and posix can."""
    names = list(wanted)
    for resource in ("cpu", "mem"):
        if f"cgroups/{resource}" not in names:
            names.append(f"posix/{resource}")
    return tuple(names)


def _look(proc: str, mountinfo: str | None, own_cgroup: str | None) -> Detection:
    if mountinfo is None:
        mountinfo = _text(f"{proc}/self/mountinfo")
    if own_cgroup is None:
        own_cgroup = _text(f"{proc}/self/cgroup")
    unified = cgroupfs.parse_mounts(mountinfo).unified
    offered = "" if unified is None else _text(unified.directory + "/cgroup.controllers")
    return detect(mountinfo, cgroupfs.own_groups(own_cgroup), offered)


def _text(path: str) -> str:
    try:
        return cgroupfs.read(path).decode(errors="surrogateescape")
    except OSError:
        return ""


def _open(
    names: Sequence[str],
    place: Place,
    host: Detection,
    table: ProcessTable,
    plugins: Mapping[str, Callable[[], Isolator]],
    reasons: Sequence[str],
) -> Isolation:
    for name in names:
        if name in host.missing:
            raise LimitUnavailable(f"{name} cannot be used: {host.missing[name]}", _HINT)
    isolators: list[Isolator] = []
    for name in names:
        if name == "posix/cpu":
            isolators.append(PosixCpu(table))
        elif name == "posix/mem":
            isolators.append(PosixMem(table))
        elif name in BESIDE:
            isolators.append(BESIDE[name]())
        elif name in plugins:
            isolators.append(plugins[name]())
    by_cgroups = [NEEDS[name] for name in names if name in NEEDS]
    sentences: list[str] = []
    holder: Holder
    if by_cgroups:
        opener = _open_v1 if host.version == 1 else _open_v2
        holder, sentences = opener(by_cgroups, host, f"{place.root}/{place.agent_id}")
    else:
        holder = PosixHolder(table)
        sentences += holder.not_enforced
    for isolator in isolators:
        isolator.open(place)
    sentences += [sentence for isolator in isolators for sentence in isolator.not_enforced]
    return Isolation(
        holder,
        isolators,
        names=names,
        not_enforced=[*_gaps(names), *sentences],
        fell_back=reasons,
    )


def _gaps(names: Sequence[str]) -> list[str]:
    """Sentences about resources that nobody in `names` limits."""
    gaps: list[str] = []
    if "cgroups/cpu" not in names and "posix/cpu" not in names:
        gaps.append("cpu limits are not enforced and cpu time is not measured (no cpu isolator)")
    if "cgroups/mem" not in names and "posix/mem" not in names:
        gaps.append("memory limits are not enforced and memory is not measured (no mem isolator)")
    if "cgroups/pids" not in names:
        gaps.append("the number of processes is not limited (no cgroups/pids)")
    return gaps


def _open_v1(controllers: Sequence[str], host: Detection, path: str) -> tuple[Holder, list[str]]:
    wanted = list(controllers)
    if "cpu" in wanted and host.mount_of("cpuacct") is not None:
        wanted.append("cpuacct")
    if "pids" not in wanted and host.mount_of("pids") is not None:
        # Not to limit, but because only this controller makes a kill sure to end.
        wanted.append("pids")
    mounts: dict[str, None] = {}
    at: dict[str, str] = {}
    # The cpu controller is joined last and left first: moving between its groups makes the kernel
    # schedule anew, and until then the launcher would run on the container's own quota.
    for controller in sorted(wanted, key=("pids", "memory", "cpuacct", "cpu").index):
        mount = host.mount_of(controller)
        if mount is not None:
            mounts[mount] = None
            at[controller] = mount
    order = list(mounts)
    where = {controller: order.index(mount) for controller, mount in at.items()}
    tree = Tree([f"{mount}/{path}" for mount in order])
    tree.open()
    dialect, sentences = v1.dialect(tree.tops, where, limit_pids="pids" in controllers)
    if "cpu" in controllers and "cpuacct" not in at:
        sentences.append("cpu time is not measured (the controller cpuacct is not mounted)")
    if "pids" not in at:
        sentences.append("a fork bomb may outrun a kill (the controller pids is not mounted)")
    homes = [f"{host.homes.get(mount, mount)}/tasks" for mount in reversed(order)]
    return _opened(Cgroups(tree, dialect, homes)), sentences


def _open_v2(controllers: Sequence[str], host: Detection, path: str) -> tuple[Holder, list[str]]:
    mount = host.mount_of("")
    if mount is None:
        raise LimitUnavailable("no cgroup2 file system is mounted", _HINT)
    tree = Tree([f"{mount}/{path}"], after_make=Enabler(mount, controllers))
    tree.open()
    dialect, sentences = v2.dialect(tree.tops[0], controllers)
    home = f"{host.homes.get(mount, mount)}/cgroup.procs"
    return _opened(Cgroups(tree, dialect, [home])), sentences


def _opened(holder: Cgroups) -> Cgroups:
    holder.open()
    return holder
