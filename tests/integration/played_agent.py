"""An agent that a test plays for one real executor process: over ipc, with real tasks.

Rules: waiting is for a predicate, with a limit that only a failure reaches; an emulated machine
says by MESOSCTL_TEST_SLOWNESS how many times slower than others it is. Every executor has its own
directory of cgroups, and `playing` proves at the end that nothing of it is left.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from mesosctl.core.machine import Effect, Now, Received, Send
from mesosctl.core.session import ServerSessions
from mesosctl.errors import MesosctlError
from mesosctl.isolation import open_isolation
from mesosctl.limits import FRAME_BYTES_MAX_BULK
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskState
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    ExecutorLaunch,
    ExecutorRegistered,
    RegisterExecutor,
    RunTasks,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye
from mesosctl.protocol.messages.streams import StdinTaken

FRAMEWORK = FrameworkId("f1")
ROOT = Path(__file__).resolve().parents[2]
CGROUP_ROOT = f"mesosctl-executor-{os.getpid()}-test"
MIB = 2**20
SLOWNESS = float(os.environ.get("MESOSCTL_TEST_SLOWNESS", "1"))
PATIENCE_S = 30.0 * SLOWNESS


class Agent:
    """Plays the agent of one executor process: binds, launches, collects, acknowledges."""

    def __init__(self, base: Path, isolation: str, user: str | None = None) -> None:
        self.base = base
        self.user = user
        self.path = str(base / "x.sock")
        self.agent_id = AgentId("a1")
        self.context = zmq.Context()
        self.acknowledges = True
        self.updates: dict[str, StatusUpdate] = {}
        self.history: list[StatusUpdate] = []
        self.hellos: list[RegisterExecutor] = []
        self.taken: dict[str, StdinTaken] = {}
        self.said_bye = False
        self.bind()
        self.log = (base / "log").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mesosctl.runtime.executor_process"),
                *("--socket", self.path, "--executor-id", "e1", "--agent-id", self.agent_id),
                *("--isolation", isolation, "--cgroup-root", CGROUP_ROOT),
                *("--work-dir", str(base)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            **(self._as_user(user) if user else {}),  # type: ignore[call-overload]
        )

    def _as_user(self, user: str) -> dict[str, object]:
        """What makes the executor an ordinary user's, who owns `base`."""
        entry = pwd.getpwnam(user)
        os.chown(self.base, entry.pw_uid, entry.pw_gid)
        os.chmod(self.path, 0o777)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def bind(self) -> None:
        """Listen, as a fresh process would: without any session."""
        self.sessions = ServerSessions("", 0)
        self.peer = ""
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(f"ipc://{self.path}")

    def die(self) -> None:
        """Be gone as after kill -9: nothing more is read or answered."""
        self.socket.close(linger=0)

    def pump(self, wait_s: float) -> None:
        """Take in what comes within `wait_s`, and answer it."""
        if not self.socket.poll(int(wait_s * 1000)):
            return
        while True:
            try:
                identity, frame = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            envelope = decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)
            now = Now(time.monotonic(), time.time())
            message, effects = self.sessions.receive(Received(identity.hex(), "", envelope), now)
            self.carry_out(effects)
            if message is not None:
                self.peer = identity.hex()
                self.take(message)

    def take(self, message: Message) -> None:
        """Do what an agent does with a message of its executor."""
        updates: tuple[StatusUpdate, ...] = ()
        match message:
            case RegisterExecutor():
                self.hellos.append(message)
                self.send(ExecutorRegistered(5.0))
                updates = message.updates
            case StatusUpdates():
                updates = message.updates
            case StdinTaken():
                self.taken[message.task_id] = message
            case Bye():
                self.said_bye = True
            case _:
                raise AssertionError(f"an executor never sends {message.kind}")
        for update in updates:
            self.updates[update.task_id] = update
            self.history.append(update)
        if self.acknowledges and updates:
            acks = [Ack(FRAMEWORK, item.task_id, self.agent_id, item.uuid) for item in updates]
            self.send(Acknowledge(tuple(acks)))

    def send(self, message: Message) -> None:
        """Send to the executor."""
        self.carry_out(self.sessions.send(self.peer, message))

    def carry_out(self, effects: list[Effect]) -> None:
        """Send what the session layer wants sent."""
        for effect in effects:
            if isinstance(effect, Send):
                frame = encode(effect.envelope)
                self.socket.send_multipart([bytes.fromhex(effect.peer), frame])

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Go on until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"{what}; log: {(self.base / 'log').read_text()}"
            assert self.process.poll() is None or self.said_bye, (self.base / "log").read_text()
            self.pump(0.02)

    def launch(
        self, name: str, *argv: str, mem: int = 256, cpus_milli: int = 1000, **fields: object
    ) -> ExecutorLaunch:
        """A task of `argv` with `mem` MiB; fields go to the command or to the task."""
        of_task = ("grace_s", "time_limit_s", "pids_max")
        in_task = {key: fields.pop(key) for key in of_task if key in fields}
        sandbox = self.base / name
        sandbox.mkdir()
        if self.user:
            os.chown(sandbox, pwd.getpwnam(self.user).pw_uid, -1)
        user = str(fields.get("user", ""))
        if user and os.geteuid() == 0 and user in {entry.pw_name for entry in pwd.getpwall()}:
            os.chown(sandbox, pwd.getpwnam(user).pw_uid, -1)
        info = TaskInfo(
            TaskId(name),
            name,
            self.agent_id,
            Resources.of(cpus_milli=cpus_milli, mem_bytes=mem * MIB),
            Command(argv, **fields),  # type: ignore[arg-type]
            **in_task,  # type: ignore[arg-type]
        )
        return ExecutorLaunch(info, str(sandbox), f"{FRAMEWORK}/{name}", {"MESOS_TASK": name})

    def run(self, *launches: ExecutorLaunch) -> None:
        """Order tasks."""
        self.send(RunTasks(FRAMEWORK, launches))

    def state(self, name: str) -> TaskState | None:
        """The newest state of a task."""
        update = self.updates.get(name)
        return None if update is None else update.state

    def end(self, name: str) -> StatusUpdate:
        """Wait for a task's end."""
        self.until(
            lambda: name in self.updates and self.updates[name].is_terminal, f"{name} never ends"
        )
        return self.updates[name]

    def output(self, name: str, stream: str = "stdout") -> str:
        """What a task wrote."""
        return (self.base / name / stream).read_text()

    def close(self) -> None:
        """End the executor by its SIGTERM and see that nothing is left."""
        self.acknowledges = True
        if self.process.poll() is None:
            children = children_of(self.process.pid)
            self.process.send_signal(signal.SIGTERM)
            self.until(lambda: self.process.poll() is not None or self.said_bye, "does not end")
            assert self.process.wait(PATIENCE_S) == 0, (self.base / "log").read_text()
            until = time.monotonic() + PATIENCE_S
            while any(is_alive(child) for child in children):
                assert time.monotonic() < until, f"children outlive the executor: {children}"
                time.sleep(0.005)
        self.log.close()
        self.socket.close(linger=0)
        self.context.term()


