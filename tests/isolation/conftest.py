"""A directory that behaves like the kernel's cgroup file systems, for tests without root.

Rules: a fake hierarchy gives every new directory the files that its kernel would, and removing a
directory fails while its cgroup.procs is not empty, as the kernel's does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesosctl.isolation import Isolation, cgroupfs, open_isolation

V1_FILES = {
    "cpu": {"cpu.shares": "1024\n", "cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
    "cpuacct": {"cpuacct.usage": "0\n", "cpuacct.stat": "user 0\nsystem 0\n"},
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.swappiness": "60\n",
        "memory.max_usage_in_bytes": "0\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    },
    "pids": {"pids.max": "max\n", "pids.current": "0\n"},
}
V2_FILES = {
    "cgroup.subtree_control": "",
    "cgroup.kill": "",
    "cpu.weight": "100\n",
    "cpu.max": "max 100000\n",
    "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.current": "0\n",
    "memory.peak": "0\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
    "pids.max": "max\n",
}


@dataclass
class FakeKernel:
    """Hierarchies below one temporary directory, and the texts that describe them."""

    base: Path
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    mountinfo: str = ""
    own: str = ""
    refused: dict[str, int] = field(default_factory=dict)

    def mount(self, name: str, kind: str, options: str, files: dict[str, str]) -> None:
        """Mount a hierarchy as `name`; its directories get `files` from now on."""
        directory = self.base / name
        directory.mkdir()
        self.files[name] = dict(files)
        number = 30 + len(self.files)
        self.mountinfo += f"{number} 23 0:{number} / {directory} rw - {kind} {kind} rw,{options}\n"
        self._fill(directory, name)

    def make(self, path: str) -> None:
        """Create a cgroup."""
        name = Path(path).relative_to(self.base).parts[0]
        if path in self.refused:
            raise OSError(self.refused[path], os.strerror(self.refused[path]), path)
        os.mkdir(path)
        self._fill(Path(path), name)

    def remove(self, path: str) -> None:
        """Remove a cgroup, unless it is busy."""
        directory = Path(path)
        if any(entry.is_dir() for entry in directory.iterdir()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        if (directory / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        for entry in directory.iterdir():
            entry.unlink()
        directory.rmdir()

    def text(self, path: str) -> str:
        """The text of a file below the base."""
        return (self.base / path).read_text()

    def put(self, path: str, text: str) -> None:
        """Write a file below the base as the kernel would change it."""
        (self.base / path).write_text(text)

    def open(self, spec: str, **more: object) -> Isolation:
        """Open the isolation of agent `a1` on these hierarchies."""
        return open_isolation(
            spec,
            agent_id="a1",
            mountinfo=self.mountinfo,
            own_cgroup=self.own,
            **more,  # type: ignore[arg-type]
        )

    def _fill(self, directory: Path, name: str) -> None:
        for file, text in {"cgroup.procs": "", "tasks": "", **self.files[name]}.items():
            (directory / file).write_text(text)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """A fake kernel without any mount."""
    kernel = FakeKernel(tmp_path)
    monkeypatch.setattr(cgroupfs, "make_dir", kernel.make)
    monkeypatch.setattr(cgroupfs, "remove_dir", kernel.remove)
    # The kernel takes every write as the whole value; an ordinary file must be cut for that.
    monkeypatch.setattr(cgroupfs, "WRITE_FLAGS", os.O_WRONLY | os.O_TRUNC)
    return kernel


@pytest.fixture
def v1(fake: FakeKernel) -> FakeKernel:
    """Four v1 hierarchies; this process is in a memory cgroup of its own."""
    for name, files in V1_FILES.items():
        fake.mount(name, "cgroup", name, files)
    fake.own = "4:memory:/box/me\n3:pids:/\n2:cpuacct:/\n1:cpu:/\n0::/\n"
    return fake


@pytest.fixture
def v2(fake: FakeKernel) -> FakeKernel:
    """One unified hierarchy with every controller."""
    fake.mount("uni", "cgroup2", "nsdelegate", V2_FILES)
    fake.put("uni/cgroup.controllers", "cpuset cpu io memory pids\n")
    fake.own = "0::/user.slice/me\n"
    return fake
