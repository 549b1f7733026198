"""The executor's machine: every order to its shell, and every word to its agent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeVar

import pytest

from mesosctl.core.executor import FORSAKEN_S, LAST_ACKS_S, ExecutorMachine
from mesosctl.core.executor_effects import (
    ContainerBusy,
    ContainerEmptied,
    Drain,
    FeedStdin,
    KillContainer,
    LaunchFailed,
    LimitExceeded,
    MainExited,
    Prepare,
    Remove,
    RemoveFailed,
    Sample,
    SignalContainer,
    Spawn,
    StdinProgress,
    TaskStarted,
)
from mesosctl.core.executor_removals import REMOVE_TRIES
from mesosctl.core.executor_starts import STARTS_MAX
from mesosctl.core.executor_updates import RUNNING_HELD_S
from mesosctl.core.machine import (
    Effect,
    Event,
    Log,
    Now,
    Open,
    Received,
    Send,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.errors import InvariantBroken
from mesosctl.limits import (
    EXECUTOR_RECONNECT_S,
    FRAME_BYTES_MAX_BULK,
    KILL_AGAIN_S,
    STREAM_WINDOW_BYTES,
)
from mesosctl.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, Reason, StatusUpdate, TaskInfo, TaskState, Usage
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    ExecutorLaunch,
    ExecutorRegistered,
    ExecutorTask,
    KillTasks,
    RegisterExecutor,
    RunTasks,
    ShutdownExecutor,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Reset
from mesosctl.protocol.messages.streams import StdinTaken, WriteStdin

FRAMEWORK = FrameworkId("f1")
AGENT = AgentId("a1")
MIB = 2**20
E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=Message)


class World:
    """Runs one machine, plays its agent and shell, and keeps every effect until it is drained."""

    def __init__(self, idle_s: float = 30.0, sample_interval_s: float | None = None) -> None:
        counter = itertools.count(1)
        self.machine = ExecutorMachine(
            ExecutorId("e1"),
            AGENT,
            77,
            lambda: f"{next(counter):016x}",
            idle_s=idle_s,
            sample_interval_s=sample_interval_s,
        )
        self.mono = 100.0
        self.boot_ahead_s = 0.0
        self.effects: list[Effect] = []
        self.seq = 0
        self.session = ""
        # Whether the agent answers pings.
        self.answers = True

    @property
    def now(self) -> Now:
        return Now(self.mono, 1_000_000.0 + self.mono, self.boot_ahead_s + self.mono)

    def step(self, *events: Event) -> None:
        """One pass of the loop with these events."""
        for event in events:
            self.effects += self.machine.handle(event, self.now)
            self.machine.check()
        self.effects += self.machine.settle(self.now)
        self.machine.check()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a Tick whenever the machine asked for one."""
        until = self.mono + seconds
        for _ in range(100_000):
            due = self.machine.deadline()
            if due is None or due > until:
                break
            self.mono = max(self.mono, due)
            self.step(Tick())
            if self.answers:
                self.tell(*[Pong() for _ in self.sent(Ping)])
        self.mono = until

    def tell(self, *messages: Message) -> None:
        """The agent sends these messages, which all arrive in one pass."""
        events = []
        for message in messages:
            self.seq += 1
            frame = encode(Envelope("", 1, self.session, self.seq, message))
            events.append(Received("agent", "", decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)))
        self.step(*events)

    def take(self, kind: type[E]) -> list[E]:
        """Drain the effects of one kind."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def sent(self, kind: type[M]) -> list[M]:
        """Drain the messages of one kind, each of which has to survive the codec."""
        found = []
        for effect in list(self.effects):
            if isinstance(effect, Send) and isinstance(effect.envelope.message, kind):
                self.effects.remove(effect)
                back = decode(encode(effect.envelope))
                assert back == effect.envelope
                self.session = effect.envelope.session
                found.append(effect.envelope.message)
        return found

    def updates(self) -> list[StatusUpdate]:
        """Drain the status updates, those that are held back for a moment too."""
        if self.machine._lives.updates.deadline() is not None:
            self.wait(RUNNING_HELD_S)
        return [update for message in self.sent(StatusUpdates) for update in message.updates]

    def register(self) -> RegisterExecutor:
        """Let the machine introduce itself and answer it."""
        (hello,) = self.sent(RegisterExecutor)
        assert len(self.take(Open)) == 1
        self.seq = 0
        self.tell(ExecutorRegistered(5.0))
        return hello

    def acknowledge(self, *updates: StatusUpdate) -> None:
        """The agent has made these durable."""
        acks = [Ack(FRAMEWORK, item.task_id, AGENT, item.uuid) for item in updates]
        self.tell(Acknowledge(tuple(acks)))

    def order(self, *launches: ExecutorLaunch) -> None:
        """Order tasks, and let the shell begin with them."""
        self.tell(RunTasks(FRAMEWORK, launches))
        assert len(self.take(Prepare)) == len(self.take(Spawn)) > 0

    def start(self, launch: ExecutorLaunch, pid: int = 500) -> StatusUpdate:
        """Bring a task to running and answer its RUNNING update."""
        self.order(launch)
        self.step(TaskStarted(launch.container, pid))
        (update,) = self.updates()
        assert update.state is TaskState.RUNNING
        return update

    def finish(
        self,
        container: str,
        code: int | None = 0,
        signum: int | None = None,
        oom_kills: int = 0,
        usage: Usage | None = None,
    ) -> StatusUpdate:
        """Let the first process end, the container be empty, and give the terminal update."""
        self.step(MainExited(container, code, signum))
        self.expect(Drain(container))
        return self.empty(container, oom_kills, usage)

    def empty(self, container: str, oom_kills: int = 0, usage: Usage | None = None) -> StatusUpdate:
        """The container is empty; give the terminal update."""
        self.step(ContainerEmptied(container, usage or Usage(), oom_kills))
        self.expect(Remove(container))
        (update,) = self.updates()
        return update

    def expect(self, *effects: Effect) -> None:
        """Take off exactly these effects of their kinds, in this order."""
        kinds = tuple({type(effect): None for effect in effects})
        found = [effect for effect in self.effects if isinstance(effect, kinds)]
        assert found == list(effects)
        self.effects = [effect for effect in self.effects if not isinstance(effect, kinds)]

    def finished(self) -> None:
        """Nothing happened that the test did not expect."""
        assert self.effects == []


@pytest.fixture
def world() -> Iterator[World]:
    """A registered executor; at the end every effect has to be accounted for."""
    made = World()
    made.step(Started())
    made.register()
    yield made
    made.finished()


def launch(
    name: str = "t1", *, mem: int = 64, framework: str = FRAMEWORK, **fields: object
) -> ExecutorLaunch:
    """A task that runs `true`; `fields` go to the command or to the task."""
    in_task = {"grace_s", "time_limit_s", "pids_max", "lease_s", "lane", "whole_cores", "resources"}
    fields.setdefault("resources", Resources.of(cpus_milli=500, mem_bytes=mem * MIB))
    info = TaskInfo(
        TaskId(name),
        name,
        AGENT,
        command=Command(("true",), **{k: v for k, v in fields.items() if k not in in_task}),  # type: ignore[arg-type]
        **{k: v for k, v in fields.items() if k in in_task},  # type: ignore[arg-type]
    )
    return ExecutorLaunch(info, f"/sandbox/{name}", f"{framework}/{name}")


def kill(name: str = "t1", grace_s: float | None = None, signum: int | None = None) -> KillTasks:
    """A request to end one task."""
    return KillTasks(FRAMEWORK, (TaskKill(TaskId(name), AGENT, grace_s, signum),))


def test_a_task_lives_and_ends(world: World) -> None:
    """The order of a life: container, start, RUNNING, end, empty, terminal update, removal."""
    world.tell(RunTasks(FRAMEWORK, (launch(),)))
    world.expect(Prepare("f1/t1", 500, 64 * MIB, 4096, launch()), Spawn(launch()))
    world.step(TaskStarted("f1/t1", 500))
    (running,) = world.updates()
    assert (running.state, running.started_at) == (TaskState.RUNNING, 1_000_100.0)
    world.mono = 102.0
    world.step(MainExited("f1/t1", 0))
    world.expect(Drain("f1/t1"))
    assert world.updates() == []
    usage = Usage(0.5, 0.25, 10 * MIB, 64 * MIB)
    world.step(ContainerEmptied("f1/t1", usage))
    world.expect(Remove("f1/t1"))
    (final,) = world.updates()
    assert final.state is TaskState.FINISHED
    assert (final.exit_code, final.usage, final.at) == (0, usage, 1_000_102.0)
    assert final.started_at == 1_000_100.0
    assert final.uuid != running.uuid
    world.acknowledge(running, final)


def test_the_same_task_is_started_once(world: World) -> None:
    """An agent that is not sure sends a launch again, also while the end is not acknowledged."""
    world.start(launch())
    world.tell(RunTasks(FRAMEWORK, (launch(),)))
    world.finish("f1/t1")
    world.tell(RunTasks(FRAMEWORK, (launch(),)))
    assert world.updates() == []


def test_a_short_task_needs_one_update(world: World) -> None:
    """A task that ended before its start was told costs half as much on the way to its owner."""
    world.order(launch())
    world.step(TaskStarted("f1/t1", 500))
    world.wait(RUNNING_HELD_S / 2)
    world.step(MainExited("f1/t1", 0))
    world.step(ContainerEmptied("f1/t1", Usage()))
    (final,) = world.updates()
    assert (final.state, final.started_at) == (TaskState.FINISHED, 1_000_100.0)
    world.expect(Drain("f1/t1"), Remove("f1/t1"))
    world.acknowledge(final)


def test_starts_are_few_at_a_time(world: World) -> None:
    """A burst of launches must not make a burst of containers, and each end makes room."""
    names = [f"t{index}" for index in range(STARTS_MAX + 2)]
    world.tell(RunTasks(FRAMEWORK, tuple(launch(name) for name in names)))
    assert len(world.take(Spawn)) == len(world.take(Prepare)) == STARTS_MAX
    world.step(TaskStarted("f1/t0", 500), LaunchFailed("f1/t1", "exec", "no"))
    assert [effect.container for effect in world.take(Prepare)] == ["f1/t16", "f1/t17"]
    assert len(world.take(Spawn)) == 2
    world.expect(Drain("f1/t1"))
    assert [update.state for update in world.updates()] == [TaskState.RUNNING]


def test_no_memory_asked_for_is_no_limit(world: World) -> None:
    """Zero bytes as a limit would kill every task."""
    world.tell(RunTasks(FRAMEWORK, (launch(mem=0),)))
    (prepare,) = world.take(Prepare)
    assert prepare.mem_bytes is None
    assert len(world.take(Spawn)) == 1


OOM = Usage(mem_peak_bytes=64 * MIB, mem_limit_bytes=64 * MIB)
OOM_TEXT = "memory limit exceeded: limit 64 MiB, peak 64 MiB"
HOST = Usage(mem_peak_bytes=20 * MIB, mem_limit_bytes=64 * MIB)


@pytest.mark.parametrize(
    ("code", "signum", "oom_kills", "usage", "state", "reason", "text"),
    [
        (0, None, 0, Usage(), TaskState.FINISHED, Reason.NONE, ""),
        (3, None, 0, Usage(), TaskState.FAILED, Reason.EXITED, "exit code 3"),
        (None, 11, 0, Usage(), TaskState.FAILED, Reason.SIGNALED, "ended by signal 11 (SEGV)"),
        (None, 9, 1, OOM, TaskState.FAILED, Reason.MEMORY_LIMIT, OOM_TEXT),
        (137, None, 1, OOM, TaskState.FAILED, Reason.MEMORY_LIMIT, OOM_TEXT),
        (
            None, 9, 1, HOST, TaskState.FAILED, Reason.SIGNALED,
            "killed by the kernel because this host is out of memory; limit 64 MiB, peak 20 MiB",
        ),
        (
            1, None, 2, OOM, TaskState.FAILED, Reason.EXITED,
            "exit code 1; 2 processes of it killed for want of memory: limit 64 MiB, peak 64 MiB",
        ),
        (
            0, None, 1, OOM, TaskState.FINISHED, Reason.NONE,
            "1 process of it killed for want of memory: limit 64 MiB, peak 64 MiB",
        ),
    ],
)  # fmt: skip
def test_an_end_of_its_own_is_classified(
    world: World,
    code: int | None,
    signum: int | None,
    oom_kills: int,
    usage: Usage,
    state: TaskState,
    reason: Reason,
    text: str,
) -> None:
    """People act on the reason: too little memory is another problem than a crash."""
    world.start(launch())
    final = world.finish("f1/t1", code, signum, oom_kills=oom_kills, usage=usage)
    assert (final.state, final.reason, final.message) == (state, reason, text)
    assert (final.exit_code, final.signal) == (code, signum)


@pytest.mark.parametrize(
    ("stage", "code", "state", "reason"),
    [
        ("exec", 127, TaskState.FAILED, Reason.LAUNCH_FAILED),
        ("cwd", None, TaskState.FAILED, Reason.LAUNCH_FAILED),
        ("limit", None, TaskState.FAILED, Reason.LIMIT_UNAVAILABLE),
        ("join", None, TaskState.FAILED, Reason.LIMIT_UNAVAILABLE),
        ("permission", None, TaskState.FAILED, Reason.NOT_PERMITTED),
        ("spawner", None, TaskState.DROPPED, Reason.LAUNCH_FAILED),
    ],
)
def test_a_launch_that_fails_says_where(
    world: World, stage: str, code: int | None, state: TaskState, reason: Reason
) -> None:
    """A task without its limit is never run, and a fault of the host is not the task's."""
    world.order(launch())
    world.step(LaunchFailed("f1/t1", stage, "because", code))
    world.expect(Drain("f1/t1"))
    final = world.empty("f1/t1")
    assert (final.state, final.reason, final.message) == (state, reason, "because")
    assert (final.exit_code, final.started_at, final.usage) == (code, None, None)


