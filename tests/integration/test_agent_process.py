"""A real agent process with real executors and tasks, below a master that is only a recorder."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesosctl.core.machine import Effect, Event, Now, PeerLost, Received
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    AdmitKey,
    AgentRegistered,
    KeyAdmitted,
    KillTasks,
    LaunchTasks,
    RegisterAgent,
    ShutdownFramework,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.streams import (
    ReadStream,
    StdinTaken,
    StreamChunk,
    WriteStdin,
)
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.storage.keys import KeyFile, make_keypair, save_key

pytestmark = pytest.mark.integration
WAIT_S = 30.0
F1 = FrameworkId("F1")
REPOSITORY = Path(__file__).resolve().parents[2]


class Recorder:
    """A master's end of one session, and a data client's, in one machine."""

    def __init__(self) -> None:
        self.sessions = ServerSessions("cluster", 1)
        self.peer = ""
        self.agent_id = AgentId("")
        self.told: list[Message] = []
        self.data: list[Message] = []
        self.client: ClientSession | None = None
        self.queue: list[Effect] = []

    def handle(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Received(peer="data") if self.client is not None:
                message, effects = self.client.receive(event.envelope, now)
                self.data += [message] if message is not None else []
                return effects
            case Received():
                message, effects = self.sessions.receive(event, now)
                if isinstance(message, RegisterAgent):
                    self.peer, self.agent_id = event.peer, message.agent.agent_id
                    answer = AgentRegistered(self.agent_id, 5.0)
                    effects += self.sessions.send(self.peer, answer)
                self.told += [message] if message is not None else []
                return effects
            case PeerLost(peer=peer):
                self.sessions.drop(peer)
                return []
            case _:
                return []

    def settle(self, now: Now) -> list[Effect]:
        queue, self.queue = self.queue, []
        return queue

    def deadline(self) -> float | None:
        return None

    def check(self) -> None:
        pass


class World:
    """The recorder's loop in this thread, the agent beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = Recorder()
        self.loop = Loop(self.recorder, log=lambda level, text: None)
        self.server = make_keypair()
        self.loop.authority("master", lambda key: True)
        self.address = self.loop.bind("m", ServerSpec("tcp://127.0.0.1:0", self.server, "master"))
        self.key_path = directory / "node.key"
        save_key(self.key_path, KeyFile("node", "agent", make_keypair(), self.server.public))
        self.agent: subprocess.Popen[bytes] | None = None
        self.seen: list[StatusUpdate] = []
        self.log = (directory / "agent.log").open("ab")

    def start(
        self,
        isolation: str = "posix",
        recover: str = "reconnect",
        ends: str = "stays",
        resources: str = "cpus:4;mem:1G",
    ) -> None:
        program = (
            "import sys; from pathlib import Path;"
            "from mesosctl.runtime.agent_process import AgentSettings, run_agent;"
            "sys.exit(run_agent(AgentSettings(key=Path(sys.argv[1]), master=sys.argv[2],"
            " work_dir=Path(sys.argv[3]), name='node', resources=sys.argv[7],"
            " isolation=sys.argv[4], cgroup_root='mesosctl-agent-test', recover=sys.argv[5],"
            " ends_tasks=sys.argv[6] == 'ends')))"
        )
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        env.pop("XDG_RUNTIME_DIR", None)
        arguments = [str(self.key_path), self.address, str(self.directory / "work")]
        self.agent = subprocess.Popen(
            [sys.executable, "-c", program, *arguments, isolation, recover, ends, resources],
            stdout=self.log,
            stderr=self.log,
            env=env,
        )

    def until(self, holds: Callable[[], Any], what: str = "") -> Any:
        """Run the recorder's loop until something holds."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = holds()
            if found:
                return found
            self.loop.run_pass(0.02)
        log = (self.directory / "agent.log").read_text()
        executors = self.directory / "work" / "executors.log"
        log += executors.read_text() if executors.exists() else ""
        raise AssertionError(f"{what} did not come: {self.recorder.told[-3:]}\n{log[-4000:]}")

    def took(self, kind: type) -> list[Any]:
        found = [one for one in self.recorder.told if isinstance(one, kind)]
        self.recorder.told = [one for one in self.recorder.told if not isinstance(one, kind)]
        return found

    def say(self, message: Message) -> None:
        self.recorder.queue += self.recorder.sessions.send(self.recorder.peer, message)
        self.loop.run_pass(0.0)

    def registered(self) -> RegisterAgent:
        hello = self.until(lambda: self.took(RegisterAgent), "the registration")[-1]
        assert isinstance(hello, RegisterAgent)
        return hello

    def launch(self, task_id: str, script: str, **command: Any) -> None:
        info = TaskInfo(
            TaskId(task_id),
            task_id,
            self.recorder.agent_id,
            Resources.scalars(cpus=0.5, mem=64),
            Command(("sh", "-c", script), **command),
            grace_s=2.0,
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.say(LaunchTasks(FrameworkInfo(F1, "test", user), (info,)))

    def update(self, task_id: str, *states: str) -> StatusUpdate:
        """Wait for an update of this task in one of these states; all that comes is acked."""
        seen = self.seen

        def look() -> list[StatusUpdate]:
            for message in self.took(StatusUpdates):
                for one in message.updates:
                    seen.append(one)
                    ack = Ack(one.framework_id, one.task_id, one.agent_id, one.uuid)
                    self.say(Acknowledge((ack,)))
            return [one for one in seen if one.task_id == task_id and one.state in states]

        found: list[StatusUpdate] = self.until(look, f"{task_id} {states}")
        return found[0]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.agent is not None
        self.agent.send_signal(signum)
        self.until(lambda: self.agent.poll() is not None, "the end of the agent")  # type: ignore[union-attr]
        code = self.agent.returncode
        self.agent = None
        return code

    def executors(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "mesosctl.runtime.executor_process" in line and any(
                str(self.directory) in word for word in line
            ):
                found.append(process)
        return found

    def close(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
        for process in self.executors():
            for child in [*process.children(recursive=True), process]:
                try:
                    child.kill()
                except psutil.NoSuchProcess:
                    continue
        self.loop.close()
        self.log.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def connect(world: World, task_id: str) -> ClientSession:
    """Have a key admitted for a task, and a client connected with it."""
    keys = make_keypair()
    hello = next(one for one in world.recorder.told if isinstance(one, RegisterAgent))
    world.say(AdmitKey("r1", F1, TaskId(task_id), keys.public, 60.0))
    world.until(lambda: world.took(KeyAdmitted), "the admission")
    world.loop.link("data", LinkSpec(hello.agent.address, keys, hello.agent.public_key))
    session = ClientSession("data", lambda: first[0], lambda now: [], new_id)
    first: list[Message] = []
    session.first = first  # type: ignore[attr-defined]
    world.recorder.client = session
    return session


def say_data(world: World, message: Message) -> None:
    session = world.recorder.client
    assert session is not None
    if session.is_open:
        world.recorder.queue += session.send(message)
    else:
        session.first.append(message)  # type: ignore[attr-defined]
        world.recorder.queue += session.start(Now(time.monotonic(), time.time()))
    world.loop.run_pass(0.0)


def test_a_task_runs_and_its_output_is_read_from_the_agent(world: World) -> None:
    """The whole way: registration, launch, updates, admission, stream, end."""
    world.start()
    hello = world.until(
        lambda: [one for one in world.recorder.told if isinstance(one, RegisterAgent)]
    )[0]
    assert hello.agent.total.cpus_milli == 4000 and hello.agent.address.startswith("tcp://127.")
    script = (
        'echo out; echo err >&2; echo "$MESOS_AGENT $MESOS_SANDBOX";'
        ' read line; echo "$line"; exit 7'
    )
    world.launch("t1", script, stdin="stream")
    assert world.update("t1", "running").started_at is not None
    connect(world, "t1")
    say_data(world, ReadStream(1, F1, TaskId("t1"), "stdout", follow=True, credit=1000))
    say_data(world, WriteStdin(F1, TaskId("t1"), 0, b"hello\n", eof=True))
    update = world.update("t1", "failed")
    assert update.exit_code == 7

    def ended() -> bool:
        return any(isinstance(one, StreamChunk) and one.eof for one in world.recorder.data)

    world.until(ended, "the end of the stream")
    chunks = [one for one in world.recorder.data if isinstance(one, StreamChunk)]
    sandbox = world.directory / "work" / "sandboxes" / "F1" / "t1"
    assert b"".join(one.data for one in chunks).decode() == f"out\nnode {sandbox}\nhello\n"
    assert any(isinstance(one, StdinTaken) and one.offset == 6 for one in world.recorder.data)
    assert sandbox.stat().st_mode & 0o777 == 0o700
    assert world.stop() == 0


def test_tasks_outlive_a_killed_agent_and_are_taken_back(world: World) -> None:
    """kill -9 of the agent costs nobody's work, and what ended meanwhile is told."""
    world.start()
    world.registered()
    marker = world.directory / "go"
    world.launch("t1", f"while [ ! -e {marker} ]; do sleep 0.05; done; exit 3")
    world.launch("t2", "sleep 1000")
    first = world.update("t1", "running")
    world.update("t2", "running")
    assert world.stop(signal.SIGKILL) == -9
    marker.touch()
    world.start()
    hello = world.registered()
    assert {one.task_id for one in hello.tasks} == {"t1", "t2"}
    update = world.update("t1", "failed")
    assert update.exit_code == 3 and update.started_at == first.started_at
    world.say(KillTasks(F1, (TaskKill(TaskId("t2")),)))
    assert world.update("t2", "killed").signal == 15
    world.say(ShutdownFramework(F1))
    assert world.stop() == 0


