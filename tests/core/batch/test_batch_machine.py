"""The batch framework's machine: jobs in, tasks on offers, updates, ends, restarts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesosctl.core.batch.machine import LINK
from mesosctl.core.machine import PeerLost, Put, Send, Signalled
from mesosctl.limits import LOST_ATTEMPTS_MAX
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.jobs import JobSpec, TaskView
from mesosctl.model.tasks import Reason, TaskState
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks, StatusUpdates
from mesosctl.protocol.messages.batch import (
    JobAccepted,
    KillJobs,
    KillsBegun,
    ListTasks,
    SubmitJob,
    Tasks,
)
from mesosctl.protocol.messages.framework import (
    Accept,
    AgentChanged,
    Decline,
    FrameworkError,
    Offers,
    Reconcile,
    Revive,
    StopFramework,
    Subscribe,
    Subscribed,
    Suppress,
)
from mesosctl.protocol.messages.session import Bye, Refusal
from tests.core.batch.conftest import ALICE, BOB, GIB, ROOT, World

ONE = JobSpec("one", ("true",), user="alice", cpus_milli=1000, mem_bytes=GIB // 2)


def many(count: int, **fields: object) -> JobSpec:
    given = {"indices": ((0, count - 1, 1),), "is_array": True, **fields}
    return JobSpec("many", ("true",), cpus_milli=1000, mem_bytes=GIB // 2, **given)  # type: ignore[arg-type]


def tasks_of(world: World, *selectors: str) -> list[TaskView]:
    (answer,) = world.request("c1", ListTasks(selectors))
    assert isinstance(answer, Tasks), answer
    return list(answer.tasks)


def task_of(world: World, selector: str) -> TaskView:
    (view,) = tasks_of(world, selector)
    return view


def kill(world: World, *selectors: str, **fields: object) -> KillsBegun:
    (answer,) = world.request("c1", KillJobs(selectors, **fields))  # type: ignore[arg-type]
    assert isinstance(answer, KillsBegun), answer
    return answer


# --- submission -----------------------------------------------------------------------------------
def test_a_job_is_on_disk_in_the_pass_that_accepts_it(world: World) -> None:
    """Accepted means committed: the record is among the effects of the very same pass."""
    world.client("c1")
    world.request("c1", ListTasks())
    effects = world.say("c1", SubmitJob("r1", ONE))
    puts = [effect for effect in effects if isinstance(effect, Put)]
    assert {put.table for put in puts} == {"jobs", "meta"}
    (accepted,) = world.answers("c1")
    assert accepted == JobAccepted(2, "1", 1)
    revive = world.take(Revive)
    assert revive.demand is not None and revive.demand.count == 1


def test_a_repeated_request_is_the_same_job_also_after_a_restart(world: World) -> None:
    """A client that heard no answer repeats its request; that must never make a second job."""
    first = world.submit(ONE, "r1")
    assert world.submit(ONE, "r1") == first
    again = world.restarted()
    again.start()
    assert again.submit(ONE, "r1") == first
    assert again.submit(ONE, "r2") == "2"
    assert list(again.machine.queue.jobs) == [1, 2]


def test_request_ids_of_different_users_do_not_meet(world: World) -> None:
    """A request id is the caller's own: nobody can learn or block another one's job with it."""
    world.submit(ONE, "r1")
    (answer,) = world.request("c2", SubmitJob("r1", JobSpec("b", ("true",))), BOB)
    assert isinstance(answer, JobAccepted) and answer.job_id == "2"
    assert world.machine.queue.jobs[2].spec.user == "bob"
    world.forget(Revive)


def test_a_dry_run_leaves_nothing(world: World) -> None:
    """It checks and tells, and the next real job still is number 1."""
    (answer,) = world.request("c1", SubmitJob("r1", many(3), dry_run=True))
    assert isinstance(answer, JobAccepted)
    assert (answer.job_id, answer.tasks) == ("", 3) and "offered" in answer.note
    assert not world.machine.queue.jobs and "jobs" not in world.tables


REFUSED = {
    "another user": (JobSpec("j", ("true",), user="bob"), "not-permitted"),
    "root": (JobSpec("j", ("true",), user="root"), "not-permitted"),
    "a role of its own": (JobSpec("j", ("true",), role="web"), "invalid"),
    "no command": (JobSpec("j", ()), "invalid"),
    "an empty command": (JobSpec("j", ("",)), "invalid"),
    "a NUL": (JobSpec("j", ("a\0b",)), "invalid"),
    "no cpus": (JobSpec("j", ("true",), cpus_milli=0), "invalid"),
    "negative memory": (JobSpec("j", ("true",), mem_bytes=-1), "invalid"),
    "an endless array": (JobSpec("j", ("true",), indices=((0, 2**30, 1),)), "invalid"),
    "a step of nothing": (JobSpec("j", ("true",), indices=((0, 5, 0),)), "invalid"),
    "a backward range": (JobSpec("j", ("true",), indices=((5, 0, 1),)), "invalid"),
    "entries and indices": (
        JobSpec("j", ("true",), indices=((0, 1, 1),), entries=("a", "b")),
        "invalid",
    ),
    "a long argument": (JobSpec("j", ("x" * 200_000,)), "invalid"),
    "a bad variable": (JobSpec("j", ("true",), env={"A=B": "c"}), "invalid"),
    "a script's path": (JobSpec("j", (), script=b"x", script_name="../x"), "invalid"),
    "a long name": (JobSpec("j" * 200, ("true",)), "invalid"),
    "an escape in the name": (JobSpec("\x1b[2J", ("true",)), "invalid"),
    "a relative path": (JobSpec("j", ("true",), stdout="out"), "invalid"),
    "a relative directory": (JobSpec("j", ("true",), cwd="x"), "invalid"),
    "both promises": (JobSpec("j", ("true",), once=True, restartable=True), "invalid"),
    "an empty array": (JobSpec("j", ("true",), is_array=True), "invalid"),
    "an entry that explodes": (
        JobSpec("j", ("{}" * 10_000,), entries=("x" * 30_000,)),
        "invalid",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(world: World, what: str) -> None:
    """The client checks, too, but nothing that it says is believed."""
    spec, code = REFUSED[what]
    (answer,) = world.request("c1", SubmitJob("r1", spec))
    assert isinstance(answer, Refusal) and answer.code == code
    assert not world.machine.queue.jobs


# --- offers ---------------------------------------------------------------------------------------
def test_tasks_fill_an_offer_in_one_acceptance(world: World) -> None:
    """Many tasks go into one ACCEPT, as far as cpus and memory reach, each attempt on disk."""
    world.submit(many(10))
    effects = world.master(Offers((world.offer(8, 2048),)))
    accept = world.take(Accept)
    assert [task.task_id for task in accept.tasks] == [f"1.{n}.1" for n in range(4)]
    order = [type(effect) for effect in effects if isinstance(effect, Put | Send)]
    assert order[:4] == [Put] * 4 and order[4] is Send
    assert set(world.tables["tasks"]) == {"1.0", "1.1", "1.2", "1.3"}
    assert accept.refuse_s == 5.0


def test_a_job_is_spread_over_the_agents_that_are_offered(world: World) -> None:
    """Two idle agents share a job instead of one being filled first."""
    world.submit(many(4))
    world.master(Offers((world.offer(4, 4096, "a1"), world.offer(4, 4096, "a2"))))
    accepts = [world.take(Accept), world.take(Accept)]
    assert [len(accept.tasks) for accept in accepts] == [2, 2]
    assert {task.agent_id for accept in accepts for task in accept.tasks} == {"id-a1", "id-a2"}
    world.take(Suppress)


def test_priority_goes_first_and_what_does_not_fit_blocks_nobody(world: World) -> None:
    """Higher priority first, then the order of submission; a large job is passed by."""
    world.submit(many(1))
    world.submit(JobSpec("large", ("true",), cpus_milli=64_000, priority=9))
    world.submit(many(2, priority=5))
    tasks = world.launch(3)
    assert [task.task_id for task in tasks] == ["3.0.1", "3.1.1", "1.0.1"]
    world.take(Revive)


def test_no_more_than_max_running_at_once(world: World) -> None:
    """`%2` holds from the first offer on, and the next one starts when one has ended."""
    world.submit(many(5, max_running=2))
    first = world.launch(8, 8192)
    assert [task.task_id for task in first] == ["1.0.1", "1.1.1"]
    world.take(Suppress)
    assert task_of(world, "1.4").reason == "MaxRunning"
    world.status("1.0.1", TaskState.FINISHED)
    assert [task.task_id for task in world.launch(8, 8192)] == ["1.2.1"]
    world.take(Suppress)


def test_offers_without_work_are_declined(world: World) -> None:
    """What is not used goes back at once, for the others."""
    world.master(Offers((world.offer(),)))
    assert world.take(Decline) == Decline((OfferId("O1"),), 5.0)


def test_demand_is_told_exactly_or_not_at_all(world: World) -> None:
    """One size is told with its count; of several none: offers are cut to what is told."""
    world.request("c1", SubmitJob("r1", many(7)))
    demand = world.take(Revive).demand
    assert demand is not None and demand.count == 7
    assert demand.task.cpus_milli == 1000
    world.request("c1", SubmitJob("r2", JobSpec("big", ("true",), cpus_milli=2000)))
    assert world.take(Revive).demand is None
    world.request("c1", SubmitJob("r3", ONE))
    assert world.take(Revive).demand is None


def test_an_acceptance_stays_one_frame(world: World) -> None:
    """Large scripts are split over several offers; what was cut off is not refused for long."""
    spec = many(3)
    big = JobSpec("big", ("a",), script=b"x" * 3_000_000, indices=spec.indices, cpus_milli=100)
    world.submit(big)
    world.master(Offers((world.offer(),)))
    accept = world.take(Accept)
    assert len(accept.tasks) == 1 and accept.refuse_s == 0.0


# --- lives ----------------------------------------------------------------------------------------
def test_the_life_of_a_task(world: World) -> None:
    """Pending, staging, running, ok: with times, usage, agent and attempt as the user sees them."""
    world.submit(ONE)
    assert task_of(world, "1").state == "pending"
    world.launch()
    world.take(Suppress)
    assert task_of(world, "1").state == "staging"
    world.status("1.0.1", TaskState.RUNNING, started_at=5.0)
    assert task_of(world, "1").state == "running"
    world.status("1.0.1", TaskState.FINISHED, started_at=5.0, at=9.0)
    view = task_of(world, "1")
    assert (view.id, view.state, view.exit_code, view.attempt) == ("1.0", "ok", 0, 1)
    assert (view.started, view.ended, view.agent) == (5.0, 9.0, "a1")
    assert (view.cpu_user_s, view.mem_peak_bytes, view.user) == (0.5, 2**20, "alice")


ENDS = {
    "exit 7": (TaskState.FAILED, {"reason": Reason.EXITED, "exit_code": 7}, "failed", 7),
    "signal": (TaskState.FAILED, {"reason": Reason.SIGNALED, "signal": 11}, "failed", 139),
    "memory": (TaskState.FAILED, {"reason": Reason.MEMORY_LIMIT, "signal": 9}, "oom", 137),
    "time": (TaskState.FAILED, {"reason": Reason.TIME_LIMIT, "signal": 15}, "timeout", 124),
    "killed": (TaskState.KILLED, {"reason": Reason.KILL_REQUESTED}, "killed", 143),
    "killed hard": (TaskState.KILLED, {"signal": 9}, "killed", 137),
    "no program": (
        TaskState.FAILED,
        {"reason": Reason.LAUNCH_FAILED, "exit_code": 127},
        "failed",
        127,
    ),
    "launch": (TaskState.FAILED, {"reason": Reason.LAUNCH_FAILED}, "failed", 125),
    "refused": (TaskState.ERROR, {"reason": Reason.NOT_PERMITTED}, "failed", 125),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_a_task_ends(world: World, end: str) -> None:
    """Each way to end has its state and its code; a failed task is never 0."""
    state, fields, seen, code = ENDS[end]
    world.submit(ONE)
    world.launch()
    world.take(Suppress)
    world.status("1.0.1", state, **fields)
    view = task_of(world, "1.0")
    assert (view.state, view.exit_code) == (seen, code)
    assert world.machine.queue.jobs[1].exit_code == code


def test_an_update_is_written_before_it_is_acknowledged(world: World) -> None:
    """After the acknowledgement nobody but us knows it."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    effects = world.master(StatusUpdates((world.update("1.0.1", TaskState.FINISHED),)))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Put) < kinds.index(Send)
    world.take(Acknowledge)
    assert world.tables["tasks"]["1.0"]["state"] == "ok"


