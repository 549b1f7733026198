"""The spawner and its link with real processes, as whoever runs the tests."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesosctl.runtime import rawcalls
from mesosctl.runtime.spawner_children import become_subreaper
from mesosctl.runtime.spawner_link import (
    Exited,
    Report,
    Spawned,
    SpawnerDied,
    SpawnerLink,
    SpawnFailed,
    SpawnOrder,
)
from mesosctl.runtime.spawner_orders import start_command

pytestmark = pytest.mark.integration

LIMIT_S = 60.0
PATH = "/usr/local/bin:/usr/bin:/bin"


class Harness:
    """An executor's side: a link, every report so far, and waits with a generous limit."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.reports: list[Report] = []
        self.link = SpawnerLink()
        self.link.start()
        self.count = 0

    def restart(self) -> None:
        self.reports += self.link.stop()
        self.link.start()

    def order(self, *argv: str, stdin_fd: int | None = None, **fields: Any) -> str:
        self.count += 1
        fields = {"env": {"PATH": PATH}, "cwd": str(self.cwd), **fields}
        name = f"t{self.count}"
        self.link.spawn(SpawnOrder(id=name, argv=argv, **fields), stdin_fd)
        return name

    def wait(self, done: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if result := done():
                return result
            if self.link.alive:
                write = [self.link] if self.link.wants_write else []
                select.select([self.link], write, [], 0.05)
                self.reports += self.link.read()
            else:
                self.reports += self.link.reap_orphans()
                select.select([], [], [], 0.01)
        raise AssertionError(f"no {what} in {LIMIT_S} s: {self.reports}")

    def find(self, kind: type[Any], name: str) -> Any:
        named = (r for r in self.reports if isinstance(r, kind))
        return next((r for r in named if getattr(r, "id", None) == name), None)

    def spawned(self, name: str) -> Spawned:
        found: Spawned = self.wait(lambda: self.find(Spawned, name), f"start of {name}")
        return found

    def failed(self, name: str) -> SpawnFailed:
        found: SpawnFailed = self.wait(lambda: self.find(SpawnFailed, name), f"failure of {name}")
        return found

    def code(self, name: str) -> int:
        found: Exited = self.wait(lambda: self.find(Exited, name), f"end of {name}")
        return os.waitstatus_to_exitcode(found.status)

    def output(self, *argv: str, **fields: Any) -> str:
        """Run a command to its good end and return what it printed."""
        file = self.cwd / f"out-{self.count}"
        assert self.code(self.order(*argv, stdout=str(file), **fields)) == 0
        return file.read_text()

    def died(self) -> SpawnerDied:
        def found() -> SpawnerDied | None:
            return next((r for r in self.reports if isinstance(r, SpawnerDied)), None)

        result: SpawnerDied = self.wait(found, "death of the spawner")
        return result


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A harness whose process takes orphans in; both are undone afterwards."""
    become_subreaper()
    harness = Harness(tmp_path)
    yield harness
    harness.reports += harness.link.stop() + harness.link.reap_orphans()
    ended = {report.pid for report in harness.reports if isinstance(report, Exited)}
    for report in harness.reports:
        if isinstance(report, Spawned) and report.pid not in ended:
            os.kill(report.pid, signal.SIGKILL)
            os.waitpid(report.pid, 0)
    harness.link.reap_orphans()
    rawcalls.prctl(rawcalls.PR_SET_CHILD_SUBREAPER, 0)


def test_spawner_loads_nothing_but_the_standard_library_and_its_files() -> None:
    """It starts quickly and cannot be broken by a package, ours included."""
    command = start_command(3, os.getpid())
    program, home = command[command.index("-c") + 1 :][:2]
    shown = program.rpartition("; ")[0] + "; print(*sorted(sys.modules))"
    result = subprocess.run(
        [*command[: command.index("-c")], "-c", shown, home],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={},
    )
    loaded = result.stdout.split()
    assert {"spawner", "spawner_launch", "rawcalls"} <= set(loaded)
    ours = ("zmq", "msgpack", "click", "psutil", "mesosctl", "site", "typing", "asyncio")
    assert [name for name in loaded if name.partition(".")[0] in ours] == []


def test_bad_orders_are_refused_before_they_are_sent(harness: Harness) -> None:
    """An order that no spawner can obey is the caller's mistake and must not reach one."""
    bad: tuple[dict[str, Any], ...]
    bad = ({"uid": 1}, {"join": ("/x",)}, {"join": ("/x",), "by": "thread"})
    for fields in bad:
        with pytest.raises(ValueError, match="order t"):
            harness.order("/bin/true", **fields)
    with pytest.raises(ValueError, match="no command"):
        harness.order()
    with pytest.raises(ValueError, match="at most"):
        harness.order("x" * (1 << 24))
    assert harness.link.queued == ()


def test_second_start_is_refused(harness: Harness) -> None:
    """A link that forgot its spawner would never learn what became of its tasks."""
    with pytest.raises(RuntimeError, match="alive already"):
        harness.link.start()
    harness.reports += harness.link.stop()
    assert (harness.link.fileno(), harness.link.pid, harness.link.alive) == (-1, 0, False)


def test_large_orders_and_slow_executor_block_neither_side(harness: Harness) -> None:
    """Orders beyond the socket's buffer are sent in parts, reports beyond it are kept."""
    env = {"PATH": PATH, **{f"V{n}": "x" * 50_000 for n in range(10)}}
    names = [harness.order("/bin/true", env=env) for _ in range(12)]
    assert harness.link.wants_write
    assert [harness.code(name) for name in names] == [0] * 12


def test_exit_codes_and_signals_reach_the_executor(harness: Harness) -> None:
    """The exit status is the one thing a job is for."""
    names = [harness.order("/bin/sh", "-c", f"exit {code}") for code in (0, 1, 255)]
    killed = harness.order("/bin/sh", "-c", "kill -TERM $$")
    assert [harness.code(name) for name in names] == [0, 1, 255]
    assert harness.code(killed) == -signal.SIGTERM


def test_usage_of_a_task_is_reported(harness: Harness) -> None:
    """Accounting needs the time a task used, and it is lost once the child is reaped."""
    name = harness.order("/bin/sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done")
    assert harness.code(name) == 0
    exited = harness.find(Exited, name)
    assert 0 < exited.utime_s + exited.stime_s < LIMIT_S
    assert 1 << 20 < exited.maxrss_bytes < 1 << 30


def test_reports_come_in_the_order_of_the_orders(harness: Harness) -> None:
    """The link tells orders apart by their sequence, more of them than it keeps in flight."""
    names = [harness.order("/bin/true") for _ in range(40)]
    for name in names:
        assert harness.code(name) == 0
    assert [r.id for r in harness.reports if isinstance(r, Spawned)] == names
    assert harness.link.in_flight is None
    assert harness.link.queued == ()


def test_unknown_command_is_127_and_names_the_path(harness: Harness) -> None:
    """A user must see where we looked: it is the task's PATH, not the daemon's."""
    failure = harness.failed(harness.order("no-such-command", env={"PATH": "/nowhere:/bin"}))
    assert (failure.stage, failure.exit_code, failure.errno) == ("exec", 127, errno.ENOENT)
    assert "PATH=/nowhere:/bin" in failure.text
    assert harness.failed(harness.order("/no/such/file")).exit_code == 127
    assert harness.failed(harness.order("")).exit_code == 127


def test_file_that_cannot_be_executed_is_126(harness: Harness) -> None:
    """Found and refused is another mistake than not found, as every shell says it."""
    plain = harness.cwd / "plain"
    plain.write_text("echo hello\n")
    plain.chmod(0o644)
    by_path = harness.failed(harness.order(str(plain)))
    assert (by_path.stage, by_path.exit_code) == ("exec", 126)
    searched = harness.failed(harness.order("plain", env={"PATH": str(harness.cwd)}))
    assert (searched.exit_code, str(plain) in searched.text) == (126, True)
    assert harness.failed(harness.order("/")).exit_code == 126
    lost = harness.cwd / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    failure = harness.failed(harness.order(str(lost)))
    assert (failure.exit_code, "interpreter" in failure.text) == (126, True)


def test_script_without_interpreter_line_is_run_by_sh(harness: Harness) -> None:
    """A shell does so, and scripts rely on it; garbage is refused instead of run."""
    script = harness.cwd / "-script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert harness.output("./-script", "one") == "./-script one\n"
    script.write_bytes(b"\x00\x01garbage")
    assert harness.failed(harness.order("./-script")).exit_code == 126


def test_captured_script_needs_no_execute_permission(harness: Harness) -> None:
    """A script kept in the sandbox runs by its #! line even where nothing may be executed."""
    script = harness.cwd / "script"
    script.write_text('#!/bin/sh -e\nfalse || echo "ran $1"\n')
    script.chmod(0o600)
    assert harness.output("script", "it", path_is_script=True) == "ran it\n"
    script.chmod(0o700)
    assert harness.output("./script", "too", path_is_script=True) == "ran too\n"


def test_missing_directory_fails_or_falls_back(harness: Harness) -> None:
    """A directory that is not on this host is said, unless the job named what to do then."""
    failure = harness.failed(harness.order("/bin/true", cwd="/no/such/directory"))
    assert (failure.stage, failure.errno, failure.exit_code) == ("cwd", errno.ENOENT, None)
    fallback = harness.cwd / "fallback"
    fallback.mkdir()
    told: dict[str, Any] = {"cwd": "/no/such/directory", "fallback_cwd": str(fallback)}
    name = harness.order("/bin/sh", "-c", "pwd", stdout="out", **told)
    assert harness.code(name) == 0
    assert harness.spawned(name).cwd_fallback
    assert (fallback / "out").read_text() == f"{fallback}\n"
    assert not harness.spawned(harness.order("/bin/true")).cwd_fallback


def test_streams_are_files_made_with_parents_and_umask(harness: Harness) -> None:
    """Output lands where it was asked for, is emptied or appended to, and merges in order."""
    out = harness.cwd / "new" / "dir" / "out"
    fields: dict[str, Any] = {"stdout": "new/dir/out", "stderr": "merge", "umask": 0o027}
    say = ("/bin/sh", "-c", "echo one; echo two >&2; echo three")
    assert harness.code(harness.order(*say, **fields)) == 0
    assert out.read_text() == "one\ntwo\nthree\n"
    assert out.stat().st_mode & 0o777 == 0o640
    assert harness.code(harness.order("/bin/echo", "four", append=True, **fields)) == 0
    assert out.read_text().endswith("three\nfour\n")
    assert harness.code(harness.order("/bin/echo", "five", **fields)) == 0
    assert out.read_text() == "five\n"


def test_stream_that_cannot_be_opened_names_its_stage(harness: Harness) -> None:
    """An error number alone does not say which of the files it is about."""
    (harness.cwd / "link").symlink_to("elsewhere")
    os.mkfifo(harness.cwd / "pipe")
    assert harness.failed(harness.order("/bin/true", stdin="missing")).stage == "stdin"
    assert harness.failed(harness.order("/bin/true", stdin=".")).errno == errno.EISDIR
    assert harness.failed(harness.order("/bin/true", stdout="link")).errno == errno.ELOOP
    assert harness.failed(harness.order("/bin/true", stdout="pipe")).errno == errno.ENXIO
    failure = harness.failed(harness.order("/bin/true", stderr="/dev/null/x"))
    assert (failure.stage, failure.exit_code) == ("stderr", None)


def test_standard_input_is_null_a_file_or_a_pipe(harness: Harness) -> None:
    """A task never reads from the daemon; what it reads is what the order says."""
    (harness.cwd / "in").write_text("from a file")
    assert harness.output("/bin/cat") == ""
    assert harness.output("/bin/cat", stdin="in") == "from a file"
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    assert harness.output("/bin/cat", stdin="fd", stdin_fd=reader) == "from a pipe"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    with pytest.raises(ValueError, match="descriptor go together"):
        harness.order("/bin/cat", stdin="fd")


def test_environment_and_arguments_are_exact_bytes(harness: Harness) -> None:
    """Names of files are bytes, and nothing of the daemon's environment is a task's business."""
    odd = os.fsdecode(b"\xff\xfe \n'\"\\")
    env = {"A": odd, "EMPTY": "", "ünï": "ço"}
    files = ("/proc/self/environ", "/proc/self/cmdline")
    name = harness.order("/bin/cat", *files, odd, env=env, stdout="out", stderr="null")
    assert harness.code(name) == 1
    variables = b"A=" + os.fsencode(odd) + b"\0EMPTY=\0" + "ünï=ço".encode() + b"\0"
    arguments = b"\0".join((b"/bin/cat", *map(os.fsencode, files), os.fsencode(odd), b""))
    assert (harness.cwd / "out").read_bytes() == variables + arguments


def test_bad_strings_fail_the_order_alone(harness: Harness) -> None:
    """A NUL or a lone surrogate in one job must not end the spawner of all."""
    bad: tuple[dict[str, Any], ...]
    bad = ({"cwd": "a\0b"}, {"stdout": "a\0b"}, {"env": {"A=B": "c"}}, {"cwd": "\ud800"})
    for fields in bad:
        assert harness.failed(harness.order("/bin/true", **fields)).errno == errno.EINVAL
    assert harness.failed(harness.order("/bin/tr\0ue")).stage == "exec"
    assert harness.code(harness.order("/bin/true")) == 0
    assert not [r for r in harness.reports if isinstance(r, SpawnerDied)]


def test_child_starts_clean(harness: Harness) -> None:
    """No descriptor, blocked or ignored signal, session or core file comes from the daemons."""
    extra = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(extra, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        harness.restart()
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(extra)
    script = """
        import json, os, resource
        fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(json.dumps({"fds": sorted(fds), "sid": os.getsid(0) == os.getpid(),
            "blocked": int(lines["SigBlk"], 16), "ignored": int(lines["SigIgn"], 16),
            "nnp": int(lines["NoNewPrivs"]), "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}))
    """
    python = (sys.executable, "-I", "-S", "-c", textwrap.dedent(script))
    seen = json.loads(harness.output(*python))
    # Python itself ignores SIGPIPE and SIGXFSZ; 32 and 33 belong to glibc, which ignores them.
    ignored = (1 << 31) | (1 << 32) | 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert seen["fds"] == ["0", "1", "2"]
    assert (seen["sid"], seen["blocked"], seen["nnp"], seen["core"]) == (True, 0, 1, [0, 0])
    assert seen["ignored"] & ~ignored == 0
    assert 0 < seen["files"] <= 1024


def test_sigpipe_is_not_ignored_in_tasks(harness: Harness) -> None:
    """Python ignores SIGPIPE; a task that inherited it would not end when its reader does."""
    status = harness.output("/bin/grep", "SigIgn", "/proc/self/status")
    assert int(status.split()[1], 16) & (1 << signal.SIGPIPE - 1) == 0


def test_killed_spawner_loses_no_exit_code(harness: Harness) -> None:
    """The spawner may be killed by a task at any time; what ran is known all the same."""
    reader, writer = os.pipe()
    running = harness.order("/bin/sh", "-c", "read x; exit 7", stdin="fd", stdin_fd=reader)
    pid = harness.spawned(running).pid
    first = harness.link.pid
    os.kill(first, signal.SIGKILL)
    died = harness.died()
    assert (died.in_flight, died.ready, died.status) == (None, True, signal.SIGKILL)
    assert not harness.link.alive
    harness.link.start()
    assert harness.code(harness.order("/bin/true")) == 0
    assert harness.link.pid != first
    os.write(writer, b"\n")
    os.close(writer)

    def ended() -> Exited | None:
        harness.reports += harness.link.reap_orphans()
        found: Exited | None = harness.find(Exited, running)
        return found

    exited: Exited = harness.wait(ended, "end of the orphan")
    assert (exited.pid, os.waitstatus_to_exitcode(exited.status)) == (pid, 7)


def test_orders_not_begun_survive_the_spawner(harness: Harness) -> None:
    """Only the order in flight is in doubt; the others go to the next spawner unasked."""
    os.kill(harness.link.pid, signal.SIGSTOP)
    names = [harness.order("/bin/true") for _ in range(20)]
    assert harness.link.queued == tuple(names)
    assert not harness.link.cancel(names[0])
    assert harness.link.cancel(names[-1])
    harness.restart()
    died = harness.died()
    assert died.in_flight in (None, names[0])
    assert died.in_flight_pid is None
    again = names[1:-1] if died.in_flight else names[:-1]
    assert [harness.code(name) for name in again] == [0] * len(again)
    assert harness.find(Spawned, names[-1]) is None


@pytest.mark.parametrize("script", [False, True])
def test_spawner_killed_at_any_moment_accounts_for_every_order(
    harness: Harness, script: bool
) -> None:
    """Whatever the moment, each order either never began or its exit code is known, once.

    A captured script takes two attempts: the kernel refuses the file itself, then a shell gets it.
    A process of which only the first is left never was the task, whatever code it ended with.
    """
    (harness.cwd / "script").write_text('exit "$1"')
    told = ("script",) if script else ("/bin/sh", "-c", 'exit "$0"')
    names = [harness.order(*told, str(n % 100), path_is_script=script) for n in range(250)]
    rounds = 25 if script else 12
    for round_number in range(rounds):
        target = min(len(names), 8 * (round_number + 1))

        def enough(target: int = target) -> bool:
            return sum(isinstance(r, Spawned) for r in harness.reports) >= target

        harness.wait(enough, "starts")
        os.kill(harness.link.pid, signal.SIGKILL)
        harness.restart()
    deaths = [r for r in harness.reports if isinstance(r, SpawnerDied)]
    doubtful = {d.in_flight for d in deaths if d.in_flight and d.in_flight_pid is None}
    expected = [name for name in names if name not in doubtful]

    def all_ended() -> bool:
        harness.reports += harness.link.reap_orphans()
        return all(harness.find(Exited, name) for name in expected)

    harness.wait(all_ended, "ends of all orders")
    assert len(deaths) == rounds
    for name in expected:
        ends = [r for r in harness.reports if isinstance(r, Exited) and r.id == name]
        assert [os.waitstatus_to_exitcode(r.status) for r in ends] == [names.index(name) % 100]
    assert not [r for r in harness.reports if isinstance(r, Exited) and r.id in doubtful]
    strangers = [r for r in harness.reports if isinstance(r, Exited) and r.id is None]
    assert not strangers or script, "only a refused first attempt may end without being a task"


def test_end_reported_and_not_reaped_is_told_once(harness: Harness) -> None:
    """A spawner killed between report and reaping leaves a zombie whose end is known already."""
    name = harness.order("/bin/true")
    assert harness.code(name) == 0
    pid = harness.spawned(name).pid
    # It reports before it reaps, so a stop at once often meets that moment; once in 20 is enough.
    for _ in range(20):
        harness.restart()
        name = harness.order("/bin/true")
        assert harness.code(name) == 0
        harness.reports += harness.link.stop() + harness.link.reap_orphans()
        harness.link.start()
    ends = [report for report in harness.reports if isinstance(report, Exited)]
    assert len(ends) == 21
    assert (ends[0].pid, None in {report.id for report in ends}) == (pid, False)


def test_tasks_outlive_executor_and_spawner_does_not(tmp_path: Path) -> None:
    """A dead executor must leave no spawner behind, and its tasks alone."""
    script = """
        import os, select, sys, time
        from mesosctl.runtime.spawner_link import SpawnerLink, SpawnOrder
        link = SpawnerLink()
        link.start()
        link.spawn(SpawnOrder("t", ("/bin/sleep", "600"), {}, "/"))
        while not (reports := [r for r in link.read() if hasattr(r, "cwd_fallback")]):
            select.select([link], [], [], 1)
        print(link.pid, reports[0].pid, flush=True)
        time.sleep(600)
    """
    root = str(Path(rawcalls.__file__).parents[2])
    become_subreaper()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        cwd=tmp_path,
    )
    try:
        assert child.stdout is not None
        spawner, task = (int(word) for word in child.stdout.readline().split())
        child.kill()
        child.wait()
        # Both are now ours: the spawner can be waited for, the task is still running.
        _, status = os.waitpid(spawner, 0)
        assert status in (signal.SIGKILL, 0)
        assert os.waitpid(task, os.WNOHANG) == (0, 0)
        os.kill(task, signal.SIGKILL)
        assert os.waitpid(task, 0) == (task, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
        rawcalls.prctl(rawcalls.PR_SET_CHILD_SUBREAPER, 0)
