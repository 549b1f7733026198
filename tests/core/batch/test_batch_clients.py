"""What commands ask of the batch framework: listings, watches, streams, keys, selectors."""

from __future__ import annotations

import pytest

from mesosctl.core.batch.keys import KeyAsked, KeyDecided
from mesosctl.core.batch.machine import LINK
from mesosctl.core.batch.watching import WATCH_SPACING_S
from mesosctl.core.machine import Close, PeerLost
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.batch import (
    Changed,
    JobAccepted,
    Jobs,
    KillJobs,
    KillsBegun,
    ListJobs,
    ListTasks,
    LocateLogs,
    LogSources,
    SubmitJob,
    Tasks,
    Watch,
)
from mesosctl.protocol.messages.explain import HowFits
from mesosctl.protocol.messages.framework import Admit, Admitted, Revive, Suppress
from mesosctl.protocol.messages.query import DescribeMaster, PrincipalIs, WhoIs
from mesosctl.protocol.messages.session import Ping, Pong, Refusal, Reset
from tests.core.batch.conftest import ALICE, BOB, GIB, ROOT, World

ONE = JobSpec("one", ("true",), mem_bytes=GIB // 2)


def many(count: int, name: str = "many") -> JobSpec:
    return JobSpec(name, ("true",), indices=((0, count - 1, 1),), is_array=True, mem_bytes=GIB // 2)


def ids(world: World, *selectors: str, **fields: object) -> list[str]:
    (answer,) = world.request("c1", ListTasks(selectors, **fields))  # type: ignore[arg-type]
    assert isinstance(answer, Tasks), answer
    return [view.id for view in answer.tasks]


def jobs(world: World, peer: str = "c1", **fields: object) -> list[str]:
    (answer,) = world.request(peer, ListJobs(**fields))  # type: ignore[arg-type]
    assert isinstance(answer, Jobs), answer
    return [view.id for view in answer.jobs]


def end(world: World, *wire_ids: str, state: TaskState = TaskState.FINISHED) -> None:
    for wire_id in wire_ids:
        world.status(wire_id, state)


# --- selectors ------------------------------------------------------------------------------------
def test_what_selectors_name(world: World) -> None:
    """Every form of the grammar, alone and together, each task once and in order."""
    world.submit(many(5, "a"))
    world.submit(JobSpec("b", ("true",), indices=((10, 30, 10),), is_array=True))
    world.submit(ONE)
    assert ids(world, "3") == ["3.0"]
    assert ids(world, "1.3") == ["1.3"]
    assert ids(world, "1.3-99", "1.0") == ["1.0", "1.3", "1.4"]
    assert ids(world, "2.15-30") == ["2.20", "2.30"]
    assert ids(world, "2-3") == ["2.10", "2.20", "2.30", "3.0"]
    assert ids(world, "last") == ["3.0"]
    assert ids(world, "name:[bo]*") == ["2.10", "2.20", "2.30", "3.0"]
    assert len(ids(world, "all")) == len(ids(world)) == 9


@pytest.mark.parametrize(
    ("selector", "code"),
    [
        ("9", "not-found"),
        ("7-9", "not-found"),
        ("1.9", "not-found"),
        ("9.0", "not-found"),
        ("name:x*", "not-found"),
        ("nonsense", "invalid"),
        ("1.2.3", "invalid"),
        ("٣", "invalid"),
        ("-1", "invalid"),
        ("", "invalid"),
    ],
)
def test_selectors_that_name_nothing(world: World, selector: str, code: str) -> None:
    """One wrong selector refuses the whole request and says which it is; nothing is ended."""
    world.submit(many(2))
    (answer,) = world.request("c1", KillJobs(("1", selector)))
    assert isinstance(answer, Refusal) and answer.code == code
    assert selector.removeprefix("name:").partition(".")[0] in answer.message
    assert world.machine.queue.jobs[1].fresh == 2


def test_there_is_no_last_job_for_a_newcomer(world: World) -> None:
    """`last` and `all` mean the caller's own jobs, not other people's."""
    world.submit(ONE)
    (answer,) = world.request("c2", ListTasks(("last",)), BOB)
    assert isinstance(answer, Refusal) and answer.code == "not-found"
    assert jobs(world, "c2") == []
    world.client("c3", ROOT)
    assert jobs(world, "c3") == [] and jobs(world, "c3", everyone=True) == ["1"]


def test_other_peoples_jobs_do_not_exist(world: World) -> None:
    """Neither seen nor ended by who may not run as their user; an operator may both."""
    world.submit(ONE)
    for request in (ListTasks(("1",)), KillJobs(("1",)), Watch(("1",)), LocateLogs(("1",))):
        (answer,) = world.request("c2", request, BOB)
        assert isinstance(answer, Refusal) and answer.code == "not-found", request
    (answer,) = world.request("c3", KillJobs(("1",)), ROOT)
    assert isinstance(answer, KillsBegun) and answer.cancelled == 1
    world.take(Suppress)


# --- listings -------------------------------------------------------------------------------------
def test_listings_show_what_was_asked_for(world: World) -> None:
    """Active by default, ended on demand, by state and name."""
    world.submit(many(2, "a"))
    world.submit(many(1, "b"))
    world.launch(2)
    end(world, "1.0.1", "1.1.1")
    assert jobs(world) == ["2"]
    assert jobs(world, ended=True) == ["1", "2"]
    assert jobs(world, states=("ok",)) == ["1"]
    assert jobs(world, name="b*") == ["2"]
    assert jobs(world, selectors=("1",)) == ["1"]
    assert ids(world, "1", "2", states=("pending",)) == ["2.0"]
    assert ids(world, "1", "2", ended=False) == ["2.0"]
    (answer,) = world.request("c1", ListJobs(states=("odd",)))
    assert isinstance(answer, Refusal) and "odd" in answer.message


def test_a_list_comes_in_pages(world: World) -> None:
    """Each page names where the next begins; together they are the whole, each task once."""
    world.submit(many(7))
    world.submit(many(3))
    seen: list[str] = []
    after = ""
    for _ in range(10):
        (page,) = world.request("c1", ListTasks(("1-2",), after=after, limit=3))
        assert isinstance(page, Tasks) and len(page.tasks) <= 3
        seen += [view.id for view in page.tasks]
        after = page.next
        if not after:
            break
    assert seen == [f"1.{n}" for n in range(7)] + [f"2.{n}" for n in range(3)]
    (first,) = world.request("c1", ListJobs(limit=1))
    assert isinstance(first, Jobs) and first.next == "1"
    assert jobs(world, after="1") == ["2"]
    (answer,) = world.request("c1", ListTasks(("1",), after="x"))
    assert isinstance(answer, Refusal)


def test_a_page_is_bounded_in_bytes(world: World) -> None:
    """Long entries make short pages: an answer always fits into a frame."""
    entries = tuple(f"{n:04}" + "x" * 20_000 for n in range(100))
    world.submit(JobSpec("long", ("echo", "{}"), entries=entries, mem_bytes=GIB))
    (page,) = world.request("c1", ListTasks(("1",)))
    assert isinstance(page, Tasks) and 10 < len(page.tasks) < 60 and page.next


def test_the_state_of_a_job(world: World) -> None:
    """Pending, then as far as its tasks are, partial between, and the worst at the end."""
    world.submit(many(3))

    def state() -> str:
        (answer,) = world.request("c1", ListJobs(("1",)))
        assert isinstance(answer, Jobs)
        return answer.jobs[0].state

    assert state() == "pending"
    world.launch(2)
    assert state() == "staging"
    world.status("1.0.1", TaskState.RUNNING)
    assert state() == "running"
    end(world, "1.0.1")
    assert state() == "partial"
    world.status("1.1.1", TaskState.FAILED, exit_code=3)
    world.launch(1)
    world.take(Suppress)
    end(world, "1.2.1")
    assert state() == "failed"
    (answer,) = world.request("c1", ListJobs(("1",)))
    assert isinstance(answer, Jobs)
    assert answer.jobs[0].counts == {"ok": 2, "failed": 1} and answer.jobs[0].exit_code == 3


# --- watching -------------------------------------------------------------------------------------
def test_a_watch_tells_the_present_then_changes_then_the_end(world: World) -> None:
    """Changes are gathered for a moment, the end is told at once, with the largest code."""
    world.submit(many(3))
    (present,) = world.request("c1", Watch(("1",), tasks=True))
    assert isinstance(present, Changed)
    assert [view.id for view in present.tasks] == ["1.0", "1.1", "1.2"] and not present.done
    world.launch(4)
    world.take(Suppress)
    assert world.answers("c1") == []
    world.advance(WATCH_SPACING_S + 0.01)
    (staged,) = world.answers("c1")
    assert isinstance(staged, Changed) and staged.jobs[0].counts == {"staging": 3}
    end(world, "1.0.1")
    world.advance(2 * WATCH_SPACING_S)
    (ended,) = world.answers("c1")
    assert isinstance(ended, Changed) and [view.id for view in ended.tasks] == ["1.0"]
    end(world, "1.1.1")
    world.status("1.2.1", TaskState.FAILED, exit_code=9)
    other, last = world.answers("c1")
    assert isinstance(other, Changed) and not other.done
    assert isinstance(last, Changed) and [view.id for view in last.tasks] == ["1.2"]
    assert last.done and last.exit_code == 9
    world.advance(1)
    assert world.answers("c1") == []


def test_a_watch_of_some_tasks_ends_with_them(world: World) -> None:
    """`wait 1.0-1` neither waits for the rest of the job nor takes its code."""
    world.submit(many(3))
    world.request("c1", Watch(("1.0-1",)))
    world.launch(4)
    world.take(Suppress)
    world.status("1.2.1", TaskState.FAILED, exit_code=9)
    end(world, "1.0.1")
    world.advance(1)
    changes = world.answers("c1")
    assert changes and not any(c.done for c in changes if isinstance(c, Changed))
    end(world, "1.1.1")
    (last,) = world.answers("c1")
    assert isinstance(last, Changed) and last.done and last.exit_code == 0


def test_a_watch_of_what_has_ended_is_over_at_once(world: World) -> None:
    """`wait` of an old job answers from the past; `wait all` without jobs is done."""
    world.submit(ONE)
    world.request("c1", KillJobs(("1",)))
    world.forget(Suppress)
    (only,) = world.request("c1", Watch(("1",)))
    assert isinstance(only, Changed) and only.done and only.exit_code == 125
    (nothing,) = world.request("c1", Watch(("all",)))
    assert isinstance(nothing, Changed) and nothing.done and nothing.exit_code == 0


def test_a_large_present_is_told_by_its_counts(world: World) -> None:
    """A hundred thousand pending tasks are not listed one by one to everyone who waits."""
    world.submit(many(100_000))
    (present,) = world.request("c1", Watch(("1",), tasks=True))
    assert isinstance(present, Changed) and present.tasks == ()
    assert present.jobs[0].counts == {"pending": 100_000}


def test_nobody_is_told_after_leaving(world: World) -> None:
    """A lost connection takes its watches with it, and a session that broke does, too."""
    world.submit(many(2))
    world.request("c1", Watch(("1",)))
    world.request("c2", Watch(("1",)))
    world.run(PeerLost("c1"))
    world.sessions["c2"][1] += 5
    (reset,) = world.request("c2", Ping())
    assert isinstance(reset, Reset)
    world.launch(4)
    world.take(Suppress)
    world.advance(1)
    assert world.answers("c1") == [] and world.answers("c2") == []


# --- streams --------------------------------------------------------------------------------------
def test_streams_are_located_by_admission(world: World) -> None:
    """The agent is asked to let the caller's key in; what never started says so."""
    world.submit(many(2))
    world.launch(1)
    assert world.request("c1", LocateLogs(("1",))) == []
    admit = world.take(Admit)
    assert (admit.task_id, admit.agent_id, admit.key) == ("1.0.1", "id-a1", "key-alice")
    world.master(Admitted(admit.request, "tcp://a1:1", "agent-key"))
    (answer,) = world.answers("c1")
    assert isinstance(answer, LogSources)
    first, second = answer.sources
    assert (first.address, first.public_key, first.wire_id) == ("tcp://a1:1", "agent-key", "1.0.1")
    assert first.framework_id == "F1" and not first.problem
    assert second.problem == "it has not been started" and not second.address


def test_a_silent_agent_is_a_problem_not_a_hang(world: World) -> None:
    """After a few seconds the answer says so; one that comes later changes nothing."""
    world.submit(ONE)
    world.launch()
    world.take(Suppress)
    world.request("c1", LocateLogs(("1",)))
    admit = world.take(Admit)
    world.advance(5.5)
    (answer,) = world.answers("c1")
    assert isinstance(answer, LogSources) and "does not answer" in answer.sources[0].problem
    world.master(Admitted(admit.request, "tcp://a1:1", "agent-key"))
    assert world.answers("c1") == []


def test_streams_of_an_earlier_attempt(world: World) -> None:
    """`logs --attempt 1` of a task that was lost once leads to the agent it was on."""
    world.submit(ONE)
    world.launch(agent="a1")
    world.forget(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.status("1.0.1", TaskState.GONE)
    world.forget(Revive)
    world.launch(agent="a2")
    world.forget(Suppress)
    world.request("c1", LocateLogs(("1",), attempt=1))
    admit = world.take(Admit)
    assert (admit.task_id, admit.agent_id) == ("1.0.1", "id-a1")
    world.master(Admitted(admit.request, problem="its sandbox is gone"))
    (answer,) = world.answers("c1")
    assert isinstance(answer, LogSources) and answer.sources[0].problem == "its sandbox is gone"
    (answer,) = world.request("c1", LocateLogs(("1",), attempt=7))
    assert isinstance(answer, LogSources) and "attempt 7" in answer.sources[0].problem


# --- keys -----------------------------------------------------------------------------------------
def test_a_connection_waits_for_the_masters_verdict(world: World) -> None:
    """The framework has no list of keys: it asks once, and uses the answer for a minute."""
    world.run(KeyAsked("key-alice"))
    assert world.take(WhoIs).key == "key-alice" and not world.decided()
    world.master(PrincipalIs(1, "key-alice", ALICE))
    assert world.decided() == [KeyDecided("key-alice", True)]
    world.run(KeyAsked("key-alice"))
    assert world.decided()[1:] == [KeyDecided("key-alice", True)]
    world.run(KeyAsked("key-x"))
    world.take(WhoIs)
    world.master(PrincipalIs(2, "key-x", None))
    assert world.decided()[-1] == KeyDecided("key-x", False)


def test_a_master_that_is_silent_keeps_strangers_out(world: World) -> None:
    """Without a verdict nobody is let in, nor refused: that would be final for who is refused."""
    world.run(KeyAsked("key-alice"))
    world.take(WhoIs)
    world.advance(20)
    assert world.decided() == []
    world.master(PrincipalIs(1, "key-alice", ALICE))
    assert world.decided() == [KeyDecided("key-alice", True)]


def test_a_connection_that_waited_in_vain_is_asked_about_again(world: World) -> None:
    """Its handshake has ended by then; the next one begins from the beginning."""
    world.run(KeyAsked("key-alice"))
    world.take(WhoIs)
    world.advance(31)
    world.run(KeyAsked("key-alice"))
    world.take(WhoIs)
    assert world.decided() == []


def test_a_revoked_key_loses_its_session(world: World) -> None:
    """Live keys are asked about again; deleting the line ends what they have open."""
    world.submit(ONE)
    for _ in range(3):
        world.advance(9)
        world.say("c1", Ping())
        assert isinstance(world.answers("c1")[0], Pong)
    world.advance(4)
    world.forget(HowFits)
    assert world.take(WhoIs).key == "key-alice"
    world.master(PrincipalIs(9, "key-alice", None))
    (reset,) = world.answers("c1")
    assert isinstance(reset, Reset)
    assert Close("c1") in world.effects or "c1" not in world.machine.counter.sessions
    world.run(KeyAsked("key-alice"))
    assert world.decided()[-1] == KeyDecided("key-alice", False)


def test_known_keys_work_on_while_the_master_restarts(world: World) -> None:
    """A command that waits must survive that; nobody could have revoked anything meanwhile."""
    world.submit(ONE)
    world.master_answers = False
    world.run(PeerLost(LINK))
    for _ in range(8):
        world.advance(10)
        world.say("c1", Ping())
        world.answers("c1")
    (answer,) = world.request("c1", SubmitJob("r2", ONE))
    assert isinstance(answer, JobAccepted)
    world.mail[LINK].clear()


def test_what_is_no_request_is_refused(world: World) -> None:
    """Only what is in the table of commands is carried out, and the answer names the request."""
    (answer,) = world.request("c1", DescribeMaster())
    assert isinstance(answer, Refusal) and answer.code == "unknown-kind" and answer.re == 1
    (answer,) = world.request("c1", KillJobs(("1",), signum=99))
    assert isinstance(answer, Refusal) and answer.re == 2
    for request in (Watch(()), KillJobs(()), LocateLogs(())):
        (answer,) = world.request("c1", request)
        assert isinstance(answer, Refusal) and answer.code == "invalid"
