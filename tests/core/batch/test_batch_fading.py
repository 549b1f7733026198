"""Jobs of which only a summary is left: what they still answer, and how they become that."""

from __future__ import annotations

import pytest

from mesosctl.core.batch import fading
from mesosctl.core.batch.summaries import SUMMARIES
from mesosctl.core.machine import Delete
from mesosctl.model.jobs import BatchState, JobSpec, JobView
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import (
    Changed,
    JobAccepted,
    Jobs,
    KillJobs,
    KillsBegun,
    ListJobs,
    ListTasks,
    LocateLogs,
    SubmitJob,
    Watch,
)
from mesosctl.protocol.messages.framework import Revive, Suppress
from mesosctl.protocol.messages.session import Refusal
from tests.core.batch.conftest import GIB, World

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
LONG = JobSpec(
    "long", ("sh", "-c", "x" * 500), mem_bytes=GIB // 2, env={"SECRET": "x" * 1000}, script=None
)


def many(count: int) -> JobSpec:
    return JobSpec("many", ("true",), indices=((0, count - 1, 1),), is_array=True, mem_bytes=GIB)


def ended(world: World, spec: JobSpec = LONG, request: str = "r1") -> str:
    """A job that was run to its end: one task failed, the others went well."""
    job = world.submit(spec, request)
    tasks = world.launch(1000, 10**7)
    world.forget(Revive, Suppress)
    for number, task in enumerate(tasks):
        if number:
            world.status(task.task_id, TaskState.FINISHED)
        else:
            world.status(task.task_id, TaskState.FAILED, exit_code=3)
    world.forget(Revive, Suppress)
    return job


def later(world: World, seconds: float = WEEK_S + 1) -> None:
    """A pass after so long, without whatever else would have happened meanwhile."""
    world.mono += seconds
    world.run()


def view(world: World, job: str) -> JobView:
    (answer,) = world.request("c1", ListJobs((job,)))
    assert isinstance(answer, Jobs)
    return answer.jobs[0]


def refused(world: World, message: Message) -> Refusal:
    (answer,) = world.request("c1", message)
    assert isinstance(answer, Refusal), answer
    return answer


def test_a_job_keeps_its_answers_and_loses_its_details(world: World):
    """What is told of the job stays; what was told of its tasks goes, from memory and disk."""
    job = ended(world, many(3))
    before = view(world, job)
    later(world, DAY_S)
    assert view(world, job) == before
    later(world)
    after = view(world, job)
    assert after.note == "details removed after 7d"
    kept = ("id", "name", "state", "counts", "exit_code", "submitted", "started", "ended", "tasks")
    for name in (*kept, "command", "user", "cpu_s", "cpus_milli"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.state is BatchState.FAILED and after.exit_code == 3 and after.cpu_s == 1.5
    assert world.tables["jobs"] == {} and world.tables["tasks"] == {}
    assert list(world.tables[SUMMARIES]) == [job]
    assert world.machine.queue.jobs[int(job)].tasks == {}


def test_what_is_asked_of_its_tasks_is_refused_with_the_reason(world: World):
    """Never as if there had been none."""
    job = ended(world, many(3))
    later(world)
    for message in (
        ListTasks((job,)),
        ListTasks((f"{job}.1",)),
        LocateLogs((job,)),
        Watch((f"{job}.0",)),
        KillJobs((f"{job}.0",)),
    ):
        refusal = refused(world, message)
        assert refusal.code == "not-found" and "details removed after 7d" in refusal.message
    (killed,) = world.request("c1", KillJobs((job,)))
    assert isinstance(killed, KillsBegun) and killed.already_ended == 3


def test_waiting_for_it_is_over_at_once_with_its_code(world: World):
    """Whoever comes late learns what whoever waited learned."""
    job = ended(world, many(3))
    later(world)
    (told,) = world.request("c1", Watch((job,), tasks=True))
    assert isinstance(told, Changed)
    assert told.done and told.exit_code == 3 and told.tasks == ()
    assert told.jobs[0].note


def test_the_same_request_is_still_the_same_job(world: World):
    """A client that repeats itself a week later must not run anything twice; so after a restart."""
    job = ended(world, LONG, "r1")
    later(world)
    again = world.restarted()
    again.start()
    for one in (world, again):
        (answer,) = one.request("c1", SubmitJob("r1", LONG))
        assert isinstance(answer, JobAccepted) and answer.job_id == job
        assert len(view(one, job).command) == 200
        one.machine.check()
    assert again.submit(LONG, "r2") == "2"


def test_many_tasks_go_in_many_passes_and_a_crash_loses_nothing(world: World, monkeypatch):
    """However many expire at once, a pass stays short."""
    monkeypatch.setattr(fading, "ROWS_PER_PASS", 10)
    job = ended(world, many(35))
    world.mono += WEEK_S + 1
    rows = [sum(isinstance(effect, Delete) for effect in world.run())]
    assert len(world.tables["tasks"]) > 20
    again = world.restarted()
    again.start()
    assert view(again, job).tasks == 35 and view(again, job).note
    for one in (world, again):
        for _ in range(20):
            one.mono += 1
            rows.append(sum(isinstance(effect, Delete) for effect in one.run()))
        assert one.tables["tasks"] == {}
    assert max(rows) <= 12
    assert rows[-1] == 0


def test_a_job_that_is_watched_or_may_still_run_keeps_its_details(world: World):
    """A watch over several jobs counts those that have ended, too."""
    first = ended(world)
    second = world.submit(LONG, "r2")
    world.request("c1", Watch((first, second)))
    later(world)
    assert not view(world, first).note
    world.request("c1", KillJobs((second,)))
    later(world, 120.0)
    assert view(world, first).note
    assert not view(world, second).note
    world.forget(Suppress)
    world.forget(Changed, peer="c1")


def test_only_so_many_summaries_are_kept(world: World, monkeypatch):
    """The oldest go, and their numbers are not given out again."""
    monkeypatch.setattr(fading, "SUMMARIES_KEPT", 2)
    for number in range(4):
        ended(world, LONG, f"r{number}")
    later(world)
    later(world, 120.0)
    assert list(world.tables[SUMMARIES]) == ["3", "4"]
    assert refused(world, ListJobs(("1",))).code == "not-found"
    again = world.restarted()
    again.start()
    assert again.submit(LONG, "r9") == "5"


@pytest.mark.parametrize("keep_s", [60.0])
def test_the_time_is_the_operators_choice(world: World, keep_s: float):
    """And it is told in his words."""
    world.machine = type(world.machine)(
        world.machine._info, world.tables, world.new_id, log_keep_s=keep_s
    )
    world.start()
    job = ended(world)
    later(world, keep_s + 1)
    assert view(world, job).note == "details removed after 1m"
