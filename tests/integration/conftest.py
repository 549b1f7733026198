"""A whole cluster as real processes on the loopback interface, and what a test asks of it.

Rules: all files are below one short temporary directory, which every process of the cluster has in
its environment or its command line: that is how its processes are found again, and how it is
proved at the end that none is left. Waiting is for a predicate, with a limit that only a failure
reaches. Every cluster has its own directory of cgroups.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mesosctl.errors import MesosctlError
from mesosctl.storage.keys import KeyFile, load_key
from mesosctl.storage.locations import socket_path
from mesosctl.storage.lock import holder

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
LOOK_S = 0.02
STOP_S = 15.0
CGROUPS = Path("/sys/fs/cgroup")
# A master that has to answer at once, an agent that is missed soon: figures for tests.
MASTER_OPTIONS = ("--cluster", "test")
_numbers = itertools.count()


def until(
    predicate: Callable[[], T], what: str, limit_s: float = PATIENCE_S, look_s: float = LOOK_S
) -> T:
    """The first true value of `predicate`. Fails with `what` after `limit_s` seconds."""
    end = time.monotonic() + limit_s
    while not (found := predicate()):
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(look_s)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def parent_of(pid: int) -> int:
    """The parent's pid; 0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def started_at(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Part:
    """One process of the cluster that can be killed and started again with the same words.

    `prefix` is a command that replaces itself by the one behind it.
    """

    def __init__(
        self, env: ClusterEnv, name: str, words: Sequence[str], prefix: Sequence[str] = ()
    ) -> None:
        self.env = env
        self.name = name
        self.words = list(words)
        self.prefix = list(prefix)
        self.log = env.base / f"{name}.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "mesosctl", *self.words],
                env=self.env.variables,
                cwd=self.env.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def kill_nine(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again; the one before has to be gone."""
        assert self.process.poll() is not None, f"{self.name} still runs"
        self.process = self._start()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} does not stop\n{self.text()}") from None

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")


class ClusterEnv:
    """See the module. Nothing runs before `master()` and `agent()` are called."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="mc-"))
        self.cgroup_root = f"mesosctl-it-{os.getpid()}-{next(_numbers)}-test"
        self.agents: list[Part] = []
        self.parts: list[Part] = []
        self.commands: list[subprocess.Popen[Any]] = []
        self.address = "tcp://127.0.0.1:0"
        # What every command, and every part that says nothing else, is started through.
        self.prefix: list[str] = []
        self._seen: dict[int, str] = {}
        self.files = self.base / "files"
        for name in ("files", "run", "home"):
            (self.base / name).mkdir(mode=0o700)
        keep = {name: value for name, value in os.environ.items() if "MESOSCTL" not in name}
        if "MESOSCTL_CI_RUN" in os.environ:
            keep["MESOSCTL_CI_RUN"] = os.environ["MESOSCTL_CI_RUN"]
        self.variables = {
            **keep,
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.base / "home"),
            "XDG_RUNTIME_DIR": str(self.base / "run"),
            "XDG_CONFIG_HOME": str(self.base / "home"),
            "XDG_STATE_HOME": str(self.base / "home"),
            "MESOSCTL_CONFIG": os.devnull,
        }

    # --- parts ------------------------------------------------------------------------------------

    @property
    def key_path(self) -> Path:
        """The key of whoever started the cluster."""
        return self.base / "master" / "test.key"

    @property
    def key(self) -> KeyFile:
        """What is in it."""
        return load_key(self.key_path)

    def part(self, name: str, *words: str, prefix: Sequence[str] = ()) -> Part:
        """Start a daemon."""
        part = Part(self, name, words, prefix or self.prefix)
        self.parts.append(part)
        return part

    def master(self, *options: str) -> Part:
        """Start the master, with the batch framework as its child unless told otherwise."""
        words = ["master", "--listen", self.address, "--work-dir", str(self.base / "master")]
        part = self.part("master", *words, *MASTER_OPTIONS, *options)

        def told() -> bool:
            assert part.process.poll() is None, f"the master ended\n{part.text()}"
            try:
                self.address = self.key.master
            except (MesosctlError, OSError):
                return False
            return not self.address.endswith(":0")

        until(told, "the master wrote its key")
        # A restarted one has to listen where everybody looks for it.
        part.words[part.words.index("--listen") + 1] = self.address
        self.variables["MESOSCTL_MASTER"] = self.address
        self.variables["MESOSCTL_KEY"] = str(self.key_path)
        return part

    def agent(
        self,
        resources: str = "cpus:4;mem:2G",
        *options: str,
        name: str = "",
        prefix: Sequence[str] = (),
    ) -> Part:
        """Start an agent and wait until the master has it."""
        name = name or f"a{len(self.agents) + 1}"
        words = ["agent", "--master", self.address, "--name", name, "--resources", resources]
        words += ["--work-dir", str(self.base / name), "--cgroup-root", self.cgroup_root]
        part = self.part(name, *words, *options, prefix=prefix)
        self.agents.append(part)
        self.wait_for_agents(len(self.agents))
        return part

    def start(self, resources: str = "cpus:4;mem:2G", *options: str) -> ClusterEnv:
        """A master, its batch framework and one agent, all of them ready."""
        self.master(*options)
        self.agent(resources)
        self.wait_for_framework()
        return self

    def wait_for_agents(self, count: int) -> None:
        """Wait until so many agents are registered."""

        def here() -> bool:
            for part in self.agents:
                assert part.process.poll() is None, f"{part.name} ended\n{part.text()}"
            answer = self.try_json("agents")
            listed = answer["agents"] if answer else []
            return sum(agent["state"] == "registered" for agent in listed) >= count

        until(here, f"{count} agents registered")

    def wait_for_framework(self) -> None:
        """Wait until the batch framework answers commands."""
        until(lambda: self.try_json("jobs") is not None, "the batch framework answers")

    # --- commands ---------------------------------------------------------------------------------

    def popen(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command, its streams as text."""
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "mesosctl", *words],
            env=self.variables,
            cwd=self.base,
            text=True,
            **{**given, **more},
        )
        self.commands.append(process)
        return process

    def run(
        self, *words: str, text: str | None = None, limit_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end with `text` as its stdin."""
        more = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "mesosctl", *words],
            env=self.variables,
            cwd=self.base,
            text=True,
            capture_output=True,
            timeout=limit_s,
            check=False,
            **more,  # type: ignore[arg-type]
        )

    def ok(self, *words: str, text: str | None = None, limit_s: float = PATIENCE_S) -> str:
        """The output of a command that has to succeed."""
        done = self.run(*words, text=text, limit_s=limit_s)
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        """The JSON that a listing prints."""
        found: dict[str, Any] = json.loads(self.ok(*words, "-o", "json"))
        assert found["schema"] == 1
        return found

    def try_json(self, *words: str) -> dict[str, Any] | None:
        """The same, or None while the cluster does not answer."""
        done = self.run(*words, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def tasks(self, selector: str) -> list[dict[str, Any]]:
        """The tasks of a job, as `mesosctl tasks -o json` lists them."""
        listed: list[dict[str, Any]] = self.json("tasks", selector)["tasks"]
        return listed

    def finish(self, process: subprocess.Popen[str], limit_s: float = PATIENCE_S) -> str:
        """Wait for a command that has to succeed; what it printed."""
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            logs = "\n".join(f"--- {part.name}\n{part.text()[-3000:]}" for part in self.parts)
            listed = self.run("tasks", "1").stdout
            raise AssertionError(f"{process.args} does not end\n{listed}\n{logs}") from None
        assert process.returncode == 0, f"ended with {process.returncode}: {err}"
        return out

    # --- processes --------------------------------------------------------------------------------

    def processes(self) -> dict[int, list[str]]:
        """All live processes of this cluster but its commands, by pid, with their words.

        Ours is what works in our directory, was told of it or inherited its name, every descendant
        of such a process, and whoever was that once.
        """
        known = [os.getpid(), *(command.pid for command in self.commands)]
        others: dict[int, int] = {}
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").iterdir():
            pid = int(entry.name) if entry.name.isdigit() else 0
            if not pid or pid in known or not is_alive(pid):
                continue
            if self._is_ours(entry) or self._seen.get(pid) == started_at(pid):
                found[pid] = command_of(pid)
            else:
                others[pid] = parent_of(pid)
        while more := [pid for pid, parent in others.items() if parent in found]:
            for pid in more:
                del others[pid]
                found[pid] = command_of(pid)
        self._seen.update({pid: started_at(pid) for pid in found})
        return found

    def _is_ours(self, entry: Path) -> bool:
        mark = os.fsencode(self.base)
        try:
            if os.fsencode(os.readlink(entry / "cwd")).startswith(mark):
                return True
            return any(mark in (entry / part).read_bytes() for part in ("environ", "cmdline"))
        except OSError:
            # It has just ended, or is somebody else's.
            return False

    def named(self, module: str) -> list[int]:
        """Processes that run this module, ascending."""
        return sorted(
            pid for pid, words in self.processes().items() if any(module in w for w in words)
        )

    def framework_pid(self) -> int:
        """The batch framework that the master started."""
        return until(lambda: holder(self.base / "master" / "framework"), "a batch framework") or 0

    def executor_pids(self) -> list[int]:
        """The executors, spawners not among them."""
        return self.named("executor_process")

    def busy_executor(self) -> int:
        """The executor that has tasks below it."""
        return parent_of(self.busy_spawner())

    def busy_spawner(self) -> int:
        """The spawner that is the parent of tasks, once there is one: tasks may be short."""
        return until(self._find_busy_spawner, "a spawner with a task", look_s=0.005)

    def _find_busy_spawner(self) -> int:
        found = self.processes()
        executors = self.executor_pids()
        spawners = [pid for pid in found if parent_of(pid) in executors and pid not in executors]
        spawners = [pid for pid in spawners if any("spawner" in word for word in found[pid])]
        # Who has children is asked last and at once: tasks come and go while `found` is made.
        parents = {parent_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        return next((pid for pid in spawners if pid in parents), 0)

    def cgroups(self) -> list[Path]:
        """Every container's cgroup: what is deeper than an agent's directory."""
        tops = [CGROUPS / self.cgroup_root, *CGROUPS.glob(f"*/{self.cgroup_root}")]
        # os.walk takes it calmly when a directory goes while it is looked at.
        found = [(top, Path(path)) for top in tops for path, _, _ in os.walk(top)]
        return [path for top, path in found if len(path.relative_to(top).parts) >= 2]

    def sockets(self) -> list[Path]:
        """The local sockets of its agents."""
        places = [Path("/run/mesosctl"), self.base / "run" / "mesosctl"]
        names = [str((self.base / part.name).resolve()) for part in self.agents]
        paths = [socket_path(place, "agent", name) for place in places for name in names]
        return [path for path in paths if os.path.exists(path)]

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop everything as an operator would; fail if a process or a cgroup is left."""
        try:
            self._end_commands()
            self._clean_up_agents()
            for part in reversed(self.parts):
                part.stop()
            left = _nothing_after(self.processes)
            assert not left, f"left behind: {left}"
            groups = _nothing_after(self.cgroups)
            assert not groups, f"left behind: {groups}"
            sockets = self.sockets()
            assert not sockets, f"left behind: {sockets}"
        finally:
            for pid in self.processes():
                _kill(pid)
            _nothing_after(self.processes)
            self._remove_cgroups()
            _forget_announcement()
            shutil.rmtree(self.base, ignore_errors=True)

    def _end_commands(self) -> None:
        for process in self.commands:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _clean_up_agents(self) -> None:
        """End tasks and executors through a run of each agent that is for nothing else."""
        for part in self.agents:
            part.stop()
            cleaner = Part(
                self, f"{part.name}-cleanup", [*part.words, "--recover", "cleanup"], part.prefix
            )
            try:
                code = cleaner.process.wait(30)
            except subprocess.TimeoutExpired:
                cleaner.kill_nine()
                raise AssertionError(f"cleaning up does not end\n{cleaner.text()}") from None
            assert code == 0, f"cleaning up ended with {code}\n{cleaner.text()}"

    def _remove_cgroups(self) -> None:
        for top in [CGROUPS / self.cgroup_root, *CGROUPS.glob(f"*/{self.cgroup_root}")]:
            for path in sorted([top, *top.glob("**")], reverse=True):
                if path.is_dir():
                    try:
                        path.rmdir()
                    except OSError:
                        # Reported above as left behind, if there is somebody in it.
                        continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _forget_announcement() -> None:
    """A killed master of ours may have left its announcement where root's commands look."""
    path = Path("/run/mesosctl/local.json")
    try:
        pid = int(json.loads(path.read_text())["pid"])
        if not is_alive(pid):
            path.unlink()
    except (OSError, ValueError, KeyError):
        pass


def _nothing_after(look: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """What `look` still finds when it was given time to find nothing."""
    end = time.monotonic() + limit_s
    while (found := look()) and time.monotonic() < end:
        time.sleep(LOOK_S)
    return found


@pytest.fixture
def env() -> Iterator[ClusterEnv]:
    """A cluster that is not started yet; at the end nothing of it may be left."""
    made = ClusterEnv()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(env: ClusterEnv) -> ClusterEnv:
    """A master, its batch framework and an agent, ready for jobs."""
    return env.start()
