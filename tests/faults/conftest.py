"""Clusters of real processes for tests that break them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ClusterEnv, Part


class FaultEnv(ClusterEnv):
    """A cluster whose batch framework is a part of its own, so that it can be started by hand."""

    def __init__(self) -> None:
        super().__init__()
        # Who is forbidden to write, or killed, cannot write down which lines it ran either.
        for name in [name for name in self.variables if name.startswith("COVERAGE")]:
            del self.variables[name]
        self._disks: list[Path] = []

    def framework(self, *options: str) -> Part:
        """Start the batch framework; the master has to run with --no-framework."""
        words = ["framework", "--work-dir", str(self.base / "framework"), "--filter", "0.2s"]
        return self.part("framework", *words, *options)

    def start(self, resources: str = "cpus:4;mem:2G", *options: str) -> FaultEnv:
        """A master, a batch framework and one agent, all of them ready."""
        self.master("--no-framework", *options)
        self.framework()
        self.agent(resources)
        self.wait_for_framework()
        return self

    def small_disk(self, place: Path, options: str) -> Path:
        """A file system of its own at `place` until the end; skips where none may be mounted."""
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not possible here: {done.stderr.strip()}")
        self._disks.append(place)
        return place

    def close(self) -> None:
        """As everywhere; then the disks go, too."""
        try:
            super().close()
        finally:
            for place in self._disks:
                subprocess.run(["umount", "-l", str(place)], check=False)
            shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture
def env() -> Iterator[FaultEnv]:
    """A cluster that is not started yet; at the end nothing of it may be left."""
    made = FaultEnv()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(env: FaultEnv) -> FaultEnv:
    """A master, its batch framework and an agent, ready for jobs."""
    return env.start()