def test_nothing_is_told_while_something_lives(world: World) -> None:
    """A process that a task left behind is ended before the end is published."""
    world.start(launch())
    world.step(MainExited("f1/t1", 0))
    world.expect(Drain("f1/t1"))
    for _ in range(12):
        world.step(ContainerBusy("f1/t1"))
        world.wait(KILL_AGAIN_S)
        world.expect(Drain("f1/t1"))
    assert world.empty("f1/t1").state is TaskState.FINISHED


def test_a_container_that_stays_is_removed_later(world: World) -> None:
    """The kernel says busy for a moment after the last process; for ever it is only logged."""
    world.start(launch())
    world.finish("f1/t1")
    for tries in range(REMOVE_TRIES):
        world.step(RemoveFailed("f1/t1", tries))
        world.wait(10.5)
        world.expect(Remove("f1/t1", tries + 1))
        world.take(Send)
        world.seq -= 0
    world.step(RemoveFailed("f1/t1", REMOVE_TRIES))
    (log,) = world.take(Log)
    assert "f1/t1 cannot be removed" in log.text


def test_a_kill_is_term_then_kill_of_everything(world: World) -> None:
    """A task gets its grace, and what ignores TERM is ended with everything below it."""
    world.start(launch(grace_s=7.0))
    world.tell(kill())
    world.expect(SignalContainer("f1/t1", 15))
    assert [update.state for update in world.updates()] == [TaskState.KILLING]
    world.wait(6.99)
    assert world.take(KillContainer) == []
    world.wait(0.02)
    world.expect(KillContainer("f1/t1"))
    world.wait(KILL_AGAIN_S)
    world.expect(KillContainer("f1/t1"))
    final = world.finish("f1/t1", None, 9)
    assert (final.state, final.reason, final.signal) == (TaskState.KILLED, Reason.KILL_REQUESTED, 9)


