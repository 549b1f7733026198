"""Cgroup file systems: mount tables of real hosts, homes, and errors that name what failed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import cgroupfs
from mesosctl.isolation.cgroupfs import Mount, own_directory, own_groups, parse_mounts

SEPARATE = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
"""
JOINT = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
BESIDE = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "none"),
        ("garbage\n\n- - -\n1 2 3 - cgroup\n", "none"),
        (SEPARATE, "v1"),
        (JOINT, "v1"),
        (UNIFIED, "v2"),
        (SEPARATE + BESIDE, "hybrid"),
        (SYSTEMD + BESIDE, "v2"),
        (SYSTEMD, "none"),
    ],
)
def test_the_mode_follows_from_the_mounts(text: str, mode: str) -> None:
    """The mode decides which interface is used, and a systemd hierarchy alone limits nothing."""
    assert parse_mounts(text).mode == mode


def test_a_joint_mount_serves_both_controllers() -> None:
    """Where cpu and cpuacct are one mount, both names lead to it."""
    v1 = parse_mounts(JOINT).v1
    assert v1["cpu"] == v1["cpuacct"] == Mount("/sys/fs/cgroup/cpu,cpuacct", "/")


def test_spaces_in_a_mount_point_are_unescaped() -> None:
    """The kernel writes a space as \\040; a path taken literally would not exist."""
    text = "1 2 0:3 / /a\\040b rw - cgroup2 none rw\n"
    assert parse_mounts(text).unified == Mount("/a b", "/")


def test_own_groups_of_a_hybrid_host() -> None:
    """A launcher must return to where it came from, in each hierarchy."""
    groups = own_groups("4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user\n\n")
    assert groups["memory"] == "/a/b"
    assert groups["cpu"] == groups["cpuacct"] == "/"
    assert groups[cgroupfs.UNIFIED] == "/user"


@pytest.mark.parametrize(
    ("fs_root", "path", "directory"),
    [
        ("/", "/a/b", "/m/a/b"),
        ("/", "/", "/m"),
        ("/docker/x", "/docker/x", "/m"),
        ("/docker/x", "/docker/x/y", "/m/y"),
        ("/docker/x", "/docker/xy", "/m"),
        ("/", "/../outside", "/m"),
    ],
)
def test_home_is_found_below_a_partial_mount(fs_root: str, path: str, directory: str) -> None:
    """In a container only a part of the hierarchy is mounted, and paths count from its root."""
    assert own_directory(Mount("/m", fs_root), path) == directory


def test_a_refused_write_names_path_value_and_reason(tmp_path: Path) -> None:
    """A user must learn which file did not take which value."""
    path = str(tmp_path / "pids.max")
    with pytest.raises(LimitUnavailable) as caught:
        cgroupfs.write(path, b"17")
    assert path in caught.value.message
    assert "'17'" in caught.value.message
    assert "No such file" in caught.value.message


def test_long_files_are_read_whole(tmp_path: Path) -> None:
    """A list of ten thousand processes does not fit into one page."""
    path = tmp_path / "cgroup.procs"
    path.write_text("".join(f"{pid}\n" for pid in range(20_000)))
    assert cgroupfs.pids_in(str(path)) == list(range(20_000))


def test_missing_counters_read_as_zero(tmp_path: Path) -> None:
    """A container may vanish under us; its last figures must not end the executor."""
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "events").write_text("oom 3\noom_kill 2\n")
    assert cgroupfs.number(str(tmp_path / "none")) == 0
    assert cgroupfs.number(str(tmp_path / "max")) == 0
    assert cgroupfs.keyed(str(tmp_path / "none"), b"oom_kill") == 0
    assert cgroupfs.keyed(str(tmp_path / "events"), b"oom_kill") == 2
    assert cgroupfs.keyed(str(tmp_path / "events"), b"kill") == 0


def test_held_files_stay_open_under_another_name(tmp_path: Path) -> None:
    """A container that is used again is read and written through what is open already."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "limit").write_text("1\n")
    cgroupfs.hold(str(old))
    before = len(os.listdir("/proc/self/fd"))
    assert cgroupfs.number(f"{old}/limit") == 1
    cgroupfs.write(f"{old}/limit", b"2")
    assert len(os.listdir("/proc/self/fd")) == before + 2
    old.rename(new)
    cgroupfs.moved(str(old), str(new))
    assert cgroupfs.number(f"{new}/limit") == 2
    cgroupfs.write(f"{new}/limit", b"3")
    assert cgroupfs.number(f"{new}/limit") == 3
    assert len(os.listdir("/proc/self/fd")) == before + 2
    cgroupfs.let_go(str(new))
    assert len(os.listdir("/proc/self/fd")) == before
    assert cgroupfs.number(f"{new}/limit") == 3
    assert not cgroupfs.held()


def test_lists_of_processes_are_never_kept_open(tmp_path: Path) -> None:
    """Version 1 would show an old list, and a container with processes would count as empty."""
    (tmp_path / "cgroup.procs").write_text("7\n")
    cgroupfs.hold(str(tmp_path))
    assert cgroupfs.pids_in(f"{tmp_path}/cgroup.procs") == [7]
    (tmp_path / "cgroup.procs").unlink()
    (tmp_path / "cgroup.procs").write_text("8\n")
    assert cgroupfs.pids_in(f"{tmp_path}/cgroup.procs") == [8]
    cgroupfs.let_go(str(tmp_path))
