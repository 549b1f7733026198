"""An executor of one's own, written from docs/protocol.md: pyzmq and msgpack, nothing of mesosctl.

A task with data is done in this process: its words are counted, and those are known that an earlier
task on this agent has brought. One without is started in a container of its own.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from typing import Any

import msgpack
import zmq

Body = dict[str, Any]


class Executor:
    """One session with the agent. A lost one ends us: the agent then tells that our tasks are."""

    def __init__(self) -> None:
        # The name of a Unix socket is short, the path of a sandbox may not be.
        os.chdir(os.environ["MESOS_SANDBOX"])
        self.socket = zmq.Context().socket(zmq.DEALER)
        self.socket.routing_id = secrets.token_bytes(16)
        self.socket.connect("ipc://executor.sock")
        self.session, self.sent, self.received = secrets.token_hex(8), 0, 0
        self.heartbeat_s = 5.0
        self.words: set[str] = set()

    def send(self, kind: str, body: Body | None = None) -> None:
        """The next message of the session."""
        self.sent += 1
        header = ["mesosctl", 1, "", 0, self.session, self.sent, kind]
        self.socket.send(msgpack.packb([*header, body or {}]))

    def run(self) -> None:
        """Register, then answer until we are told to end."""
        name, token = (os.environ[f"MESOSCTL_EXECUTOR_{word}"] for word in ("ID", "TOKEN"))
        hello = {"executor_id": name, "token": token, "pid": os.getpid(), "opening": 1}
        self.send("register-executor", hello)
        heard = time.monotonic()
        while time.monotonic() - heard < 3 * self.heartbeat_s:
            if not self.socket.poll(int(self.heartbeat_s * 1000)):
                self.send("ping")
                continue
            heard = time.monotonic()
            *_, session, number, kind, body = msgpack.unpackb(self.socket.recv())
            self.received += 1
            if session != self.session or number != self.received or kind in ("reset", "refusal"):
                sys.exit(f"the session is lost: {kind} {body}")
            if kind == "shutdown-executor":
                self.send("bye")
                return
            self.take(kind, body)
        sys.exit("the agent is silent")

    def take(self, kind: str, body: Body) -> None:
        """Do what the agent says."""
        if kind == "executor-registered":
            self.heartbeat_s = body["heartbeat_s"]
        elif kind == "run-tasks":
            for launch in body["launches"]:
                self.start(body["framework_id"], launch["task"])
        elif kind == "kill-tasks":
            # What we count is done before anybody could have it killed; the rest the agent kills.
            return
        elif kind == "status-updates":
            # A task in a container of its own: the agent tells us what it tells the framework.
            same = ("framework_id", "task_id", "agent_id", "uuid")
            acks = [{key: update[key] for key in same} for update in body["updates"]]
            self.send("acknowledge", {"acks": acks})

    def start(self, framework: str, task: Body) -> None:
        """Count the words of a task, or have it started."""
        if not task.get("data"):
            self.send("start-task", {"task_id": task["task_id"]})
            return
        update = {"framework_id": framework, "task_id": task["task_id"]}
        update |= {"agent_id": task["agent_id"], "uuid": secrets.token_hex(8), "at": time.time()}
        words = task["data"].decode().split()
        new = set(words) - self.words
        self.words |= new
        text = f"{len(words)} words, {len(new)} of them new to process {os.getpid()}"
        self.send("status-updates", {"updates": [{**update, "state": "finished", "message": text}]})


if __name__ == "__main__":
    Executor().run()
