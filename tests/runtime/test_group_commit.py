"""Submissions that arrive together are written together, and acknowledged only after that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mesosctl.core.batch.records import JOBS
from mesosctl.core.machine import Delete, Put, Received, Send
from mesosctl.errors import StorageFailed
from mesosctl.model.jobs import JobSpec
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.batch import JobAccepted, ListJobs, SubmitJob
from mesosctl.runtime.loop import Loop
from mesosctl.storage.store import SqliteStore
from tests.core.batch.conftest import World

MANY = 50
PEERS = ("commands:01", "commands:02", "commands:03")


class Noting:
    """A real store that notes what is durable, in the same list as what is sent."""

    def __init__(self, directory: Path, story: list[str]) -> None:
        self.real = SqliteStore.open(directory, "framework", 1)
        self.story = story
        self.fails = False

    def apply(self, operations: Sequence[Put | Delete]) -> None:
        """Write, then note which jobs are on disk now."""
        if self.fails:
            raise StorageFailed("the disk says no", "look at it")
        self.real.apply(operations)
        jobs = [operation.key for operation in operations if operation.table == JOBS]
        self.story.append(f"commit of {len(jobs)}")


class Intake:
    """The real loop around the real machine, on a real disk; what it sends is noted."""

    def __init__(self, directory: Path) -> None:
        self.world = World()
        self.world.start()
        for peer in PEERS:
            # Known already: otherwise the master would be asked who it is.
            self.world.request(peer, ListJobs())
        self.story: list[str] = []
        self.store = Noting(directory, self.story)
        clock = self.world.now
        self.loop = Loop(self.world.machine, store=self.store, clock=lambda: clock)
        self.loop.on_effect(Send, self._sent)

    def _sent(self, effect: Send) -> None:
        message = effect.envelope.message
        if isinstance(message, JobAccepted):
            on_disk = message.job_id in self.store.real.load(JOBS)
            self.story.append("acknowledged" if on_disk else "acknowledged too early")

    def submit(self, peer: str, request: str) -> None:
        """Have a submission of this client handled in the next pass."""
        session = self.world.sessions[peer]
        session[1] += 1
        message = SubmitJob(request, JobSpec("job", ("true",)))
        envelope = Envelope("", 0, session[0], session[1], message)
        self.loop.post(Received(peer, self.world.keys[peer], envelope))

    def close(self) -> None:
        """Let go of the disk and the sockets."""
        self.loop.close()
        self.store.real.close()


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    """A batch framework that is subscribed and knows three clients."""
    made = Intake(tmp_path)
    yield made
    made.close()


def test_submissions_of_one_pass_share_one_commit(intake: Intake) -> None:
    """An fsync for each job would bound the whole cluster by the disk's latency."""
    for number in range(MANY):
        intake.submit(PEERS[number % len(PEERS)], f"r{number}")
    intake.loop.run_pass(0)
    assert intake.story == [f"commit of {MANY}", *["acknowledged"] * MANY]
    assert intake.loop.counters.commits == 1


def test_nothing_is_acknowledged_when_the_commit_fails(intake: Intake) -> None:
    """An id that was printed for a job that is not on disk would be a lost job."""
    intake.store.fails = True
    for number in range(MANY):
        intake.submit(PEERS[0], f"r{number}")
    with pytest.raises(StorageFailed):
        intake.loop.run_pass(0)
    assert intake.story == []


def test_a_repeated_submission_costs_no_second_commit(intake: Intake) -> None:
    """A client that asks again under the same id gets its answer from what is on disk already."""
    intake.submit(PEERS[0], "same")
    intake.loop.run_pass(0)
    intake.submit(PEERS[0], "same")
    intake.loop.run_pass(0)
    assert intake.story == ["commit of 1", "acknowledged", "acknowledged"]
