"""Strangers at every TCP socket of a cluster: no key, a wrong key, floods of junk. Nothing changes.

The sockets are spoken to with bare pyzmq and bare TCP, because our own client would never send
what is sent here.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from mesosctl.errors import MesosctlError, Refused
from mesosctl.protocol.messages.query import (
    Agents,
    DescribeMaster,
    FindFramework,
    FrameworkFound,
    ListAgents,
)
from mesosctl.runtime.client import Hub
from mesosctl.storage.keys import KeyPair, make_keypair
from tests.integration.conftest import ClusterEnv, until

pytestmark = pytest.mark.integration
FLOOD_FRAMES = 3000
FLOOD_BYTES = 8 << 20
GROWTH_MIB_MAX = 40
HELLO_WORLD = b"\x97\xa8mesosctl\x01\xa0\x01\xa1s\x01\xadlist-agents\x80"


@dataclass(frozen=True)
class Door:
    """A TCP socket of the cluster: where it is, and the public key of its server."""

    name: str
    address: str
    server_key: str


@pytest.fixture(scope="module")
def shared() -> Iterator[ClusterEnv]:
    """One cluster for all of them: whatever they do changes nothing."""
    env = ClusterEnv()
    try:
        yield env.start()
    finally:
        env.close()


@pytest.fixture(scope="module")
def doors(shared: ClusterEnv) -> list[Door]:
    """The master's socket, that of the batch framework and that of the agent."""
    key = shared.key
    with Hub() as hub:
        master = hub.connect(key.master, key.pair, key.server_key)
        found = master.request(FindFramework("batch"))
        listed = master.request(ListAgents())
    assert isinstance(found, FrameworkFound) and isinstance(listed, Agents)
    (view,) = listed.agents
    return [
        Door("master", key.master, key.server_key),
        Door("framework", found.address, found.public_key),
        Door("agent", view.agent.address, view.agent.public_key),
    ]


def picture(env: ClusterEnv) -> dict[str, Any]:
    """What the cluster is and does, without figures that only time changes."""
    agents = [
        {name: agent[name] for name in ("id", "name", "state", "tasks")}
        for agent in env.json("agents")["agents"]
    ]
    frameworks = [item["id"] for item in env.json("frameworks")["frameworks"]]
    jobs = env.json("jobs", "--all")["jobs"]
    pids = [part.process.poll() for part in env.parts] + [env.framework_pid()]
    return {"agents": agents, "frameworks": frameworks, "jobs": jobs, "pids": pids}


def memory_mib(env: ClusterEnv) -> list[int]:
    """What each daemon holds."""
    pids = [*(part.pid for part in env.parts), env.framework_pid()]
    statm = [Path(f"/proc/{pid}/statm").read_text().split() for pid in pids]
    return [int(words[1]) * 4096 >> 20 for words in statm]


def check_unchanged(env: ClusterEnv, before: dict[str, Any], memory: list[int]) -> None:
    """The same cluster with the same contents, and it works."""
    assert picture(env) == before
    for was, now in zip(memory, memory_mib(env), strict=True):
        assert now - was < GROWTH_MIB_MAX
    assert env.ok("run", "--", "echo", "works") == "works\n"


