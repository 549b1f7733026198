"""What this host has: the resources of an agent that were not named, its name, its boot.

Rules (those of Apache Mesos, containerizer.cpp): a name that occurs in
`--resources`, with whatever value, is not detected. Memory and disk leave room for the host: all
but 1 GiB of memory from 2 GiB on, else half; all but 5 GiB of disk from 10 GiB on, else half. A
limit on our own cgroup counts as the size of the host.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import psutil

from mesosctl.errors import UsageError
from mesosctl.isolation.cgroupfs import own_groups
from mesosctl.isolation.detect import detect as detect_cgroups
from mesosctl.model.ids import is_ident
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources, mentioned
from mesosctl.model.volumes import VOLUMES

GIB = 1024**3
MIB = 1024**2
DETECTED = ("cpus", "mem", "disk", "ports")
PORTS = ((31000, 32000),)
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Host:
    """What is there, before anything is set aside: thousandths of a CPU, and bytes."""

    cpus_milli: int
    mem_bytes: int
    disk_bytes: int


def look(work_dir: Path, *, proc: str = "/proc") -> Host:
    """Measure this host, as far as our own cgroup and CPU mask let us use it."""
    cpus = psutil.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0))
    cpu_limit, mem_limit = own_limits(proc)
    return Host(
        min(cpus * 1000, affinity * 1000, cpu_limit),
        min(psutil.virtual_memory().total, mem_limit),
        psutil.disk_usage(str(_existing(work_dir))).total,
    )


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def own_limits(proc: str = "/proc") -> tuple[int, int]:
    """Thousandths of a CPU and bytes that our own cgroup and those above allow; huge: any."""
    cpus_milli, mem_bytes = _NO_LIMIT, _NO_LIMIT
    try:
        mountinfo = Path(proc, "self/mountinfo").read_text(errors="surrogateescape")
        own = own_groups(Path(proc, "self/cgroup").read_text(errors="surrogateescape"))
    except OSError:
        return cpus_milli, mem_bytes
    for mount, home in detect_cgroups(mountinfo, own).homes.items():
        directory = Path(home if os.path.isdir(home) else mount)
        while True:
            cpus_milli = min(cpus_milli, _cpu_limit(directory))
            mem_bytes = min(mem_bytes, _mem_limit(directory))
            if str(directory) == mount or directory == directory.parent:
                break
            directory = directory.parent
    return cpus_milli, mem_bytes


def _cpu_limit(directory: Path) -> int:
    words = _words(directory / "cpu.max") or [
        *_words(directory / "cpu.cfs_quota_us"),
        *_words(directory / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return _NO_LIMIT
    return max(1, int(words[0]) * 1000 // int(words[1]))


def _mem_limit(directory: Path) -> int:
    words = _words(directory / "memory.max") or _words(directory / "memory.limit_in_bytes")
    return int(words[0]) if len(words) == 1 and words[0].isdigit() else _NO_LIMIT


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def total_resources(named: str, reserve: str, host: Host) -> Resources:
    """What the agent offers: what was named, the rest detected, less what is set aside.

    Raises UsageError for texts that cannot be meant, and when more is set aside than there is.
    """
    resources = Resources.parse(named) if named else Resources()
    known = mentioned(named) if named else ()
    if VOLUMES in known:
        raise UsageError("--resources names volumes", "make them with `mesosctl volume create`")
    found: dict[str, Resources] = {
        "cpus": Resources.of(cpus_milli=host.cpus_milli),
        "mem": Resources.of(mem_bytes=_less(host.mem_bytes, GIB, 2 * GIB)),
        "disk": Resources.of(disk_bytes=_less(host.disk_bytes, 5 * GIB, 10 * GIB)),
        "ports": Resources.of(ports=PORTS),
    }
    for name in DETECTED:
        if name not in known:
            resources = resources + found[name]
    if reserve:
        aside = Resources.parse(reserve)
        if not resources.contains(aside):
            raise UsageError(
                f"--reserve {reserve}: the agent has only {resources}", "reserve less than that"
            )
        resources = resources - aside
    return resources


def _less(size: int, kept: int, threshold: int) -> int:
    left = size - kept if size >= threshold else size // 2
    return left // MIB * MIB


def host_name() -> str:
    """The name of this host as an agent may be called."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip(".-")[:128]
    return name if is_ident(name) else "localhost"


def boot_id(proc: str = "/proc") -> str:
    """Different after each start of the host's kernel; empty where it cannot be read."""
    try:
        return Path(proc, "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int, proc: str = "/proc") -> int:
    """When a process started, in clock ticks since the host did (proc(5), field 22); 0: no such."""
    try:
        text = Path(proc, str(pid), "stat").read_text(errors="surrogateescape")
    except OSError:
        return 0
    # The second field is the command's name, which may hold anything but the last bracket.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in ("Z", "X") else 0
