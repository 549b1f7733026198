"""An executor that misbehaves as its first argument says, spoken from docs/protocol.md alone.

hold    takes tasks, calls them running, and hears of no kill
hungry  as hold, and fills 48 MiB with the first task, which it frees before it tells its end
lie     tells of others' tasks, sends what is no message, and does its own as it should
flood   tells of tasks that nobody has, without an end
steal   has a wrong token
die     exits with 5 at its first task
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from typing import Any

import msgpack
import zmq

mode = sys.argv[1]
os.chdir(os.environ["MESOS_SANDBOX"])
socket = zmq.Context().socket(zmq.DEALER)
socket.routing_id = secrets.token_bytes(16)
socket.connect("ipc://executor.sock")
session, sent = secrets.token_hex(8), 0


def send(kind: str, body: dict[str, Any] | None = None) -> None:
    global sent
    sent += 1
    socket.send(msgpack.packb(["mesosctl", 1, "", 0, session, sent, kind, body or {}]))


def tell(task: dict[str, Any], state: str, **fields: Any) -> None:
    update = {"framework_id": "f1", "agent_id": "a1", "uuid": secrets.token_hex(8)}
    update |= {"task_id": task["task_id"], "state": state, **fields}
    send("status-updates", {"updates": [update]})


def started(task: dict[str, Any]) -> None:
    if mode == "die":
        sys.exit(5)
    if mode == "lie":
        tell({"task_id": "other"}, "finished")
        send("register-agent", {"agent": {"agent_id": "a1", "name": "x", "total": {}}})
        send("start-task", {"task_id": "other", "command": {"argv": ["rm", "-rf", "."]}})
        for junk in (b"", b"\xff" * 100, msgpack.packb([1] * 8)):
            socket.send(junk)
        tell(task, "finished", message="\x1b]0;title\x07done", exit_code=-1)
        return
    tell(task, "running")
    if mode == "hungry":
        block = bytearray(os.urandom(1024)) * (48 * 1024)
        size = len(block)
        del block
        tell(task, "finished", message=f"{size} bytes")


token = os.environ["MESOSCTL_EXECUTOR_TOKEN"] if mode != "steal" else "0" * 32
own_id = os.environ["MESOSCTL_EXECUTOR_ID"]
send("register-executor", {"executor_id": own_id, "token": token, "pid": 1, "opening": 1})
while True:
    while mode == "flood" and sent > 1:
        tell({"task_id": f"nobody.{sent}"}, "failed", message="x" * 10_000)
    if not socket.poll(2000):
        send("ping")
        continue
    *_, kind, body = msgpack.unpackb(socket.recv())
    if kind == "refusal":
        print(body["code"], body["message"], flush=True)
        signal.pause()
    if kind == "executor-registered" and mode == "flood":
        send("ping")
    if kind == "run-tasks":
        for launch in body["launches"]:
            started(launch["task"])