@contextmanager
def dealer(door: Door, pair: KeyPair | None) -> Iterator[zmq.Socket[bytes]]:
    """A raw socket at a door; without a key pair it speaks no CURVE."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        yield prepared(raw, door, pair)


def prepared(raw: zmq.Socket[bytes], door: Door, pair: KeyPair | None) -> zmq.Socket[bytes]:
    """The socket, connected."""
    raw.sndtimeo = 200
    if pair is not None:
        raw.curve_publickey = pair.public.encode()
        raw.curve_secretkey = pair.secret.encode()
        raw.curve_serverkey = door.server_key.encode()
    raw.connect(door.address)
    return raw


def flood(raw: zmq.Socket[bytes], frames: list[bytes]) -> bool:
    """Send all that can be sent; whether anything was answered."""
    for frame in frames:
        try:
            raw.send(frame)
        except zmq.Again:
            break
    return bool(raw.poll(500))


def junk(seed: int, count: int) -> list[bytes]:
    """Frames that mean nothing, some of them nearly something."""
    source = random.Random(seed)
    kinds = [
        lambda: source.randbytes(source.randrange(200)),
        lambda: b"\x90" * source.randrange(1, 60_000),
        lambda: b"\xdd\xff\xff\xff\xff" + source.randbytes(20),
        lambda: HELLO_WORLD[: source.randrange(len(HELLO_WORLD))],
        lambda: HELLO_WORLD + source.randbytes(8),
        lambda: b"\xc7\x08\x01" + source.randbytes(8),
        lambda: b"",
    ]
    return [source.choice(kinds)() for _ in range(count)]


@pytest.mark.parametrize("who", ["without a key", "with a wrong key"])
def test_a_stranger_gets_no_answer(shared: ClusterEnv, doors: list[Door], who: str) -> None:
    """CURVE and the list of keys stand before the first byte of ours is looked at."""
    before, memory = picture(shared), memory_mib(shared)
    pair = make_keypair() if who == "with a wrong key" else None
    for door in doors:
        with dealer(door, pair) as raw:
            assert not flood(raw, [HELLO_WORLD, *junk(1, 200)]), door.name
    check_unchanged(shared, before, memory)


def test_bytes_that_are_no_zeromq_change_nothing(shared: ClusterEnv, doors: list[Door]) -> None:
    """Anybody can connect to a TCP port and send anything."""
    before, memory = picture(shared), memory_mib(shared)
    source = random.Random(7)
    starts = [b"", b"\xff\0\0\0\0\0\0\0\x01\x7f", b"GET / HTTP/1.1\r\n\r\n"]
    for door in doors:
        host, _, port = door.address.removeprefix("tcp://").rpartition(":")
        for start in starts:
            sent = 0
            with socket.create_connection((host, int(port)), timeout=2) as raw:
                raw.settimeout(0.2)
                try:
                    raw.sendall(start)
                    while sent < FLOOD_BYTES:
                        sent += raw.send(source.randbytes(65536))
                except OSError:
                    # Closed by the other side, or nobody reads any more: both are fine.
                    continue
    check_unchanged(shared, before, memory)


def test_junk_from_somebody_with_a_key_changes_nothing(
    shared: ClusterEnv, doors: list[Door]
) -> None:
    """A broken client of ours, or a thief of its key, is refused frame by frame."""
    before, memory = picture(shared), memory_mib(shared)
    for door in doors:
        with dealer(door, shared.key.pair) as raw:
            flood(raw, junk(3, FLOOD_FRAMES))
    check_unchanged(shared, before, memory)


def test_commands_of_a_stranger_are_refused_in_one_line(shared: ClusterEnv, tmp_path: Path) -> None:
    """Who is not on the list learns that, and what to do about it."""
    pair = make_keypair()
    text = shared.key_path.read_text()
    for held, other in (
        (shared.key.pair.public, pair.public),
        (shared.key.pair.secret, pair.secret),
    ):
        text = text.replace(held, other)
    wrong = tmp_path / "wrong.key"
    wrong.write_text(text)
    wrong.chmod(0o600)
    began = time.monotonic()
    done = shared.run("--key", str(wrong), "agents")
    assert done.returncode in (3, 5) and not done.stdout
    assert len(done.stderr.strip().splitlines()) <= 2 and "Traceback" not in done.stderr
    assert time.monotonic() - began < 10


def test_a_revoked_key_is_out_at_once(shared: ClusterEnv) -> None:
    """Deleting a line of the list ends live connections too."""
    path = shared.base / "master" / "authorized_keys.toml"
    whole = path.read_text()
    shared.ok(
        "keygen",
        "guest",
        "--kind",
        "client",
        "--users",
        "nobody",
        "--dir",
        str(shared.files),
        "--work-dir",
        str(shared.base / "master"),
    )
    guest = shared.files / "guest.key"
    # Whoever was just given a key does not have to wait for the master to look again.
    assert shared.run("--key", str(guest), "agents").returncode == 0
    from mesosctl.storage.keys import load_key

    key = load_key(guest)
    with Hub() as hub:
        client = hub.connect(shared.address, key.pair, key.server_key, timeout_s=2)
        assert client.request(DescribeMaster()) is not None
        path.write_text(whole)

        def is_out() -> bool:
            try:
                client.request(DescribeMaster(), 0.5)
            except (Refused, MesosctlError):
                return True
            return False

        until(is_out, "the key is out")


def test_the_public_part_of_a_key_is_of_no_use(shared: ClusterEnv, doors: list[Door]) -> None:
    """Whoever knows the public key of the operator cannot speak for it."""
    before, memory = picture(shared), memory_mib(shared)
    secret = z85.encode(random.Random(5).randbytes(32)).decode()
    thief = KeyPair(shared.key.pair.public, secret)
    for door in doors:
        with dealer(door, thief) as raw:
            assert not flood(raw, [HELLO_WORLD]), door.name
    check_unchanged(shared, before, memory)
