"""How large a cluster one master holds: `python bench/scale.py [--agents 1000,16000,50000]`.

A real master process; two processes with half of the agents each (crowd.py), which speak the real
protocol; one with 200 frameworks (fleet.py) that keep 30 s ± 10 s tasks running, on one agent in
three at 1,000, and at as many as make 200 launches a second at 16,000 and 50,000. A probe measures
how long it is from the opening of a framework's connection to its first task's running. Up to
16,000 agents have connections of their own, with CURVE; beyond that they share (scale_master.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from common import Cluster, cpu_s, tell

BENCH = Path(__file__).resolve().parent
OWN_CONNECTIONS_MAX = 16_000
SHARED_CONNECTIONS = 8
LAUNCHES_PER_S = 200
MEAN_S = 30.0
CONNECTION_BYTES = 28_000
PATIENCE_S = 600.0
LOOK_S = 0.25
_numbers = itertools.count()


class Scale(Cluster):
    """A master without agents; `shared`: one that takes many agents along one connection."""

    def __init__(self, shared: bool) -> None:
        super().__init__("", "--offer-timeout", "30s")
        self._shared = shared

    def _daemon(self, name: str) -> None:
        known = self.command
        if self._shared:
            self.command = [sys.executable, str(BENCH / "scale_master.py")]
        try:
            super()._daemon(name)
        finally:
            self.command = known

    @property
    def key(self) -> Path:
        """The key of the cluster's first user, which all of them use."""
        return self.base / "master" / "bench.key"

    @property
    def pid(self) -> int:
        """The master's."""
        return self._processes["master"].pid


class Program:
    """One of the programs beside this one, and the lines that it prints."""

    def __init__(self, cluster: Scale, name: str, *words: str) -> None:
        place = cluster.base / f"{name}{next(_numbers)}.out"
        self._written = place.open("wb")
        self._read = place.open("r")
        self._lines: list[str] = []
        self._rest = ""
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(BENCH / f"{name}.py"), "--key", str(cluster.key), *words],
            env={**cluster.environment, "PYTHONUNBUFFERED": "1"},
            stdout=self._written,
            stderr=self._written,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self._written.close()
        self._read.close()

    def lines(self) -> list[str]:
        """All lines so far. Raises RuntimeError when it has failed."""
        if self.process.poll():
            text = self._read.read()[-2000:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {text}")
        *whole, self._rest = (self._rest + self._read.read()).split("\n")
        self._lines += whole
        return self._lines


def registered(crowds: list[Program]) -> int:
    """How many agents have a session with the master."""
    last = [crowd.lines()[-1:] for crowd in crowds]
    return sum(int(line.split()[0]) for lines in last for line in lines)


def wait_for(crowds: list[Program], agents: int) -> float:
    """Seconds until all are registered. Raises RuntimeError."""
    began = time.monotonic()
    while registered(crowds) < agents:
        if time.monotonic() > began + PATIENCE_S:
            raise RuntimeError(f"{registered(crowds)} of {agents} agents in {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
    return time.monotonic() - began


def memory(pid: int) -> int:
    """Anonymous memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell of memory")


def measure(agents: int, options: argparse.Namespace) -> dict[str, Any]:
    """One size."""
    shared = agents > OWN_CONNECTIONS_MAX
    many = int(LAUNCHES_PER_S * MEAN_S)
    running = options.running or (many if agents >= OWN_CONNECTIONS_MAX else min(agents // 3, many))
    with Scale(shared) as cluster:
        before = memory(cluster.pid)
        crowds = [_crowd(cluster, agents, number, shared) for number in range(2)]
        with crowds[0], crowds[1]:
            took_s = wait_for(crowds, agents)
            # Handshakes leave garbage, and the socket that they asked is relieved at leisure.
            time.sleep(4.0)
            each = (memory(cluster.pid) - before) / agents
            figures: dict[str, Any] = {
                "agents": agents,
                "connections": "shared" if shared else "own",
                "registered_s": round(took_s, 1),
                "memory_per_agent": round(each),
                "beyond_connection": round(each if shared else each - CONNECTION_BYTES),
            }
            figures |= _probes(cluster, running, options)
            if agents <= options.restart:
                cluster.kill("master")
                until = time.monotonic() + 60
                while registered(crowds) == agents and time.monotonic() < until:
                    time.sleep(LOOK_S)
                cluster.again("master")
                figures["registered_again_s"] = round(wait_for(crowds, agents), 1)
    return figures


def _crowd(cluster: Scale, agents: int, number: int, shared: bool) -> Program:
    half = agents // 2
    count = half if number else agents - half
    words = ["--count", str(count), "--first", str(number * (agents - half)), "--processes", "2"]
    words += ["--connections", str(SHARED_CONNECTIONS)] if shared else []
    return Program(cluster, "crowd", *words)


def _probes(cluster: Scale, running: int, options: argparse.Namespace) -> dict[str, Any]:
    words = ["--frameworks", str(options.frameworks), "--running", str(running)]
    words += ["--probes", str(options.probes), "--steady", str(options.steady)]
    with Program(cluster, "fleet", *words) as fleet:
        took: list[float] = []
        marks: list[tuple[float, float, int]] = []
        end = time.monotonic() + PATIENCE_S
        over = False
        while not over and time.monotonic() < end:
            # What it printed last is read after it has ended.
            over = fleet.process.poll() is not None
            told = [json.loads(line) for line in fleet.lines()]
            took = [line["probe_ms"] for line in told if "probe_ms" in line]
            alive = [line for line in told if "alive" in line]
            # Before the probes no task has ended yet, and few are launched.
            if took and alive and alive[-1]["alive"] >= running * 0.9:
                marks.append((time.monotonic(), cpu_s(cluster.pid), int(alive[-1]["started"])))
            time.sleep(LOOK_S)
    if len(took) < options.probes or len(marks) < 2:
        raise RuntimeError(f"{len(took)} of {options.probes} probes were answered")
    (first_s, first_cpu_s, first), (last_s, last_cpu_s, last) = marks[0], marks[-1]
    return {
        "frameworks": options.frameworks,
        "tasks_running": running,
        "launches_per_s": round((last - first) / (last_s - first_s), 1),
        "master_cpu_percent": round((last_cpu_s - first_cpu_s) / (last_s - first_s) * 100),
        "probe_median_ms": statistics.median(took),
        "probe_worst_ms": max(took),
        "probes": len(took),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A master with thousands of agents.")
    parser.add_argument("--agents", default="1000,16000,50000", help="sizes, with commas")
    parser.add_argument("--frameworks", type=int, default=200)
    parser.add_argument("--running", type=int, default=0, help="tasks; 0: as the issue has it")
    parser.add_argument("--probes", type=int, default=15)
    parser.add_argument("--steady", type=float, default=35.0, help="seconds before the probes")
    parser.add_argument("--restart", type=int, default=16_000, help="largest size to restart at")
    options = parser.parse_args()
    # Whoever is told to end leaves nothing behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sizes = [measure(int(size), options) for size in options.agents.split(",")]
    tell("scale", {"sizes": sizes})


if __name__ == "__main__":
    main()