def test_a_killed_executor_takes_its_tasks_along(world: World) -> None:
    """GONE is said when nothing of the task is alive, also not what it forked."""
    world.start()
    world.registered()
    world.launch("t1", "setsid sleep 1234.5 & sleep 1234.5")
    world.update("t1", "running")
    for process in world.executors():
        process.kill()
    update = world.update("t1", "gone")
    assert update.reason == "ExecutorTerminated"
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert ["sleep", "1234.5"] not in left
    # Another executor serves the next task.
    world.launch("t2", "true")
    world.update("t2", "finished")
    assert world.stop() == 0


def test_cleanup_ends_everything_and_then_itself(world: World) -> None:
    """After it nothing of the agent is left on the host."""
    world.start()
    world.registered()
    world.launch("t1", "sleep 1234.5")
    world.update("t1", "running")
    assert world.stop() == 0
    assert world.executors() != []
    world.start("posix", "cleanup", "stays")
    world.until(lambda: world.agent.poll() is not None, "the end")  # type: ignore[union-attr]
    assert world.agent.returncode == 0  # type: ignore[union-attr]
    world.until(lambda: world.executors() == [], "the end of the executors")
    world.start()
    world.registered()
    world.update("t1", "killed")
    assert world.stop() == 0


def refused(world: World, *words: str, **options: str) -> str:
    """Start the agent, which has to refuse in one line; that line."""
    before = (world.directory / "agent.log").stat().st_size
    world.start(**options)
    assert world.agent is not None and world.agent.wait(WAIT_S) == 5
    (line,) = (world.directory / "agent.log").read_bytes()[before:].decode().splitlines()
    assert all(word in line for word in words) and "--recover cleanup" in line
    return line