def children_of(pid: int) -> list[int]:
    """The children of a process that has one thread with children: its first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is only not reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def spawner_of(agent: Agent) -> int:
    """The pid of the executor's present spawner."""
    for _ in range(1000):
        for pid in children_of(agent.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"import spawner" in command and is_alive(pid):
                return pid
        agent.pump(0.005)
    raise AssertionError("there is no spawner")


def why_no_cgroups() -> str:
    """Why this process cannot run containers under cgroups; empty when it can."""
    try:
        isolation = open_isolation("cgroups", root=CGROUP_ROOT, agent_id="probe")
    except MesosctlError as error:
        return str(error)
    isolation.close_root(True)
    return ""


@contextmanager
def playing(base: Path, isolation: str, user: str | None = None) -> Iterator[Agent]:
    """An executor process that has registered; it ends well, and leaves no container.

    `user`: it is this ordinary user's, who owns `base` from now on.
    """
    made = Agent(base, isolation, user)
    try:
        made.until(lambda: made.hellos, "never registers")
        yield made
    finally:
        try:
            made.close()
        finally:
            if made.process.poll() is None:
                made.process.kill()
                made.process.wait()
            if isolation in ("cgroups", "auto"):
                left = open_isolation(isolation, root=CGROUP_ROOT, agent_id=made.agent_id)
                names = left.recover()
                left.close_root(True)
                assert names == ()
