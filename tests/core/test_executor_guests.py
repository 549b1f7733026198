"""Executors of a framework's own: what they are handed, what they are believed, how they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from mesosctl.core.executor_effects import (
    ContainerEmptied,
    Drain,
    KillContainer,
    MainExited,
    Prepare,
    Remove,
    Resize,
    ResizeFailed,
    SignalContainer,
    Spawn,
    TaskStarted,
)
from mesosctl.core.machine import Close, Log, PeerLost, Received, Send, Started
from mesosctl.limits import (
    EXECUTOR_IDLE_S,
    EXECUTOR_REGISTER_S,
    FRAME_BYTES_MAX_BULK,
    GUEST_FAULTS_MAX,
    GUEST_RESIZE_AGAIN_S,
    GUEST_RESIZE_TRIES,
)
from mesosctl.model.ids import ExecutorId, TaskId
from mesosctl.model.tasks import Command, Reason, StatusUpdate, TaskState, Usage
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
    StartTask,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Refusal
from tests.core.test_executor import AGENT, FRAMEWORK, MIB, World, kill, launch

M = TypeVar("M", bound=Message)
GUEST = "f1/own"


class Guest:
    """Plays the program at the other end of the socket."""

    def __init__(self, world: World, token: str, peer: str = "guest-own:01") -> None:
        self.world, self.token, self.peer = world, token, peer
        self.seq = 0

    def tell(self, *messages: Message) -> None:
        """Send these."""
        for message in messages:
            self.seq += 1
            frame = encode(Envelope("", 0, f"g{self.peer[-2:]}", self.seq, message))
            back = decode(frame, bytes_max=FRAME_BYTES_MAX_BULK)
            self.world.step(Received(self.peer, "", back))

    def got(self, kind: type[M]) -> list[M]:
        """Drain what it was sent of one kind."""
        found = []
        for effect in list(self.world.effects):
            if isinstance(effect, Send) and effect.peer == self.peer:
                message = effect.envelope.message
                if isinstance(message, kind):
                    self.world.effects.remove(effect)
                    found.append(message)
        return found

    def live(self, seconds: float) -> None:
        """Let time pass with a ping each second."""
        for _ in range(int(seconds)):
            self.tell(Ping())
            self.world.wait(1.0)
        self.got(Pong)

    def register(self, opening: int = 1, **fields: object) -> None:
        """Introduce itself as it should."""
        hello = RegisterExecutor(ExecutorId("own"), 7, opening=opening, token=self.token, **fields)  # type: ignore[arg-type]
        self.tell(hello)

    def say(self, name: str, state: TaskState, **fields: object) -> StatusUpdate:
        """Tell of a task."""
        said = StatusUpdate(FRAMEWORK, TaskId(name), AGENT, state, uuid=f"u-{name}-{state}")
        said = replace(said, **fields)  # type: ignore[arg-type]
        self.tell(StatusUpdates((said,)))
        return said


def own(**fields: object) -> ExecutorLaunch:
    """The task that is the executor."""
    made = launch("own")
    return replace(made, task=replace(made.task, is_executor=True, **fields))  # type: ignore[arg-type]


def of_it(name: str, **fields: object) -> ExecutorLaunch:
    """A task for it."""
    made = launch(name)
    return replace(made, task=replace(made.task, executor="own", **fields))  # type: ignore[arg-type]


@pytest.fixture
def world() -> Iterator[World]:
    """A registered executor of ours; at the end every effect has to be accounted for."""
    made = World()
    made.step(Started())
    assert made.register().knows_executors
    yield made
    made.take(Log)
    made.take(Close)
    made.finished()


@pytest.fixture
def guest(world: World) -> Guest:
    """An executor that runs and has registered, without tasks."""
    world.tell(RunTasks(FRAMEWORK, (own(),)))
    (spawn,) = world.take(Spawn)
    assert len(world.take(Prepare)) == 1
    assert spawn.launch.env["MESOSCTL_EXECUTOR_ID"] == "own"
    world.step(TaskStarted(GUEST, 500))
    assert [update.state for update in world.updates()] == [TaskState.RUNNING]
    made = Guest(world, spawn.launch.env["MESOSCTL_EXECUTOR_TOKEN"])
    made.register()
    assert len(made.got(ExecutorRegistered)) == 1
    return made


def dies(world: World, code: int = 0) -> dict[str, StatusUpdate]:
    """The executor's container is empty; the updates that follow, by task."""
    world.step(MainExited(GUEST, code), ContainerEmptied(GUEST, Usage()))
    world.take(Drain)
    world.take(Remove)
    return {update.task_id: update for update in world.updates()}


