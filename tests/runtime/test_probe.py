"""What an agent takes its host for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesosctl.errors import UsageError
from mesosctl.model.resources import Resources
from mesosctl.runtime import probe

GIB = 1024**3
HOST = probe.Host(2000, 24 * GIB, 100 * GIB)


def test_what_is_not_named_is_detected_with_room_for_the_host():
    """Worked by hand: 24 - 1 GiB of memory, 100 - 5 GiB of disk (Apache Mesos' rule)."""
    assert probe.total_resources("", "", HOST) == Resources.parse(
        "cpus:2;mem:23552;disk:97280;ports:[31000-32000]"
    )


@pytest.mark.parametrize(
    ("mem_gib", "disk_gib", "mem", "disk"),
    [(2, 10, 1024, 5120), (1.5, 9, 768, 4608)],
    ids=["at the thresholds", "below them"],
)
def test_small_hosts_give_half(mem_gib, disk_gib, mem, disk):
    """2 - 1 and 10 - 5 GiB at the thresholds; half of 1.5 and of 9 GiB below them."""
    host = probe.Host(1000, int(mem_gib * GIB), int(disk_gib * GIB))
    found = probe.total_resources("", "", host)
    assert found.scalar("mem") == mem * 1000 and found.scalar("disk") == disk * 1000


def test_what_is_named_is_not_detected_not_even_as_nothing():
    """cpus:0 means no cpus, not "find out"."""
    found = probe.total_resources("cpus:0;mem(ads):512;ports:[1-2]", "", HOST)
    assert found == Resources.parse("mem(ads):512;ports:[1-2];disk:97280")


def test_what_is_reserved_is_not_offered():
    """--reserve leaves room for what else runs on the host."""
    found = probe.total_resources("cpus:4;mem:4G", "cpus:1;mem:1G", HOST)
    assert found.scalar("cpus") == 3000 and found.scalar("mem") == 3072 * 1000
    with pytest.raises(UsageError, match="has only"):
        probe.total_resources("cpus:1", "cpus:2", HOST)


MOUNTS_V1 = (
    "30 25 0:26 / {root}/memory rw - cgroup cgroup rw,memory\n"
    "31 25 0:27 / {root}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
)
MOUNTS_V2 = "30 25 0:26 / {root} rw - cgroup2 cgroup2 rw\n"


def fake_proc(tmp_path: Path, mounts: str, cgroup: str) -> str:
    own = tmp_path / "proc" / "self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text(mounts.format(root=tmp_path / "cgroup"))
    (own / "cgroup").write_text(cgroup)
    return str(tmp_path / "proc")


def test_limits_of_our_own_cgroup_count_v1(tmp_path):
    """In a container the host's size is not ours; the tightest limit on the way up counts."""
    proc = fake_proc(tmp_path, MOUNTS_V1, "2:memory:/a/b\n1:cpu,cpuacct:/a\n")
    memory = tmp_path / "cgroup" / "memory" / "a" / "b"
    cpu = tmp_path / "cgroup" / "cpu" / "a"
    memory.mkdir(parents=True)
    cpu.mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    (memory.parent / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (cpu / "cpu.cfs_quota_us").write_text("150000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    (cpu.parent / "cpu.cfs_quota_us").write_text("-1\n")
    (cpu.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert probe.own_limits(proc) == (1500, 4 * GIB)


def test_limits_of_our_own_cgroup_count_v2(tmp_path):
    """The same with the unified hierarchy."""
    proc = fake_proc(tmp_path, MOUNTS_V2, "0::/a\n")
    group = tmp_path / "cgroup" / "a"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "cpu.max").write_text("max 100000\n")
    unlimited = probe.own_limits(proc)
    (group / "memory.max").write_text(f"{GIB}\n")
    (group / "cpu.max").write_text("50000 100000\n")
    assert probe.own_limits(proc) == (500, GIB)
    assert unlimited[0] > 10**9 and unlimited[1] > 10**15


def test_without_anything_to_read_nothing_limits(tmp_path):
    """No /proc is no reason not to start."""
    assert probe.own_limits(str(tmp_path))[0] > 10**9


def test_this_host_can_be_looked_at(tmp_path):
    """The real figures are positive, and the work directory need not exist."""
    host = probe.look(tmp_path / "not" / "there")
    assert host.cpus_milli > 0 and host.mem_bytes > 0 and host.disk_bytes > 0
    assert probe.boot_id()
    assert probe.host_name()


def test_a_process_is_told_from_a_later_one_of_its_pid(tmp_path):
    """The start time is field 22, whatever the command is called; a zombie is not there."""
    ours = probe.start_ticks(os.getpid())
    assert ours > 0 and probe.start_ticks(os.getpid()) == ours
    assert probe.start_ticks(2**22 + 1) == 0
    fields = " ".join(str(number) for number in range(4, 53))
    for state, expected in (("S", 22), ("Z", 0)):
        directory = tmp_path / "7"
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_text(f"7 (a) S b) {state} {fields}\n")
        assert probe.start_ticks(7, str(tmp_path)) == expected
