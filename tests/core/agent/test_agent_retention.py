"""Which sandboxes the agent has removed, and which never."""

from __future__ import annotations

import pytest

from mesosctl.core.agent import AgentOptions
from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.retention import allowed_age_s
from mesosctl.core.machine import Effect
from mesosctl.limits import LOG_KEEP_S
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.tasks import TaskState
from mesosctl.model.words import duration_words, size_words
from mesosctl.protocol.messages.agent import AdmitKey
from mesosctl.protocol.messages.streams import ReadStream
from tests.core.agent.conftest import Bench

KEEP_S = 100.0
LOOK_S = KEEP_S / 10


def measured(bench: Bench, used_milli: int = 500) -> None:
    """The next look at the disk, answered."""
    bench.housekeeping.clear()
    bench.advance(LOOK_S)
    assert deeds.MeasureDisk() in bench.housekeeping
    bench.do(deeds.DiskMeasured(used_milli))


def listed(bench: Bench, *ages: float, whole: bool = True) -> deeds.ListSandboxes:
    """Answer a list of sandboxes F9/t0, t1, … of these ages, oldest first."""
    (asked,) = bench.took_deeds(deeds.ListSandboxes)
    wall = bench.now.wall
    found = tuple((wall - age, f"F9/t{number}") for number, age in enumerate(ages))
    bench.do(deeds.SandboxesListed(found, whole))
    return asked


def removals(bench: Bench) -> list[tuple[str, ...]]:
    return [one.containers for one in bench.took_deeds(deeds.RemoveSandboxes)]


@pytest.fixture
def bench() -> Bench:
    """An agent that has looked once and found nothing."""
    made = Bench(AgentOptions(log_keep_s=KEEP_S))
    made.up()
    measured(made)
    listed(made)
    return made


def test_the_allowed_age_shrinks_with_the_room_on_the_disk():
    """The whole retention on a disk with room, nothing on a full one, in proportion between."""
    week = LOG_KEEP_S
    ages = [allowed_age_s(week, used) for used in (0, 500, 800, 875, 950, 1000)]
    assert ages == [week, week, week, week / 2, 0.0, 0.0]


def test_only_what_is_older_than_its_retention_goes(bench: Bench):
    """And the rest goes when its time has come, without another list."""
    bench.time_s += 2 * KEEP_S
    measured(bench)
    listed(bench, 150.0, 101.0, 50.0)
    assert removals(bench) == [("F9/t0", "F9/t1")]
    bench.do(deeds.SandboxesRemoved(2))
    bench.advance(0.0)
    bench.do(deeds.DiskMeasured(500))
    assert removals(bench) == []
    bench.time_s += 60.0
    measured(bench)
    assert removals(bench) == [("F9/t2",)]


def test_a_full_disk_takes_the_oldest_first_and_looks_again_in_between(bench: Bench):
    """As few as possible: it stops as soon as there is room."""
    measured(bench, 990)
    ages = [50.0 - number / 10 for number in range(140)]
    listed(bench, *ages)
    (first,) = removals(bench)
    assert first == tuple(f"F9/t{number}" for number in range(7))
    bench.housekeeping.clear()
    bench.do(deeds.SandboxesRemoved(len(first)))
    bench.advance(0.0)
    assert bench.housekeeping == [deeds.MeasureDisk()]
    bench.do(deeds.DiskMeasured(700))
    assert removals(bench) == [] and bench.took_deeds(deeds.ListSandboxes) == []


def test_tasks_that_are_not_over_or_not_acknowledged_keep_their_sandboxes(bench: Bench):
    """Whatever the disk says; also when the list was made before the task came back to life."""
    bench.launch("t1", "t2", of=FrameworkId("F9"))
    measured(bench, 1000)
    asked = listed(bench, 5000.0, 5000.0, 5000.0, 5000.0)
    assert set(asked.without) >= {"F9/t1", "F9/t2"}
    assert removals(bench) == [("F9/t0",)]


def test_a_sandbox_that_somebody_reads_stays_until_he_has_done(bench: Bench):
    """Nobody is to lose a stream in the middle."""
    from tests.core.agent.conftest import FakeClient

    client = FakeClient(bench, "k1")
    bench.tell(AdmitKey("r1", FrameworkId("F9"), TaskId("t0"), "k1", 60.0))
    client.say(ReadStream(1, FrameworkId("F9"), TaskId("t0"), "stdout", credit=10))
    measured(bench, 1000)
    listed(bench, 5000.0, 4000.0)
    assert removals(bench) == [("F9/t1",)]


def test_the_age_begins_with_the_end_also_across_a_restart(bench: Bench):
    """Whoever was killed between the end and the mark sets it when it is back."""
    executor = bench.ends[next(iter(bench.ends))]
    bench.launch("t1")
    executor.update("t1", TaskState.FINISHED)  # type: ignore[union-attr]
    assert deeds.MarkEnded(("F1/t1",)) in bench.housekeeping
    bench.housekeeping.clear()
    bench.restart(AgentOptions(log_keep_s=KEEP_S))
    assert deeds.MarkEnded(("F1/t1",)) in bench.housekeeping


def test_what_cannot_be_removed_is_told_once_and_tried_again(bench: Bench):
    """A mount point in a sandbox is no reason to stop, nor to fill the log."""
    for _ in range(2):
        bench.time_s += 2 * KEEP_S
        measured(bench)
        listed(bench, 5000.0)
        assert removals(bench) == [("F9/t0",)]
        bench.do(deeds.SandboxesRemoved(0, (("F9/t0", "Device or resource busy"),)))
    told = [log.text for log in bench.logs if "F9/t0" in log.text]
    assert told == ["sandbox F9/t0 cannot be removed: Device or resource busy; it is tried again"]


def test_a_late_answer_means_nothing(bench: Bench):
    """Only what was asked for is acted upon."""
    late: list[Effect] = list(
        bench.machine.handle(deeds.SandboxesListed(((0.0, "F9/t0"),), True), bench.now)
    )
    assert late == []


def test_durations_and_sizes_are_told_as_they_are_typed():
    """What stands in an option is what the user reads again."""
    assert [duration_words(s) for s in (604800, 5400, 90, 0.5)] == ["7d", "1h30m", "1m30s", "0.5s"]
    assert [size_words(n) for n in (64 << 20, 1536 << 10, 100)] == ["64M", "1536K", "100 bytes"]