def test_a_killed_task_that_exits_by_itself_was_killed(world: World) -> None:
    """Whoever asked for the end wants to see that he got it, and with which code."""
    world.start(launch())
    world.tell(kill())
    world.expect(SignalContainer("f1/t1", 15))
    assert len(world.updates()) == 1
    final = world.finish("f1/t1", 0)
    assert (final.state, final.exit_code) == (TaskState.KILLED, 0)


def test_a_repeated_kill_only_comes_sooner(world: World) -> None:
    """A second request must not prolong what the first one promised."""
    world.start(launch())
    world.tell(kill(grace_s=60.0))
    world.expect(SignalContainer("f1/t1", 15))
    world.updates()
    world.wait(1.0)
    world.tell(kill(grace_s=300.0), kill(grace_s=2.0), kill(grace_s=100.0))
    world.wait(1.9)
    assert world.take(KillContainer) == []
    world.wait(0.15)
    world.expect(KillContainer("f1/t1"))
    world.finish("f1/t1", None, 9)


def test_a_kill_without_grace_is_immediate(world: World) -> None:
    """Grace 0 means now."""
    world.start(launch())
    world.tell(kill(grace_s=0.0))
    world.expect(KillContainer("f1/t1"))
    assert [update.state for update in world.updates()] == [TaskState.KILLING]
    world.finish("f1/t1", None, 9)


