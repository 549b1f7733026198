"""Packets dropped one way between two network namespaces: no proxy, and no connection ends.

Master, framework and commands live in one namespace, the agent in another, with a pair of virtual
devices between them; the host's own network has no part in it. nftables drops what the agent sends,
or what it is sent.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.faults.judging import read_notes, write_script
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
_numbers = itertools.count()
MASTER, AGENT = "10.213.77.1", "10.213.77.2"
# The session's timeout, the agent's, and what a busy machine adds.
NOTICED_S = 75.0


def missing() -> str:
    """What this host lacks for these tests; empty when nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"needs {program} (apt install {package})"
    probe = f"mesosctl-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces: {made.stderr.decode().strip()}"
    rule = subprocess.run(
        inside(probe, "nft", "add", "table", "inet", "probe"), capture_output=True, check=False
    )
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return "" if rule.returncode == 0 else f"no nftables: {rule.stderr.decode().strip()}"


def inside(namespace: str, *words: str) -> list[str]:
    """A command in a network namespace. `ip netns exec` would hide /sys, and so the cgroups."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *words]


class Wire:
    """Two namespaces and the wire between them."""

    def __init__(self) -> None:
        name = f"mesosctl-{os.getpid()}-{next(_numbers)}"
        self.master, self.agent = f"{name}-m", f"{name}-a"
        for namespace in (self.master, self.agent):
            self._ip("netns", "add", namespace)
            self._ip("-n", namespace, "link", "set", "lo", "up")
        self._ip("-n", self.master, "link", "add", "wire", "type", "veth", "peer", "wire",
                 "netns", self.agent)  # fmt: skip
        for namespace, address in ((self.master, MASTER), (self.agent, AGENT)):
            self._ip("-n", namespace, "address", "add", f"{address}/30", "dev", "wire")
            self._ip("-n", namespace, "link", "set", "wire", "up")

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def _nft(self, *words: str) -> None:
        subprocess.run(inside(self.agent, "nft", *words), check=True)

    def drop(self, hook: str) -> None:
        """Drop what comes to the agent (`input`) or goes from it (`output`)."""
        self._nft("add", "table", "inet", "fault")
        chain = f"{{ type filter hook {hook} priority 0; }}"
        self._nft("add", "chain", "inet", "fault", hook, chain)
        device = "iifname" if hook == "input" else "oifname"
        self._nft("add", "rule", "inet", "fault", hook, device, "wire", "drop")

    def heal(self) -> None:
        """Drop nothing."""
        self._nft("delete", "table", "inet", "fault")

    def close(self) -> None:
        """Remove both; the devices go with them."""
        for namespace in (self.master, self.agent):
            self._ip("netns", "delete", namespace)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire, where the host can make one."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def apart(wire: Wire) -> Iterator[ClusterEnv]:
    """A cluster whose agent is at the other end of the wire."""
    env = ClusterEnv()
    try:
        env.address = f"tcp://{MASTER}:0"
        env.prefix = inside(wire.master)
        env.master("--quiet-start")
        env.wait_for_framework()
        listen = ("--listen", f"tcp://{AGENT}:0")
        env.agent("cpus:4;mem:1G", *listen, prefix=inside(wire.agent))
        yield env
    finally:
        env.close()


FROM = pytest.param("output", id="from")
TO = pytest.param("input", id="to", marks=pytest.mark.slow)


@pytest.mark.parametrize("hook", [FROM, TO])
def test_an_agent_that_is_cut_off_one_way_keeps_its_tasks(
    wire: Wire, apart: ClusterEnv, hook: str
) -> None:
    """It is told to be unreachable, although half of what is said arrives, and comes back."""
    env, script = apart, write_script(apart.base)
    size = ["--parsable", "-c", "0.5", "-m", "32M", "-o", "none", "-e", "none"]

    def submit(name: str, seconds: float) -> str:
        words = [str(script), str(env.files), name, str(seconds), "0"]
        return env.ok("submit", *size, "--", *words).strip()

    long, brief = submit("long", 50), submit("brief", 10)
    until(lambda: len(read_notes(env.files)) == 2, "both run")
    # That they run is told a moment later, which may not fall into the cut.
    told = (long, brief)
    until(lambda: all(env.tasks(one)[0]["state"] == "running" for one in told), "it is known")
    began = time.monotonic()
    wire.drop(hook)
    until(lambda: env.tasks(long)[0]["reason"] == "Unreachable", "it is told", NOTICED_S)
    noticed_s = time.monotonic() - began
    until(lambda: read_notes(env.files)["brief"].ends, "tasks go on")
    assert env.tasks(brief)[0]["state"] == "running"
    wire.heal()
    began = time.monotonic()
    until(lambda: env.tasks(long)[0]["reason"] != "Unreachable", "it is back", NOTICED_S)
    print(f"noticed after {noticed_s:.1f} s, back after {time.monotonic() - began:.1f} s")
    for job, name in ((brief, "brief"), (long, "long")):
        env.ok("wait", job, limit_s=120.0)
        task, notes = env.tasks(job)[0], read_notes(env.files)[name]
        assert (task["state"], task["attempt"], list(notes.ends)) == ("ok", 1, [1])
        assert notes.overlaps == []
