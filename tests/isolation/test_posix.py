"""Isolation without cgroups: real processes of this user, and a fake /proc for what is rare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesosctl.isolation import AGENT_ENV, CONTAINER_ENV, Isolation, Limits, open_isolation
from mesosctl.isolation.processes import ProcessTable

AGENT = f"test-{os.getpid()}"
LIMITS = Limits(1000, 64 << 20, 100)
HOG = "x = bytearray({mib} << 20); x[::4096] = b'x' * len(x[::4096]); print(1, flush=True); input()"
# A daemon as they are written: session of its own, second fork, deaf to a polite end.
DAEMON = """\
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(int(sys.argv[1]), b"%d\\n" % os.getpid())
        while True: time.sleep(0.5)
    os._exit(0)
time.sleep(60)
"""
# Forks as fast as it can, and every process does it; it ends by itself should a test fail.
BOMB = """\
import os, time
end = time.monotonic() + 20
while time.monotonic() < end:
    try: os.fork()
    except OSError: pass
"""


def until(what: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until `what` is true; fails when it does not become so."""
    end_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end_s, "waited in vain"
        os.sched_yield()


def alive(pid: int) -> bool:
    """Whether a process runs, zombies not counted."""
    stat = ProcessTable(AGENT).stat(pid)
    return stat is not None and stat.alive


