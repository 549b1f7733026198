"""Containers on cgroup v1, on a fake directory with the kernel's files."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mesosctl.errors import InvariantBroken, LimitUnavailable
from mesosctl.isolation import JoinPlan, Limits, Usage

if TYPE_CHECKING:
    from tests.isolation.conftest import FakeKernel

LIMITS = Limits(cpus_milli=500, mem_bytes=64 << 20, pids=100)
HERE = "mesosctl/a1/f/t"


def test_limits_are_written_before_anybody_joins(v1: FakeKernel) -> None:
    """Half a CPU is 512 shares and 50 ms of each 100; swap counts, so both limits are the same."""
    v1.open("auto").prepare("f/t", LIMITS)
    assert v1.text(f"cpu/{HERE}/cpu.shares") == "512"
    assert v1.text(f"cpu/{HERE}/cpu.cfs_quota_us") == "50000"
    assert v1.text(f"memory/{HERE}/memory.limit_in_bytes") == str(64 << 20)
    assert v1.text(f"memory/{HERE}/memory.memsw.limit_in_bytes") == str(64 << 20)
    assert v1.text(f"pids/{HERE}/pids.max") == "100"


def test_what_a_killed_trial_left_is_removed(v1: FakeKernel) -> None:
    """An agent killed while it tried its cgroups must not leave one behind for each start."""
    path = f"{v1.base}/pids"
    for name in ("mesosctl", "a1", "_probe", "999999999"):
        path = f"{path}/{name}"
        v1.make(path)
    v1.open("auto")
    assert not (v1.base / "pids/mesosctl/a1/_probe").exists()


def test_very_small_and_absent_limits(v1: FakeKernel) -> None:
    """The kernel refuses less than 2 shares or 1 ms; a launch needs two tasks; None: no limit."""
    v1.open("auto").prepare("f/t", Limits(1, None, 1))
    assert v1.text(f"cpu/{HERE}/cpu.shares") == "2"
    assert v1.text(f"cpu/{HERE}/cpu.cfs_quota_us") == "1000"
    assert v1.text(f"memory/{HERE}/memory.limit_in_bytes").startswith("9223372036854771712")
    assert v1.text(f"pids/{HERE}/pids.max") == "2"


def test_the_plan_joins_cpu_last_and_leads_home_in_reverse(v1: FakeKernel) -> None:
    """Home is where this process was, not the top; the quota is joined last and left first."""
    plan = v1.open("auto").prepare("f/t", LIMITS)
    order = ("pids", "memory", "cpuacct", "cpu")
    homes = ("cpu", "cpuacct", "memory/box/me", "pids")
    assert plan == JoinPlan(
        files=tuple(f"{v1.base}/{name}/{HERE}/tasks" for name in order),
        home=tuple(f"{v1.base}/{name}/tasks" for name in homes),
        by="thread",
    )


def test_a_joint_cpu_mount_is_one_directory(fake: FakeKernel) -> None:
    """Where cpu and cpuacct share a mount, a container is made and joined there once."""
    from_both = {"cpu.shares": "", "cpu.cfs_quota_us": "", "cpuacct.usage": "2500000000\n"}
    fake.mount(
        "joint", "cgroup", "cpu,cpuacct", {**from_both, "cpuacct.stat": "user 3\nsystem 1\n"}
    )
    fake.mount("pids", "cgroup", "pids", {"pids.max": "max\n"})
    fake.own = "1:cpu,cpuacct:/\n2:pids:/\n"
    isolation = fake.open("cgroups/cpu,cgroups/pids")
    plan = isolation.prepare("f/t", LIMITS)
    assert [path.split("/mesosctl")[0] for path in plan.files] == [
        f"{fake.base}/pids",
        f"{fake.base}/joint",
    ]
    usage = isolation.usage("f/t")
    assert (usage.cpu_user_s, usage.cpu_system_s) == (1.875, 0.625)


def test_usage_comes_from_the_counters(v1: FakeKernel) -> None:
    """The exact total is split by the ticks, and an OOM kill is counted."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    v1.put(f"cpuacct/{HERE}/cpuacct.usage", "1000000000\n")
    v1.put(f"cpuacct/{HERE}/cpuacct.stat", "user 60\nsystem 20\n")
    v1.put(f"memory/{HERE}/memory.max_usage_in_bytes", "123456\n")
    v1.put(f"memory/{HERE}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert isolation.usage("f/t") == Usage(0.75, 0.25, 123456, 64 << 20, 2)


def test_usage_of_a_container_that_vanished_is_zero(v1: FakeKernel) -> None:
    """Somebody may remove a cgroup under us; the task still has to be reported."""
    isolation = v1.open("auto")
    assert isolation.usage("f/gone") == Usage(0.0, 0.0, 0, None, 0)
    assert isolation.pids("f/gone") == ()
    assert isolation.is_empty("f/gone")
    assert isolation.watch_fd("f/gone") is None


def test_without_memsw_swap_is_avoided_and_said(v1: FakeKernel) -> None:
    """A kernel without swap accounting must not be sold as one with it."""
    del v1.files["memory"]["memory.memsw.limit_in_bytes"]
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    assert v1.text(f"memory/{HERE}/memory.swappiness") == "0"
    assert any("swap is not counted" in sentence for sentence in isolation.not_enforced)


@pytest.mark.parametrize(
    ("controller", "file", "isolator"),
    [
        ("cpu", "cpu.cfs_quota_us", "cgroups/cpu"),
        ("memory", "memory.limit_in_bytes", "cgroups/mem"),
        ("pids", "pids.max", "cgroups/pids"),
    ],
)
def test_a_kernel_without_the_file_is_refused_at_once(
    v1: FakeKernel, controller: str, file: str, isolator: str
) -> None:
    """A limit that was asked for and cannot be had is found out when the agent starts."""
    del v1.files[controller][file]
    with pytest.raises(LimitUnavailable, match=file):
        v1.open(isolator)


def test_a_failed_limit_undoes_every_directory(v1: FakeKernel) -> None:
    """A task that cannot be limited is not run, and nothing of it stays behind."""
    isolation = v1.open("auto")
    v1.files["memory"].pop("memory.memsw.limit_in_bytes")
    with pytest.raises(LimitUnavailable, match="memsw"):
        isolation.prepare("f/t", LIMITS)
    assert not [path for path in v1.base.rglob("t") if path.is_dir()]
    v1.files["memory"]["memory.memsw.limit_in_bytes"] = ""
    assert isolation.prepare("f/t", LIMITS).by == "thread"


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENOMEM])
def test_a_directory_that_cannot_be_made_undoes_the_others(v1: FakeKernel, code: int) -> None:
    """Every reason of the kernel ends in the same clean refusal."""
    isolation = v1.open("auto")
    v1.refused[f"{v1.base}/cpu/{HERE}"] = code
    with pytest.raises(LimitUnavailable, match=f"cpu/{HERE}"):
        isolation.prepare("f/t", LIMITS)
    assert not [path for path in v1.base.rglob("t") if path.is_dir()]


