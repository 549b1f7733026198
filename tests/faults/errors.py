"""Errors and delays of system calls, injected into a process that runs; disks that are full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.conftest import is_alive, until


@contextmanager
def injected(pid: int, calls: str, fault: str) -> Iterator[None]:
    """All threads of `pid` meet `fault` (as strace spells it) in these calls. Children do not."""
    words = ["strace", "-f", "-b", "execve", "-qq", "-o", os.devnull, "-p", str(pid)]
    words += ["-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        until(lambda: is_traced(pid) or tracer.poll() is not None, "strace attached itself")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def is_traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    except OSError:
        return not is_alive(pid)


def fill(place: Path) -> Path:
    """Fill a file system to its last byte; the file that does."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return path


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
