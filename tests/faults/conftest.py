"""Clusters of real processes for tests that break them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import ClusterEnv, Part


class FaultEnv(ClusterEnv):
    """A cluster whose batch framework is a part of its own, so that it can be started by hand."""

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