def start(
    isolation: Isolation, container: str, code: str, *words: str, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a Python program as the executor would: token, session, `started`."""
    isolation.prepare(container, LIMITS)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code, *words],
        env={CONTAINER_ENV: container, AGENT_ENV: AGENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        pass_fds=fds,
    )
    isolation.started(container, process.pid)
    return process


@pytest.fixture
def isolation() -> Iterator[Isolation]:
    """Posix isolators; whatever a test leaves running is killed."""
    opened = open_isolation("posix", agent_id=AGENT)
    yield opened
    for container in opened.recover():
        opened.kill(container)


def end(process: subprocess.Popen[bytes]) -> None:
    """Reap it and close its pipes."""
    process.communicate(timeout=20)


def test_nothing_is_joined(isolation: Isolation) -> None:
    """Without cgroups a launcher has nowhere to write itself."""
    plan = isolation.prepare("f/t", LIMITS)
    assert (plan.files, plan.home, plan.by) == ((), (), "none")
    assert isolation.is_empty("f/t") and isolation.cleanup("f/t")


def test_a_daemon_is_found_and_killed(isolation: Isolation) -> None:
    """It left session and parent and ignores SIGTERM; its environment still names the container."""
    read_end, write_end = os.pipe()
    process = start(isolation, "f/t", DAEMON, str(write_end), fds=(write_end,))
    stray = int(os.read(read_end, 100))
    # The one between the two, which made the daemon, may take a moment to be gone.
    until(lambda: isolation.pids("f/t") == tuple(sorted((process.pid, stray))))
    assert isolation.signal("f/t", signal.SIGTERM) == 2
    process.wait(20)
    assert alive(stray) and not isolation.is_empty("f/t")
    assert isolation.cleanup("f/t") is False
    isolation.kill("f/t")
    until(lambda: isolation.is_empty("f/t"))
    assert not alive(stray) and isolation.cleanup("f/t")
    end(process)
    os.close(read_end)
    os.close(write_end)


def test_a_child_with_an_empty_environment_is_found_by_its_parent(isolation: Isolation) -> None:
    """`env -i setsid …` hides session and token, but not its parent."""
    code = (
        "import subprocess, sys; p = subprocess.Popen(['/bin/sleep', '30'], env={}, "
        "start_new_session=True); print(p.pid, flush=True); input()"
    )
    process = start(isolation, "f/t", code)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert child in isolation.pids("f/t")
    isolation.kill("f/t")
    end(process)
    until(lambda: not alive(child))


def test_what_was_taken_for_a_stranger_too_early_is_found_later(isolation: Isolation) -> None:
    """Processes may be seen before anybody told whose they are; older ones stay strangers."""
    isolation.prepare("f/old", LIMITS)
    isolation.prepare("f/t", LIMITS)
    code = "import os\nif os.fork() == 0: os.setsid()\nprint(os.getpid(), flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code + "input()"],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    both = tuple(sorted(int(process.stdout.readline()) for _ in range(2)))
    for _ in range(3):
        assert isolation.pids("f/old") == ()
    isolation.started("f/t", process.pid)
    assert isolation.pids("f/t") == both
    isolation.kill("f/t")
    end(process)


def test_a_stray_is_seen_when_a_container_is_given_back(isolation: Isolation) -> None:
    """The end of the first process says nothing about those that it left behind."""
    read_end, write_end = os.pipe()
    process = start(isolation, "f/t", DAEMON, str(write_end), fds=(write_end,))
    os.read(read_end, 100)
    process.kill()
    process.wait(20)
    isolation.usage("f/t")
    assert not isolation.release("f/t")
    isolation.kill("f/t")
    until(lambda: isolation.release("f/t"))
    end(process)
    for descriptor in (read_end, write_end):
        os.close(descriptor)


def test_other_processes_are_left_alone(isolation: Isolation) -> None:
    """Neither a stranger nor another agent's task of the same name belongs to the container."""
    mine = start(isolation, "f/t", "input()")
    with subprocess.Popen(["/bin/sleep", "30"], env={}) as stranger:
        environment = {CONTAINER_ENV: "f/t", AGENT_ENV: AGENT + "x"}
        with subprocess.Popen(
            ["/bin/sleep", "30"], env=environment, start_new_session=True
        ) as foreign:
            isolation.kill("f/t")
            end(mine)
            assert alive(stranger.pid) and alive(foreign.pid)
            foreign.kill()
        stranger.kill()
    assert isolation.cleanup("f/t")


def test_a_spared_process_survives(isolation: Isolation) -> None:
    """A launcher may carry the token of what it launches."""
    process = start(isolation, "f/t", "input()")
    isolation.spare(process.pid)
    isolation.kill("f/t")
    assert alive(process.pid) and isolation.pids("f/t") == ()
    end(process)


def test_a_fork_bomb_ends(isolation: Isolation) -> None:
    """Its process group dies in one step of the kernel, so it cannot outrun the kill."""
    code = "import resource\n" + BOMB.replace("while", "count = 0\nwhile", 1).replace(
        "try: os.fork()", "try: count < 6 and os.fork(); count += 1"
    )
    process = start(isolation, "f/t", code)
    until(lambda: len(isolation.pids("f/t")) >= 20)
    isolation.kill("f/t")
    end(process)
    until(lambda: isolation.is_empty("f/t"))
    assert isolation.cleanup("f/t")


def test_memory_above_the_limit_is_a_violation(isolation: Isolation) -> None:
    """The sample that sees it names the container, its peak and its limit."""
    small = start(isolation, "f/small", HOG.format(mib=8))
    large = start(isolation, "f/large", HOG.format(mib=80))
    for process in (small, large):
        assert process.stdout is not None
        process.stdout.readline()
    (violation,) = isolation.sample()
    assert (violation.container, violation.kind) == ("f/large", "mem")
    assert violation.limit_bytes == 64 << 20
    assert 80 << 20 < violation.peak_bytes < 110 << 20
    usage = isolation.usage("f/small")
    assert 8 << 20 < usage.mem_peak_bytes < 40 << 20
    assert usage.mem_limit_bytes == 64 << 20 and usage.oom_kills == 0
    isolation.kill("f/large")
    end(large)
    end(small)
    assert isolation.usage("f/large").mem_peak_bytes == violation.peak_bytes


def test_what_was_used_before_breaks_no_lower_limit(isolation: Isolation) -> None:
    """A container that gave its memory back in time may be made smaller."""
    code = (
        "import sys\nx = bytearray(50 << 20); print(1, flush=True); sys.stdin.readline()\n"
        "del x; print(2, flush=True); sys.stdin.read()"
    )
    process = start(isolation, "f/t", code)
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    assert isolation.sample() == []
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    isolation.update("f/t", Limits(1000, 40 << 20, 20))
    assert isolation.sample() == []
    usage = isolation.usage("f/t")
    assert usage.mem_peak_bytes > 50 << 20 and usage.mem_limit_bytes == 40 << 20
    isolation.update("f/t", Limits(1000, 1 << 20, 20))
    (violation,) = isolation.sample()
    assert violation.peak_bytes < 40 << 20
    end(process)


def test_forked_processes_that_share_memory_are_counted_once(isolation: Isolation) -> None:
    """Three processes share 30 MiB: resident sums say 90 and more, which would be a wrong kill."""
    code = (
        "import os, sys\nx = bytearray(30 << 20); x[::4096] = b'x' * len(x[::4096])\n"
        "for _ in range(2):\n    if os.fork() == 0: break\n"
        "os.write(1, b'1')\nsys.stdin.read()"
    )
    process = start(isolation, "f/t", code)
    assert process.stdout is not None
    assert len(os.read(process.stdout.fileno(), 1) + process.stdout.read(2)) == 3
    assert isolation.sample() == []
    assert 30 << 20 < isolation.usage("f/t").mem_peak_bytes < 60 << 20
    isolation.kill("f/t")
    end(process)


def test_cpu_time_is_measured_also_after_the_end(isolation: Isolation) -> None:
    """What was sampled stays when the process ends, and wait4 adds what no sample saw."""
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ninput()"
    process = start(isolation, "f/t", code)
    assert process.stdout is not None
    process.stdout.readline()
    isolation.sample()
    isolation.kill("f/t")
    end(process)
    usage = isolation.usage("f/t")
    assert 0.15 <= usage.cpu_user_s + usage.cpu_system_s < 1.0
    isolation.reaped("f/t", 3.5, 0.25, 5 << 30)
    usage = isolation.usage("f/t")
    assert (usage.cpu_user_s, usage.cpu_system_s) == (3.5, 0.25)
    assert usage.mem_peak_bytes == 5 << 30


def test_the_size_of_the_launcher_breaks_no_limit(isolation: Isolation) -> None:
    """What wait4 tells of a process includes what it was before its exec: its launcher."""
    code = "import sys; x = b'x' * (120 << 20); print(1, flush=True); sys.stdin.read()"
    words = [sys.executable, "-S", "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as launcher:  # type: ignore[call-overload]
        launcher.stdout.readline()
        isolation.spare(launcher.pid)
        end(start(isolation, "f/small", "pass"))
        end(start(isolation, "f/large", "pass"))
        isolation.reaped("f/small", 0.0, 0.0, 121 << 20)
        isolation.reaped("f/large", 0.0, 0.0, 300 << 20)
        launcher.kill()
    assert isolation.usage("f/small").mem_peak_bytes == 64 << 20
    assert isolation.usage("f/large").mem_peak_bytes == 300 << 20


def test_recover_finds_what_an_earlier_agent_started(isolation: Isolation) -> None:
    """After a crash of the agent the tokens are all that is left."""
    process = start(isolation, "f/t", "input()")
    later = open_isolation("posix", agent_id=AGENT)
    until(lambda: later.recover() == ("f/t",))
    assert open_isolation("posix", agent_id="other").recover() == ()
    assert later.pids("f/t") == (process.pid,)
    later.kill("f/t")
    end(process)


def test_unknown_containers_are_harmless(isolation: Isolation) -> None:
    """Cleaning up twice, or what never was, happens after every crash."""
    assert isolation.cleanup("f/none") and isolation.is_empty("f/none")
    isolation.kill("f/none")
    assert isolation.signal("f/none", signal.SIGTERM) == 0
    assert isolation.usage("f/none").mem_limit_bytes is None


def test_sampling_dozens_of_tasks_is_cheap(isolation: Isolation) -> None:
    """Ten samples a second of 48 processes may take a hundredth of a CPU, allowing for slow CI."""
    processes = []
    for index in range(48):
        container = f"f/t{index}"
        isolation.prepare(container, LIMITS)
        process = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
        isolation.started(container, process.pid)
        processes.append(process)
    for _ in range(3):
        isolation.sample()
    costs_s = []
    for _ in range(20):
        began_s = time.thread_time()
        assert isolation.sample() == []
        costs_s.append(time.thread_time() - began_s)
    for process in processes:
        process.kill()
        process.wait()
    assert sorted(costs_s)[10] < 0.004


def fake_proc(base: Path, pid: int, **more: object) -> None:
    """Write /proc/<pid> as the kernel shapes it; the command holds spaces and brackets."""
    values = {"state": "S", "parent": 1, "session": pid, "threads": 1, "start": 5, "rss": 10}
    values.update(more)  # type: ignore[arg-type]
    directory = base / str(pid)
    directory.mkdir(exist_ok=True)
    words = ["0"] * 50
    words[0:4] = [str(values["state"]), str(values["parent"]), str(pid), str(values["session"])]
    words[11:13] = ["3", "4"]
    words[17], words[19], words[21] = (str(values[key]) for key in ("threads", "start", "rss"))
    (directory / "stat").write_text(f"{pid} (a) b) c) {' '.join(words)}\n")
    environment = values.get("environment", "")
    (directory / "environ").write_text(str(environment))
    (base / "loadavg").write_text(f"0.1 0.2 0.3 1/99 {pid}\n")


def test_a_zombie_counts_only_while_its_threads_run(tmp_path: Path) -> None:
    """A first thread that has ended shows as a zombie although the process goes on."""
    table = ProcessTable("a", proc=str(tmp_path))
    fake_proc(tmp_path, 10, state="Z", threads=1)
    fake_proc(tmp_path, 11, state="Z", threads=3)
    first, second = table.stat(10), table.stat(11)
    assert first is not None and not first.alive
    assert second is not None and second.alive
    assert (second.user_ticks, second.system_ticks, second.rss_pages) == (3, 4, 10)


def test_a_reused_id_is_no_member(tmp_path: Path) -> None:
    """The id of an ended member may name anybody's process a moment later."""
    table = ProcessTable("a", proc=str(tmp_path))
    table.add("f/t")
    fake_proc(tmp_path, 10)
    table.started("f/t", 10)
    table.look()
    assert list(table.groups["f/t"].members) == [10]
    fake_proc(tmp_path, 10, start=6)
    table.look()
    assert list(table.groups["f/t"].members) == []
    assert table.groups["f/t"].ended_user_ticks == 3


def test_membership_outlives_session_parent_and_environment(tmp_path: Path) -> None:
    """Once seen to belong, a process cannot leave by changing what it was known by."""
    table = ProcessTable("a", proc=str(tmp_path))
    table.add("f/t")
    token = f"A=b\0{CONTAINER_ENV}=f/t\0{AGENT_ENV}=a\0"
    fake_proc(tmp_path, 10, environment=token)
    fake_proc(tmp_path, 12, parent=11)
    fake_proc(tmp_path, 11, parent=10)
    fake_proc(tmp_path, 13)
    table.look()
    assert sorted(table.groups["f/t"].members) == [10, 11, 12]
    for pid in (10, 11, 12):
        fake_proc(tmp_path, pid)
    table.look()
    assert sorted(table.groups["f/t"].members) == [10, 11, 12]


def test_a_process_seen_before_its_exec_is_judged_again(tmp_path: Path) -> None:
    """Between fork and exec it still shows its launcher's environment."""
    table = ProcessTable("a", proc=str(tmp_path))
    table.add("f/t")
    fake_proc(tmp_path, 10)
    table.look()
    fake_proc(tmp_path, 10, environment=f"{CONTAINER_ENV}=f/t\0{AGENT_ENV}=a\0")
    fake_proc(tmp_path, 14)
    table.look()
    assert list(table.groups["f/t"].members) == [10]


def test_no_listing_while_no_process_is_new(tmp_path: Path) -> None:
    """The last id given stands still: only the known members are read."""
    table = ProcessTable("a", proc=str(tmp_path))
    table.add("f/t")
    fake_proc(tmp_path, 10, environment=f"{CONTAINER_ENV}=f/t\0{AGENT_ENV}=a\0")
    table.look()
    fake_proc(tmp_path, 11, parent=10)
    (tmp_path / "loadavg").write_text("0.1 0.2 0.3 1/99 10\n")
    table.look()
    assert list(table.groups["f/t"].members) == [10]
    table.look(thorough=True)
    assert sorted(table.groups["f/t"].members) == [10, 11]
