"""The batch framework killed after every single pass, before and after what the pass sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mesosctl.limits import LOST_ATTEMPTS_MAX
from mesosctl.model.ids import FrameworkId
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import KillJobs, SubmitJob
from mesosctl.protocol.messages.framework import (
    Accept,
    Decline,
    Offers,
    Reconcile,
    Revive,
    Subscribe,
    Subscribed,
    Suppress,
)
from mesosctl.protocol.messages.query import WhoIs
from tests.core.batch.conftest import LINK, Killed, World

STEPS_MAX = 60
JOB = JobSpec("j", ("true",), indices=((0, 4, 1),), is_array=True, mem_bytes=2**29)


@dataclass
class Cluster:
    """A master with one agent of two CPUs that loses no acknowledged word, nor forgets one."""

    lose: tuple[str, ...] = ()
    running: dict[str, bool] = field(default_factory=dict)
    told: dict[str, StatusUpdate] = field(default_factory=dict)
    starts: dict[str, list[str]] = field(default_factory=dict)
    wants: bool = False

    def answer(self, world: World) -> list[Message]:
        """Take what the framework sent; what the master says to it."""
        said: list[Message] = []
        waiting, world.mail[LINK] = world.mail.get(LINK, []), []
        for message in waiting:
            match message:
                case Subscribe():
                    self.wants = not message.suppressed
                    said.append(Subscribed(FrameworkId("F1"), 5.0))
                case Revive():
                    self.wants = True
                case Suppress():
                    self.wants = False
                case Accept():
                    self.launch(world, [str(task.task_id) for task in message.tasks])
                case Acknowledge():
                    for ack in message.acks:
                        if ack.task_id in self.told and self.told[ack.task_id].uuid == ack.uuid:
                            del self.told[ack.task_id]
                case Reconcile():
                    refs = [str(ref.task_id) for ref in message.tasks]
                    said += [StatusUpdates((self.state_of(world, name),)) for name in refs]
                case KillTasks():
                    for kill in message.kills:
                        if self.running.pop(kill.task_id, False):
                            self.tell(world, kill.task_id, TaskState.KILLED)
                case Decline() | WhoIs():
                    pass
                case _:
                    raise AssertionError(message)
        return said

    def launch(self, world: World, names: list[str]) -> None:
        for name in names:
            task = name.rpartition(".")[0]
            others = [other for other in self.running if other.rpartition(".")[0] == task]
            assert not others, f"{name} overlaps {others}"
            self.starts.setdefault(task, []).append(name)
            self.running[name] = True
            self.tell(world, name, TaskState.RUNNING)

    def tell(self, world: World, name: str, state: TaskState) -> None:
        self.told[name] = world.update(name, state)

    def state_of(self, world: World, name: str) -> StatusUpdate:
        if name in self.told:
            return self.told[name]
        state = TaskState.RUNNING if name in self.running else TaskState.DROPPED
        return world.update(name, state, uuid="", reason=Reason.RECONCILED)

    def move_on(self, world: World) -> list[Message]:
        """Running tasks whose start was acknowledged end; free CPUs are offered."""
        for name in list(self.running):
            if name not in self.told:
                del self.running[name]
                lost = name in self.lose
                self.tell(world, name, TaskState.GONE if lost else TaskState.FINISHED)
        said: list[Message] = [StatusUpdates((update,)) for update in self.told.values()]
        free = 2 - len(self.running)
        if self.wants and free:
            said.append(Offers((world.offer(free),)))
        return said


def drive(world: World, cluster: Cluster, steps: int) -> None:
    """Let framework and cluster talk until nothing is left to do."""
    for _ in range(steps):
        for message in cluster.answer(world):
            world.master(message)
        for message in cluster.move_on(world):
            world.master(message)
        world.advance(1.0)
        jobs = world.machine.queue.jobs.values()
        if jobs and all(job.has_ended() for job in jobs) and not cluster.told:
            return


def begin(world: World, cluster: Cluster, spec: JobSpec) -> None:
    cluster.wants = not world.start().suppressed
    world.request("c1", SubmitJob("r1", spec))


def story(world: World, cluster: Cluster, spec: JobSpec) -> None:
    begin(world, cluster, spec)
    drive(world, cluster, STEPS_MAX)


def passes_of(spec: JobSpec, lose: tuple[str, ...]) -> int:
    world = World()
    story(world, Cluster(lose), spec)
    return world.passes


def survived(
    spec: JobSpec, lose: tuple[str, ...], kill_at: int, sends: bool
) -> tuple[World, Cluster]:
    """The story with a kill -9 after pass `kill_at`, then its end with a new process."""
    cluster = Cluster(lose)
    world = World()
    if sends:
        world.dies_after_sending = kill_at
    else:
        world.dies_before_sending = kill_at
    try:
        story(world, cluster, spec)
    except Killed:
        # What left before the end arrives.
        cluster.answer(world)
    again = world.restarted()
    story(again, cluster, spec)
    return again, cluster


@pytest.mark.parametrize("sends", [False, True], ids=["before-sending", "after-sending"])
def test_every_task_runs_once_whenever_the_framework_dies(sends: bool) -> None:
    """No pass is a bad moment: all end ok, none overlaps, none is started twice without need."""
    for kill_at in range(1, passes_of(JOB, ()) + 1):
        world, cluster = survived(JOB, (), kill_at, sends)
        (job,) = world.machine.queue.jobs.values()
        assert {str(state): n for state, n in job.counts.items()} == {"ok": 5}, kill_at
        starts = cluster.starts
        assert all(len(names) == 1 for names in starts.values()), (kill_at, starts)


@pytest.mark.parametrize("sends", [False, True], ids=["before-sending", "after-sending"])
def test_once_holds_whenever_the_framework_dies(sends: bool) -> None:
    """The lost one ends lost, and nothing of a once-only job ever starts a second time."""
    spec = JobSpec("j", ("true",), indices=((0, 4, 1),), is_array=True, mem_bytes=2**29, once=True)
    for kill_at in range(1, passes_of(spec, ("1.1.1",)) + 1):
        world, cluster = survived(spec, ("1.1.1", "1.1.2"), kill_at, sends)
        (job,) = world.machine.queue.jobs.values()
        assert {str(state): n for state, n in job.counts.items()} == {"ok": 4, "lost": 1}
        assert job.exit_code == 125
        starts = cluster.starts
        assert all(len(names) == 1 for names in starts.values()), (kill_at, starts)


def test_a_loss_is_repeated_whenever_the_framework_dies() -> None:
    """An attempt that is lost leads to exactly one more, however often we look at it."""
    assert LOST_ATTEMPTS_MAX >= 1
    for kill_at in range(1, passes_of(JOB, ("1.1.1",)) + 1):
        world, cluster = survived(JOB, ("1.1.1",), kill_at, True)
        (job,) = world.machine.queue.jobs.values()
        assert job.exit_code == 0 and job.has_ended()
        starts = cluster.starts
        assert len(starts["1.1"]) == 2, (kill_at, starts)


def test_a_kill_holds_whenever_the_framework_dies() -> None:
    """Once its answer is out, nothing of the job runs on or starts, whoever dies."""
    for sends in (False, True):
        cluster = Cluster()
        world = World()
        begin(world, cluster, JOB)
        drive(world, cluster, 1)
        if sends:
            world.dies_after_sending = world.passes + 1
        else:
            world.dies_before_sending = world.passes + 1
        with pytest.raises(Killed):
            world.request("c1", KillJobs(("1",)))
        cluster.answer(world)
        again = world.restarted()
        again.start()
        drive(again, cluster, STEPS_MAX)
        (job,) = again.machine.queue.jobs.values()
        assert job.has_ended() and not cluster.running
        assert job.exit_code == 143 and job.cancelled


def test_what_runs_and_is_on_no_list_is_ended(world: World) -> None:
    """A queue that was restored from its backup knows nothing of what came after it."""
    assert world.asked_for_all == 1
    stray = world.update("7.0.1", TaskState.RUNNING, uuid="", reason=Reason.RECONCILED)
    world.master(StatusUpdates((stray,)))
    assert [kill.task_id for kill in world.take(KillTasks).kills] == ["7.0.1"]