def test_a_task_that_waits_is_killed_without_ever_starting(world: World) -> None:
    """What was not begun need not be begun to be ended."""
    names = [f"t{index}" for index in range(STARTS_MAX + 1)]
    world.order(*[launch(name) for name in names])
    world.tell(kill(f"t{STARTS_MAX}"))
    (final,) = world.updates()
    assert (final.state, final.started_at) == (TaskState.KILLED, None)
    assert "before it was started" in final.message
    world.step(TaskStarted("f1/t0", 1))
    assert len(world.updates()) == 1


def test_a_kill_while_the_start_is_under_way_waits_for_it(world: World) -> None:
    """The order cannot be taken back, so the task gets its grace from the start on."""
    world.order(launch())
    world.tell(kill(grace_s=9.0), kill(grace_s=3.0))
    world.wait(50)
    world.step(TaskStarted("f1/t1", 500))
    world.expect(SignalContainer("f1/t1", 15))
    assert [update.state for update in world.updates()] == [TaskState.KILLING]
    world.wait(3.01)
    world.expect(KillContainer("f1/t1"))
    assert world.finish("f1/t1", None, 9).state is TaskState.KILLED


def test_only_a_signal_is_only_a_signal(world: World) -> None:
    """USR1 for a checkpoint must not end a task; one that ends by what was sent was killed."""
    world.start(launch())
    world.tell(kill(signum=10))
    world.expect(SignalContainer("f1/t1", 10))
    world.wait(100.0)
    world.tell(kill(signum=2))
    world.expect(SignalContainer("f1/t1", 2))
    final = world.finish("f1/t1", None, 2)
    assert (final.state, final.signal) == (TaskState.KILLED, 2)