def test_repeated_and_late_updates_change_nothing(world: World) -> None:
    """Agents repeat until acknowledged: each is acknowledged, none undoes an end."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.FINISHED)
    before = task_of(world, "1")
    world.status("1.0.1", TaskState.FAILED, exit_code=1)
    world.status("1.0.1", TaskState.FINISHED)
    assert task_of(world, "1") == before
    world.status("9.0.1", TaskState.FINISHED)
    world.status("nonsense", TaskState.FAILED)


def test_a_stray_attempt_is_ended(world: World) -> None:
    """Something runs under our id that we know nothing of: it must not go on for ever."""
    world.master(StatusUpdates((world.update("7.0.1", TaskState.RUNNING),)))
    world.take(Acknowledge)
    assert [kill.task_id for kill in world.take(KillTasks).kills] == ["7.0.1"]


def test_dropped_is_pending_again_and_not_counted(world: World) -> None:
    """Nothing ran, so even a once-only task may start; the second time it waits a little."""
    world.submit(JobSpec("once", ("true",), once=True, mem_bytes=GIB // 2))
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.DROPPED, uuid="", reason=Reason.INVALID_OFFERS)
    world.take(Revive)
    assert [task.task_id for task in world.launch()] == ["1.0.2"]
    world.forget(Suppress)
    world.status("1.0.2", TaskState.DROPPED, uuid="", reason=Reason.INVALID_OFFERS)
    assert task_of(world, "1").reason == "Backoff"
    world.advance(1.5)
    world.take(Revive)
    assert [task.task_id for task in world.launch()] == ["1.0.3"]
    assert world.machine.queue.jobs[1].tasks[0].losses == 0
    world.forget(Suppress)


def test_gone_is_run_again_five_times(world: World) -> None:
    """Lost with its agent, it is repeated by itself; the sixth loss is the end."""
    world.submit(ONE)
    for attempt in range(1, LOST_ATTEMPTS_MAX + 2):
        assert [task.task_id for task in world.launch()] == [f"1.0.{attempt}"]
        world.forget(Suppress)
        world.status(f"1.0.{attempt}", TaskState.RUNNING)
        world.status(f"1.0.{attempt}", TaskState.GONE, reason=Reason.AGENT_REBOOTED)
        world.forget(Revive)
    view = task_of(world, "1")
    assert (view.state, view.exit_code, view.reason) == ("lost", 125, "AgentRebooted")
    assert "6 times" in view.message


def test_a_once_only_task_is_never_started_twice(world: World) -> None:
    """It had started and its end is unknown: lost, with the reason, and no second attempt."""
    world.submit(JobSpec("once", ("true",), once=True, mem_bytes=GIB // 2))
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.status("1.0.1", TaskState.GONE, reason=Reason.EXECUTOR_TERMINATED)
    view = task_of(world, "1")
    assert (view.state, view.exit_code, view.reason) == ("lost", 125, "ExecutorTerminated")
    world.master(Offers((world.offer(),)))
    world.take(Decline)


def test_dropped_after_a_start_counts_as_gone(world: World) -> None:
    """A master that forgot cannot make a started once-only task start again."""
    world.submit(JobSpec("once", ("true",), once=True, mem_bytes=GIB // 2))
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.status("1.0.1", TaskState.DROPPED, uuid="")
    assert task_of(world, "1").state == "lost"


# --- unreachable agents ---------------------------------------------------------------------------
def test_an_unreachable_agent_is_no_end(world: World) -> None:
    """The task stays running with the reason; its agent comes back with it."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "unreachable"))
    view = task_of(world, "1")
    assert (view.state, view.reason) == ("running", "Unreachable")
    world.master(AgentChanged(AgentId("id-a1"), "a1", "registered"))
    assert [ref.task_id for ref in world.take(Reconcile).tasks] == ["1.0.1"]
    world.status("1.0.1", TaskState.RUNNING, uuid="", reason=Reason.RECONCILED)
    assert task_of(world, "1").reason == ""


