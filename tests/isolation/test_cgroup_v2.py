"""Containers on cgroup v2, on a fake directory with the kernel's files."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import JoinPlan, Limits, Usage, cgroupfs

if TYPE_CHECKING:
    from tests.isolation.conftest import FakeKernel

LIMITS = Limits(cpus_milli=1500, mem_bytes=64 << 20, pids=100)
HERE = "uni/mesosctl/a1/f/t"


def test_limits_are_written_before_anybody_joins(v2: FakeKernel) -> None:
    """One and a half CPUs weigh 150; memory has no swap and an OOM kill takes all."""
    isolation = v2.open("auto")
    assert isolation.names[:3] == ("cgroups/cpu", "cgroups/mem", "cgroups/pids")
    plain = v2.open("cgroups")
    assert plain.not_enforced == () and plain.sample_interval_s is None
    isolation.prepare("f/t", LIMITS)
    assert v2.text(f"{HERE}/cpu.weight") == "150"
    assert v2.text(f"{HERE}/cpu.max") == "150000 100000"
    assert v2.text(f"{HERE}/memory.max") == str(64 << 20)
    assert v2.text(f"{HERE}/memory.swap.max") == "0"
    assert v2.text(f"{HERE}/memory.oom.group") == "1"
    assert v2.text(f"{HERE}/pids.max") == "100"


@pytest.mark.parametrize(
    ("cpus_milli", "weight", "quota"), [(1, "1", "1000"), (200_000, "10000", "20000000")]
)
def test_weight_and_quota_stay_within_the_kernels_range(
    v2: FakeKernel, cpus_milli: int, weight: str, quota: str
) -> None:
    """The kernel takes weights from 1 to 10,000 and no quota below a millisecond."""
    v2.open("auto").prepare("f/t", Limits(cpus_milli, None, 1))
    assert v2.text(f"{HERE}/cpu.weight") == weight
    assert v2.text(f"{HERE}/cpu.max") == f"{quota} 100000"
    assert v2.text(f"{HERE}/memory.max") == "max\n"
    assert v2.text(f"{HERE}/memory.oom.group") == "1"
    assert v2.text(f"{HERE}/pids.max") == "16"


def test_controllers_are_enabled_from_the_mount_down(v2: FakeKernel) -> None:
    """A controller works in a container only if every group above it hands it down."""
    isolation = v2.open("auto")
    isolation.prepare("f/t", LIMITS)
    for path in ("uni", "uni/mesosctl", "uni/mesosctl/a1", "uni/mesosctl/a1/f"):
        assert v2.text(f"{path}/cgroup.subtree_control") == "+cpu +memory +pids"
    assert v2.text(f"{HERE}/cgroup.subtree_control") == ""


def test_enabled_controllers_are_not_written_again(v2: FakeKernel) -> None:
    """Where systemd has enabled all, the groups outside ours stay untouched."""
    v2.put("uni/cgroup.subtree_control", "cpu memory pids\n")
    v2.open("auto")
    assert v2.text("uni/cgroup.subtree_control") == "cpu memory pids\n"


def test_a_busy_top_is_explained(v2: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with processes cannot enable controllers; the way out is a delegated one."""
    real = cgroupfs.os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if data.startswith(b"+"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return real(descriptor, data)

    monkeypatch.setattr(cgroupfs.os, "write", refuse)
    with pytest.raises(LimitUnavailable) as caught:
        v2.open("cgroups/cpu")
    assert "cgroup.subtree_control" in caught.value.message
    assert "Delegate" in caught.value.hint


def test_the_plan_moves_the_process(v2: FakeKernel) -> None:
    """v2 has no threads in groups of their own for these controllers."""
    assert v2.open("auto").prepare("f/t", LIMITS) == JoinPlan(
        (f"{v2.base}/{HERE}/cgroup.procs",),
        (f"{v2.base}/uni/user.slice/me/cgroup.procs",),
        "process",
    )


def test_usage_comes_from_the_counters(v2: FakeKernel) -> None:
    """Times are microseconds; `oom_kill` is not `oom`."""
    isolation = v2.open("auto")
    isolation.prepare("f/t", LIMITS)
    v2.put(f"{HERE}/cpu.stat", "usage_usec 3\nuser_usec 1500000\nsystem_usec 250000\n")
    v2.put(f"{HERE}/memory.peak", "77\n")
    v2.put(f"{HERE}/memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 1\n")
    assert isolation.usage("f/t") == Usage(1.5, 0.25, 77, 64 << 20, 3)


def test_without_memory_peak_it_is_sampled_and_said(v2: FakeKernel) -> None:
    """Before Linux 5.19 the kernel remembers no peak; the highest sample stands in."""
    del v2.files["uni"]["memory.peak"]
    isolation = v2.open("auto")
    assert isolation.sample_interval_s is not None
    assert any("sampled" in sentence for sentence in isolation.not_enforced)
    isolation.prepare("f/t", LIMITS)
    for current in ("10", "900", "20"):
        v2.put(f"{HERE}/memory.current", f"{current}\n")
        assert isolation.sample() == []
    assert isolation.usage("f/t").mem_peak_bytes == 900


def test_without_swap_files_that_is_said(v2: FakeKernel) -> None:
    """A kernel without swap accounting has no file to write."""
    del v2.files["uni"]["memory.swap.max"]
    isolation = v2.open("auto")
    isolation.prepare("f/t", LIMITS)
    assert any("swap" in sentence for sentence in isolation.not_enforced)


def test_kill_is_one_write(v2: FakeKernel) -> None:
    """The kernel kills a whole group at once, forks included."""
    isolation = v2.open("auto")
    isolation.prepare("f/t", LIMITS)
    isolation.kill("f/t")
    assert v2.text(f"{HERE}/cgroup.kill") == "1"
    assert v2.text(f"{HERE}/pids.max") == "100"


@pytest.mark.parametrize("why", ["old kernel", "launcher inside"])
def test_kill_falls_back_to_the_loop(v2: FakeKernel, why: str) -> None:
    """Before Linux 5.14 there is no cgroup.kill, and it would take a spared launcher along."""
    if why == "old kernel":
        del v2.files["uni"]["cgroup.kill"]
    isolation = v2.open("auto")
    isolation.prepare("f/t", LIMITS)
    if why == "launcher inside":
        isolation.spare(4242)
        v2.put(f"{HERE}/cgroup.procs", "4242\n")
    isolation.kill("f/t")
    assert v2.text(f"{HERE}/pids.max") == "0"


def test_a_controller_that_is_not_offered_is_named(v2: FakeKernel) -> None:
    """A delegated group may lack a controller; only `auto` may go on without it."""
    v2.put("uni/cgroup.controllers", "cpu pids\n")
    with pytest.raises(LimitUnavailable, match="memory"):
        v2.open("cgroups/mem")
    isolation = v2.open("auto")
    assert isolation.names[:3] == ("cgroups/cpu", "cgroups/pids", "posix/mem")
    assert any("memory" in reason for reason in isolation.fell_back)
    assert isolation.sample_interval_s == 0.1