def test_a_signal_before_the_start_is_sent_after_it(world: World) -> None:
    """A signal that came too early is not lost."""
    world.order(launch())
    world.tell(kill(signum=1))
    world.step(TaskStarted("f1/t1", 500))
    world.expect(SignalContainer("f1/t1", 1))
    assert [update.state for update in world.updates()] == [TaskState.RUNNING]


def test_kills_of_strangers_and_of_the_dead_do_nothing(world: World) -> None:
    """The agent answers for tasks that we do not have."""
    world.tell(kill("nobody"))
    world.start(launch())
    world.tell(KillTasks(FrameworkId("other"), (TaskKill(TaskId("t1")),)))
    world.step(MainExited("f1/t1", 4))
    world.expect(Drain("f1/t1"))
    world.tell(kill())
    assert world.empty("f1/t1").state is TaskState.FAILED


def test_the_time_limit_counts_from_the_start(world: World) -> None:
    """Time spent waiting for a slot is not the task's."""
    world.order(launch(time_limit_s=30.0))
    world.wait(100.0)
    world.step(TaskStarted("f1/t1", 500))
    world.updates()
    world.wait(29.9)
    assert world.take(KillContainer) == []
    world.wait(0.2)
    world.expect(KillContainer("f1/t1"))
    final = world.finish("f1/t1", None, 9)
    assert (final.state, final.reason) == (TaskState.FAILED, Reason.TIME_LIMIT)
    assert final.message == "time limit exceeded: limit 30 s"


