"""How long a cluster is without a leader: `python bench/leaders.py [--rounds N]`.

A ZooKeeper with its usual tick of 2 s, two masters, an agent with a running task, the batch
framework started on its own, and a second framework that keeps every offer. In each round the
leader is killed with -9; the cluster is offering again when that framework has an offer from
another master. Then the killed one is started again. The task must not be touched.

Needs Debian's zookeeper (libzookeeper-java and a Java) and kazoo.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import ROOT, installed, tell
from failover import Failed, Watcher, until

from mesosctl.api import Demand, Driver, Resources

JAR = Path("/usr/share/java/zookeeper.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
MASTERS = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Fail-over between masters under ZooKeeper.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tick", type=int, default=2000, help="ZooKeeper's tickTime in ms")
    options = parser.parse_args()
    if not JAR.exists() or shutil.which("java") is None:
        sys.exit(f"{JAR} and java are needed: apt install libzookeeper-java default-jre-headless")
    base = Path(tempfile.mkdtemp(prefix="mesosctl-bench-"))
    cluster = Leaders(base, options.tick)
    try:
        cluster.start()
        tell(
            "leaders",
            {"rounds": options.rounds, "tick_ms": options.tick, **cluster.measure(options.rounds)},
        )
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)


class Leaders:
    """All the processes, and the framework that waits for offers."""

    def __init__(self, base: Path, tick_ms: int) -> None:
        self.base = base
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.words: dict[str, list[str]] = {}
        self.watcher = Watcher(1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.zk = f"zk://127.0.0.1:{port}/bench"
        settings = [f"tickTime={tick_ms}", f"dataDir={base}/zk", f"clientPort={port}"]
        settings += ["clientPortAddress=127.0.0.1", "admin.enableServer=false", ""]
        (base / "zoo.cfg").write_text("\n".join(settings))
        self.key = base / "m0" / "bench.key"
        self.environment = {
            **{name: text for name, text in os.environ.items() if "MESOSCTL" not in name},
            "PYTHONPATH": str(ROOT),
            "HOME": str(base),
            "XDG_RUNTIME_DIR": str(base),
            "XDG_STATE_HOME": str(base),
            "MESOSCTL_CONFIG": os.devnull,
            "MESOSCTL_MASTER": self.zk,
            "MESOSCTL_KEY": str(self.key),
        }

    def start(self) -> None:
        """Everything, in the order in which one needs the other."""
        java = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", str(JAR)]
        self.run("zookeeper", [*java, MAIN, str(self.base / "zoo.cfg")])
        for number in range(MASTERS):
            directory = self.base / f"m{number}"
            words = ["master", "--zk", self.zk, "--work-dir", str(directory), "--cluster", "bench"]
            if number:
                directory.mkdir(mode=0o700)
                for name in ("server.key", "authorized_keys.toml"):
                    shutil.copy(self.base / "m0" / name, directory)
            words += ["--listen", "tcp://127.0.0.1:0", "--quiet-start", "--offer-timeout", "10m"]
            self.run(f"m{number}", [*installed(), *words])
            self._wait_for(f"m{number}", " lead")
        agent = ["agent", "--resources", "cpus:4;mem:1G", "--isolation", "posix", "--name", "a"]
        self.run("agent", [*installed(), *agent, "--work-dir", str(self.base / "agent")])
        framework = ["framework", "--work-dir", str(self.base / "framework")]
        self.run("framework", [*installed(), *framework])
        until(lambda: "subscribed" in self.text("framework"), "the batch framework")
        self.ask("submit", "-m", "32M", "--", "sleep", "9999")
        until(lambda: self.ask("tasks", "1").get("state") == "running", "the task runs")
        demand = Demand(Resources.parse("cpus:1;mem:32"), 1)
        driver = Driver(self.watcher, name="watcher", master=self.zk, key=self.key, demand=demand)
        threading.Thread(target=driver.run, daemon=True).start()
        until(self.watcher.complete.is_set, "an offer")

    def run(self, name: str, words: list[str]) -> None:
        """Start a process, now or again."""
        self.words[name] = words
        with (self.base / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words,
                env=self.environment,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait_for(self, name: str, word: str) -> None:
        until(lambda: word in self.text(name).rstrip().rpartition("\n")[2], f"{name}:{word}")

    def text(self, name: str) -> str:
        """What a process has logged."""
        return (self.base / f"{name}.log").read_text(errors="replace")

    def ask(self, *words: str) -> dict[str, str]:
        """The first row that a listing prints; empty when there is none."""
        listing = words[0] in ("tasks", "agents")
        more = ["-o", "json"] if listing else []
        done = subprocess.run(
            [*installed(), *words, *more],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        rows = json.loads(done.stdout)[words[0]] if listing and done.returncode == 0 else []
        return rows[0] if rows else {}

    def leader(self) -> str:
        """Which master said last, and in the highest epoch, that it leads."""
        epochs = {
            int(line.rpartition(" ")[2]): f"m{number}"
            for number in range(MASTERS)
            for line in self.text(f"m{number}").splitlines()
            if " leads cluster " in line
        }
        return epochs[max(epochs)]

    def measure(self, rounds: int) -> dict[str, object]:
        """Seconds from each kill to the first offer of the next leader."""
        seconds = []
        for _ in range(rounds):
            name = self.leader()
            self.watcher.complete.clear()
            began = time.monotonic()
            self.processes[name].kill()
            self.processes[name].wait()
            until(self.watcher.complete.is_set, "an offer of the next leader")
            seconds.append(round(self.watcher.complete_at - began, 2))
            if self.leader() == name:
                raise Failed("there is no other leader")
            self.run(name, self.words[name])
            self._wait_for(name, " leads, in epoch")
            until(lambda: self.ask("tasks", "1").get("state") == "running", "the framework is back")
        task = self.ask("tasks", "1")
        if task.get("attempt") not in (1, "1"):
            raise Failed(f"the task was touched: {task}")
        return {
            "offering_again_s": seconds,
            "median_s": statistics.median(seconds),
            "worst_s": max(seconds),
        }

    def stop(self) -> None:
        """End everything, tasks included."""
        for name in ("agent", "framework", "m0", "m1", "zookeeper"):
            process = self.processes.get(name)
            if process is None:
                continue
            process.terminate()
            process.wait()
            if name == "agent":
                words = [*self.words[name], "--recover", "cleanup"]
                subprocess.run(words, env=self.environment, capture_output=True, check=False)


if __name__ == "__main__":
    main()
