"""Limits, kills and figures on the real kernel, whichever cgroup version it has.

Everything happens below a root of its own, which is gone afterwards. Launches go through a thread
that joins, spawns and steps back, as the executor's launcher does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesosctl.isolation import Isolation, Limits, detect, open_isolation
from mesosctl.isolation.cgroupfs import own_groups, parse_mounts, write

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

ROOT = f"mesosctl-{os.getpid()}-test"
MIB = 1 << 20
LIMITS = Limits(cpus_milli=2000, mem_bytes=64 * MIB, pids=64)
# Python computes digests of large blocks without its lock, so the threads run side by side.
SPIN = """\
import hashlib, threading
block = bytes(1 << 20)
def spin():
    while True: hashlib.sha256(block)
for _ in range({threads}): threading.Thread(target=spin).start()
"""
HOG = "x = []\nwhile True: x.append(bytearray(1 << 20))"
WHAT_IS_USED = (
    *("memory.usage_in_bytes", "memory.memsw.usage_in_bytes"),
    *("memory.current", "memory.swap.current"),
)
DAEMON = """\
import os, signal, time
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid() if os.getpid() != os.getsid(0) else None
    os.closerange(0, 3)
while True: time.sleep(0.2)
"""
BOMB = """\
import os, time
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
"""


def mountinfo() -> str:
    """The mount table of this process."""
    return Path("/proc/self/mountinfo").read_text()


def tops() -> list[Path]:
    """Every mounted hierarchy."""
    mounts = parse_mounts(mountinfo())
    found = dict.fromkeys(mount.directory for mount in mounts.v1.values())
    if mounts.unified is not None:
        found[mounts.unified.directory] = None
    return [Path(directory) for directory in found]


@pytest.fixture
def isolation() -> Iterator[Isolation]:
    """The kernel's isolation, and the proof that a test left nothing of its own behind."""
    opened = open_isolation("cgroups", root=ROOT, agent_id="a1")
    yield opened
    for container in opened.recover():
        opened.kill(container)
        until(lambda name=container: opened.cleanup(name))  # type: ignore[misc]
    opened.close_root(remove=True)
    assert [top for top in tops() if (top / ROOT).exists()] == []


