"""Every isolator that is built in keeps the contract that plug-ins have to keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Isolator, Limits
from mesosctl.testing.isolators import IsolatorContract, run_contract


class Empty(Isolator):
    """Does nothing."""

    name = "test/empty"


class Licences(Isolator):
    """Breaks the contract: it forgets in which process it gave something away."""

    name = "test/licences"
    free = 1

    def prepare(self, container: str, limits: Limits) -> None:
        if limits.others and not type(self).free:
            raise LimitUnavailable("no licence is left")
        if limits.others:
            type(self).free -= 1


class TestEmpty(IsolatorContract):
    """A plug-in without any method."""

    def make(self) -> Isolator:
        return Empty()


class TestPosixCpu(IsolatorContract):
    """Measured CPU time."""

    name = "posix/cpu"


class TestPosixMem(IsolatorContract):
    """Sampled memory."""

    name = "posix/mem"


@pytest.mark.root
@pytest.mark.cgroup
class TestCgroupsCpu(IsolatorContract):
    """The kernel's quota."""

    name = "cgroups/cpu"


@pytest.mark.root
@pytest.mark.cgroup
class TestCgroupsMem(IsolatorContract):
    """The kernel's memory limit."""

    name = "cgroups/mem"


@pytest.mark.root
@pytest.mark.cgroup
class TestCgroupsPids(IsolatorContract):
    """The kernel's limit of processes."""

    name = "cgroups/pids"


@pytest.mark.root
@pytest.mark.cgroup
class TestCgroups(IsolatorContract):
    """All of them together."""

    name = "cgroups"


class TestDisk(IsolatorContract):
    """A limit for the sandbox."""

    name = "posix,disk/du"

    def limits(self) -> Limits:
        return replace(super().limits(), disk_bytes=8 << 20)


class TestPorts(IsolatorContract):
    """Ports in the environment."""

    name = "posix,network/ports"

    def limits(self) -> Limits:
        return replace(super().limits(), ports=((31000, 31003),))


class TestRlimits(IsolatorContract):
    """Limits that the helper sets."""

    name = "posix,posix/rlimits"

    def limits(self) -> Limits:
        return replace(super().limits(), rlimits={"nofile": (64, 64)})


class TestNamespaces(IsolatorContract):
    """Namespaces that the helper makes."""

    name = "posix,namespaces/tmp,namespaces/pid"

    def limits(self) -> Limits:
        return replace(super().limits(), private=("tmp", "pids"))

    def directory(self) -> str:
        return "/dev/shm"


@pytest.mark.root
@pytest.mark.cgroup
class TestAuto(IsolatorContract):
    """All that this host has."""

    name = "auto"


def test_the_suite_finds_a_leak() -> None:
    """A suite that accepts an isolator which never gives anything back would be worth nothing."""

    class Broken(IsolatorContract):
        def make(self) -> Isolator:
            return Licences()

        def limits(self) -> Limits:
            return replace(super().limits(), others={"licences": 1000})

    with pytest.raises((AssertionError, LimitUnavailable)):
        run_contract(Broken)