def test_a_kill_before_the_time_limit_stays_a_kill(world: World) -> None:
    """The first cause decides."""
    world.start(launch(time_limit_s=5.0, grace_s=60.0))
    world.tell(kill())
    world.expect(SignalContainer("f1/t1", 15))
    world.updates()
    world.wait(10.0)
    assert world.finish("f1/t1", None, 15).state is TaskState.KILLED


def test_time_limits_of_the_dead_are_forgotten(world: World) -> None:
    """An hour of limits at a thousand tasks a second must not stay in memory."""
    for index in range(200):
        world.start(launch(f"t{index}", time_limit_s=3600.0))
        world.acknowledge(world.finish(f"f1/t{index}"))
        world.machine.deadline()
    assert len(world.machine._lives._alarms) < 100


def test_what_no_kernel_limits_is_killed_by_us() -> None:
    """The posix isolators only measure; the executor ends what is above its limit."""
    world = World(sample_interval_s=0.2)
    world.step(Started())
    world.register()
    world.start(launch())
    world.wait(0.45)
    world.expect(Sample(), Sample())
    world.step(LimitExceeded("f1/t1", "mem", 80 * MIB, 64 * MIB))
    world.expect(KillContainer("f1/t1"))
    final = world.finish("f1/t1", None, 9, usage=Usage(mem_peak_bytes=70 * MIB))
    assert (final.reason, final.signal) == (Reason.MEMORY_LIMIT, 9)
    assert final.message == "memory limit exceeded: limit 64 MiB, peak 80 MiB"
    world.step(LimitExceeded("f1/t1", "mem", 80 * MIB, 64 * MIB))
    world.wait(1.0)
    world.finished()


def test_it_introduces_itself_with_everything_not_acknowledged(world: World) -> None:
    """After a restart the agent must learn what it missed, once and for all."""
    kept = world.start(launch("t1"), pid=500)
    world.acknowledge(kept)
    lost = world.start(launch("t2"), pid=501)
    ended = world.finish("f1/t2", 1)
    world.step(Received("agent", "", Envelope("", 1, world.session, 99, Reset("unknown-session"))))
    assert [log.text for log in world.take(Log)] == ["the agent does not answer; tasks go on"]
    world.step(MainExited("f1/t1", 0))
    world.expect(Drain("f1/t1"))
    world.take(type(world.effects[0]))
    world.wait(1.0)
    (hello,) = world.sent(RegisterExecutor)
    assert hello.framework_id == FRAMEWORK
    assert hello.tasks == (ExecutorTask(TaskId("t1"), TaskState.RUNNING, 500),)
    assert hello.updates == (lost, ended)
    assert len(world.take(Open)) == 1
    world.seq = 0
    world.tell(ExecutorRegistered(5.0))
    world.acknowledge(lost, ended)
    world.acknowledge(world.empty("f1/t1"))


def test_an_update_that_came_while_nobody_listened_goes_with_the_next_hello() -> None:
    """There is no session to send it in, so it has to wait for the next one."""
    world = World()
    world.step(Started())
    world.register()
    world.start(launch())
    world.answers = False
    world.wait(15.0)
    world.effects.clear()
    world.step(MainExited("f1/t1", 0), ContainerEmptied("f1/t1", Usage()))
    assert world.updates() == []
    world.wait(20.0)
    hellos = world.sent(RegisterExecutor)
    states = [update.state for update in hellos[-1].updates]
    assert states == [TaskState.RUNNING, TaskState.FINISHED]


