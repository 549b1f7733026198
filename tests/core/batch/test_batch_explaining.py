"""Explanations: every cause in its order, and the first one as the reason in listings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.core.batch.explaining import explain_task
from mesosctl.core.batch.fitwords import advice_of, causes_of
from mesosctl.core.batch.outlook import FIT_BELIEVED_S, KnownFit
from mesosctl.core.batch.watching import WATCH_SPACING_S
from mesosctl.core.machine import Tick
from mesosctl.model.explanations import Explanation
from mesosctl.model.fit import REASONS, AgentGroup, Fit, Footing, Lack, QuotaRoom, Rival
from mesosctl.model.jobs import JobSpec
from mesosctl.model.tasks import Reason, TaskState, Usage
from mesosctl.protocol.messages.batch import (
    Changed,
    JobAccepted,
    ListJobs,
    ListTasks,
    SubmitJob,
    Watch,
)
from mesosctl.protocol.messages.explain import Explained, ExplainTasks, Fits, HowFits
from mesosctl.protocol.messages.framework import Revive, Suppress
from mesosctl.protocol.messages.session import Refusal

MIB = 2**20
WORDS = (
    "OfferPending",
    "Filtered",
    "Resources",
    "Preempting",
    "Draining",
    "Unreachable",
    "NeverFits",
    "NoVolume",
    "Constraint",
)
JOB = JobSpec("sim", ("sim",), mem_bytes=512 * MIB, user="alice")
MEM = Lack("mem", 8_192_000, 6_349_000, "a2")
IN_USE = AgentGroup("Resources", 3, ("a1", "a2", "a3"), (MEM,))
DRAINING = AgentGroup("Draining", 1, ("a4",), text="draining: kernel")
RIVAL = Rival("Share", Footing("web", 220, "cpus"), Footing("batch", 610, "mem"))


def explain(world: Any, *selectors: str) -> list[Explanation]:
    """What a command is told."""
    (answer,) = world.request("c1", ExplainTasks(selectors))
    assert isinstance(answer, Explained), answer
    return list(answer.explanations)


@pytest.mark.parametrize(
    ("fit", "words", "text"),
    [
        (Fit(0), "NoAgents", "there are no agents"),
        (
            Fit(4, (IN_USE, DRAINING)),
            "Resources Draining",
            "3 agents lack mem (needs 8G; most free 6.2G on a2)",
        ),
        (
            Fit(4, (IN_USE, DRAINING), (RIVAL,)),
            "Share Resources Draining",
            "batch: dominant share 0.61 (mem), web: 0.22: web is offered first",
        ),
        (
            Fit(
                1, (replace(IN_USE, agents=1, names=("a1",)),), (replace(RIVAL, reason="Priority"),)
            ),
            "Priority Resources",
            "web has priority 0, batch 0: web is offered first",
        ),
        (
            Fit(4, (IN_USE, AgentGroup("Preempting", 1, ("a4",), text="2 tasks end")), (RIVAL,)),
            "Preempting Share Resources",
            "1 agent (a4) is being cleared for it: 2 tasks end",
        ),
        (Fit(1, (DRAINING,)), "Draining", "1 agent (a4) is draining: kernel"),
        (
            Fit(2, (DRAINING, AgentGroup("NeverFits", 1, ("a1",), (MEM,)))),
            "Draining NeverFits",
            "1 agent (a4) is draining: kernel",
        ),
        (
            Fit(2, (AgentGroup("Filtered", 1, ("a1",), left_s=3.2), replace(IN_USE, agents=1))),
            "Filtered Resources",
            "1 agent (a1) was declined and is not offered for another 3s",
        ),
        (
            Fit(2, (AgentGroup("", 2, ("a1", "a2")),)),
            "OfferPending",
            "it fits now on 2 agents (a1, a2): an offer is to be expected",
        ),
        (
            Fit(
                3,
                (
                    AgentGroup("Constraint", 1, ("a1",), text="rack==r1 (rack is r2)"),
                    replace(IN_USE, agents=2),
                ),
            ),
            "Resources Constraint",
            "2 agents lack mem",
        ),
        (
            Fit(2, (AgentGroup("NoVolume", 2, ("a1", "a2"), text="no volume data1 of role eng"),)),
            "NoVolume",
            "2 agents (a1, a2): no volume data1 of role eng",
        ),
        (
            Fit(
                2,
                (
                    AgentGroup("NoVolume", 1, ("a1",), text="no volume data1 of role eng"),
                    replace(IN_USE, agents=1, names=("a2",)),
                ),
            ),
            "Resources NoVolume",
            "the volume is on a2: 1 agent lacks mem (needs 8G; most free 6.2G on a2)",
        ),
        (
            Fit(
                1, (AgentGroup("Resources", 1, ("a2",), (Lack("volumes", 0, 0, "a2", "{data1}"),)),)
            ),
            "Resources",
            "1 agent lacks volume data1, which is in use",
        ),
        (
            Fit(2, (AgentGroup("Constraint", 2, ("a1", "a2")),)),
            "Constraint",
            "2 agents (a1, a2) are excluded by its constraint",
        ),
        (
            Fit(
                2,
                (
                    AgentGroup("Constraint", 1, ("a1",)),
                    AgentGroup("Reserved", 1, ("a2",), text="ads"),
                ),
            ),
            "NeverFits Constraint",
            "1 agent (a2) has enough only with what is reserved for ads",
        ),
        (
            Fit(
                1, (AgentGroup("", 1, ("a1",)),), quota=(QuotaRoom("web", "cpus", 4000, 500, 1000),)
            ),
            "Quota",
            "role web may hold 0.5 more cpus (its limit is 4), needs 1",
        ),
    ],
)
def test_the_order_of_causes(fit: Fit, words: str, text: str) -> None:
    """What makes it impossible first, then operators, then who is before us, then what is used."""
    causes = causes_of(fit)
    assert list(dict.fromkeys(cause.reason for cause in causes)) == words.split()
    assert causes[0].text.startswith(text)
    assert all(cause.text and "\n" not in cause.text for cause in causes)


def test_numbers_are_in_the_text() -> None:
    """Who reads it need not look anywhere else."""
    [cause] = causes_of(Fit(3, (IN_USE,)))
    assert cause.text == "3 agents lack mem (needs 8G; most free 6.2G on a2)"


def test_listings_show_the_first_cause_of_the_explanation(world: Any) -> None:
    """One name for one thing: `jobs`, `tasks` and `explain` say the same."""
    world.submit(JOB)
    world.fits = Fit(4, (IN_USE, DRAINING), (RIVAL,))
    [found] = explain(world, "1")
    assert [cause.reason for cause in found.causes] == ["Share", "Resources", "Draining"]
    assert found.verdict == "idle" and found.fit == world.fits and found.advice
    (jobs,) = world.request("c1", ListJobs())
    (tasks,) = world.request("c1", ListTasks(("1",)))
    assert jobs.jobs[0].reason == tasks.tasks[0].reason == "Share"
    assert tasks.tasks[0].message == found.causes[0].text


def test_a_master_that_does_not_answer_keeps_nobody_waiting(world: Any) -> None:
    """After a second it is told what we know ourselves: there is always a reason."""
    world.submit(JOB)
    world.say("c1", ExplainTasks(("1",)))
    assert isinstance(world.take(HowFits), HowFits)
    assert world.answers("c1") == []
    world.advance(1.5)
    (answer,) = world.answers("c1")
    assert [cause.reason for cause in answer.explanations[0].causes] == ["NoAgents"]
    assert answer.explanations[0].fit is None


def test_what_the_master_said_is_not_believed_for_ever(world: Any) -> None:
    """A reason of ten seconds ago is history."""
    world.submit(JOB)
    world.fits = Fit(1, (DRAINING,))
    (jobs,) = world.request("c1", ListJobs())
    assert jobs.jobs[0].reason == "Draining"
    world.advance(FIT_BELIEVED_S + 1)
    world.run(Tick())
    assert world.machine.outlook.fit_of(world.machine.queue.jobs[1]) is None
    world.fits = Fit(4, (IN_USE,))
    (jobs,) = world.request("c1", ListJobs())
    assert jobs.jobs[0].reason == "Resources"


def test_watchers_are_told_of_a_reason_that_changes(world: Any) -> None:
    """The master is asked while somebody watches what waits, and not otherwise."""
    world.submit(JOB)
    world.advance(20.0)
    world.quiet()
    world.client("c2")
    world.say("c2", Watch(("1",)))
    (told,) = world.answers("c2")
    assert isinstance(told, Changed)
    question = world.take(HowFits)
    world.master(Fits(1, question.request, (Fit(4, (IN_USE,)),)))
    world.advance(WATCH_SPACING_S + 0.1)
    (told,) = world.answers("c2")
    assert told.jobs[0].reason == "Resources"
    world.advance(6.0)
    question = world.take(HowFits)
    world.master(Fits(1, question.request, (Fit(4, (IN_USE,)),)))
    assert world.answers("c2") == []


def test_its_own_bound_comes_first(world: Any) -> None:
    """More agents would not help a job that may have no more tasks under way."""
    world.submit(replace(JOB, indices=((0, 4, 1),), is_array=True, max_running=1))
    world.launch()
    world.take(Suppress)
    world.fits = Fit(4, (IN_USE,))
    found = explain(world, "1")
    assert [one.task.state for one in found] == ["pending", "staging"]
    assert [cause.reason for cause in found[0].causes] == ["MaxRunning", "Resources"]
    assert found[0].alike == 4


def test_the_place_in_the_queue_is_told(world: Any) -> None:
    """Jobs of a higher priority, and older ones, are served first."""
    world.submit(JOB)
    world.submit(replace(JOB, priority=5, indices=((0, 2, 1),), is_array=True))
    world.submit(JOB)
    world.fits = Fit(4, (IN_USE,))
    [found] = explain(world, "3")
    assert (found.jobs_before, found.tasks_before) == (2, 4)


@pytest.mark.parametrize(
    ("state", "fields", "says", "advice"),
    [
        (TaskState.FINISHED, {}, "exit code 0", ""),
        (TaskState.FAILED, {"reason": Reason.EXITED, "exit_code": 3}, "exit code 3", ""),
        (
            TaskState.FAILED,
            {"reason": Reason.EXITED, "exit_code": 127},
            "was not found on the agent",
            "PATH",
        ),
        (TaskState.FAILED, {"reason": Reason.EXITED, "exit_code": 139}, "signal 11 (SEGV)", ""),
        (TaskState.FAILED, {"reason": Reason.SIGNALED, "signal": 6}, "signal 6 (ABRT)", ""),
        (
            TaskState.FAILED,
            {
                "reason": Reason.MEMORY_LIMIT,
                "message": "above",
                "usage": Usage(0.1, 0.1, 513 * MIB, 512 * MIB),
            },
            "limit of 512M, its peak was 513M",
            "-m 1G",
        ),
        (TaskState.FAILED, {"reason": Reason.TIME_LIMIT}, "its time limit of 1h", "--time"),
        (TaskState.KILLED, {"reason": Reason.KILL_REQUESTED, "signal": 15}, "on request", ""),
    ],
)
def test_an_end_is_explained(
    world: Any, state: TaskState, fields: dict[str, Any], says: str, advice: str
) -> None:
    """What the code, the signal or the limit means, and what may help."""
    world.submit(replace(JOB, time_limit_s=3600.0))
    world.launch()
    world.take(Suppress)
    world.status("1.0.1", TaskState.RUNNING)
    world.status("1.0.1", state, **fields)
    [found] = explain(world, "1")
    assert says in found.causes[0].text and advice in found.advice
    assert bool(advice) == bool(found.advice)
    assert found.causes[0].reason and found.verdict == "" and found.time_limit_s == 3600.0


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("exit code 3", ["it ended with exit code 3"]),
        ("", ["it ended with exit code 3"]),
        (
            "exit code 3; a child was killed for memory",
            ["it ended with exit code 3", "exit code 3; a child was killed for memory"],
        ),
    ],
)
def test_what_the_executor_says_is_told_when_it_says_more(
    world: Any, message: str, told: list[str]
) -> None:
    """Two lines that say the same make people look for the difference."""
    world.submit(JOB)
    world.launch()
    world.take(Suppress)
    end = {"reason": Reason.EXITED, "exit_code": 3, "message": message}
    world.status("1.0.1", TaskState.FAILED, **end)
    [found] = explain(world, "1")
    assert [cause.text for cause in found.causes] == told


def test_each_kind_of_task_is_told_once(world: Any) -> None:
    """A thousand tasks that failed alike are one explanation, and the bad ones come first."""
    world.submit(replace(JOB, indices=((0, 9, 1),), is_array=True))
    tasks = world.launch(cpus=6, mem_mib=8192)
    for number, task in enumerate(tasks):
        code = 0 if number < 2 else 3
        end = TaskState.FAILED if code else TaskState.FINISHED
        world.status(task.task_id, end, exit_code=code, reason=Reason.EXITED)
    world.forget(Revive, Suppress)
    world.fits = Fit(4, (IN_USE,))
    found = explain(world, "1")
    kinds = [(one.task.state, one.alike) for one in found]
    assert kinds == [("failed", 4), ("pending", 4), ("ok", 2)]
    assert [one.alike for one in explain(world, "1.0", "1.2")] == [1, 1]


def test_a_dry_run_is_answered_with_the_same(world: Any) -> None:
    """Before anything is submitted, with the numbers; nothing is kept of it."""
    world.fits = Fit(3, (IN_USE,))
    (answer,) = world.request("c1", SubmitJob("r1", JOB, dry_run=True))
    assert isinstance(answer, JobAccepted) and answer.fits and answer.explanation is not None
    assert answer.explanation.verdict == "idle" and answer.note == answer.explanation.causes[0].text
    world.advance(2.0)
    world.fits = Fit(1, (AgentGroup("NeverFits", 1, ("a1",), (MEM,)),))
    (answer,) = world.request("c1", SubmitJob("r1", JOB, dry_run=True))
    assert not answer.fits and "too small" in answer.note
    assert not world.machine.queue.jobs


def test_what_does_not_exist_is_refused(world: Any) -> None:
    """As in every other command."""
    (answer,) = world.request("c1", ExplainTasks(("7",)))
    assert isinstance(answer, Refusal) and answer.code == "not-found"
    (answer,) = world.request("c1", ExplainTasks(()))
    assert isinstance(answer, Refusal) and answer.code == "invalid"


amounts = st.integers(0, 10_000)
groups = st.builds(
    AgentGroup,
    st.sampled_from(list(REASONS)),
    st.integers(1, 5),
    st.just(("a1", "a2")),
    st.one_of(
        st.just(()), st.tuples(st.builds(Lack, st.just("mem"), amounts, amounts, st.just("a1")))
    ),
    st.sampled_from(["", "why"]),
    st.one_of(st.none(), st.floats(0.0, 10.0)),
)
fits = st.lists(groups, max_size=5, unique_by=lambda group: group.reason).flatmap(
    lambda found: st.builds(
        Fit,
        st.just(sum(group.agents for group in found)),
        st.just(tuple(found)),
        st.sampled_from([(), (RIVAL,), (replace(RIVAL, reason="Lot"),)]),
        st.sampled_from([(), (QuotaRoom("web", "cpus", None, 0, 1000),)]),
    )
)


@given(fits)
def test_nothing_waits_without_a_reason(fit: Fit) -> None:
    """Whatever a master says: a word of the table, a sentence, and something to do about it."""
    causes = causes_of(fit)
    rules = ["Share", "Priority", "Lot", "Quota", "NoAgents"]
    known = {**dict.fromkeys(WORDS), **dict.fromkeys(rules)}
    assert causes and all(cause.reason in known and cause.text for cause in causes)
    assert advice_of(fit, causes[0])
    if fit.verdict == "now":
        assert causes[0].reason in ("OfferPending", "Preempting", "Filtered")
    if fit.verdict == "never" and not fit.quota:
        assert causes[0].reason in ("NeverFits", "NoVolume", "Constraint", "NoAgents")


def test_the_end_that_makes_room_is_named(world: Any) -> None:
    """A time limit is a promise: whoever waits learns for how long at the most."""
    world.submit(replace(JOB, time_limit_s=600.0))
    world.submit(replace(JOB, cpus_milli=500, time_limit_s=60.0))
    tasks = world.launch()
    world.take(Suppress)
    for task in tasks:
        world.status(task.task_id, TaskState.RUNNING)
    world.submit(JOB)
    waiting, outlook = world.machine.queue.jobs[3], world.machine.outlook
    here = replace(IN_USE, agents=1, names=("a1",), lacks=())
    outlook.fits[waiting.size] = KnownFit(Fit(1, (here,)), world.mono)
    world.mono += 5.0
    world.run(Tick())
    found = explain_task(waiting, 0, outlook)
    assert (
        found.advice == "wait until something ends (1.0 on a1 ends within 9m55s by its time limit)"
    )
    world.forget(HowFits)