def limits(world: World) -> list[tuple[int, int | None]]:
    """What the container was resized to: thousandths of a CPU and MiB."""
    return [(one.cpus_milli, (one.mem_bytes or 0) // MIB) for one in world.take(Resize)]


def test_a_task_inside_the_executor_has_room_there_while_it_lasts(
    world: World, guest: Guest
) -> None:
    """What a task is charged with belongs to the container where it is done, and no longer."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1", data=b"one"), of_it("t2"))))
    (handed,) = guest.got(RunTasks)
    assert [one.task.data for one in handed.launches] == [b"one", None]
    # 500 and 64 MiB of the executor, and as much for each task.
    assert limits(world) == [(1500, 192)]
    guest.say("t1", TaskState.RUNNING)
    assert [update.state for update in world.updates()] == [TaskState.RUNNING]
    said = guest.say("t1", TaskState.FINISHED, message="done\x1b[2J\nreally")
    assert limits(world) == [(1000, 128)]
    (end,) = world.updates()
    assert (end.state, end.exit_code, end.message) == (TaskState.FINISHED, 0, "done [2J really")
    assert guest.got(Acknowledge)[-1].acks == (Ack(FRAMEWORK, said.task_id, AGENT, said.uuid),)
    # Repeated, it is only acknowledged again.
    guest.tell(StatusUpdates((said,)))
    assert len(guest.got(Acknowledge)) == 1
    assert world.updates() == []


def test_a_task_in_a_container_of_its_own_is_like_any_other(world: World, guest: Guest) -> None:
    """Its limits, its user and its end are ours to keep, whatever the executor asks for."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1", data=b"secret"),)))
    guest.got(RunTasks)
    assert limits(world) == [(1000, 128)]
    guest.tell(StartTask(TaskId("t1"), Command(("sleep", "9"), user="root", stdin="stream")))
    assert limits(world) == [(500, 64)]
    (prepare,) = world.take(Prepare)
    (spawn,) = world.take(Spawn)
    assert (prepare.container, prepare.mem_bytes) == ("f1/t1", 64 * MIB)
    command = spawn.launch.task.command
    assert (command.argv, command.user, command.stdin) == (("sleep", "9"), "", "")
    assert spawn.launch.task.data is None
    world.step(TaskStarted("f1/t1", 501))
    world.wait(0.1)
    assert [update.state for one in guest.got(StatusUpdates) for update in one.updates] == [
        TaskState.RUNNING
    ]
    # Its word counts nothing there any more, nor can it be started twice.
    guest.say("t1", TaskState.FINISHED)
    guest.tell(StartTask(TaskId("t1")))
    world.step(MainExited("f1/t1", 3), ContainerEmptied("f1/t1", Usage()))
    world.take(Drain)
    world.take(Remove)
    (told,) = guest.got(StatusUpdates)
    ends = [update for update in world.updates() if update.is_terminal]
    assert [(end.state, end.exit_code) for end in ends] == [(TaskState.FAILED, 3)]
    assert told.updates == tuple(ends)
    guest.got(Acknowledge)


def test_what_it_says_is_believed_about_its_own_tasks_only(world: World, guest: Guest) -> None:
    """A liar harms its own framework's tasks; reasons that others rely on are not its to give."""
    world.tell(RunTasks(FRAMEWORK, (launch("other"), of_it("t1"), of_it("t2"), of_it("t3"))))
    world.take(Prepare), world.take(Spawn), world.take(Resize), guest.got(RunTasks)
    world.step(TaskStarted("f1/other", 501))
    world.updates()
    guest.say("other", TaskState.FINISHED)
    guest.say("t1", TaskState.KILLED, reason=Reason.DRAINED, exit_code=99999)
    guest.say("t2", TaskState.DROPPED, message="too much")
    guest.say("t3", TaskState.FAILED, exit_code=4, reason=Reason.AGENT_GONE)
    ends = {update.task_id: update for update in world.updates()}
    assert (ends["t1"].state, ends["t1"].reason, ends["t1"].exit_code) == (
        TaskState.FAILED,
        Reason.NONE,
        None,
    )
    assert ends["t2"].state is TaskState.DROPPED
    assert ends["t2"].message == "never started: too much"
    assert (ends["t3"].state, ends["t3"].reason) == (TaskState.FAILED, Reason.EXITED)
    assert "other" not in ends
    assert len(world.take(Resize)) == 3
    guest.got(Acknowledge)