def test_an_empty_leftover_is_replaced_and_a_busy_one_refused(v1: FakeKernel) -> None:
    """Counters of an earlier container of that name would be read as the new one's."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    v1.put(f"memory/{HERE}/memory.max_usage_in_bytes", "999\n")
    isolation.prepare("f/t", LIMITS)
    assert isolation.usage("f/t").mem_peak_bytes == 0
    v1.put(f"memory/{HERE}/cgroup.procs", "4242\n")
    with pytest.raises(LimitUnavailable, match="in use"):
        isolation.prepare("f/t", LIMITS)


def test_cleanup_waits_for_the_last_process(v1: FakeKernel) -> None:
    """False means that the resources are not free yet; a second call finishes the work."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    v1.put(f"memory/{HERE}/cgroup.procs", "4242\n")
    assert not isolation.is_empty("f/t")
    assert isolation.cleanup("f/t") is False
    v1.put(f"memory/{HERE}/cgroup.procs", "")
    assert isolation.is_empty("f/t")
    assert isolation.cleanup("f/t") is True
    assert isolation.cleanup("f/t") is True
    assert isolation.recover() == ()


def test_cgroups_made_by_the_task_are_counted_and_removed(v1: FakeKernel) -> None:
    """A task that runs a container engine makes groups inside its own."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    v1.make(f"{v1.base}/pids/{HERE}/inner")
    v1.make(f"{v1.base}/pids/{HERE}/inner/deeper")
    v1.put(f"pids/{HERE}/inner/deeper/cgroup.procs", "4243\n")
    assert isolation.pids("f/t") == (4243,)
    assert not isolation.is_empty("f/t")
    assert isolation.cleanup("f/t") is False
    v1.put(f"pids/{HERE}/inner/deeper/cgroup.procs", "")
    assert isolation.cleanup("f/t") is True
    assert not (v1.base / f"pids/{HERE}").exists()


def test_a_spared_launcher_is_no_process_of_the_task(v1: FakeKernel) -> None:
    """Its thread is inside for a moment: it must not be killed, nor the container called empty."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    isolation.spare(4242)
    v1.put(f"pids/{HERE}/cgroup.procs", "4242\n")
    assert isolation.pids("f/t") == ()
    assert isolation.signal("f/t", 0) == 0
    assert not isolation.is_empty("f/t")


