"""Isolators that have cgroups of their own, on the real kernel, whichever version it has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Isolation, Isolator, Limits, open_isolation
from mesosctl.isolation.cgroupfs import parse_cpus, parse_mounts
from mesosctl.isolation.gpus import Gpus
from mesosctl.testing.isolators import IsolatorContract, launch, until

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

ROOT = f"mesosctl-isolators-{os.getpid()}"
CPUS = len(os.sched_getaffinity(0))
ONE = Limits(1000, None, 64, cores=1)
SLEEP = ["/bin/sleep", "60"]


def tops() -> list[Path]:
    """Every mounted hierarchy."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    found = dict.fromkeys(mount.directory for mount in mounts.v1.values())
    if mounts.unified is not None:
        found[mounts.unified.directory] = None
    return [Path(directory) for directory in found]


def opened(agent: str = "a1") -> Isolation:
    """As an executor opens it."""
    try:
        return open_isolation("cgroups,cgroups/cpuset", root=ROOT, agent_id=agent)
    except LimitUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def started() -> Iterator[dict[str, tuple[Isolation, int]]]:
    """What was started, by container; afterwards all is ended and nothing left behind."""
    found: dict[str, tuple[Isolation, int]] = {}
    yield found
    for container, (isolation, pid) in found.items():
        isolation.kill(container)
        os.waitpid(pid, 0)
        until(lambda name=container, by=isolation: by.cleanup(name))  # type: ignore[misc]
    for top in tops():
        for directory, _, _ in os.walk(top / ROOT, topdown=False):
            os.rmdir(directory)


def start(isolation: Isolation, container: str, limits: Limits, agent: str = "a1") -> int:
    """Start a task that sleeps."""
    pid = launch(isolation.prepare(container, limits), container, agent, SLEEP)
    isolation.started(container, pid)
    return pid


def test_whole_cores_are_nobody_elses(started: dict[str, tuple[Isolation, int]]) -> None:
    """Two agents of one host, a framework for each task: each its own CPU, kept by the kernel."""
    isolation, other = opened(), opened("a2")
    cores: dict[str, frozenset[int]] = {}
    for number in range(CPUS):
        by, agent = (isolation, "a1") if number % 2 else (other, "a2")
        container = f"f{number}/t"
        pid = start(by, container, ONE, agent)
        started[container] = (by, pid)
        cores[container] = frozenset(os.sched_getaffinity(pid))
        text = Path(f"/proc/{pid}/status").read_text()
        listed = next(line for line in text.splitlines() if line.startswith("Cpus_allowed_list"))
        assert len(parse_cpus(listed.split()[1])) == 1
    assert len(frozenset().union(*cores.values())) == CPUS
    with pytest.raises(LimitUnavailable, match="0 of 1 whole cores are free"):
        isolation.prepare("f/late", ONE)
    assert "f/late" not in isolation.recover()
    ended = next(iter(started))
    by, pid = started.pop(ended)
    by.kill(ended)
    os.waitpid(pid, 0)
    until(lambda: by.cleanup(ended))
    started["f/next"] = (isolation, start(isolation, "f/next", ONE))
    assert frozenset(os.sched_getaffinity(started["f/next"][1])) == cores[ended]


def test_a_share_of_all_is_not_bound(started: dict[str, tuple[Isolation, int]]) -> None:
    """Whole cores are for those who ask."""
    isolation = opened()
    plan = isolation.prepare("f/t", replace(ONE, cores=0))
    assert not [path for path in plan.files if "cpuset" in path] and not plan.env
    started["f/t"] = (isolation, launch(plan, "f/t", "a1", SLEEP))
    assert len(os.sched_getaffinity(started["f/t"][1])) == CPUS


def test_half_a_core_is_no_whole_one() -> None:
    """A limit that cannot be applied refuses the task."""
    isolation = opened()
    with pytest.raises(LimitUnavailable, match="whole number"):
        isolation.prepare("f/t", replace(ONE, cpus_milli=1500))
    assert isolation.recover() == ()
    isolation.close_root(remove=True)
    assert not [top for top in tops() if (top / ROOT).exists()]


class TestCpuset(IsolatorContract):
    """The contract, with a whole core."""

    name = "cgroups,cgroups/cpuset"

    def limits(self) -> Limits:
        return replace(super().limits(), cpus_milli=1000, cores=1)


class TestGpusByDevices(IsolatorContract):
    """The contract, with every device that there is; here they are others under the same name."""

    @pytest.fixture(autouse=True)
    def devices(self, tmp_path: Path) -> None:
        self.dev = make_devices(tmp_path)

    def make(self) -> Isolator:
        return Gpus(str(self.dev))

    def limits(self) -> Limits:
        return replace(super().limits(), gpus=2)


def make_devices(directory: Path) -> Path:
    """Two character devices that every kernel has, under the names of GPUs: zero and full."""
    for number, minor in ((0, 5), (1, 7)):
        path = directory / f"nvidia{number}"
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.chmod(0o666)
    return directory


def test_a_gpu_of_another_task_cannot_be_opened(
    tmp_path: Path, started: dict[str, tuple[Isolation, int]]
) -> None:
    """On cgroup v1 the kernel refuses it; on v2 nobody does, and that is said."""
    made = Gpus(str(make_devices(tmp_path)))
    isolation = open_isolation(
        "posix,gpu",
        root=ROOT,
        agent_id="a1",
        state_dir=str(tmp_path / "state"),
        plugins={"gpu": lambda: made},
    )
    one = replace(ONE, cores=0, gpus=1)
    script = 'for d in /dev/zero /dev/full; do head -c1 "$d" >/dev/null 2>&1 && echo "$d"; done'
    out = tmp_path / "out"
    argv = ["/bin/sh", "-c", f"({script}; echo $CUDA_VISIBLE_DEVICES) > {out}; exec sleep 60"]
    pid = launch(isolation.prepare("f/t", one), "f/t", "a1", argv)
    isolation.started("f/t", pid)
    started["f/t"] = (isolation, pid)
    until(lambda: out.exists() and out.read_text().endswith("0\n"))
    has_controller = any(top.name == "devices" for top in tops())
    seen = out.read_text().split()
    assert seen == (["/dev/zero", "0"] if has_controller else ["/dev/zero", "/dev/full", "0"])
    assert (
        bool(isolation.not_enforced[-1:])
        and ("only hidden" in " ".join(isolation.not_enforced)) is not has_controller
    )
    assert isolation.prepare("f/u", one).env == {
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    with pytest.raises(LimitUnavailable, match="only 0 of 1 GPUs"):
        isolation.prepare("f/v", one)
    assert isolation.cleanup("f/u")
    isolation.prepare("f/v", one)
    assert isolation.cleanup("f/v")
