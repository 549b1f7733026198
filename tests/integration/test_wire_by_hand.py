"""A real master, spoken to from docs/protocol.md alone: raw pyzmq and msgpack, nothing of ours.

What is used here stands on the page; whoever writes a framework in another language does the same.
"""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0

Body = dict[str, Any]


@dataclass(frozen=True)
class Master:
    """A running master: where it listens, its public key, and a key pair that it lets in."""

    context: zmq.Context[zmq.Socket[bytes]]
    address: str
    server: bytes
    public: bytes
    secret: bytes


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A master of its own, started as the README says, without a batch framework."""
    directory = tmp_path_factory.mktemp("by-hand")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MESOSCTL_")}
    environment |= {"MESOSCTL_CONFIG": os.devnull, "XDG_RUNTIME_DIR": str(directory)}
    command = [sys.executable, "-m", "mesosctl", "master", "--no-framework"]
    options = ["--listen", "tcp://127.0.0.1:0", "--work-dir", str(directory / "master")]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([*command, *options], cwd=ROOT, env=environment, stderr=log)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        path = directory / "master" / "default.key"
        until(lambda: path.exists() or process.poll() is not None)
        assert process.poll() is None, (directory / "log").read_text()
        key = tomllib.loads(path.read_text())
        pair = key["public"].encode(), key["secret"].encode()
        yield Master(context, key["master"], key["server"].encode(), *pair)
        assert process.poll() is None, (directory / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        context.destroy(linger=0)
        process.kill()
        process.wait()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Conversation:
    """One session on one connection."""

    def __init__(self, master: Master, pair: tuple[bytes, bytes] | None = None) -> None:
        self.socket = master.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.routing_id = secrets.token_bytes(16)
        self.socket.curve_serverkey = master.server
        public, secret = pair or (master.public, master.secret)
        self.socket.curve_publickey, self.socket.curve_secretkey = public, secret
        # Before anything can happen: a refused handshake is not tried again.
        self.monitor = self.socket.get_monitor_socket() if pair else None
        self.socket.connect(master.address)
        self.session = secrets.token_hex(8)
        self.cluster, self.epoch = "", 0
        self.sent = self.received = 0

    def send(self, kind: str, body: Body | None = None, *, skip: int = 0) -> int:
        """Send a message, its number `skip` too high; the number."""
        self.sent += 1 + skip
        header = ["mesosctl", 1, self.cluster, self.epoch, self.session, self.sent, kind]
        self.socket.send(msgpack.packb([*header, body or {}]))
        return self.sent

    def receive(self) -> tuple[str, Body]:
        """The next message but for unasked signs of life, its header checked."""
        while True:
            assert self.socket.poll(int(WAIT_S * 1000)), "no answer"
            frames = self.socket.recv_multipart()
            assert len(frames) == 1
            protocol, version, cluster, epoch, session, seq, kind, body = msgpack.unpackb(frames[0])
            assert (protocol, version, session) == ("mesosctl", 1, self.session)
            assert cluster
            assert epoch >= 1
            self.cluster, self.epoch = cluster, epoch
            if kind == "reset":
                return kind, body
            self.received += 1
            assert seq == self.received
            if kind != "pong" or self.waits_for_pong:
                return kind, body

    waits_for_pong = False

    def expect(self, kind: str) -> Body:
        """The fields of the next message, which has to be of this kind."""
        self.waits_for_pong = kind == "pong"
        found, body = self.receive()
        assert found == kind, (found, body)
        return body

    def end(self) -> None:
        self.send("bye")
        self.socket.close(linger=1000)


def subscription(name: str, framework_id: str = "") -> Body:
    return {"framework": {"framework_id": framework_id, "name": name, "user": user()}}


def user() -> str:
    return getpass.getuser()


def test_a_framework_subscribes_and_is_alive(master: Master) -> None:
    """The first thing that anybody does with the page: an id, and a pong for each ping."""
    talk = Conversation(master)
    talk.send("subscribe", subscription("probe"))
    body = talk.expect("subscribed")
    assert body["framework_id"]
    assert body["heartbeat_s"] == 5
    assert body["cluster_name"] == "default"
    assert talk.epoch == 1
    for _ in range(3):
        talk.send("ping")
        assert talk.expect("pong") == {}
    talk.end()


def test_a_gap_gives_reset_and_the_framework_comes_back(master: Master) -> None:
    """Losses are answered by starting over, under the id that was given."""
    talk = Conversation(master)
    talk.send("subscribe", subscription("forgetful"))
    framework_id = talk.expect("subscribed")["framework_id"]
    talk.send("ping", skip=1)
    assert talk.expect("reset")["code"] == "gap"
    again = Conversation(master)
    again.cluster, again.epoch = talk.cluster, talk.epoch
    talk.socket.close()
    again.send("subscribe", subscription("forgetful", framework_id))
    assert again.expect("subscribed")["framework_id"] == framework_id
    again.end()


@pytest.mark.parametrize(
    ("cluster", "epoch", "skip", "code"),
    [
        ("", 0, 1, "unknown-session"),
        ("somewhere-else", 0, 0, "wrong-cluster"),
        ("", 1_000, 0, "stale-epoch"),
    ],
)
def test_what_cannot_be_placed_is_reset(
    master: Master, cluster: str, epoch: int, skip: int, code: str
) -> None:
    """The other reasons of the page, each on a connection of its own."""
    talk = Conversation(master)
    talk.cluster, talk.epoch = cluster, epoch
    talk.send("describe-master", skip=skip)
    assert talk.expect("reset")["code"] == code
    talk.socket.close()


def test_what_cannot_be_decoded_is_missing(master: Master) -> None:
    """A required field that is absent makes the message nothing; an unknown one is ignored."""
    talk = Conversation(master)
    question = talk.send("describe-master", {"colour": "green"})
    assert talk.expect("master-is")["re"] == question
    talk.send("find-framework", {})
    talk.send("ping")
    assert talk.expect("reset")["code"] == "gap"
    talk.socket.close()


def test_questions_and_refusals(master: Master) -> None:
    """Answers carry the number of their question, and rights go by the session."""
    talk = Conversation(master)
    first = talk.send("describe-master")
    answer = talk.expect("master-is")
    assert (answer["re"], answer["allocator"]) == (first, "drf")
    assert answer["details"]["cluster"] == talk.cluster
    second = talk.send("list-agents")
    assert talk.expect("agents")["re"] == second
    third = talk.send("accept", {"offer_ids": [], "tasks": [], "refuse_s": 5.0})
    refusal = talk.expect("refusal")
    assert (refusal["re"], refusal["code"]) == (third, "not-permitted")
    fourth = talk.send("find-framework", {"name": "nobody"})
    refusal = talk.expect("refusal")
    assert (refusal["re"], refusal["code"]) == (fourth, "unavailable")
    talk.send("subscribe", subscription("a name with blanks"))
    assert talk.expect("framework-error")["code"] == "invalid"
    talk.end()


def test_a_key_that_is_not_on_the_list_is_not_let_in(master: Master) -> None:
    """The handshake fails: a stranger gets no byte of an answer."""
    stranger = Conversation(master, zmq.curve_keypair())
    monitor = stranger.monitor
    assert monitor is not None
    stranger.send("describe-master")
    seen = 0
    while seen != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        assert monitor.poll(int(WAIT_S * 1000)), "the handshake came to no end"
        seen = recv_monitor_message(monitor)["event"]
        assert seen != zmq.EVENT_HANDSHAKE_SUCCEEDED
    stranger.socket.disable_monitor()
    monitor.close(linger=0)
    stranger.socket.close()


def test_an_offer_becomes_a_task_and_its_end_is_acknowledged(master: Master) -> None:
    """The whole way of the page: both an agent and a framework are played here by hand."""
    framework, agent = Conversation(master), Conversation(master)
    framework.send("subscribe", subscription("by-hand"))
    framework_id = framework.expect("subscribed")["framework_id"]
    total = {"cpus": 4000, "mem": 4096_000}
    agent.send("register-agent", {"agent": {"agent_id": "", "name": "a1", "total": total}})
    agent_id = agent.expect("agent-registered")["agent_id"]
    [offer] = framework.expect("offers")["offers"]
    assert (offer["agent_id"], offer["resources"]) == (agent_id, total)

    task = {
        "task_id": "t.1",
        "name": "hello",
        "agent_id": agent_id,
        "resources": {"cpus": 1000, "mem": 64_000},
        "command": {"argv": ["echo", "hello"]},
    }
    too_large = {**task, "task_id": "t.2", "resources": {"cpus": 9000}}
    body = {"offer_ids": [offer["offer_id"]], "tasks": [task, too_large], "refuse_s": 3600.0}
    framework.send("accept", body)
    [refused] = framework.expect("status-updates")["updates"]
    assert (refused["task_id"], refused["state"]) == ("t.2", "error")
    assert refused["reason"] == "TaskInvalid"
    assert "uuid" not in refused
    launch = agent.expect("launch-tasks")
    assert launch["framework"]["framework_id"] == framework_id
    assert launch["tasks"] == [{**task, "command": {"argv": ["echo", "hello"], "user": user()}}]

    question = {"tasks": [{"task_id": "t.1", "agent_id": agent_id}]}
    framework.send("reconcile", question)
    [known] = framework.expect("status-updates")["updates"]
    assert (known["state"], known["reason"]) == ("staging", "Reconciled")

    names = {"framework_id": framework_id, "task_id": "t.1", "agent_id": agent_id}
    end = {**names, "state": "finished", "uuid": "u1", "reason": "Exited", "exit_code": 0}
    agent.send("status-updates", {"updates": [end]})
    assert framework.expect("status-updates")["updates"] == [end]
    [again] = framework.expect("offers")["offers"]
    assert again["resources"] == total
    # Until it is acknowledged an update is sent again.
    agent.send("status-updates", {"updates": [end]})
    assert framework.expect("status-updates")["updates"] == [end]
    framework.send("acknowledge", {"acks": [{**names, "uuid": "u1"}]})
    assert agent.expect("acknowledge")["acks"] == [{**names, "uuid": "u1"}]

    framework.send("reconcile", question)
    [forgotten] = framework.expect("status-updates")["updates"]
    assert forgotten["state"] == "dropped"
    framework.send("teardown")
    framework.end()
    agent.end()