def test_only_the_last_launcher_is_spared(v1: FakeKernel) -> None:
    """The id of a launcher that has ended may be given to a task, which must stay killable."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    isolation.spare(4242)
    isolation.spare(4243)
    v1.put(f"pids/{HERE}/cgroup.procs", "4242\n4243\n")
    assert isolation.pids("f/t") == (4242,)


def test_kill_stops_forks_first(v1: FakeKernel) -> None:
    """Without forks two rounds are enough, whatever the processes do."""
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    isolation.kill("f/t")
    assert v1.text(f"pids/{HERE}/pids.max") == "0"


def test_without_cgroups_pids_the_controller_still_helps_to_kill(v1: FakeKernel) -> None:
    """It limits nothing then, and that is said."""
    isolation = v1.open("cgroups/mem")
    isolation.prepare("f/t", LIMITS)
    assert v1.text(f"pids/{HERE}/pids.max") == "max\n"
    assert any("number of processes" in sentence for sentence in isolation.not_enforced)
    assert any("cpu limits" in sentence for sentence in isolation.not_enforced)


def test_recover_finds_what_is_left_in_any_hierarchy(v1: FakeKernel) -> None:
    """A crash between two directories leaves a container in only one of them."""
    first = v1.open("auto")
    first.prepare("f/t", LIMITS)
    first.prepare("g/u", LIMITS)
    v1.remove(f"{v1.base}/pids/{HERE}")
    second = v1.open("auto")
    assert second.recover() == ("f/t", "g/u")
    assert second.cleanup("f/t")
    assert second.recover() == ("g/u",)


def test_nothing_outside_the_own_agent_is_touched(v1: FakeKernel) -> None:
    """Other agents and other users of the host keep their groups."""
    for path in ("cpu/other", "cpu/mesosctl", "cpu/mesosctl/a2", "cpu/mesosctl/a2/f"):
        v1.make(f"{v1.base}/{path}")
    isolation = v1.open("auto")
    isolation.prepare("f/t", LIMITS)
    isolation.kill("f/t")
    isolation.cleanup("f/t")
    isolation.close_root(remove=True)
    directories = sorted(str(p.relative_to(v1.base)) for p in v1.base.rglob("*") if p.is_dir())
    assert directories == [
        "cpu",
        "cpu/mesosctl",
        "cpu/mesosctl/a2",
        "cpu/mesosctl/a2/f",
        "cpu/other",
        "cpuacct",
        "memory",
        "pids",
    ]


def test_a_removed_agent_directory_is_made_again(v1: FakeKernel) -> None:
    """An executor that ends may remove the directories of an agent that still runs."""
    isolation = v1.open("auto")
    isolation.close_root(remove=True)
    assert not (v1.base / "cpu/mesosctl").exists()
    isolation.prepare("f/t", LIMITS)
    assert isolation.recover() == ("f/t",)


@pytest.mark.parametrize("name", ["t", "../t", "f/..", "f/t/u", "", "/t", "f/", "f/.t", "f/t\n"])
def test_names_that_lead_elsewhere_break_an_invariant(v1: FakeKernel, name: str) -> None:
    """Ids are checked when they arrive; a bad one here is our own fault and must not be used."""
    isolation = v1.open("auto")
    with pytest.raises(InvariantBroken):
        isolation.prepare(name, LIMITS)
    with pytest.raises(InvariantBroken):
        isolation.cleanup(name)


def test_a_task_named_like_a_file_of_the_kernel_is_refused(v1: FakeKernel) -> None:
    """`tasks` is a legal id; its directory cannot exist, and the error says so."""
    with pytest.raises(LimitUnavailable, match="tasks"):
        v1.open("auto").prepare("f/tasks", LIMITS)


def test_directories_of_frameworks_without_containers_are_pruned(v1: FakeKernel) -> None:
    """But not of those that are spared, nor of those that hold a container."""
    isolation = v1.open("auto")
    for container in ("f/t", "g/t", "h/t"):
        isolation.prepare(container, LIMITS)
    assert isolation.cleanup("f/t") and isolation.cleanup("g/t")
    isolation.prune(("g",))
    here = (v1.base / "cpu/mesosctl").glob("*/*")
    left = sorted(path.name for path in here if path.is_dir())
    assert left == ["g", "h"]
    isolation.prepare("f/u", LIMITS)
    assert isolation.recover() == ("f/u", "h/t")