def until(what: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait until `what` is true; fails when it does not become so."""
    end_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.002)


def launch(isolation: Isolation, container: str, limits: Limits, argv: list[str]) -> int:
    """Start a program inside a new container from the outside; returns its process id."""
    plan = isolation.prepare(container, limits)
    pids: list[int] = []

    def spawn() -> None:
        own = b"%d" % (threading.get_native_id() if plan.by == "thread" else os.getpid())
        for path in plan.files:
            write(path, own)
        try:
            pids.append(os.posix_spawn(argv[0], argv, {"PATH": "/usr/bin:/bin"}, setsid=True))
        finally:
            for path in plan.home:
                write(path, own)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    isolation.started(container, pids[0])
    return pids[0]


def python(isolation: Isolation, container: str, limits: Limits, code: str) -> int:
    """Start a Python program inside a new container."""
    return launch(isolation, container, limits, [sys.executable, "-S", "-c", code])


def finish(isolation: Isolation, container: str, pid: int) -> int:
    """Kill, reap, remove; returns the wait status."""
    isolation.kill(container)
    _, status = os.waitpid(pid, 0)
    until(lambda: isolation.is_empty(container))
    until(lambda: isolation.cleanup(container))
    return status


def test_this_host_is_recognised(isolation: Isolation) -> None:
    """The choice made by itself must be the kernel's limits where it has them."""
    host = detect(mountinfo(), own_groups(Path("/proc/self/cgroup").read_text()), "cpu memory pids")
    assert host.version in (1, 2) and not host.missing
    assert isolation.names == ("cgroups/cpu", "cgroups/mem", "cgroups/pids")
    assert isolation.sample_interval_s is None


def test_the_launcher_is_back_home_and_the_task_inside(isolation: Isolation) -> None:
    """A launcher left inside would be limited and killed with the task."""
    before = Path("/proc/self/cgroup").read_text()
    pid = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    assert Path("/proc/self/cgroup").read_text() == before
    assert isolation.pids("f/t") == (pid,) and not isolation.is_empty("f/t")
    assert f"/{ROOT}/a1/f/t" in Path(f"/proc/{pid}/cgroup").read_text()
    assert isolation.cleanup("f/t") is False
    assert isolation.recover() == ("f/t",)
    assert isolation.signal("f/t", signal.SIGTERM) == 1
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
    until(lambda: isolation.cleanup("f/t"))
    assert isolation.recover() == ()


def test_a_memory_hog_is_killed_within_its_limit(isolation: Isolation) -> None:
    """The kernel ends it, the counter tells, and the peak stays within the limit."""
    pid = python(isolation, "f/t", LIMITS, HOG)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    usage = isolation.usage("f/t")
    assert usage.oom_kills >= 1
    assert usage.mem_limit_bytes == 64 * MIB
    assert 56 * MIB < usage.mem_peak_bytes <= 64 * MIB
    until(lambda: isolation.cleanup("f/t"))


def files_of(container: str, *names: str) -> dict[str, int]:
    """The numbers in the files of a container that this kernel has."""
    found = {}
    for top in tops():
        for name in names:
            path = top / ROOT / "a1" / container / name
            if path.exists():
                found[name] = int(path.read_text())
    return found


# A charge is added, compared with the limit and taken back again: whoever reads in between sees up
# to a batch of pages on each CPU that the task never gets. The kernel's peaks do not count them.
REFUSED_BYTES = 64 * 4096 * (os.cpu_count() or 1)


def test_memory_and_swap_never_exceed_the_limit(isolation: Isolation) -> None:
    """Four hogs and a writer in one container: neither memory nor swap, at no moment."""
    code = f"import os\nfor _ in range(3): os.fork()\nopen('/dev/shm/x', 'wb').close()\n{HOG}"
    limit = 24 * MIB
    ended = 0
    for number in range(10):
        name = f"f/t{number}"
        pid = python(isolation, name, Limits(2000, limit, 64), code.replace("x'", f"{ROOT}'"))
        seen: dict[str, int] = {}
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            now = files_of(name, *WHAT_IS_USED)
            seen = {key: max(value, seen.get(key, 0)) for key, value in now.items()}
        ended += isolation.usage(name).oom_kills > 0
        peaks = files_of(name, "memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes")
        isolation.kill(name)
        until(lambda name=name: isolation.cleanup(name))  # type: ignore[misc]
        assert max(peaks.values(), default=0) <= limit, peaks
        assert seen and max(seen.values()) <= limit + REFUSED_BYTES, seen
        assert seen.get("memory.swap.current", 0) == 0
    Path(f"/dev/shm/{ROOT}").unlink()
    assert ended == 10


def test_an_oom_kill_of_a_child_is_told(isolation: Isolation) -> None:
    """The first process may survive the kill of its child and end well; only the counter tells."""
    code = f"import os, time\nif os.fork() == 0:\n  exec({HOG!r})\nos.wait()\ntime.sleep(60)"
    pid = python(isolation, "f/t", LIMITS, code)
    until(lambda: isolation.usage("f/t").oom_kills >= 1)
    assert finish(isolation, "f/t", pid) == signal.SIGKILL


def test_a_kill_by_hand_is_no_oom(isolation: Isolation) -> None:
    """The same signal from elsewhere must not be called a lack of memory."""
    pid = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    assert finish(isolation, "f/t", pid) == signal.SIGKILL
    pid = launch(isolation, "f/u", LIMITS, ["/bin/sleep", "60"])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert isolation.usage("f/u").oom_kills == 0
    until(lambda: isolation.cleanup("f/u"))


def test_the_oom_descriptor_becomes_readable(isolation: Isolation) -> None:
    """An executor waits for it in its poll set instead of asking again and again."""
    pid = python(isolation, "f/t", LIMITS, "input = __import__('time').sleep(0.3)\n" + HOG)
    descriptor = isolation.watch_fd("f/t")
    if descriptor is None:
        finish(isolation, "f/t", pid)
        pytest.skip("cgroup v2 has no OOM eventfd; the kernel kills the whole group there")
    assert isolation.watch_fd("f/t") == descriptor
    assert select.select([descriptor], [], [], 20)[0] == [descriptor]
    until(lambda: isolation.usage("f/t").oom_kills >= 1)
    finish(isolation, "f/t", pid)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def come_first() -> None:
    """Put all of our containers before whatever else this machine is busy with."""
    for top in tops():
        for name, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
            for path in (top / ROOT / name, top / ROOT / "a1" / name, top / ROOT / "a1/f" / name):
                if path.exists():
                    path.write_text(most)


@pytest.mark.parametrize("threads", [1, 4])
def test_half_a_cpu_is_half_a_cpu(isolation: Isolation, threads: int) -> None:
    """Over ten seconds a task uses its quota, within a twentieth, on however many CPUs at once."""
    pid = python(isolation, "f/t", Limits(500, 64 * MIB, 64), SPIN.format(threads=threads))
    come_first()
    until(lambda: isolation.usage("f/t").cpu_user_s > 0.1 * threads)
    # The limit must hold in every window; that it is also reached shows in the first one in which
    # nothing else on the machine takes the CPU away.
    for _ in range(5):
        first, began_s = isolation.usage("f/t"), time.monotonic()
        select.select([], [], [], 10.0)
        last, ended_s = isolation.usage("f/t"), time.monotonic()
        used_s = last.cpu_user_s + last.cpu_system_s - first.cpu_user_s - first.cpu_system_s
        share = used_s / (ended_s - began_s)
        print(f"\n{threads} threads with half a CPU: {share:.4f} of one over 10 s")
        assert share <= 0.525
        if share >= 0.475:
            break
    finish(isolation, "f/t", pid)
    assert share >= 0.475


def test_cpu_time_agrees_with_the_process(isolation: Isolation) -> None:
    """What is billed is what wait4 says, but for the last steps out of the kernel."""
    code = "import time\nwhile time.process_time() < 0.3: pass"
    pid = python(isolation, "f/t", LIMITS, code)
    _, _, rusage = os.wait4(pid, 0)
    usage = isolation.usage("f/t")
    total_s = usage.cpu_user_s + usage.cpu_system_s
    told_s = rusage.ru_utime + rusage.ru_stime
    assert abs(total_s - told_s) < 0.03 + told_s / 20
    until(lambda: isolation.cleanup("f/t"))


def test_a_fork_bomb_stops_at_its_limit_and_dies(isolation: Isolation) -> None:
    """It forks into sessions of its own without pause, and one kill still ends it."""
    pid = python(isolation, "f/t", Limits(2000, 256 * MIB, 64), BOMB)
    until(lambda: len(isolation.pids("f/t")) >= 60)
    assert len(isolation.pids("f/t")) <= 64
    isolation.kill("f/t")
    os.waitpid(pid, 0)
    # One kill must do: nothing is left that could fork.
    until(lambda: isolation.is_empty("f/t"), within_s=10.0)
    until(lambda: isolation.cleanup("f/t"))


def test_a_killed_container_ends_on_more_than_its_quota(isolation: Isolation) -> None:
    """Two hundred processes on a hundredth of a CPU took eight seconds to end."""
    fork = "for _ in range(200):\n  if os.fork() == 0: break\n"
    code = f"import os, time\n{fork}time.sleep(900.0 + 1)"
    pid = python(isolation, "f/t", Limits(2000, 256 * MIB, 300), code)
    until(lambda: len(isolation.pids("f/t")) == 201)
    names = ("cpu.cfs_quota_us", "cpu.max")
    files = [top / ROOT / "a1/f/t" / name for top in tops() for name in names]
    (quota,) = [path for path in files if path.exists()]
    quota.write_text("1000" if quota.name == "cpu.cfs_quota_us" else "1000 100000")
    began_s = time.monotonic()
    isolation.kill("f/t")
    assert quota.read_text().split()[0] in ("-1", "max")
    assert finish(isolation, "f/t", pid) == signal.SIGKILL
    print(f"\n201 processes with a hundredth of a CPU ended in {time.monotonic() - began_s:.2f} s")


def test_kill_ends_daemons_that_ignore_signals(isolation: Isolation) -> None:
    """Sessions, double forks and deaf ears do not lead out of a cgroup."""
    pid = python(isolation, "f/t", LIMITS, DAEMON)
    until(lambda: len(isolation.pids("f/t")) == 3)
    pids = isolation.pids("f/t")
    until(lambda: b"" not in [Path(f"/proc/{p}/cmdline").read_bytes() for p in pids])
    assert finish(isolation, "f/t", pid) == signal.SIGKILL
    assert isolation.usage("f/t").mem_limit_bytes is None


def test_kill_ends_stopped_processes(isolation: Isolation) -> None:
    """A stopped process gets SIGKILL all the same."""
    pid = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert finish(isolation, "f/t", pid) == signal.SIGKILL


def test_a_neighbour_survives_a_kill(isolation: Isolation) -> None:
    """Only the container that is named is killed."""
    first = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    second = launch(isolation, "f/t.1", LIMITS, ["/bin/sleep", "60"])
    finish(isolation, "f/t", first)
    assert isolation.pids("f/t.1") == (second,)
    finish(isolation, "f/t.1", second)


def test_a_cgroup_made_by_the_task_is_emptied_and_removed(isolation: Isolation) -> None:
    """A process that hides one level deeper is found and killed too."""
    pid = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    deeper: list[Path] = []
    for top in tops():
        if (top / ROOT / "a1/f/t").exists():
            deeper.append(top / ROOT / "a1/f/t/inner")
    for directory in deeper:
        directory.mkdir()
        (directory / "cgroup.procs").write_text(str(pid))
    assert isolation.pids("f/t") == (pid,)
    assert finish(isolation, "f/t", pid) == signal.SIGKILL
    assert not any(directory.exists() for directory in deeper)


def test_a_container_that_is_used_again_tells_of_its_own_task_only(isolation: Isolation) -> None:
    """Peak and CPU time are those of one task, whoever was in the container before."""
    is_v1 = isolation.prepare("f/probe", LIMITS).by == "thread"
    isolation.cleanup("f/probe")
    spin = "x = bytearray(24 << 20)\nfor i in range(300000): pass"
    figures, places = [], []
    for number, argv in enumerate(
        (["/bin/true"], [sys.executable, "-S", "-c", spin], ["/bin/true"], ["/bin/true"])
    ):
        container = f"f/t{number}"
        pid = launch(isolation, container, LIMITS, argv)
        os.waitpid(pid, 0)
        until(lambda name=container: isolation.is_empty(name))  # type: ignore[misc]
        figures.append(isolation.usage(container))
        found = [top / ROOT / "a1" / container for top in tops()]
        places.append([path.stat().st_ino for path in found if path.exists()])
        assert isolation.release(container)
    assert figures[1].mem_peak_bytes > 24 * MIB
    for used in (figures[0], figures[2], figures[3]):
        assert used.mem_peak_bytes < 8 * MIB
        assert used.cpu_user_s + used.cpu_system_s < figures[1].cpu_user_s + 0.05
    assert all(used.mem_limit_bytes == LIMITS.mem_bytes for used in figures)
    assert (places[2] == places[3]) is is_v1
    isolation.tidy()
    assert isolation.tidy() is False
    assert isolation.recover() == ()


def test_what_a_task_wrote_into_its_limits_ends_with_it(isolation: Isolation) -> None:
    """A task of root could give the next one of its framework a thousand times more."""
    found = []
    for number in range(2):
        container = f"f/t{number}"
        pid = launch(isolation, container, LIMITS, ["/bin/true"])
        os.waitpid(pid, 0)
        until(lambda name=container: isolation.is_empty(name))  # type: ignore[misc]
        isolation.usage(container)
        (limit,) = [path for top in tops() for path in top.glob(f"{ROOT}/a1/{container}/pids.max")]
        found.append(limit.read_text())
        limit.write_text("30000")
        assert isolation.release(container)
    assert found == [f"{LIMITS.pids}\n"] * 2


def test_a_container_with_anything_in_it_is_not_kept(isolation: Isolation) -> None:
    """Neither a process nor a cgroup that the task made may come with it."""
    pid = launch(isolation, "f/t", LIMITS, ["/bin/sleep", "60"])
    isolation.usage("f/t")
    assert not isolation.release("f/t")
    made = [top / ROOT / "a1" / "f/t/inner" for top in tops() if (top / ROOT / "a1/f/t").exists()]
    made[0].mkdir()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: isolation.is_empty("f/t"))
    isolation.usage("f/t")
    assert isolation.release("f/t")
    assert not made[0].parent.exists()
    assert isolation.tidy() is False


