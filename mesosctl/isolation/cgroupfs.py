"""Cgroup file systems: where they are mounted, and reading and writing their small files.

Rules: every call takes a ready-made path and touches the kernel once (these run once per task);
an error that a user can meet names the path, the data and the kernel's reason.
Files of directories that are used again and again are kept open (`hold`), because opening one and
closing it costs several times what reading it does. One thread does all this.
`make_dir` and `remove_dir` stand alone so that a test can shape directories as a kernel would.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from mesosctl.errors import LimitUnavailable
from mesosctl.model.records import dataclass

UNIFIED = ""
# No O_TRUNC: the kernel ignores it for these files but does work for it.
WRITE_FLAGS = os.O_WRONLY | os.O_CLOEXEC
_READ_BYTES = 65536
# Version 1 shows an old list of processes to whoever keeps that file open.
_NEVER_HELD = ("cgroup.procs", "tasks")

# Of directories that are held: their open files by name, for reading and for writing. And all of
# these by path.
_held: dict[str, list[str]] = {}
_readers: dict[str, int] = {}
_writers: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Mount:
    """One cgroup hierarchy: its directory, and which part of the hierarchy is mounted there."""

    directory: str
    fs_root: str


@dataclass(frozen=True, slots=True)
class Mounts:
    """All hierarchies of this host.

    `mode` is "none", "v1", "v2" or "hybrid" (v1 controllers and a cgroup2 mount side by side);
    `v1` maps the controller to its mount, `unified` is the cgroup2 mount.
    """

    mode: str
    v1: Mapping[str, Mount]
    unified: Mount | None


def parse_mounts(mountinfo: str) -> Mounts:
    """Find the hierarchies in the text of /proc/self/mountinfo (proc(5)); the last mount wins."""
    v1: dict[str, Mount] = {}
    unified: Mount | None = None
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        mount = Mount(_unescape(fields[4]), _unescape(fields[3]))
        if kind[0] == "cgroup2":
            unified = mount
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                # Options such as rw or name=systemd are kept too: nobody asks for them.
                v1[option] = mount
    named = any(name in v1 for name in ("cpu", "memory", "pids", "cpuacct", "freezer"))
    if unified is not None:
        mode = "hybrid" if named else "v2"
    else:
        mode = "v1" if named else "none"
    return Mounts(mode, v1, unified)


def own_groups(text: str) -> dict[str, str]:
    """Controller to path from the text of /proc/self/cgroup; the unified path under UNIFIED."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            for controller in controllers.split(","):
                found[controller] = path
    return found


def own_directory(mount: Mount, path: str) -> str:
    """The directory of a path from /proc/self/cgroup.

    In a container the mount may show only a part of the hierarchy. A path outside that part
    cannot be reached, and then the mount's own top is the nearest home.
    """
    below = path
    if mount.fs_root != "/" and (path + "/").startswith(mount.fs_root + "/"):
        below = path[len(mount.fs_root) :]
    elif mount.fs_root != "/":
        below = "/"
    if below == "/.." or below.startswith("/../"):
        below = "/"
    return (mount.directory + below).rstrip("/")


def hold(directory: str) -> None:
    """Keep files of this directory open from their next use on, until `let_go`."""
    _held.setdefault(directory, [])


def held() -> int:
    """How many directories are held."""
    return len(_held)


def moved(old: str, new: str) -> None:
    """A directory has another name now, and what is open of it stays open."""
    names = _held.pop(old, None)
    if names is None:
        return
    _held[new] = names
    for name in names:
        for table in (_readers, _writers):
            descriptor = table.pop(f"{old}/{name}", None)
            if descriptor is not None:
                table[f"{new}/{name}"] = descriptor


def let_go(directory: str) -> None:
    """Close what is open of a directory."""
    for name in _held.pop(directory, ()):
        for table in (_readers, _writers):
            descriptor = table.pop(f"{directory}/{name}", None)
            if descriptor is not None:
                os.close(descriptor)


def _kept(table: dict[str, int], path: str, descriptor: int) -> bool:
    """Keep what was just opened, where its directory is held."""
    directory, _, name = path.rpartition("/")
    names = _held.get(directory)
    if names is None or name in _NEVER_HELD:
        return False
    if path in table:
        return False
    if name not in names:
        names.append(name)
    table[path] = descriptor
    return True


def read(path: str) -> bytes:
    """The whole of a small file. Raises OSError, which names the path."""
    descriptor = _readers.get(path, -1)
    if descriptor >= 0:
        data = os.pread(descriptor, _READ_BYTES, 0)
        if len(data) < 4096:
            return data
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    keeps = False
    try:
        data = os.read(descriptor, _READ_BYTES)
        if len(data) < 4096:
            keeps = bool(_held) and _kept(_readers, path, descriptor)
            return data
        # Kernel files are handed out in pieces of about a page, whatever is asked for.
        pieces = [data]
        while data:
            data = os.read(descriptor, _READ_BYTES)
            pieces.append(data)
        return b"".join(pieces)
    finally:
        if not keeps:
            os.close(descriptor)


def write(path: str, data: bytes) -> None:
    """Write one value. Raises LimitUnavailable with path, value and reason."""
    try:
        descriptor = _writers.get(path, -1)
        if descriptor >= 0:
            os.pwrite(descriptor, data, 0)
            return
        descriptor = os.open(path, WRITE_FLAGS)
        keeps = False
        try:
            os.write(descriptor, data)
            keeps = bool(_held) and _kept(_writers, path, descriptor)
        finally:
            if not keeps:
                os.close(descriptor)
    except OSError as error:
        raise refused(f"cannot write {data.decode()!r} to {path}", error) from error


def refused(what: str, error: OSError) -> LimitUnavailable:
    """The error for a cgroup operation that the kernel refused."""
    return LimitUnavailable(
        f"{what}: {error.strerror}",
        "check that this user may write there and that the controller is enabled",
    )


def number(path: str) -> int:
    """A file that holds one number; 0 when it is gone or holds a word such as `max`."""
    try:
        return int(read(path))
    except (OSError, ValueError):
        return 0


def keyed(path: str, key: bytes) -> int:
    """The number after `key` in a file of `key value` lines; 0 when there is none."""
    try:
        data = b"\n" + read(path)
    except OSError:
        return 0
    _, found, rest = data.partition(b"\n" + key + b" ")
    return int(rest.split(None, 1)[0]) if found else 0


def pids_in(path: str) -> list[int]:
    """The ids in a cgroup.procs file; 0 stands for a process of a foreign pid namespace."""
    try:
        return [int(word) for word in read(path).split()]
    except OSError:
        return []


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of `0-2,5`, as the kernel writes lists."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.strip():
            found += range(int(first), int(last or first) + 1)
    return tuple(found)


def make_dir(path: str) -> None:
    """Create one cgroup. Raises OSError."""
    os.mkdir(path, 0o755)


def remove_dir(path: str) -> None:
    """Remove one cgroup without children or processes. Raises OSError."""
    os.rmdir(path)


def below(directory: str) -> Iterator[str]:
    """Every cgroup below `directory`, children before their parents, in the order of names."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        path = f"{directory}/{name}"
        yield from below(path)
        yield path


def has_children(directory: str) -> bool:
    """Whether there may be cgroups inside: a directory has two links and one per directory."""
    try:
        return os.stat(directory).st_nlink != 2
    except OSError:
        return False


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