def test_it_reconnects_for_as_long_as_a_task_runs() -> None:
    """A task of a day must survive an agent that is away for an hour of it."""
    world = World()
    world.step(Started())
    world.register()
    world.start(launch())
    world.answers = False
    world.wait(3_600.0)
    assert len(world.sent(RegisterExecutor)) > 100
    assert world.take(Stop) == []
    world.step(MainExited("f1/t1", 0), ContainerEmptied("f1/t1", Usage()))
    world.wait(FORSAKEN_S - 1)
    assert world.take(Stop) == []
    world.wait(2)
    assert [stop.text for stop in world.take(Stop)] == ["no agent for 900 s"]


def test_many_updates_are_sent_in_pieces(world: World) -> None:
    """A frame to the agent stays small, whatever happens at once."""
    starts = []
    for index in range(250):
        world.tell(RunTasks(FRAMEWORK, (launch(f"t{index}"),)))
        starts.append(TaskStarted(f"f1/t{index}", index))
        if len(starts) % 10 == 0:
            world.step(*starts[-10:])
            world.updates()
    world.take(Prepare)
    world.take(Spawn)
    world.step(*[MainExited(f"f1/t{index}", 0) for index in range(250)])
    world.step(*[ContainerEmptied(f"f1/t{index}", Usage()) for index in range(250)])
    assert [len(message.updates) for message in world.sent(StatusUpdates)] == [100, 100, 50]
    world.take(Drain)
    world.take(Remove)


def test_a_warm_executor_becomes_the_first_frameworks_own(world: World) -> None:
    """It belongs to one framework for good; tasks of another are certainly not started."""
    assert world.machine.framework_id == ""
    world.start(launch())
    world.tell(RunTasks(FrameworkId("f2"), (launch("t9", framework="f2"),)))
    (update,) = world.updates()
    assert (update.state, update.framework_id) == (TaskState.DROPPED, "f2")
    assert len(world.take(Log)) == 1
    world.acknowledge(update)


def test_a_wrong_container_name_is_not_started(world: World) -> None:
    """A container is found again by its name; a task under another could never be ended."""
    wrong = ExecutorLaunch(launch("t1").task, "/sandbox", "f1/t2")
    world.tell(RunTasks(FRAMEWORK, (wrong,)))
    assert [update.state for update in world.updates()] == [TaskState.DROPPED]


def test_an_event_that_cannot_be_stops_the_process(world: World) -> None:
    """A start that nobody ordered is a broken invariant, not something to live with."""
    with pytest.raises(InvariantBroken, match="f1/t1 is not ORDERED"):
        world.machine.handle(TaskStarted("f1/t1", 1), world.now)


def write(offset: int, data: bytes, eof: bool = False) -> WriteStdin:
    """Bytes for the standard input of t1."""
    return WriteStdin(FRAMEWORK, TaskId("t1"), offset, data, eof)


def test_stdin_is_passed_on_once_and_in_order(world: World) -> None:
    """Whatever is sent twice is written once; a gap is answered with where to go on."""
    world.start(launch(stdin="stream"))
    world.tell(write(0, b"abc"), write(0, b"abc"), write(1, b"bcde"), write(9, b"x"))
    world.expect(FeedStdin("f1/t1", b"abc", False), FeedStdin("f1/t1", b"de", False))
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 0)] * 2
    world.step(StdinProgress("f1/t1", 5))
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 5)]
    world.tell(write(5, b"", eof=True), write(5, b"more"))
    world.expect(FeedStdin("f1/t1", b"", True))
    world.sent(StdinTaken)
    world.step(StdinProgress("f1/t1", 5, closed=True))
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 5, True)]
    world.finish("f1/t1")


def test_stdin_never_exceeds_its_window(world: World) -> None:
    """A task that does not read must not make the executor grow."""
    world.start(launch(stdin="stream"))
    half = bytes(STREAM_WINDOW_BYTES // 2)
    world.tell(write(0, half), write(len(half), half), write(2 * len(half), b"x", eof=True))
    assert len(world.take(FeedStdin)) == 2
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 0)]
    world.step(StdinProgress("f1/t1", 10))
    world.tell(write(2 * len(half), b"x", eof=True))
    world.expect(FeedStdin("f1/t1", b"x", True))
    world.sent(StdinTaken)


