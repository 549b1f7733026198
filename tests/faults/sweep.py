"""kill -9 at one chosen system call of one process of a cluster, and the judgement afterwards.

A point is (call, number): the process is killed as it enters the number-th such call of one of its
threads (strace counts each thread by itself). A round runs twenty jobs through a real cluster
while one process has a point; it is started again as a supervisor would, and every job is judged
by what its tasks noted in files of their own and by what the cluster says of it.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mesosctl.cli.ask import Cluster
from mesosctl.errors import MesosctlError
from mesosctl.model.jobs import ENDED, BatchState, JobSpec, TaskView
from mesosctl.protocol.messages.batch import (
    JobAccepted,
    Jobs,
    KillJobs,
    KillsBegun,
    ListJobs,
    ListTasks,
    SubmitJob,
    Tasks,
)
from tests.faults.conftest import FaultEnv
from tests.integration.conftest import Part, is_alive, until

Point = tuple[str, int]
# What makes something durable, sends something, or begins or ends another process.
CALLS = (
    *("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "unlink"),
    *("unlinkat", "link", "mkdir", "rmdir", "sendto", "sendmsg", "clone", "clone3", "vfork"),
    *("kill", "pidfd_send_signal", "flock", "bind"),
)
VICTIMS = ("master", "framework", "agent", "executor", "client")
JOBS = 20
# The job of these that is ended on request while it runs.
KILLED = 19
LIMIT_S = 90.0
_LINE = re.compile(r"^(?:\[pid +)?(\d+)\]? +(\w+)\(")
# The lock is held for as long as any process of the task lives.
TASK = """
exec 9>>"$1.lock"
flock -n 9 || echo "overlap $MESOS_ATTEMPT" >> "$1"
read up rest < /proc/uptime
echo "start $MESOS_ATTEMPT $$ $up" >> "$1"
sleep "$2"
read up rest < /proc/uptime
echo "end $MESOS_ATTEMPT $$ $up" >> "$1"
exit "$3"
"""


def strace(log: Path, point: Point | None, *targets: str) -> list[str]:
    """The words that trace a program, or attach to `targets`; with a point they kill there.

    Children are followed only until they execute something else.
    """
    words = ["strace", "-f", "-b", "execve", "-qq", "-s", "0", "-o", str(log)]
    words += ["-e", f"trace={','.join(CALLS) if point is None else point[0]}"]
    if point is not None:
        words += ["-e", f"inject={point[0]}:signal=SIGKILL:when={point[1]}"]
    return [*words, *targets]


def counted(log: Path) -> dict[str, int]:
    """How many calls of each name the busiest thread made."""
    calls: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if found := _LINE.match(line):
            calls[found[1], found[2]] += 1
    most: dict[str, int] = {}
    for (_, name), number in sorted(calls.items()):
        most[name] = max(most.get(name, 0), number)
    return most


def chosen(counts: dict[str, int], many: int, chance: random.Random) -> list[Point]:
    """So many points, the calls by turns; all there are if there are no more."""
    piles = []
    for name in sorted(counts):
        numbers = list(range(1, counts[name] + 1))
        chance.shuffle(numbers)
        piles.append([(name, number) for number in numbers])
    turns = itertools.zip_longest(*piles)
    points = [point for turn in turns for point in turn if point is not None]
    return points[:many]


@dataclass
class Figures:
    """What came out of a sweep of one process."""

    victim: str
    counts: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    killed: int = 0
    jobs: int = 0
    again: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """In one line."""
        calls = sum(self.counts.values())
        return (
            f"{self.victim}: {calls} points in a calm run; {self.rounds} rounds, killed in"
            f" {self.killed}; {self.jobs} jobs, {self.again} second attempts, none lost, none"
            f" overlapping, none stuck, nothing left; {self.seconds:.0f} s"
        )


class Sweep:
    """A cluster for the rounds of one victim."""

    def __init__(self, env: FaultEnv, victim: str) -> None:
        self.env = env
        self.victim = victim
        self.figures = Figures(victim)
        self.parts: dict[str, Part] = {}
        self._round = 0
        self._again: dict[str, int] = {}
        self._cluster: Cluster | None = None
        self.script = env.base / "task.sh"
        self.script.write_text(TASK)

    def start(self) -> Sweep:
        """All daemons, each a part that can be started again."""
        master = self.env.master("--no-framework")
        self.parts = {"master": master, "framework": self.env.framework()}
        self.parts["agent"] = self.env.agent("cpus:8;mem:4G")
        self.env.wait_for_framework()
        return self

    # --- rounds -----------------------------------------------------------------------------------

    def calm(self) -> dict[str, int]:
        """A round without a fault: how many calls the victim makes, the busiest thread each."""
        log = self.env.base / "calm.strace"
        log.unlink(missing_ok=True)
        self._play(log, None)
        self.figures.counts = counted(log)
        return self.figures.counts

    def strike(self, point: Point) -> float:
        """A round in which the victim has this point; how many seconds it took."""
        began = time.monotonic()
        try:
            self.figures.killed += self._play(self.env.base / "strike.strace", point)
        except AssertionError as error:
            raise AssertionError(f"{self.victim} killed at {point}: {error}") from error
        self.figures.rounds += 1
        took_s = time.monotonic() - began
        self.figures.seconds += took_s
        return took_s

    def _play(self, log: Path, point: Point | None) -> bool:
        """One round; whether the victim was killed in it."""
        self._round += 1
        if self.victim == "client":
            return self._play_client(log, point)
        with self._struck(log, point) as was_killed:
            names = [f"r{self._round}-{number}" for number in range(JOBS)]
            ids = self._submit_all(names)
            tasks = self._ended(ids)
        self._judge(names, ids, tasks)
        return was_killed()

    @contextmanager
    def _struck(self, log: Path, point: Point | None) -> Iterator[Callable[[], bool]]:
        if self.victim == "executor":
            executors = self._executors()
            targets = [word for pid in executors for word in ("-p", str(pid))]
            tracer = subprocess.Popen(strace(log, point, *targets), stderr=subprocess.DEVNULL)
            until(lambda: all(map(_is_traced, executors)) or tracer.poll() is not None, "a tracer")
            yield lambda: any(not is_alive(pid) for pid in executors)
            tracer.terminate()
            tracer.wait()
            return
        part = self.parts[self.victim]
        part.kill_nine()
        words = [sys.executable, "-m", "mesosctl", *part.words]
        with part.log.open("ab") as out:
            part.process = subprocess.Popen(
                strace(log, point, "-D", *words),
                env=self.env.variables,
                cwd=self.env.base,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        struck, over = part.process, threading.Event()
        supervisor = threading.Thread(target=_supervise, args=(part, over))
        supervisor.start()
        try:
            yield lambda: part.process is not struck
        finally:
            over.set()
            supervisor.join()

    def _executors(self) -> list[int]:
        """The executors that are there before the jobs come; there is always one."""
        if not self.env.executor_pids():
            self._ended(self._submit_all([f"w{self._round}"]))
        return until(self.env.executor_pids, "an executor")

    # --- the script -------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """Our own conversation with the cluster."""
        if self._cluster is None:
            key_file = str(self.env.key_path)
            endpoint = SimpleNamespace(master=self.env.address, key_file=key_file)
            found: Any = SimpleNamespace(locate=lambda: endpoint, request_timeout=2.0)
            self._cluster = Cluster(found)
        return self._cluster

    def _ask(self, message: Any, kind: Any) -> Any:
        """Ask until there is an answer: what is asked may be repeated."""
        end = time.monotonic() + LIMIT_S
        why = ""
        while time.monotonic() < end:
            try:
                return self.cluster.ask(message, kind)
            except MesosctlError as error:
                why = str(error)
            self.close()
            time.sleep(0.05)
        raise AssertionError(f"no answer to {message.kind}: {why}")

    def close(self) -> None:
        """End the conversation."""
        if self._cluster is not None:
            self._cluster.hub.close()
        self._cluster = None

    def _spec(self, name: str) -> JobSpec:
        """A job by the number in its name: most succeed, some fail, some are for once only."""
        number = int(name.rpartition("-")[2]) if "-" in name else 0
        path = str(self.env.files / name)
        seconds = "60" if number == KILLED else f"{number % 4 * 0.04:.2f}"
        code = "3" if number % 7 == 5 else "0"
        return JobSpec(
            name,
            ("/bin/sh", str(self.script), path, seconds, code),
            cpus_milli=300,
            mem_bytes=32 * 1024**2,
            once=number % 5 == 3,
            env={"PATH": os.environ["PATH"]},
        )

    def _submit_all(self, names: Sequence[str]) -> dict[str, str]:
        """Each job's id by its name."""
        ids: dict[str, str] = {}
        for name in names:
            ids[name] = self._ask(
                SubmitJob(f"request-{name}", self._spec(name)), JobAccepted
            ).job_id
        if len(names) == JOBS:
            until(
                lambda: (self.env.files / names[KILLED]).exists(),
                f"{names[KILLED]} starts",
                LIMIT_S,
            )
            self._ask(KillJobs((ids[names[KILLED]],), grace_s=0.0), KillsBegun)
        return ids

    def _ended(self, ids: dict[str, str]) -> list[TaskView]:
        """The tasks of these jobs when all have ended."""
        end = time.monotonic() + LIMIT_S
        selectors = tuple(ids.values())
        while True:
            tasks: tuple[TaskView, ...] = self._ask(ListTasks(selectors), Tasks).tasks
            waiting = [task for task in tasks if task.state not in ENDED]
            if tasks and not waiting:
                return list(tasks)
            assert time.monotonic() < end, f"stuck: {waiting}\n{self._logs()}"
            time.sleep(0.05)

    def _logs(self) -> str:
        return "\n".join(f"--- {part.name}\n{part.text()[-2000:]}" for part in self.env.parts)

    # --- the client -------------------------------------------------------------------------------

    def _play_client(self, log: Path, point: Point | None) -> bool:
        """`submit -W` of an array of twenty is the victim; its job is judged as the others."""
        name = f"r{self._round}"
        words = ["submit", "-W", "--parsable", "-n", name, "-c", "0.3", "-m", "32M"]
        words += ["-a", f"0-{JOBS - 1}", "--wrap"]
        words += [f"sh {self.script} {self.env.files}/{name}-$MESOS_ARRAY_INDEX 0.02 0"]
        done = subprocess.run(
            strace(log, point, "-D", sys.executable, "-m", "mesosctl", *words),
            env=self.env.variables,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        was_killed = done.returncode == -9
        assert was_killed or done.returncode == 0, done.stderr
        time.sleep(0.1)
        jobs = self._ask(ListJobs(name=name, ended=True), Jobs).jobs
        told = done.stdout.split()
        assert len(jobs) <= 1 and told in ([], [job.id for job in jobs]), (told, jobs)
        assert jobs or was_killed
        for job in jobs:
            tasks = self._ended({name: job.id})
            names = [f"{name}-{number}" for number in range(JOBS)]
            views = dict(zip(names, sorted(tasks, key=lambda task: task.index), strict=True))
            self._judge_files(views)
            assert {task.state for task in tasks} == {BatchState.OK}
        self._judge_rest()
        return was_killed

    # --- judgement --------------------------------------------------------------------------------

    def _judge(self, names: Sequence[str], ids: dict[str, str], tasks: list[TaskView]) -> None:
        """See the module; `tasks` are of all jobs of the round."""
        assert len(set(ids.values())) == len(names), "two jobs have one id"
        views = {task.name: task for task in tasks}
        assert sorted(views) == sorted(names) and len(tasks) == len(names), "jobs are missing"
        listed = self._ask(ListJobs(name=f"r{self._round}-*", ended=True), Jobs).jobs
        assert len(listed) == len(names), "a job was accepted twice"
        for name, task in views.items():
            assert task.state in self._allowed(name), task
            if task.state is BatchState.FAILED:
                assert task.exit_code == 3, task
        self._judge_files(views)
        self._judge_rest()

    def _allowed(self, name: str) -> list[BatchState]:
        number = int(name.rpartition("-")[2])
        end = BatchState.FAILED if number % 7 == 5 else BatchState.OK
        allowed = [BatchState.KILLED if number == KILLED else end]
        if self.victim == "executor":
            # What is to run once, or was to be ended, is not run again when its executor dies.
            allowed += [BatchState.LOST] if self._spec(name).once else []
            allowed += [BatchState.LOST, BatchState.CANCELLED] if number == KILLED else []
        return allowed

    def _judge_files(self, views: dict[str, TaskView]) -> None:
        self.figures.jobs += len(views)
        for name, task in views.items():
            path = self.env.files / name
            lines = path.read_text().splitlines() if path.exists() else []
            words = [line.split() for line in lines]
            assert not [line for line in words if line[0] == "overlap"], (name, lines)
            starts = [int(line[1]) for line in words if line[0] == "start"]
            ends = [int(line[1]) for line in words if line[0] == "end"]
            assert len(starts) == len(set(starts)), f"{name}: an attempt ran twice: {lines}"
            assert starts == sorted(starts) and set(ends) <= set(starts), (name, lines)
            self.figures.again += max(0, len(starts) - 1)
            if self.victim != "executor":
                # A kill may come when the file is there and its first line is not.
                least = 0 if task.state is BatchState.KILLED else 1
                assert least <= len(starts) <= 1, f"{name} ran {len(starts)} times: {lines}"
            if task.state in (BatchState.OK, BatchState.FAILED):
                assert task.attempt in ends, f"{name} did not end: {lines} {task}"
            if task.state is BatchState.LOST:
                assert len(starts) <= 1, f"{name} ran again: {lines}"

    def _judge_rest(self) -> None:
        """Neither a cgroup nor a process of a task is left."""

        def left() -> list[Path]:
            return [path for path in self.env.cgroups() if "." in path.name]

        until(lambda: not left(), "no cgroup of a task is left", 20.0)
        mark = str(self.script)
        until(lambda: not self.env.named(mark), "no process of a task is left", 20.0)


def _is_traced(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "TracerPid:\t0\n" not in status


def _supervise(part: Part, over: threading.Event) -> None:
    """Start `part` again whenever it ends, until it is over."""
    while not over.wait(0.02):
        if part.process.poll() is not None:
            part.restart()
