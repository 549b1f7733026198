"""A real ZooKeeper for tests: servers of their own on the loopback interface, as Debian packs it.

Skipped, with the reason, where there is no Java, no zookeeper.jar or no kazoo. One server is shared
by all tests, each of which has a path of its own; a test that harms it starts one for itself.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mesosctl.model.masters import ZkPlace
from tests.integration.conftest import ClusterEnv, Part, until

JAR = Path("/usr/share/java/zookeeper.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
LIGHT = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# A session of 4 s is the least that a server grants at this tick or a shorter one.
TICK_MS = 500
_numbers = itertools.count()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


class ZooKeeper:
    """One server, which can be killed, paused and started again with what it had on disk."""

    def __init__(self, base: Path, port: int, more: Sequence[str] = (), number: int = 0) -> None:
        self.base = base
        self.port = port
        (base / "data").mkdir(parents=True)
        if number:
            (base / "data" / "myid").write_text(str(number))
        lines = [
            f"tickTime={TICK_MS}",
            f"dataDir={base / 'data'}",
            f"clientPort={port}",
            "clientPortAddress=127.0.0.1",
            "admin.enableServer=false",
            "4lw.commands.whitelist=srvr",
            *more,
        ]
        (base / "zoo.cfg").write_text("\n".join(lines) + "\n")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words = ["java", *LIGHT, "-cp", str(JAR), MAIN, str(self.base / "zoo.cfg")]
        with (self.base / "log").open("ab") as log:
            return subprocess.Popen(words, cwd=self.base, stdout=log, stderr=log)

    @property
    def host(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def mode(self) -> str:
        """`standalone`, `leader` or `follower`; empty while it does not serve."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as asking:
                asking.sendall(b"srvr")
                answer = asking.makefile().read()
        except OSError:
            return ""
        return next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), "")

    def serving(self) -> ZooKeeper:
        """Wait until it serves."""
        until(self.mode, "ZooKeeper serves")
        return self

    def kill_nine(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again on the same disk."""
        assert self.process.poll() is not None
        self.process = self._start()

    def close(self) -> None:
        """End it and remove what it wrote."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.base, ignore_errors=True)


def new_base() -> Path:
    """A directory for one server."""
    return Path(tempfile.mkdtemp(prefix="mc-zk-"))


def require() -> None:
    """Skip where ZooKeeper cannot be run."""
    if not JAR.exists() or shutil.which("java") is None:
        pytest.skip("needs Debian's zookeeper and a Java to run it")
    if importlib.util.find_spec("kazoo") is None:
        pytest.skip("needs kazoo")


def one_server() -> Iterator[ZooKeeper]:
    """A server of its own, ended with whoever asked for it."""
    require()
    server = ZooKeeper(new_base() / "zk", free_ports(1)[0])
    try:
        yield server.serving()
    finally:
        server.close()


zookeeper = pytest.fixture(one_server, scope="session", name="zookeeper")
own_zookeeper = pytest.fixture(one_server, name="own_zookeeper")


@pytest.fixture
def place(zookeeper: ZooKeeper) -> ZkPlace:
    """An empty path in the shared server."""
    return ZkPlace((zookeeper.host,), f"/t{os.getpid()}/{next(_numbers)}")


class Proxy:
    """Passes bytes between its port and a server's; `cut` makes it swallow them silently."""

    def __init__(self, target: int) -> None:
        self.is_cut = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [ours, theirs]
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                if not self.is_cut:
                    other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Stop listening and end what goes through it."""
        # Closing alone would not wake the thread that waits for a connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            end.close()


@pytest.fixture
def proxies() -> Iterator[list[Proxy]]:
    """Whatever a test appends is closed at its end."""
    made: list[Proxy] = []
    yield made
    for proxy in made:
        proxy.close()


class Masters:
    """Several masters at one place, an agent, and a batch framework started on its own."""

    def __init__(self, env: ClusterEnv, place: ZkPlace) -> None:
        self.env = env
        self.place = place
        self.masters: list[Part] = []
        env.variables["MESOSCTL_MASTER"] = str(place)
        env.variables["MESOSCTL_KEY"] = str(env.key_path)

    def start(self, count: int = 2, resources: str = "cpus:4;mem:2G") -> Masters:
        """All of it, ready for jobs."""
        for _ in range(count):
            self.master()
        self.env.address = str(self.place)
        self.env.agent(resources)
        words = ["framework", "--work-dir", str(self.env.base / "framework")]
        self.framework = self.env.part("framework", *words)
        self.env.wait_for_framework()
        return self

    def master(self, *options: str, place: ZkPlace | None = None) -> Part:
        """One more master, with the first one's keys; waits until it knows who leads."""
        number = len(self.masters)
        name = f"m{number}" if number else "master"
        directory = self.env.base / name
        if number:
            directory.mkdir(mode=0o700)
            for file in ("server.key", "authorized_keys.toml"):
                shutil.copy(self.env.base / "master" / file, directory)
        words = ["master", "--zk", str(place or self.place), "--work-dir", str(directory)]
        words += ["--listen", "tcp://127.0.0.1:0", "--cluster", "test", "--quiet-start"]
        part = self.env.part(name, *words, *options)
        self.masters.append(part)
        until(lambda: self.is_settled(part), f"{name} leads or knows who does")
        return part

    @staticmethod
    def is_settled(part: Part) -> bool:
        """Whether it said that it leads, or that another one does."""
        assert part.process.poll() is None, part.text()
        return any(word in part.text() for word in (" leads cluster ", " leads, in epoch "))

    def leader(self, older_than: int = 0) -> tuple[Part, int]:
        """Who said last, and in the highest epoch, that it leads; waits for one above that."""

        def found() -> tuple[Part, int] | None:
            times = [
                (int(line.rpartition(" epoch ")[2]), part)
                for part in self.masters
                for line in part.text().splitlines()
                if " leads cluster " in line
            ]
            best = max(times, key=lambda time: time[0], default=None)
            return (best[1], best[0]) if best is not None and best[0] > older_than else None

        got = until(found, f"a leader after epoch {older_than}")
        assert got is not None
        return got

    def standby(self) -> Part:
        """The first that does not lead."""
        leader, _ = self.leader()
        return next(part for part in self.masters if part is not leader)


@pytest.fixture
def masters(env: ClusterEnv, place: ZkPlace) -> Masters:
    """See Masters; nothing runs yet."""
    return Masters(env, place)


def paused(part: Part) -> None:
    """SIGSTOP."""
    os.kill(part.pid, signal.SIGSTOP)


def resumed(part: Part) -> None:
    """SIGCONT."""
    os.kill(part.pid, signal.SIGCONT)


def seconds_until(predicate: object, what: str) -> float:
    """How long it took."""
    began = time.monotonic()
    until(predicate, what)  # type: ignore[arg-type]
    return time.monotonic() - began