def test_stdin_that_comes_before_the_start_waits(world: World) -> None:
    """A client need not know when the task starts."""
    world.order(launch(stdin="stream"))
    world.tell(write(0, b"early", eof=True))
    world.step(TaskStarted("f1/t1", 500))
    world.expect(FeedStdin("f1/t1", b"early", True))
    world.updates()


def test_stdin_of_a_task_that_has_none_is_closed(world: World) -> None:
    """A writer must stop rather than wait for ever."""
    world.tell(write(7, b"abc"))
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 7, True)]
    world.start(launch(stdin="stream"))
    world.finish("f1/t1")
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 0, True)]


def test_a_new_session_repeats_how_far_stdin_is(world: World) -> None:
    """The answer that the writer waits for may have been lost with the session before."""
    world.start(launch(stdin="stream"))
    world.step(Received("agent", "", Envelope("", 1, world.session, 99, Reset("gap"))))
    world.effects.clear()
    world.wait(1.0)
    world.register()
    assert world.sent(StdinTaken) == [StdinTaken(FRAMEWORK, TaskId("t1"), 0)]


def test_it_ends_when_it_has_had_nothing_to_do() -> None:
    """Memory of idle executors is somebody else's; one with an update to deliver is not idle."""
    world = World(idle_s=30.0)
    world.step(Started())
    world.register()
    world.wait(1000.0)
    world.finished()
    running = world.start(launch())
    final = world.finish("f1/t1")
    world.wait(100.0)
    world.finished()
    world.acknowledge(running, final)
    world.wait(29.9)
    world.finished()
    world.wait(0.2)
    assert len(world.sent(Bye)) == 1
    world.expect(Stop(0, "no task for 30 s"))
    world.tell(RunTasks(FRAMEWORK, (launch("t2"),)))
    world.finished()


def test_a_warm_one_ends_with_its_agent() -> None:
    """Nobody else would ever use it."""
    world = World()
    world.step(Started())
    world.register()
    world.answers = False
    world.wait(15.0 + EXECUTOR_RECONNECT_S - 0.5)
    assert world.take(Stop) == []
    world.wait(1.0)
    world.expect(Stop(0, f"no agent for {EXECUTOR_RECONNECT_S:g} s"))


def test_a_shutdown_ends_tasks_and_waits_for_the_last_acknowledgement(world: World) -> None:
    """Whoever asked wants to know how each task ended; what was not begun is not begun."""
    running = world.start(launch())
    world.tell(ShutdownExecutor(5.0))
    world.expect(SignalContainer("f1/t1", 15))
    (killing,) = world.updates()
    world.tell(RunTasks(FRAMEWORK, (launch("t2"),)))
    (dropped,) = world.updates()
    assert dropped.state is TaskState.DROPPED
    assert len(world.take(Log)) == 1
    world.wait(5.01)
    world.expect(KillContainer("f1/t1"))
    final = world.finish("f1/t1", None, 9)
    assert final.state is TaskState.KILLED
    world.wait(10.0)
    world.finished()
    world.acknowledge(running, killing, dropped, final)
    world.expect(Stop(0, "asked to end, and every task has ended"))
    assert len(world.sent(Bye)) == 1


def test_a_shutdown_does_not_wait_for_ever() -> None:
    """An agent that never acknowledges must not keep the process."""
    world = World()
    world.step(Started())
    world.register()
    world.start(launch())
    world.step(Signalled(1), Signalled(15))
    world.expect(SignalContainer("f1/t1", 15))
    world.updates()
    world.finish("f1/t1", 0)
    world.wait(LAST_ACKS_S + 0.1)
    world.expect(Stop(0, "the last updates are not acknowledged"))


def test_a_message_that_is_not_for_executors_is_logged(world: World) -> None:
    """A peer of another version may say what we do not know; it changes nothing."""
    world.tell(Bye())
    (log,) = world.take(Log)
    assert log.text == "the agent sent an unexpected bye"