def test_its_tasks_are_gone_with_it(world: World, guest: Guest) -> None:
    """Where a task was done nothing is alive: handed over it is gone, otherwise it never began."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"), of_it("t2"))))
    guest.got(RunTasks)
    guest.tell(StartTask(TaskId("t2")))
    world.take(Prepare), world.take(Spawn), world.take(Resize)
    world.step(TaskStarted("f1/t2", 501))
    world.updates()
    guest.got(StatusUpdates)
    world.step(PeerLost(guest.peer))
    world.tell(RunTasks(FRAMEWORK, (of_it("t3"),)))
    ends = dies(world, 1)
    assert ends["own"].message == "exit code 1"
    assert (ends["t1"].state, ends["t1"].reason) == (TaskState.GONE, Reason.EXECUTOR_TERMINATED)
    assert ends["t1"].message == "its executor own ended: exit code 1"
    assert ends["t3"].state is TaskState.DROPPED
    world.expect(KillContainer("f1/t2"))
    world.step(MainExited("f1/t2", None, 9), ContainerEmptied("f1/t2", Usage()))
    world.expect(Drain("f1/t2"))
    world.expect(Remove("f1/t2"))
    (end,) = [update for update in world.updates() if update.is_terminal]
    assert (end.state, end.reason) == (TaskState.GONE, Reason.EXECUTOR_TERMINATED)
    # One that comes too late finds nobody.
    world.tell(RunTasks(FRAMEWORK, (of_it("t4"),)))
    (end,) = world.updates()
    assert (end.state, end.message) == (
        TaskState.DROPPED,
        "never started: its executor own is not there",
    )


def test_a_kill_is_passed_on_and_then_enforced(world: World, guest: Guest) -> None:
    """What it does not do in time is done to its container."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"), of_it("t2", grace_s=5.0))))
    guest.got(RunTasks), world.take(Resize)
    world.tell(kill("t1", 2.0), kill("t2"))
    graces = [one.kills[0].grace_s for one in guest.got(KillTasks)]
    assert graces == [2.0, 5.0]
    assert [update.state for update in world.updates()] == [TaskState.KILLING] * 2
    guest.say("t1", TaskState.FINISHED)
    (end,) = world.updates()
    assert (end.state, end.reason) == (TaskState.KILLED, Reason.KILL_REQUESTED)
    world.wait(4.9)
    guest.got(Pong)
    assert world.take(KillContainer) == []
    guest.tell(Ping())
    world.wait(0.2)
    world.expect(KillContainer(GUEST))
    ends = dies(world, 137)
    assert (ends["own"].state, ends["own"].reason) == (
        TaskState.FAILED,
        Reason.EXECUTOR_TERMINATED,
    )
    assert ends["own"].message == "ended: it did not end task t2 in time"
    assert ends["t2"].state is TaskState.KILLED
    world.take(Resize), guest.got(Acknowledge), guest.got(Pong)