def test_what_does_not_fit_running_tasks_is_refused_and_growth_is_not(world: World) -> None:
    """An upgrade with a typing error must not cost what runs; more memory is simply there."""
    world.start()
    world.registered()
    known = world.recorder.agent_id
    world.launch("t1", "sleep 1234.5")
    world.update("t1", "running")
    assert world.stop() == 0
    executors = world.executors()
    refused(world, "1 tasks", "its tasks hold cpus:", resources="cpus:0.1;mem:16M")
    right = world.key_path.read_bytes()
    other = KeyFile("node", "agent", make_keypair(), make_keypair().public)
    world.key_path.unlink()
    save_key(world.key_path, other)
    refused(world, "another key")
    assert world.executors() == executors != []
    world.key_path.write_bytes(right)
    world.start(resources="cpus:8;mem:2G")
    hello = world.registered()
    assert world.recorder.agent_id == known
    assert world.stop() == 0
    world.key_path.unlink()
    save_key(world.key_path, other)
    world.start(recover="cleanup")
    world.until(lambda: world.agent.poll() is not None, "the end")  # type: ignore[union-attr]
    assert world.agent.returncode == 0  # type: ignore[union-attr]
    world.until(lambda: world.executors() == [], "the end of the executors")
    world.key_path.write_bytes(right)
    world.start(resources="cpus:1;mem:64M")
    world.registered()
    assert world.recorder.agent_id != known and hello is not None
    assert world.stop() == 0


def test_a_second_agent_in_the_same_directory_is_refused(world: World) -> None:
    """Two agents with one state would both be the same one."""
    world.start()
    world.registered()
    first = world.agent
    world.start()
    second, world.agent = world.agent, first
    assert second is not None
    assert second.wait(WAIT_S) == 5
    assert "is in use by process" in (world.directory / "agent.log").read_text()
    assert world.stop() == 0


@pytest.mark.cgroup
@pytest.mark.root
def test_it_works_below_cgroups(world: World) -> None:
    """Kill, sweep and adoption by container, not by process."""
    world.start("cgroups/cpu,cgroups/mem", "reconnect", "ends")
    world.registered()
    world.launch("t1", "sleep 1234.5")
    world.update("t1", "running")
    assert world.stop() == 0
    assert ["sleep", "1234.5"] not in [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    for root in Path("/sys/fs/cgroup").glob("**/mesosctl-agent-test"):
        for directory in sorted(root.glob("**/"), reverse=True):
            directory.rmdir()