def test_a_restartable_task_moves_on_without_proof(world: World) -> None:
    """The old attempt may still run: what it does is ignored, and it is ended when it returns."""
    world.submit(JobSpec("free", ("true",), restartable=True, mem_bytes=GIB // 2))
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.master(AgentChanged(AgentId("id-a1"), "a1", "unreachable"))
    world.take(Revive)
    assert [task.task_id for task in world.launch(agent="a2")] == ["1.0.2"]
    world.take(Suppress)
    again = world.restarted()
    again.start()
    assert {ref.task_id for ref in again.take(Reconcile).tasks} == {"1.0.1", "1.0.2"}
    again.take(KillTasks)
    again.master(AgentChanged(AgentId("id-a1"), "a1", "registered"))
    assert [kill.task_id for kill in again.take(KillTasks).kills] == ["1.0.1"]
    again.status("1.0.1", TaskState.FINISHED)
    assert task_of(again, "1").state == "staging"
    again.status("1.0.2", TaskState.FAILED, exit_code=3, agent="id-a2")
    assert task_of(again, "1").exit_code == 3
    again.advance(6)
    again.quiet()


# --- kill -----------------------------------------------------------------------------------------
def test_a_kill_is_repeated_until_the_end_also_after_a_restart(world: World) -> None:
    """The wish is on disk: neither a lost message nor a restart of ours makes us forget it."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    assert kill(world, "1", grace_s=3.0) == KillsBegun(world.sessions["c1"][1], 1, 0, 0)
    assert world.take(KillTasks).kills[0].grace_s == 3.0
    assert task_of(world, "1").reason == "Killing"
    world.advance(6)
    world.take(KillTasks)
    again = world.restarted()
    again.start()
    again.take(Reconcile)
    assert again.take(KillTasks).kills[0].grace_s == 3.0
    again.status("1.0.1", TaskState.KILLED, signal=15)
    assert task_of(again, "1").state == "killed"
    again.advance(6)
    again.quiet()


def test_a_whole_pending_array_is_cancelled_as_one(world: World) -> None:
    """A hundred thousand pending tasks end in one small record, and stay so."""
    world.submit(many(100_000))
    world.launch(2)
    assert kill(world, "1") == KillsBegun(world.sessions["c1"][1], 2, 99_998, 0)
    world.take(Suppress)
    assert len(world.take(KillTasks).kills) == 2
    assert len(world.tables["cancels"]["1"]["ranges"]) == 1 and len(world.tables["tasks"]) == 2
    again = world.restarted()
    again.start()
    assert task_of(again, "1.99999").state == "cancelled"
    again.take(Reconcile), again.take(KillTasks)
    again.status("1.0.1", TaskState.KILLED)
    again.status("1.1.1", TaskState.KILLED)
    assert again.machine.queue.jobs[1].has_ended()
    again.quiet()
    assert kill(again, "1").already_ended == 100_000


def test_single_tasks_are_cancelled_out_of_the_middle(world: World) -> None:
    """Cancelled ones are skipped; the rest of the array runs."""
    world.submit(many(6))
    assert kill(world, "1.1-2", "1.4").cancelled == 3
    assert [task.task_id for task in world.launch(8, 8192)] == ["1.0.1", "1.3.1", "1.5.1"]
    states = [view.state for view in tasks_of(world, "1")]
    assert states == ["staging", "cancelled", "cancelled", "staging", "cancelled", "staging"]
    world.forget(Suppress)


def test_a_kill_before_the_start_cancels(world: World) -> None:
    """It was launched, but never started: that is cancelled, not killed, and not run again."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    kill(world, "1")
    world.take(KillTasks)
    world.status("1.0.1", TaskState.DROPPED, uuid="")
    assert task_of(world, "1").state == "cancelled"
    world.quiet()


def test_a_signal_is_passed_on_once(world: World) -> None:
    """`kill -s USR1` ends nothing and is not repeated; pending tasks are left alone."""
    world.submit(many(2))
    world.launch(1)
    world.status("1.0.1", TaskState.RUNNING)
    assert kill(world, "1", signum=10) == KillsBegun(world.sessions["c1"][1], 1, 0, 0)
    (sent,) = world.take(KillTasks).kills
    assert sent.signum == 10
    world.advance(12)
    world.quiet()


# --- the master -----------------------------------------------------------------------------------
def test_it_asks_for_everything_after_each_subscription_until_it_is_answered(world: World) -> None:
    """What was launched into a dying master is found out, and silence is never an answer."""
    world.submit(many(2))
    world.launch()
    world.forget(Suppress)
    again = world.restarted()
    subscribe = again.start()
    assert subscribe.framework.framework_id == "F1" and subscribe.suppressed
    assert [ref.task_id for ref in again.take(Reconcile).tasks] == ["1.0.1", "1.1.1"]
    again.status("1.0.1", TaskState.RUNNING, uuid="")
    again.advance(5.5)
    assert [ref.task_id for ref in again.take(Reconcile).tasks] == ["1.1.1"]
    again.status("1.1.1", TaskState.DROPPED, uuid="", reason=Reason.RECONCILED)
    again.take(Revive)
    again.advance(6)
    again.quiet()


def test_work_that_comes_during_a_subscription_is_told_after_it(world: World) -> None:
    """The message under way says that nothing is wanted; without a word more, nothing would run."""
    world.request("c1", ListTasks())
    world.run(PeerLost(LINK))
    world.advance(1)
    assert world.take(Subscribe).suppressed
    world.request("c1", SubmitJob("r1", ONE))
    world.quiet()
    world.master(Subscribed(FrameworkId("F1"), 5.0))
    world.take(Revive)


def test_a_removed_framework_begins_anew(world: World) -> None:
    """Its id is dead, its jobs are not: what ran is run again once the agents ended it."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.master(FrameworkError("removed", "the failover timeout is over"))
    world.take(Bye)
    assert world.take(Subscribe).framework.framework_id == ""
    assert world.tables["meta"]["framework"]["framework_id"] == ""
    world.master(Subscribed(FrameworkId("F2"), 5.0))
    assert world.tables["meta"]["framework"]["framework_id"] == "F2"
    assert task_of(world, "1").state == "pending"
    world.advance(14)
    world.quiet()
    world.advance(2)
    world.take(Revive)


def test_another_instance_makes_this_one_stop(world: World) -> None:
    """Two schedulers over one queue would start everything twice; a ghost comes only once."""
    world.master(FrameworkError("failed-over", "another process subscribed under this id"))
    world.take(Bye)
    world.take(Subscribe)
    assert world.stopped is None
    world.master(FrameworkError("failed-over", "another process subscribed under this id"))
    world.take(Bye)
    assert world.stopped is not None and world.stopped.exit_code == 5
    assert "another process" in world.stopped.text


@pytest.mark.parametrize("event", ["master", "signal"])
def test_it_stops_when_it_is_asked_to(world: World, event: str) -> None:
    """The jobs stay queued; the master hears a goodbye."""
    world.submit(ONE)
    if event == "master":
        world.master(StopFramework())
    else:
        world.run(Signalled(15))
    world.take(Bye)
    assert world.stopped is not None and world.stopped.exit_code == 0
    again = world.restarted()
    assert again.start().demand is not None


def test_updates_of_an_older_framework_id_are_acknowledged_and_ignored(world: World) -> None:
    """They come from agents that have not heard of the removal."""
    world.submit(ONE)
    world.launch()
    world.forget(Suppress)
    world.status("1.0.1", TaskState.FINISHED, framework="F0")
    assert task_of(world, "1").state == "staging"


# --- reasons --------------------------------------------------------------------------------------
def test_a_pending_task_always_has_a_reason(worlds: Callable[..., World]) -> None:
    """Each thing that a task can wait for has its word."""
    world = worlds()
    world.start()
    world.submit(JobSpec("big", ("true",), cpus_milli=64_000))
    assert task_of(world, "1").reason == "OfferPending"
    world.advance(2)
    assert task_of(world, "1").reason == "NoAgents"
    world.master(Offers((world.offer(),)))
    world.take(Decline)
    big = task_of(world, "1")
    assert big.reason == "Resources" and "64 cpus" in big.message and "4 cpus" in big.message
    world.submit(many(50))
    world.launch()
    world.advance(2)
    assert task_of(world, "2.49").reason == "Resources"
    world.run(PeerLost(LINK))
    assert task_of(world, "2.49").reason == "NoFramework"


def test_principals_are_what_their_keys_say() -> None:
    """The tests' own users: one with a name each, and an operator."""
    assert ALICE.may_run_as("alice") and not ALICE.may_run_as("bob") and ROOT.may_run_as("bob")
    assert FrameworkId("F1") != FrameworkId("")