def test_nothing_outside_the_own_root_changes(isolation: Isolation) -> None:
    """Directories of others are neither made nor removed by a whole life of containers."""

    def others() -> list[str]:
        return sorted(
            str(path)
            for top in tops()
            for path in top.iterdir()
            if path.is_dir() and not path.name.startswith("mesosctl-")
        )

    before = others()
    for index in range(5):
        pid = launch(isolation, f"f/t{index}", LIMITS, ["/bin/true"])
        os.waitpid(pid, 0)
        until(lambda name=f"f/t{index}": isolation.cleanup(name))  # type: ignore[misc]
    assert others() == before


def test_the_price_of_a_container(isolation: Isolation) -> None:
    """Made, asked and removed once per task: about what the launch of /bin/true costs, or less."""
    launches_us = []
    for _ in range(50):
        began_ns = time.perf_counter_ns()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        launches_us.append((time.perf_counter_ns() - began_ns) / 1000)
    costs_us = []
    for index in range(200):
        name = f"f/t{index}"
        began_ns = time.perf_counter_ns()
        isolation.prepare(name, LIMITS)
        isolation.usage(name)
        assert isolation.cleanup(name)
        costs_us.append((time.perf_counter_ns() - began_ns) / 1000)
    # Both suffer alike on a slow or busy machine; 400 against 600 µs where this was written.
    assert sorted(costs_us)[100] < 3 * sorted(launches_us)[25]
