"""The parts of the batch framework by themselves: indices, paths, environment, placing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.core.batch.launch import environment, own_environment, stream_path, task_info
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.placing import Agents, place
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import Job, Size, Task, new_job, task_of, task_record
from mesosctl.core.batch.spans import Spans, gaps, merged, normal
from mesosctl.core.batch.wishing import Wish, is_news, wish
from mesosctl.core.machine import Now
from mesosctl.model.cluster import Demand, Offer
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.jobs import BatchState, JobSpec
from mesosctl.model.resources import Resources

MIB = 2**20
NOW = Now(0.0, 0.0)
RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 7)).map(
        lambda t: (t[0], t[0] + t[1], t[2])
    ),
    min_size=1,
    max_size=6,
)


def offer(number: int, cpus_milli: int, mem_mib: int) -> Offer:
    return Offer(
        OfferId(f"O{number}"),
        FrameworkId("F1"),
        AgentId(f"A{number}"),
        f"a{number}",
        "*",
        Resources.of(cpus_milli=cpus_milli, mem_bytes=mem_mib * MIB),
    )


def job_of(number: int = 1, **fields: object) -> Job:
    given_fields = {"name": "n", "argv": ("true",), "mem_bytes": 4 * MIB, **fields}
    return new_job(number, JobSpec(**given_fields), "alice", f"r{number}", 0.0)  # type: ignore[arg-type]


# --- spans ----------------------------------------------------------------------------------------
@given(RANGES)
def test_ranges_of_indices_become_orderly(ranges: list[tuple[int, int, int]]) -> None:
    """However an array is written, each index is one task, in order, and found both ways."""
    indices = sorted({i for first, last, step in ranges for i in range(first, last + 1, step)})
    spans = Spans(normal(ranges))
    assert [spans.index(position) for position in range(spans.count)] == indices
    assert (spans.first, spans.last) == (indices[0], indices[-1])
    for index in range(110):
        expected = indices.index(index) if index in indices else None
        assert spans.position(index) == expected
        assert spans.not_below(index) == sum(other < index for other in indices)


@given(RANGES, st.integers(0, 110), st.integers(0, 30))
def test_indices_within(ranges: list[tuple[int, int, int]], first: int, more: int) -> None:
    """A range of indices is a range of positions, or nothing."""
    spans = Spans(normal(ranges))
    found = spans.within(first, first + more)
    inside = [p for p in range(spans.count) if first <= spans.index(p) <= first + more]
    assert found == ((inside[0], inside[-1]) if inside else None)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))), st.integers(0, 40))
def test_merging_and_gaps(pairs: list[tuple[int, int]], last: int) -> None:
    """What is covered and what is free are together everything, and never both."""
    ranges = merged([(first, first + more) for first, more in pairs])
    covered = {p for first, more in pairs for p in range(first, first + more + 1)}
    assert {p for low, high in ranges for p in range(low, high + 1)} == covered
    free = {p for low, high in gaps(0, last, ranges) for p in range(low, high + 1)}
    assert free == set(range(last + 1)) - covered


# --- launch ---------------------------------------------------------------------------------------
def test_placeholders_in_paths() -> None:
    """Each letter has its value, a name brings no slash, what is unknown stays."""
    spec = {"name": "a/b", "user": "alice", "indices": ((3, 9, 3),), "submit_dir": "/data/x"}
    job = job_of(7, **spec)
    task = Task(1, agent="node/1")
    path = "out/%j.%A.%a.%t.%x.%u.%N.%%.%z.%"
    assert stream_path(path, job, task) == "/data/x/out/7.7.6.1.a_b.alice.node_1.%.%z.%"
    assert stream_path("/abs/%a", job, task) == "/abs/6"
    assert [stream_path(word, job, task) for word in ("", "none", "merge")] == ["", "none", "merge"]


def test_the_entry_replaces_its_holes() -> None:
    """`{}` in arguments becomes the line as it is, blanks, braces and quotes and all."""
    job = job_of(argv=("echo", "{}", "--x={}-{}"), entries=("a b'{}", "c"))
    info = task_info(job, Task(0, attempt=2), "F1", "")
    assert info.command.argv == ("echo", "a b'{}", "--x=a b'{}-a b'{}")
    assert info.task_id == "1.0.2" and info.env["MESOS_ENTRY"] == "a b'{}"
    plain = task_info(job_of(argv=("find", "{}")), Task(0, attempt=1), "F1", "")
    assert plain.command.argv == ("find", "{}")


def test_the_environment_of_a_task() -> None:
    """A task finds its place by these; what the user gave cannot pretend another one."""
    job = job_of(
        5,
        env={"MESOS_JOB_ID": "9", "A": "b"},
        indices=((2, 8, 2),),
        is_array=True,
        cpus_milli=1500,
        mem_bytes=64 * MIB,
        submit_dir="/s",
        role="web",
    )
    task = Task(3, attempt=4, agent="a1")
    assert environment(job, "a1", "F1", "tcp://m:1") == {
        "MESOS_JOB_ID": "5",
        "MESOS_JOB_NAME": "n",
        "MESOS_CPUS": "1.5",
        "MESOS_MEM": "64",
        "MESOS_AGENT": "a1",
        "MESOS_FRAMEWORK_ID": "F1",
        "MESOS_ROLE": "web",
        "MESOS_SUBMIT_DIR": "/s",
        "MESOS_MASTER": "tcp://m:1",
        "MESOS_ARRAY_COUNT": "4",
        "MESOS_ARRAY_MIN": "2",
        "MESOS_ARRAY_MAX": "8",
    }
    own = {"MESOS_TASK_ID": "5.8", "MESOS_ATTEMPT": "4", "MESOS_ARRAY_INDEX": "8"}
    assert task_info(job, task, "F1", "").env == own
    assert task_info(job, task, "F1", "").command.env["MESOS_JOB_ID"] == "5"
    assert "MESOS_ARRAY_INDEX" not in own_environment(job_of(), Task(0))


def test_tasks_of_a_job_share_what_they_have_in_common() -> None:
    """The environment of whoever submitted them is made once for each agent, and sent once."""
    job = job_of(env={"A": "b"}, indices=((0, 3, 1),), is_array=True)
    first, second = (task_info(job, Task(at, attempt=1, agent="a1"), "F1", "") for at in (0, 1))
    assert first.command is second.command
    assert first.env != second.env
    elsewhere = task_info(job, Task(2, attempt=1, agent="a2"), "F1", "")
    assert elsewhere.command.env["MESOS_AGENT"] == "a2"
    apart = job_of(stdout="out-%a", submit_dir="/s", indices=((0, 3, 1),), is_array=True)
    paths = [task_info(apart, Task(at, attempt=1), "F1", "").command.stdout for at in (0, 1)]
    assert paths == ["/s/out-0", "/s/out-1"]


def test_a_task_record_comes_back_whole() -> None:
    """What is left out on disk is exactly what equals its default."""
    task = Task(3, BatchState.FAILED, 2, AgentId("A"), "a", "Exited", "m", 7, None, 1.0, 2.0)
    assert task_of(3, task_record(task)) == task
    assert task_record(Task(0)) == {"state": "pending"}


# --- placing --------------------------------------------------------------------------------------
JOBS = st.lists(
    st.tuples(
        st.integers(1, 30),  # cpus in tenths
        st.integers(4, 64),  # MiB
        st.integers(1, 12),  # tasks
        st.integers(-1, 1),  # priority
        st.none() | st.integers(1, 3),
    ),
    min_size=1,
    max_size=6,
)
OFFERS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 128)), max_size=4)


@given(JOBS, OFFERS)
def test_placing_is_within_bounds_and_leaves_no_room_unused(
    jobs: list[tuple[int, int, int, int, int | None]], offers: list[tuple[int, int]]
) -> None:
    """No offer is overdrawn, no limit passed, and nothing that still fits is left waiting."""
    queue = Queue()
    for number, (cpus, mem, count, priority, most) in enumerate(jobs, 1):
        queue.add(
            job_of(
                number,
                cpus_milli=cpus * 100,
                mem_bytes=mem * MIB,
                indices=((0, count - 1, 1),),
                priority=priority,
                max_running=most,
            )
        )
    slots = place(queue, [offer(n, cpus * 100, mem) for n, (cpus, mem) in enumerate(offers)], 0.0)
    queue.check()
    assert len(slots) == len(offers)
    for slot in slots:
        used = sum(job.cpus_milli for job, _ in slot.placed)
        assert used + slot.cpus_milli == slot.offer.resources.cpus_milli
        assert slot.cpus_milli >= 0 and slot.mem_milli >= 0
        assert all(task.agent_id == slot.offer.agent_id for _, task in slot.placed)
    for job in queue.jobs.values():
        assert job.spec.max_running is None or job.active <= job.spec.max_running
        fits = [
            slot
            for slot in slots
            if slot.cpus_milli >= job.cpus_milli and slot.mem_milli >= job.mem_milli
        ]
        assert not job.room() or not fits


def test_a_lower_priority_never_takes_what_a_higher_one_fits_into() -> None:
    """Strictly first: the later, lower job gets only what is left."""
    queue = Queue()
    queue.add(job_of(1, indices=((0, 3, 1),), cpus_milli=1000))
    queue.add(job_of(2, indices=((0, 3, 1),), cpus_milli=1000, priority=1))
    (slot,) = place(queue, [offer(1, 5000, 1024)], 0.0)
    assert [job.number for job, _ in slot.placed] == [2, 2, 2, 2, 1]


def test_tasks_go_where_everything_they_need_is() -> None:
    """GPUs and ports as much as CPUs; who needs none is not held up by who does."""
    queue = Queue()
    two = Resources.parse("gpus:2")
    queue.add(job_of(1, indices=((0, 3, 1),), cpus_milli=1000, more=two))
    queue.add(job_of(2, indices=((0, 3, 1),), cpus_milli=1000))
    gpus = offer(1, 4000, 1024)
    gpus = replace(gpus, resources=gpus.resources + Resources.parse("gpus:5;ports:[1-9]"))
    plain = offer(2, 3000, 1024)
    assert queue.wanted == {Size(1000, 4000, two): 4, Size(1000, 4000, Resources()): 4}
    slots = {slot.offer.offer_id: slot for slot in place(queue, [gpus, plain], 0.0)}
    queue.check()
    assert [job.number for job, _ in slots[gpus.offer_id].placed] == [1, 1, 2, 2]
    assert [job.number for job, _ in slots[plain.offer_id].placed] == [2, 2]
    job, task = slots[gpus.offer_id].placed[0]
    info = task_info(job, task, FrameworkId("F1"), "")
    assert info.resources == Resources.parse("cpus:1;mem:4;gpus:2")


@pytest.mark.parametrize(
    ("told", "present", "news"),
    [(5, 5, False), (5, 6, True), (5, 3, False), (5, 2, True), (None, 5, True), (5, None, True)],
)
def test_when_a_demand_is_told_again(told: int | None, present: int | None, news: bool) -> None:
    """More is told at once, less only when the difference is large, nothing when it is the same."""
    task = Resources.of(cpus_milli=1000)
    make = {count: Demand(task, count) for count in (told, present) if count is not None}
    assert is_news(make.get(told or 0), make.get(present or 0)) is news
    assert is_news(Demand(task, 5), Demand(Resources.of(cpus_milli=2000), 5))


def test_demand_counts_what_may_start() -> None:
    """A job at its limit wants nothing more."""
    queue = Queue()
    assert wish(queue) == Wish()
    queue.add(job_of(1, indices=((0, 9, 1),), max_running=3))
    assert wish(queue).demand == Demand(queue.jobs[1].resources, 3)
    place(queue, [offer(1, 9000, 1024)], 0.0)
    assert wish(queue) == Wish()


@given(
    registered=st.booleans(),
    seen=st.booleans(),
    since=st.none() | st.floats(0, 100),
    most=st.none() | st.just(1),
    cpus=st.integers(1, 100),
)
def test_no_pending_task_is_without_a_reason(
    registered: bool, seen: bool, since: float | None, most: int | None, cpus: int
) -> None:
    """Whatever the framework knows or does not, it has a word and a sentence for it."""
    queue = Queue()
    job = job_of(1, indices=((0, 9, 1),), max_running=most, cpus_milli=cpus * 100)
    queue.add(job)
    agents = Agents()
    if seen:
        agents.note(offer(1, 4000, 1024), queue)
        place(queue, [offer(1, 4000, 1024)], 0.0)
    word, sentence = Outlook(agents, queue, registered, since, 100.0).reason(job, None)
    assert word in ("NoFramework", "MaxRunning", "OfferPending", "NoAgents", "Resources")
    assert sentence
    queue.requeue(job, queue.start(job, AgentId("A"), "a"), 200.0) if job.room() else None
    assert Outlook(agents, queue, registered, since, 100.0).reason(job, None)[0]
    queue.check()