def test_a_time_limit_holds_inside_it_too(world: World, guest: Guest) -> None:
    """It counts from when the task was handed over, for nobody has to say that it began."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1", time_limit_s=3.0),)))
    guest.got(RunTasks), world.take(Resize)
    world.wait(3.1)
    assert len(guest.got(KillTasks)) == 1
    world.updates()
    guest.say("t1", TaskState.FAILED)
    (end,) = world.updates()
    assert (end.state, end.reason) == (TaskState.FAILED, Reason.TIME_LIMIT)
    world.take(Resize), guest.got(Acknowledge)


def test_one_that_never_registers_is_ended(world: World) -> None:
    """What waits for it must not wait for ever."""
    world.tell(RunTasks(FRAMEWORK, (own(), of_it("t1"))))
    world.take(Prepare), world.take(Spawn)
    world.step(TaskStarted(GUEST, 500))
    world.updates()
    world.wait(EXECUTOR_REGISTER_S - 1)
    assert world.take(KillContainer) == []
    world.wait(2)
    assert KillContainer(GUEST) in world.take(KillContainer)
    ends = dies(world)
    assert ends["own"].reason is Reason.EXECUTOR_TERMINATED
    assert "not in a session" in ends["own"].message
    assert ends["t1"].state is TaskState.DROPPED


def test_a_stranger_at_the_socket_is_turned_away(world: World, guest: Guest) -> None:
    """Without the token nobody speaks for an executor, and the executor goes on."""
    thief = Guest(world, "0" * 32, "guest-own:02")
    thief.register(opening=9)
    assert thief.got(Refusal)[0].code == "not-permitted"
    thief = Guest(world, "", "guest-own:03")
    thief.tell(StartTask(TaskId("t1")))
    assert len(thief.got(Refusal)) == 1
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"),)))
    assert len(guest.got(RunTasks)) == 1
    world.take(Resize)


def test_a_flood_of_nonsense_ends_it(world: World, guest: Guest) -> None:
    """It is logged once, counted, and at last its container goes."""
    for number in range(GUEST_FAULTS_MAX):
        assert world.take(KillContainer) == []
        guest.say(f"x{number}", TaskState.FINISHED)
    world.expect(KillContainer(GUEST))
    assert len(world.take(Log)) == 2
    assert "out of place" in dies(world)["own"].message
    guest.got(Acknowledge)


def test_an_idle_one_is_asked_and_then_made_to_end(world: World, guest: Guest) -> None:
    """It holds resources; without tasks nobody has any use of it."""
    guest.live(EXECUTOR_IDLE_S - 1)
    assert guest.got(ShutdownExecutor) == []
    guest.live(2)
    assert guest.got(ShutdownExecutor) == [ShutdownExecutor(10.0)]
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"),)))
    (end,) = world.updates()
    assert end.state is TaskState.DROPPED
    guest.live(10)
    assert KillContainer(GUEST) in world.take(KillContainer)
    assert "did not end" in dies(world)["own"].message
    guest.got(Pong)


def test_it_may_come_back_after_a_lost_connection(world: World, guest: Guest) -> None:
    """What it never heard of it is told again; what it lost is gone; what ended in between too."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"), of_it("t2"), of_it("t3"), of_it("t4"))))
    guest.got(RunTasks), world.take(Resize)
    guest.say("t2", TaskState.RUNNING)
    guest.say("t3", TaskState.RUNNING)
    world.updates()
    world.step(PeerLost(guest.peer))
    guest.got(Acknowledge)
    again = Guest(world, guest.token, "guest-own:04")
    done = StatusUpdate(FRAMEWORK, TaskId("t4"), AGENT, TaskState.FINISHED, uuid="u4")
    has = (
        ExecutorTask(TaskId("t3"), TaskState.RUNNING),
        ExecutorTask(TaskId("x"), TaskState.RUNNING),
    )
    again.register(opening=2, tasks=has, updates=(done,))
    assert [one.task.task_id for one in again.got(RunTasks)[0].launches] == ["t1"]
    assert [one.kills[0].task_id for one in again.got(KillTasks)] == ["x"]
    ends = {update.task_id: update.state for update in world.updates()}
    assert ends == {"t2": TaskState.GONE, "t4": TaskState.FINISHED}
    again.got(ExecutorRegistered), again.got(Acknowledge), world.take(Resize)
    # What was overtaken changes nothing.
    late = Guest(world, guest.token, "guest-own:05")
    late.register(opening=2)
    assert late.got(ExecutorRegistered) == []
    world.effects = [one for one in world.effects if not isinstance(one, Send)]


def test_limits_that_cannot_be_lowered_end_it(world: World, guest: Guest) -> None:
    """Memory that a task leaves behind belongs to others by then."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"),)))
    guest.got(RunTasks)
    guest.say("t1", TaskState.FINISHED)
    assert len(world.take(Resize)) == 2
    for _ in range(GUEST_RESIZE_TRIES - 1):
        world.step(ResizeFailed(GUEST, "busy"))
        guest.tell(Ping())
        world.wait(GUEST_RESIZE_AGAIN_S)
        assert limits(world) == [(500, 64)]
    world.step(ResizeFailed(GUEST, "busy"))
    world.expect(KillContainer(GUEST))
    assert dies(world)["own"].message == (
        "ended: it keeps what its tasks had, and its limits cannot be changed: busy"
    )
    guest.got(Pong), guest.got(Acknowledge), world.updates()


def test_when_all_ends_so_does_it(world: World, guest: Guest) -> None:
    """A framework that is removed leaves neither an executor nor what is in it."""
    world.tell(RunTasks(FRAMEWORK, (of_it("t1"),)))
    guest.got(RunTasks), world.take(Resize)
    world.tell(ShutdownExecutor(4.0))
    world.expect(SignalContainer(GUEST, 15))
    assert [one.kills[0].task_id for one in guest.got(KillTasks)] == ["t1"]
    assert guest.got(ShutdownExecutor) == [ShutdownExecutor(4.0)]
    world.updates()
    guest.tell(Bye())
    ends = dies(world)
    assert {end.state for end in ends.values()} == {TaskState.KILLED}
    assert set(ends) == {"own", "t1"}


def test_a_task_of_another_user_is_not_for_it(world: World, guest: Guest) -> None:
    """It would have somebody else's rights used as it likes."""
    made = of_it("t1")
    command = replace(made.task.command, user="somebody")
    world.tell(RunTasks(FRAMEWORK, (replace(made, task=replace(made.task, command=command)),)))
    (end,) = world.updates()
    assert end.message == "never started: its executor own runs as another user"
