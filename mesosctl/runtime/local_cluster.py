"""A whole cluster on this host for as long as it is needed: master, agents and batch framework.

Rules: everything it writes is in one directory of its own, which goes with it. Its daemons are told
to end when it ends, and the kernel ends them when it is killed; their tasks end with the agents.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Self

from mesosctl.errors import MesosctlError, Unreachable
from mesosctl.limits import LOG_FILE_BYTES_MAX
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.query import Agents, FindFramework, ListAgents
from mesosctl.runtime import probe
from mesosctl.runtime.client import Hub
from mesosctl.runtime.logs import rotate
from mesosctl.storage.keys import load_key

CLUSTER = "local"
START_S = 30.0
# Tasks get their grace when the agents end; what ignores it is killed by them after it.
STOP_S = 20.0
LOOK_S = 0.02
LOG_LINES = 5
# How often the daemons' logs are looked at: their terminal is not there to throw text away.
LOGS_LOOK_S = 30.0


@dataclass(slots=True)
class LocalOptions:
    """How large: agents, and what they share (thousandths of a CPU, bytes; None: the host)."""

    agents: int = 1
    cpus_milli: int | None = None
    mem_bytes: int | None = None
    isolation: str = "auto"
    keep: bool = False


@dataclass(slots=True)
class LocalCluster:
    """A context manager: inside it the cluster stands. Raises Unreachable when it does not."""

    options: LocalOptions
    tell: Callable[[str], None]
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="mesosctl-")))
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def key_file(self) -> Path:
        """The key that opens it."""
        return self.directory / "master" / f"{CLUSTER}.key"

    @property
    def master(self) -> str:
        """Where its master listens; read from the key file that the master wrote."""
        return load_key(self.key_file).master

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep_logs, name="logs", daemon=True).start()
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        until = time.monotonic() + START_S
        work_dir = self.directory / "master"
        where = ["--listen", "tcp://127.0.0.1:0", "--work-dir", str(work_dir)]
        self._daemon("master", "master", [*where, "--cluster", CLUSTER, "--quiet-start"])
        self._wait("the master", until, self.key_file.exists)
        share = self._share()
        for number in range(1, self.options.agents + 1):
            options = ["--key", str(self.key_file), "--name", f"local{number}"]
            options += ["--work-dir", str(self.directory / f"agent{number}"), "--ends-tasks"]
            options += ["--resources", share, "--isolation", self.options.isolation]
            self._daemon(f"agent{number}", "agent", options)
        key = load_key(self.key_file)
        with Hub() as hub:
            client = hub.connect(key.master, key.pair, key.server_key)

            def stands() -> bool:
                answer = client.request(ListAgents())
                if not isinstance(answer, Agents) or len(answer.agents) < self.options.agents:
                    return False
                try:
                    client.request(FindFramework("batch"))
                except Unreachable:
                    return False
                return True

            self._wait("the cluster", until, stands)

    def _share(self) -> str:
        """What each agent offers: its part of what was asked for, or of the host."""
        host = probe.total_resources("", "", probe.look(self.directory))
        cpus = self.options.cpus_milli or host.cpus_milli
        mem = self.options.mem_bytes or host.mem_bytes
        parts = self.options.agents
        share = Resources.of(cpus_milli=cpus // parts, mem_bytes=mem // parts)
        return share.format()

    def _daemon(self, name: str, command: str, options: list[str]) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                [sys.executable, "-m", "mesosctl", command, *options, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C belongs to the command that runs against the cluster, not to the cluster.
                start_new_session=True,
            )

    def _keep_logs(self) -> None:
        """A cluster that somebody leaves standing must not fill the disk with its logs."""
        while not self._over.wait(LOGS_LOOK_S):
            for path in sorted(self.directory.glob("*.log")):
                rotate(path, LOG_FILE_BYTES_MAX)

    def _wait(self, what: str, until: float, ready: Callable[[], bool]) -> None:
        while not ready():
            for name, daemon in self._daemons.items():
                code = daemon.poll()
                if code is not None:
                    raise Unreachable(f"{name} ended with {code}: {self.last_lines(name)}")
            if time.monotonic() >= until:
                raise Unreachable(f"{what} did not come up within {START_S:g} s")
            time.sleep(LOOK_S)

    def last_lines(self, name: str) -> str:
        """What a daemon said last, in one line."""
        text = (self.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.splitlines()[-LOG_LINES:]) or "it said nothing"

    def dead(self) -> str:
        """The daemon that has ended although it should not; empty while all are alive."""
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                return name
        return ""

    def _stop(self) -> None:
        """Agents first, for their tasks need the time; then the master with its framework."""
        self._over.set()
        agents = [d for name, d in self._daemons.items() if name != "master"]
        for group in (agents, list(self._daemons.values())):
            for daemon in group:
                if daemon.poll() is None:
                    daemon.send_signal(signal.SIGTERM)
            for daemon in group:
                try:
                    daemon.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    self.tell(f"process {daemon.pid} does not stop: killed")
                    daemon.kill()
                    daemon.wait()
        if self.options.keep:
            self.tell(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)


def run_command(cluster: LocalCluster, words: tuple[str, ...]) -> int:
    """Run a command against the cluster; its exit code, 128+n for a signal, 126 or 127."""
    environment = dict(os.environ)
    environment["MESOSCTL_MASTER"] = cluster.master
    environment["MESOSCTL_KEY"] = str(cluster.key_file)
    # The command gets Ctrl-C from the terminal like us, and decides what it means.
    # A handler that is set, unlike a signal that is ignored, does not pass on to it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        try:
            process = subprocess.Popen(list(words), env=environment)
        except FileNotFoundError:
            cluster.tell(f"{words[0]}: not found")
            return 127
        except OSError as error:
            cluster.tell(f"{words[0]}: {error.strerror}")
            return 126
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def stay(cluster: LocalCluster) -> int:
    """Keep the cluster up until Ctrl-C or TERM; 0, or 1 when a part of it ended by itself."""
    asked: list[int] = []
    before = {n: signal.signal(n, lambda n, _: asked.append(n)) for n in (2, 15)}
    try:
        while not asked:
            dead = cluster.dead()
            if dead:
                raise MesosctlError(f"{dead} ended by itself: {cluster.last_lines(dead)}")
            time.sleep(0.2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
