"""What the benchmarks share: a cluster of their own, medians, and JSON on stdout.

Rules: a figure is the median of several runs and says how many. Whatever is compared with
something else is measured in the same run, alternating, and told as a ratio: absolute times say
more about the machine than about the code. A benchmark leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
CGROUPS = Path("/sys/fs/cgroup")
READY_S = 60.0
STOP_S = 15.0
LOOK_S = 0.02
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def timed(words: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """Seconds that a command takes. Raises RuntimeError when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return seconds


def alternating(
    commands: Mapping[str, Sequence[str]], rounds: int, environment: dict[str, str] | None = None
) -> dict[str, list[float]]:
    """Seconds of each command in each round; one round runs each of them once.

    The first round fills caches and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, words in commands.items():
            taken = timed(words, environment)
            if number:
                seconds[name].append(taken)
    return seconds


def plain_environment() -> dict[str, str]:
    """Our environment without what is ours or Python's, but for the way to this checkout.

    PYTHONDONTWRITEBYTECODE, for one, would have each command compile itself anew, which no
    installed one does.
    """
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("MESOSCTL_", "PYTHON"))
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest, in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1000, 2),
        "least_ms": round(min(seconds) * 1000, 2),
        "greatest_ms": round(max(seconds) * 1000, 2),
    }


def tell(name: str, figures: dict[str, Any]) -> None:
    """Print one JSON object: what was measured, where, and the figures."""
    from mesosctl import __version__

    machine = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version[:6],
        # Of the last minute: with more than there are CPUs, times say little.
        "load": round(os.getloadavg()[0], 1),
    }
    told = {"benchmark": name, "version": __version__, "machine": machine, "figures": figures}
    print(json.dumps(told, indent=2), flush=True)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far.

    The scheduler counts those of living threads to the nanosecond, the process' own figure has
    those of ended threads too but only hundredths of a second: the larger one is nearer.
    """
    fine = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            fine += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            # It ended meanwhile, or this kernel does not count.
            continue
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return max(fine / 1e9, (int(words[11]) + int(words[12])) / TICKS_PER_S)


def installed() -> list[str]:
    """How mesosctl is called: as it is installed beside this Python, else as a module."""
    beside = Path(sys.executable).parent / "mesosctl"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "mesosctl"]


class Cluster:
    """A master with its batch framework and one agent, in a temporary directory.

    Use as a context manager: entering waits until jobs are taken, leaving stops and removes all.
    Empty `resources`: no agent. `options` are the master's.
    """

    def __init__(self, resources: str, *options: str, agent_options: Sequence[str] = ()) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="mesosctl-bench-"))
        self._resources = resources
        self._options = options
        self._agent_options = agent_options
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._words: dict[str, list[str]] = {}
        self.command = installed()
        self.environment = {
            **plain_environment(),
            "XDG_RUNTIME_DIR": str(self.base),
            "XDG_CONFIG_HOME": str(self.base),
            "XDG_STATE_HOME": str(self.base),
            "MESOSCTL_CONFIG": os.devnull,
            "MESOSCTL_KEY": str(self.base / "master" / "bench.key"),
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, *words: str) -> str:
        """The output of a command. Raises RuntimeError when it fails."""
        done = self._try(*words)
        if done.returncode != 0:
            raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def timed(self, *words: str) -> float:
        """Seconds that a command takes. Raises RuntimeError when it fails."""
        return timed([*self.command, *words], self.environment)

    def pids(self) -> dict[str, list[int]]:
        """The daemons: master, framework, agent, executor, spawner."""
        from mesosctl.storage.lock import holder

        framework = holder(self.base / "master" / "framework")
        agents = [self._processes["agent"].pid] if "agent" in self._processes else []
        executors = [child for agent in agents for child in _children(agent)]
        return {
            "master": [self._processes["master"].pid],
            "framework": [framework] if framework else [],
            "agent": agents,
            "executor": executors,
            "spawner": [child for executor in executors for child in _children(executor)],
        }

    def isolation(self) -> list[str]:
        """The isolators that the agent uses."""
        (agent,) = json.loads(self.run("agents", "-o", "json"))["agents"]
        return [str(name) for name in agent.get("isolation", ())]

    def kill(self, name: str) -> None:
        """kill -9 of `master` or `agent`, and wait until it is gone."""
        self._processes[name].kill()
        self._processes[name].wait()

    def again(self, name: str) -> None:
        """Start a killed daemon with the same words."""
        self._daemon(name)

    # --- starting and stopping --------------------------------------------------------------------

    def _start(self) -> None:
        key = self.base / "master" / "bench.key"
        listen = ["--listen", "tcp://127.0.0.1:0", "--cluster", "bench"]
        work = ["--work-dir", str(self.base / "master")]
        self._words["master"] = ["master", *listen, *work, *self._options]
        self._daemon("master")
        self._until(lambda: _address(key), "the master starts")
        # One that is started again has to be where everybody looks for it.
        self._words["master"][2] = _address(key)
        if self._resources:
            words = ["agent", "--name", "bench", "--resources", self._resources]
            place = ["--work-dir", str(self.base / "agent"), "--cgroup-root", self.base.name]
            self._words["agent"] = [*words, *place, *self._agent_options]
            self._daemon("agent")
            self._until(lambda: "registered" in self._try("agents").stdout, "the agent registers")
        self._until(lambda: self._try("jobs").returncode == 0, "the framework starts")

    def _daemon(self, name: str) -> None:
        with (self.base / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self.command, *self._words[name]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _until(self, look: Any, what: str) -> None:
        end = time.monotonic() + READY_S
        while not look():
            if time.monotonic() > end or any(
                one.poll() is not None for one in self._processes.values()
            ):
                logs = "\n".join(path.read_text()[-2000:] for path in self.base.glob("*.log"))
                raise RuntimeError(f"not within {READY_S:g} s: {what}\n{logs}")
            time.sleep(LOOK_S)

    def _stop(self) -> None:
        for name, process in reversed(self._processes.items()):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if name == "agent":
                # A run of the agent that is for nothing but the end of what the first one left.
                self._try(*self._words[name], "--recover", "cleanup")
        for top in (CGROUPS / self.base.name, *CGROUPS.glob(f"*/{self.base.name}")):
            for path in sorted((top, *top.glob("**")), reverse=True):
                if path.is_dir():
                    path.rmdir()
        shutil.rmtree(self.base, ignore_errors=True)


def _address(key: Path) -> str:
    """Where the master listens that wrote this key file; empty before."""
    try:
        address = str(tomllib.loads(key.read_text())["master"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return ""
    return "" if address.endswith(":0") else address


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]
